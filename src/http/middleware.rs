//! Middleware around each route, which does in one future what eight layers would do otherwise: ids and trace,
//! authentication, rate limit, time limit, panics, errors, metrics and the log line.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::HttpBody;
use axum::{
    extract::{ConnectInfo, MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::{Map, Value};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span};

use super::{
    HttpState,
    auth::CallerIdentity,
    context::{BodyLimits, RequestContext},
    credential,
    error::ApiError,
    key_watch,
    known_names::IgnoredName,
    listener::OverCapacity,
    metrics::RouteMetrics,
    path_alias::KeyInPath,
    rate_limit::{RateBucket, client_address},
};
use am_core::supervisor::panic_text;

/// Status under which requests are counted whose client disconnected before the response (nginx's code).
const CLIENT_CLOSED_REQUEST: u16 = 499;
/// Time after which a client without a connection's place should try again.
const OVER_CAPACITY_RETRY: Duration = Duration::from_secs(1);

/// Header that names what a request had and nobody knows.
pub const IGNORED_HEADER: HeaderName = HeaderName::from_static("x-ignored");
/// Characters after which the header is cut off: a name may be as long as a body, and clients take headers of some 8 KB.
const MAX_IGNORED_CHARACTERS: usize = 2000;

/// Return whether this is the path of a probe, which is answered however many clients there are.
fn is_probe(path: &str) -> bool {
    matches!(path, "/health" | "/health/live" | "/health/ready")
}

/// Layer that adds the middleware to routes.
#[derive(Clone)]
pub struct RequestLayer(pub HttpState);

impl<S> Layer<S> for RequestLayer {
    type Service = RequestService<S>;

    fn layer(&self, inner: S) -> RequestService<S> {
        RequestService { inner, shared: self.0.clone(), route: Arc::default() }
    }
}

/// A route with the middleware around it.
#[derive(Clone)]
pub struct RequestService<S> {
    inner: S,
    shared: HttpState,
    /// Instruments of the route, looked up at its first request.
    route: Arc<OnceLock<RouteMetrics>>,
}

impl<S> Service<Request> for RequestService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let identity = self.shared.keyring.identify_headers(request.headers());
        let given = credential::presented(request.headers());
        let given = given.as_ref().and_then(|key| key.to_str().ok());
        if let Some(missed) = given.and_then(|key| self.shared.keyring.missed(key, &identity)) {
            return self.call_after_lookup(missed.to_owned(), request);
        }
        let sight = InFlightRequest::begin(&self.shared, &self.route, &mut request, identity);
        let admitted = sight.admit(&request);
        let span = sight.span();
        // The inner service is called here, not in the future, so that it need not be cloned.
        let answer = admitted.map(|()| span.in_scope(|| self.inner.call(request)));
        Box::pin(async move {
            let response = match answer {
                Ok(answer) => sight.in_turn(answer).instrument(span).await,
                Err(refused) => refused.into_response(),
            };
            Ok(sight.report_and_end(response).await)
        })
    }
}

impl<S> RequestService<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    /// Look for the key that is not known, then answer as it is known afterwards.
    fn call_after_lookup(&self, missed: String, mut request: Request) -> <Self as Service<Request>>::Future {
        let Self { mut inner, shared, route } = self.clone();
        Box::pin(async move {
            shared.keyring.look_for(&missed).await;
            let identity = shared.keyring.identify_headers(request.headers());
            let sight = InFlightRequest::begin(&shared, &route, &mut request, identity);
            let span = sight.span();
            let response = match sight.admit(&request) {
                Ok(()) => {
                    let answer = async { inner.call(request).await };
                    sight.in_turn(answer).instrument(span).await
                }
                Err(refused) => refused.into_response(),
            };
            Ok(sight.report_and_end(response).await)
        })
    }
}

/// A request in progress.
struct InFlightRequest {
    shared: HttpState,
    route: Arc<OnceLock<RouteMetrics>>,
    context: Arc<RequestContext>,
    method: Method,
    uri: Uri,
    started: Instant,
    ended: bool,
}

