//! Extractors for the caller of a request, whose key was checked before: one for each role that a route may need.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::{
    auth::{ApiCaller, KeyRole, Keyring},
    context::RequestContext,
    error::ApiError,
};
use am_core::ids::AgentId;
use am_db::principal::{ClientOrigin, Principal};

/// The principal of a caller with an admin key.
#[derive(Clone, Debug)]
pub struct AdminKey(pub Principal);

/// Extractor for callers with a client key or an admin key.
#[derive(Clone, Debug)]
pub struct ClientKey(pub ApiCaller);

/// Extractor for callers that trade: with a client key, an admin key, or a key that is bound to an agent.
#[derive(Clone, Debug)]
pub struct TraderKey(pub ApiCaller);

/// Extractor for callers with an admin key or a key that is bound to an agent. It shows the principal only after a check
/// that the caller may act for the agent.
#[derive(Clone, Debug)]
pub struct ActingKey(Principal);

impl ActingKey {
    /// Return the principal, if it may act for `agent`, which the request names as `member`.
    ///
    /// # Errors
    /// 403 when the key is bound to another agent.
    pub fn acting_for(self, member: &str, agent: &AgentId) -> Result<Principal, ApiError> {
        match &self.0.agent {
            Some(bound) if bound != agent => Err(Self::refused(member)),
            _ => Ok(self.0),
        }
    }

    /// Return the principal, if it may send in the name of `agent`, which the request names as `member`.
    ///
    /// # Errors
    /// 403 when the key is bound to another agent, or another key is bound to the agent.
    pub fn sending_as(self, keyring: &Keyring, member: &str, agent: &AgentId) -> Result<Principal, ApiError> {
        let caller = self.acting_for(member, agent)?;
        check_sender(keyring, &caller, member, agent)?;
        Ok(caller)
    }

    /// Return the agent that the key is bound to; `None`: it is an admin key.
    pub fn bound_agent(&self) -> Option<&AgentId> {
        self.0.agent.as_ref()
    }

    /// Return the principal, for operations that check themselves what it may do for which agent.
    pub fn unchecked(self) -> Principal {
        self.0
    }

    /// The refusal of a key that is bound to another agent than the one named as `member`.
    pub fn refused(member: &str) -> ApiError {
        ApiError::forbidden(format!("`{member}` is not the agent that this key is bound to"))
    }
}

/// Check that `caller` may send in the name of `agent`, which the request names as `member`.
///
/// # Errors
/// 403 when its key is bound to no agent, and another key is bound to this one.
pub fn check_sender(keyring: &Keyring, caller: &Principal, member: &str, agent: &AgentId) -> Result<(), ApiError> {
    if caller.agent.is_none() && keyring.has_agent_key(agent) {
        let detail =
            format!("`{member}` has a key of its own: only a key that is bound to the agent sends in its name");
        return Err(ApiError::forbidden(detail).code("sender_has_key"));
    }
    Ok(())
}

/// The principal of a caller with an admin, client or miner key.
#[derive(Clone, Debug)]
pub struct AnyKey(pub Principal);

/// Extractor for callers with an admin, client or miner key, where their role matters.
#[derive(Clone, Debug)]
pub struct AnyCaller(pub ApiCaller);

/// What is refused an agent's key that asks for what all other keys may.
const NOT_AN_AGENTS: &str = "an admin, client or miner";

fn is_no_agent(role: KeyRole) -> bool {
    role != KeyRole::Agent
}

/// Return the caller, who must have a sufficient role, with the origin of the request.
fn authenticated_caller(
    parts: &Parts,
    enough: impl Fn(KeyRole) -> bool,
    wanted: &'static str,
) -> Result<ApiCaller, ApiError> {
    let caller = RequestContext::from_parts(parts)?.identity.admit(enough, wanted)?;
    Ok(caller.with_origin(request_origin(parts)))
}

fn request_origin(parts: &Parts) -> Arc<ClientOrigin> {
    let address = RequestContext::from_parts(parts).ok().and_then(|context| context.client_address);
    let agent = parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    Arc::new(ClientOrigin {
        ip_address: address.map(|ip| ip.to_string()),
        user_agent: agent.map(|agent| agent.chars().take(512).collect()),
    })
}

/// Extractor for the origin of a request, for callers that authenticate otherwise than by header.
#[derive(Clone, Debug)]
pub struct RequestOrigin(pub Arc<ClientOrigin>);

impl<S: Send + Sync> FromRequestParts<S> for RequestOrigin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(request_origin(parts)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AdminKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, |role| role == KeyRole::Admin, "an admin").map(|caller| Self(caller.principal))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ActingKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let enough = |role| matches!(role, KeyRole::Admin | KeyRole::Agent);
        authenticated_caller(parts, enough, "an admin or agent").map(|caller| Self(caller.principal))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ClientKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let enough = |role| matches!(role, KeyRole::Admin | KeyRole::Client);
        authenticated_caller(parts, enough, "a client").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TraderKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let enough = |role| matches!(role, KeyRole::Admin | KeyRole::Client | KeyRole::Agent);
        authenticated_caller(parts, enough, "a client, agent or admin").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, is_no_agent, NOT_AN_AGENTS).map(|caller| Self(caller.principal))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, is_no_agent, NOT_AN_AGENTS).map(Self)
    }
}
