//! The key that a socket was opened with.

use secrecy::{ExposeSecret as _, SecretString};

use crate::{
    app::App,
    http::{ApiCaller, KeyRole, auth::CallerIdentity, context::RequestContext},
};

/// The key that a socket was opened with. Looked at again while it is open, since keys are taken back.
pub struct SocketToken(Option<SecretString>);

impl SocketToken {
    /// The key that the query holds as `token`; `None`: the request's header holds it.
    pub fn new(token: Option<String>) -> Self {
        Self(token.map(SecretString::from))
    }

    /// Who holds it, with the role that this needs.
    pub fn caller(&self, app: &App, context: &RequestContext) -> Result<ApiCaller, &'static str> {
        let identity = match &self.0 {
            Some(token) => app.shared.keyring.identify(Some(token.expose_secret())),
            None => context.presented_key.identify(&app.shared.keyring),
        };
        match identity {
            CallerIdentity::Known(caller) if caller.role == KeyRole::Admin => Ok(caller),
            CallerIdentity::Known(_) => Err("This needs an admin key"),
            CallerIdentity::Unknown => Err("Invalid API key"),
            CallerIdentity::Missing => Err("Missing API key: send it as token, or as X-Api-Key"),
        }
    }
}
