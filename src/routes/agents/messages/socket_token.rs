//! The key that a socket was opened with.

use crate::{
    app::App,
    http::{ApiCaller, KeyRole, auth::CallerIdentity, context::RequestContext, key_watch::PresentedKey},
};
use am_core::ids::AgentId;

/// The key that a socket was opened with. The socket ends with it.
pub struct SocketToken(PresentedKey);

impl SocketToken {
    /// The key that the query holds as `token`; `None`: the request's header holds it.
    pub fn new(token: Option<&str>, context: &RequestContext) -> Self {
        Self(token.map_or_else(|| context.presented_key.clone(), PresentedKey::from_text))
    }

    /// Look for a key that is not known: another process may have made it a moment ago.
    pub async fn look_for(&self, app: &App) {
        if let Some(missed) = self.0.missed(&app.shared.keyring) {
            app.shared.keyring.look_for(missed).await;
        }
    }

    /// Who holds it, with the role that a socket of `agent` needs.
    pub fn caller(&self, app: &App, agent: &AgentId) -> Result<ApiCaller, &'static str> {
        match self.0.identify(&app.shared.keyring) {
            CallerIdentity::Known(caller) if caller.role == KeyRole::Admin => Ok(caller),
            CallerIdentity::Known(caller) if caller.role == KeyRole::Agent => {
                let own = caller.principal.agent.as_ref() == Some(agent);
                if own { Ok(caller) } else { Err("agent_id is not the agent that this key is bound to") }
            }
            CallerIdentity::Known(_) => Err("This needs an admin or agent key"),
            CallerIdentity::Unknown => Err("Invalid API key"),
            CallerIdentity::Refused(_) => Err("Invalid token"),
            CallerIdentity::Missing => Err("Missing API key: send it as token, or as X-Api-Key"),
        }
    }

    /// Wait until it is no more the key of `opened`; return why the socket ends.
    pub async fn ended(&self, app: &App, agent: &AgentId, opened: &ApiCaller) -> &'static str {
        self.0.clone().ended(app.shared.keyring.clone(), opened.clone()).await;
        self.caller(app, agent).err().unwrap_or("The API key is another caller's now")
    }
}
