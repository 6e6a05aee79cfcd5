//! Extractors for the caller of a request, whose key was checked before: one for each role that a route may need.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::{
    auth::{ApiCaller, KeyRole},
    context::RequestContext,
    error::ApiError,
};
use am_db::principal::{ClientOrigin, Principal};

/// The principal of a caller with an admin key.
#[derive(Clone, Debug)]
pub struct AdminKey(pub Principal);

/// Extractor for callers with a client key or an admin key.
#[derive(Clone, Debug)]
pub struct ClientKey(pub ApiCaller);

/// The principal of a caller with any good key.
#[derive(Clone, Debug)]
pub struct AnyKey(pub Principal);

/// Extractor for callers with any good key, where their role matters.
#[derive(Clone, Debug)]
pub struct AnyCaller(pub ApiCaller);

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

impl<S: Send + Sync> FromRequestParts<S> for ClientKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, |role| role != KeyRole::Miner, "a client").map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, |_| true, "a").map(|caller| Self(caller.principal))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for AnyCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        authenticated_caller(parts, |_| true, "a").map(Self)
    }
}
