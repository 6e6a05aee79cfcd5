//! Calls of configured endpoints.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    invocation::{ActionFailure, ActionInvocation, ActionOutput, EndpointCall},
    response_body::{excerpt, read_limited},
};
use crate::{
    http_step::{HttpSpec, url_with_query},
    mapping::ResolveError,
    run::RunState,
};
use am_core::{
    blocking::in_place,
    config::{EndpointKind, HttpEndpoint, HttpMethod},
    json_number::{JsonReadError, read_json},
};

/// Prepare the call of step `at`, which has begun.
pub fn prepare_call(
    run: &RunState,
    at: usize,
    spec: &HttpSpec,
    input: &Value,
) -> Result<ActionInvocation, ResolveError> {
    let (step, state) = (&run.plan.steps[at], &run.steps[at]);
    let scope = run.scope_inputs(step)?;
    let request = spec.fill(&run.context(at, scope.as_deref(), None), input, &mut run.value_budget())?;
    let key = format!("{}:{}:{}", run.id, step.key, state.call_number());
    let traceparent = run.trace_id.as_ref().map(|trace| format!("00-{trace}-{}-01", attempt_span_id(&key)));
    let repeats = state.repeat_call.is_some();
    Ok(ActionInvocation::Http(Box::new(EndpointCall { request, key, repeats, traceparent })))
}

/// Make the call and return the endpoint's answer, which has at most `max_response` bytes.
pub async fn call_endpoint(
    client: &reqwest::Client,
    endpoints: &BTreeMap<String, HttpEndpoint>,
    max_response: usize,
    call: EndpointCall,
) -> Result<ActionOutput, ActionFailure> {
    let EndpointCall { request: prepared, key, repeats, traceparent } = call;
    let name = prepared.endpoint.as_str();
    let endpoint = endpoints
        .get(name)
        .ok_or_else(|| ActionFailure::permanent(format!("endpoint {name:?} is no longer configured")))?;
    prepared
        .check_allowed(endpoint)
        .map_err(|message| ActionFailure::permanent(format!("endpoint {name:?}: {message}")))?;
    let url = url_with_query(&endpoint.url, &prepared.query)
        .ok_or_else(|| ActionFailure::permanent(format!("endpoint {name:?} has an invalid URL")))?;
    am_core::crash_point!("step.before_http");
    let mut request = client.request(http_method(prepared.method), url).header("idempotency-key", key);
    for (name, value) in prepared.headers {
        request = request.header(name, value);
    }
    if let Some(body) = &prepared.body {
        request = request.json(body);
    }
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    if let Some(bearer) = &endpoint.bearer {
        request = request.bearer_auth(secrecy::ExposeSecret::expose_secret(bearer));
    }
    // The URL stays out of the message: it may contain a secret.
    let sent = request
        .send()
        .await
        .map_err(|error| ActionFailure::unanswered(format!("endpoint {name:?}: {}", error.without_url())))?;
    let status = sent.status();
    let retry_after = requested_wait(&sent);
    let read = read_limited(sent, max_response).await;
    am_core::crash_point!("step.after_http");
    if !status.is_success() {
        // The status is an answer, whatever became of the text.
        let text = read.as_deref().map_or_else(|failure| failure.message.clone(), excerpt);
        let message = format!("endpoint {name:?} answered {status}: {text}");
        if repeats && status.as_u16() == 409 {
            // The call before is still carried out.
            return Err(ActionFailure { retry_after, ..ActionFailure::unanswered(message) });
        }
        let passing = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
        let failure = if passing { ActionFailure::transient(message) } else { ActionFailure::permanent(message) };
        return Err(ActionFailure { retry_after, ..failure });
    }
    let bytes = read
        .map_err(|failure| ActionFailure { message: format!("endpoint {name:?}: {}", failure.message), ..failure })?;
    if bytes.trim_ascii().is_empty() {
        // The call took effect, and there is nothing to say of it.
        return Ok(ActionOutput { cost: endpoint.price, ..ActionOutput::new(Value::Null) });
    }
    let answer: Value = in_place(bytes.len(), || read_json(&bytes)).map_err(|error| {
        let fault = if matches!(error, JsonReadError::Number(_)) { "a number that can't be kept" } else { "no JSON" };
        ActionFailure::permanent(format!("endpoint {name:?} answered {fault}: {error}"))
    })?;
    let output = match endpoint.kind {
        EndpointKind::Json => answer,
        EndpointKind::OpenAi => {
            let text = answer.pointer("/choices/0/message/content").cloned().unwrap_or(Value::Null);
            json!({"text": text, "response": answer})
        }
    };
    Ok(ActionOutput { cost: endpoint.price, ..ActionOutput::new(output) })
}

fn http_method(method: HttpMethod) -> reqwest::Method {
    match method {
        HttpMethod::Get => reqwest::Method::GET,
        HttpMethod::Post => reqwest::Method::POST,
        HttpMethod::Put => reqwest::Method::PUT,
        HttpMethod::Patch => reqwest::Method::PATCH,
        HttpMethod::Delete => reqwest::Method::DELETE,
    }
}

/// The `Retry-After` of an answer that asks for patience.
fn requested_wait(answer: &reqwest::Response) -> Option<String> {
    let patience = matches!(answer.status().as_u16(), 409 | 429 | 503);
    let value = answer.headers().get(reqwest::header::RETRY_AFTER).filter(|_| patience)?;
    value.to_str().ok().map(str::to_owned)
}

/// Span id of an attempt: its repetition after a crash has the same id.
fn attempt_span_id(key: &str) -> String {
    am_core::crypto::sha256_hex(key.as_bytes())[..16].to_owned()
}