impl InFlightRequest {
    fn begin(
        shared: &HttpState,
        route: &Arc<OnceLock<RouteMetrics>>,
        request: &mut Request,
        identity: CallerIdentity,
    ) -> Self {
        let started = Instant::now();
        route.get_or_init(|| {
            let template = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str);
            shared.metrics.route(template)
        });
        let body_limits = BodyLimits { bytes: shared.config.body_limit, values: shared.config.body_values };
        let mut context = RequestContext::new(request.headers(), &shared.ids, identity, body_limits);
        let proxies = &shared.config.connections;
        context.client_address = client_address(request.extensions().get(), request.headers(), proxies);
        context.operation = request
            .extensions()
            .get::<MatchedPath>()
            .and_then(|template| shared.known_names.get()?.find(template.as_str(), request.method()).cloned());
        let context = Arc::new(context);
        request.extensions_mut().insert(context.clone());
        shared.metrics.in_flight.inc();
        Self {
            shared: shared.clone(),
            route: route.clone(),
            context,
            method: request.method().clone(),
            uri: request.uri().clone(),
            started,
            ended: false,
        }
    }

    /// The request's span. What is logged while it is answered is logged inside it; its own line, which names the same ids,
    /// comes after it.
    fn span(&self) -> Span {
        tracing::info_span!(
            target: "request",
            "request",
            request_id = self.context.request_id(),
            trace_id = self.context.trace_digits()
        )
    }

    /// Only API requests are limited: probes and scrapes must always be answered.
    fn admit(&self, request: &Request) -> Result<(), ApiError> {
        if request.extensions().get::<OverCapacity>().is_some() && !is_probe(self.uri.path()) {
            let refused = ApiError::unavailable("Too many connections are open", OVER_CAPACITY_RETRY);
            return Err(refused.code("too_many_connections"));
        }
        if let Some(KeyInPath(alike)) = request.extensions().get() {
            return Err(ApiError::invalid_field(vec!["path".into()], alike.to_string(), "value_error"));
        }
        let peer = request.extensions().get::<ConnectInfo<_>>();
        self.shared.browser_rules().check(peer, request.uri(), request.headers())?;
        if let Some(limiter) = self.shared.limiter.as_ref().filter(|_| self.is_limited()) {
            limiter.check(self.bucket()).map_err(ApiError::too_many)?;
        }
        self.check_query(request)
    }

    fn is_limited(&self) -> bool {
        self.uri.path().starts_with("/api/")
    }

    /// Whose request it is, as far as limits go.
    fn bucket(&self) -> RateBucket {
        match self.context.identity.caller() {
            Some(caller) => RateBucket::Principal(caller.principal.name.clone()),
            None => RateBucket::of_address(self.context.client_address),
        }
    }

    /// Refuse parameters that the operation does not know. Who has no valid key is told that first, by the handler.
    fn check_query(&self, request: &Request) -> Result<(), ApiError> {
        let (Some(operation), Some(query)) = (&self.context.operation, request.uri().query()) else { return Ok(()) };
        if operation.is_public() || self.context.identity.caller().is_some() {
            self.context.note_ignored(operation.check_query(query)?);
        }
        Ok(())
    }

    /// The answer, begun when it is its caller's turn.
    async fn in_turn(&self, answer: impl Future<Output = Result<Response, Infallible>>) -> Response {
        let limit = self.shared.config.request_timeout;
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let answer = match self.is_limited() {
            true => self.shared.turns.work(self.bucket(), limit, answer).await,
            false => tokio::time::timeout(limit, answer).await.ok(),
        };
        match answer {
            Some(Ok(Ok(response))) => response,
            Some(Err(panic)) => ApiError::internal(format!("panic: {}", panic_text(&*panic))).into_response(),
            None => ApiError::timeout(limit).into_response(),
        }
    }

    /// End the request, and tell which names were ignored.
    async fn report_and_end(self, response: Response) -> Response {
        let keyring = &self.shared.keyring;
        let ignored = self.context.take_ignored().into_iter();
        let ignored: Vec<IgnoredName> =
            ignored.map(|name| name.without_keys(|name| keyring.is_key_like(name))).collect();
        let response = if ignored.is_empty() { response } else { report_ignored(response, &ignored).await };
        self.end(response)
    }

    fn end(mut self, mut response: Response) -> Response {
        self.ended = true;
        if let Some(mut error) = response.extensions_mut().remove::<ApiError>() {
            error.hide_keys(|name| self.shared.keyring.is_key_like(name));
            error.render(&mut response, self.context.request_id());
            self.tell(&error);
        }
        let headers = response.headers_mut();
        self.context.write_headers(headers);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        self.record(response.status(), response.body().size_hint().exact());
        let streams = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        match self.context.identity.caller().filter(|_| streams) {
            Some(caller) => {
                key_watch::end_with_key(response, &self.context.presented_key, caller, &self.shared.keyring)
            }
            None => response,
        }
    }

    /// Count a refusal; log an internal error with all its causes.
    fn tell(&self, error: &ApiError) {
        if matches!(error.code, "unauthorized" | "insufficient_role" | "rate_limited" | "too_many_connections") {
            self.shared.metrics.refused(error.code);
        }
        if matches!(error.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let key = self.shared.keyring.key_label(self.context.presented_key.text(), &self.context.identity);
            // What a policy refused is in the audit log already.
            if matches!(error.code, "unauthorized" | "insufficient_role" | "forbidden") {
                self.shared.refusals.note(&key, error.code, self.context.client_address, self.shared.clock.now());
            }
            self.shared.metrics.refused_key(key, error.code);
        }
        if !error.status.is_server_error() {
            return;
        }
        let (request_id, route) = (self.context.request_id(), self.route());
        let code = error.code;
        let cause = error.causes();
        let cause = cause.as_deref().unwrap_or("none recorded");
        if error.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(target: "request", request_id, route, code, cause, "request failed");
        } else {
            tracing::warn!(target: "request", request_id, route, code, cause, "request failed");
        }
    }

    fn record(&self, status: StatusCode, bytes: Option<u64>) {
        let took = self.started.elapsed();
        self.shared.metrics.in_flight.dec();
        if let Some(route) = self.route.get() {
            self.shared.metrics.answered(route, &self.method, status, took);
        }
        tracing::info!(
            target: "request",
            method = self.method.as_str(),
            route = self.route(),
            status = status.as_u16(),
            ms = took.as_micros() as f64 / 1000.0,
            bytes,
            request_id = self.context.request_id(),
            trace_id = self.context.trace_digits(),
            principal = self.context.principal(),
            "answered"
        );
    }

    fn route(&self) -> &str {
        self.route.get().map_or("unmatched", |route| &route.route)
    }
}

