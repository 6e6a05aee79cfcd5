//! Rewriting of path aliases: the paths under which the monolith and the marketplace's proxy reach the same routes.
//! Done before routing, so that there is one route table.

use std::{
    borrow::Cow,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    extract::Request,
    http::{Method, Uri, uri::PathAndQuery},
};
use tower::Service;

use super::{
    auth::{KeyLikeName, Keyring},
    context::OriginalUri,
};

/// Prefix of each alias, and the prefix of the canonical path.
const PATH_ALIASES: [(&str, &str); 7] = [
    ("/v1/agents", "/api/v1/agents"),
    ("/api/v1/agent", "/api/v1/agents"),
    ("/v1/services", "/api/v1/services"),
    ("/v1/agent-performance", "/api/v1/agents/performance"),
    ("/v1/agent-creativity", "/api/v1/agents/creativity"),
    ("/v1/health", "/health"),
    ("/api/v1/health", "/health"),
];

/// Paths of clients that name an operation otherwise, and its canonical path.
const RENAMED_PATHS: [(&str, &str); 3] = [
    ("/api/v1/agents/performance/optimize", "/api/v1/agents/performance/optimization/optimize"),
    ("/api/v1/agents/subscribe", "/api/v1/agents/messages/subscribe"),
    ("/api/v1/agents/unsubscribe", "/api/v1/agents/messages/unsubscribe"),
];

/// Return the canonical form of `path`, or `None` if it is canonical. A trailing slash is removed.
pub fn canonical_path(path: &str) -> Option<String> {
    let trimmed = path.trim_end_matches('/');
    let trimmed = if trimmed.is_empty() { "/" } else { trimmed };
    let below = |prefix: &str| trimmed.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let renamed = PATH_ALIASES.iter().find_map(|(alias, real)| below(alias).map(|rest| [real, rest].concat()));
    let found = renamed.map_or(Cow::Borrowed(trimmed), Cow::Owned);
    if let Some((_, real)) = RENAMED_PATHS.iter().find(|(alias, _)| found == *alias) {
        return Some((*real).to_owned());
    }
    (found != path).then(|| found.into_owned())
}

/// The same for a request: an older search of agents has the path of another operation.
fn canonical_request(method: &Method, path: &str) -> Option<String> {
    let canonical = canonical_path(path);
    let found = canonical.as_deref().unwrap_or(path);
    if found == "/api/v1/agents/discover" && matches!(*method, Method::GET | Method::HEAD) {
        return Some("/api/v1/agents/messages/discover".to_owned());
    }
    canonical
}

/// Service that rewrites aliases before calling the inner service. Keys in a path are replaced by their principals, so that
/// nothing behind it logs, echoes or stores one.
#[derive(Clone, Debug)]
pub struct PathRewrite<S> {
    inner: S,
    keyring: Arc<Keyring>,
}

impl<S> PathRewrite<S> {
    /// Rewrite the paths of requests to `inner`; `keyring` knows the keys.
    pub fn new(inner: S, keyring: Arc<Keyring>) -> Self {
        Self { inner, keyring }
    }
}

/// Mark of a request whose path had something that looks like a key, and was replaced.
#[derive(Clone, Copy, Debug)]
pub struct KeyInPath(pub KeyLikeName);

impl<S: Service<Request>> Service<Request> for PathRewrite<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> S::Future {
        match self.keyring.shown_path(request.uri().path()) {
            Ok(None) => {}
            Ok(Some(path)) => {
                if let Some(uri) = replace_path(request.uri(), path) {
                    *request.uri_mut() = uri;
                }
            }
            Err(alike) => {
                *request.uri_mut() = Uri::from_static("/api/");
                request.extensions_mut().insert(KeyInPath(alike));
            }
        }
        if let Some(path) = canonical_request(request.method(), request.uri().path())
            && let Some(uri) = replace_path(request.uri(), path)
        {
            let asked = std::mem::replace(request.uri_mut(), uri);
            request.extensions_mut().insert(OriginalUri(asked));
        }
        self.inner.call(request)
    }
}

fn replace_path(uri: &Uri, mut path: String) -> Option<Uri> {
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_alias_of_the_contract_has_its_path() {
        let table = [
            ("/v1/agents/workflows", "/api/v1/agents/workflows"),
            ("/v1/agents/workflows/w1/execute", "/api/v1/agents/workflows/w1/execute"),
            ("/v1/agents/integration/deployments/configs", "/api/v1/agents/integration/deployments/configs"),
            ("/v1/agents/security/policies", "/api/v1/agents/security/policies"),
            ("/api/v1/agent/workflows", "/api/v1/agents/workflows"),
            ("/api/v1/agent/messages/send", "/api/v1/agents/messages/send"),
            ("/v1/agent-performance/profiles", "/api/v1/agents/performance/profiles"),
            ("/v1/agent-performance/optimize", "/api/v1/agents/performance/optimization/optimize"),
            ("/v1/agent-performance/optimization/a1", "/api/v1/agents/performance/optimization/a1"),
            ("/api/v1/agents/performance/optimize", "/api/v1/agents/performance/optimization/optimize"),
            ("/v1/agent-creativity/capabilities/c1/enhance", "/api/v1/agents/creativity/capabilities/c1/enhance"),
            ("/v1/services", "/api/v1/services"),
            ("/v1/services/llm/inference", "/api/v1/services/llm/inference"),
            ("/v1/health", "/health"),
            ("/api/v1/health", "/health"),
            ("/api/v1/health/ready", "/health/ready"),
            ("/api/v1/agents/workflows/", "/api/v1/agents/workflows"),
            ("/v1/services/", "/api/v1/services"),
            ("/health//", "/health"),
            ("//", "/"),
        ];
        for (alias, path) in table {
            assert_eq!(canonical_path(alias).as_deref(), Some(path), "{alias}");
        }
    }

    #[test]
    fn what_only_begins_alike_is_left_alone() {
        let same = [
            "/",
            "/health",
            "/metrics",
            "/api/v1/agents",
            "/api/v1/agents/workflows",
            "/api/v1/agents/performance/optimization/optimize",
            "/api/v1/agentsmith",
            "/v1/agentsmith",
            "/v1/agent",
            "/v1/healthy",
            "/x/v1/agents",
        ];
        for path in same {
            assert_eq!(canonical_path(path), None, "{path}");
        }
    }

    #[test]
    fn the_query_and_what_was_asked_are_kept() {
        let uri: Uri = "/v1/agents/workflows/?tags=a%26b&x=".parse().unwrap();
        let path = canonical_path(uri.path()).unwrap();
        assert_eq!(replace_path(&uri, path).unwrap(), "/api/v1/agents/workflows?tags=a%26b&x=");
    }

    proptest! {
        #[test]
        fn once_is_enough(path in "(/(api|v1|agents?|agent-performance|optimize|health|services|x)?){0,6}") {
            let once = canonical_path(&path).unwrap_or_else(|| path.clone());
            prop_assert_eq!(canonical_path(&once), None);
        }
    }
}