/// Name the ignored members in a header and, where the answer is a JSON object, tell of them in its member `warnings`.
async fn report_ignored(mut response: Response, ignored: &[IgnoredName]) -> Response {
    let names = ignored.iter().map(|name| name.path.as_str()).collect::<Vec<_>>().join(", ");
    let printable = names.chars().map(|one| if matches!(one, ' '..='~') { one } else { '?' });
    let printable: String = printable.take(MAX_IGNORED_CHARACTERS).collect();
    if let Ok(value) = HeaderValue::from_str(&printable) {
        response.headers_mut().insert(IGNORED_HEADER, value);
    }
    let warnings: Vec<Value> = ignored.iter().filter_map(|name| name.warning.clone().map(Value::from)).collect();
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if warnings.is_empty() || !is_json || !response.status().is_success() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match axum::body::to_bytes(body, usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => return ApiError::internal(error).into_response(),
    };
    let bytes = match serde_json::from_slice::<Map<String, Value>>(&bytes) {
        Ok(mut members) => {
            members.entry("warnings").or_insert_with(|| warnings.into());
            Value::Object(members).to_string().into()
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, bytes.into())
}

impl Drop for InFlightRequest {
    /// Dropped before its end: the client disconnected, which drops the future.
    fn drop(&mut self) {
        if !self.ended {
            self.record(StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST), None);
        }
    }
}
