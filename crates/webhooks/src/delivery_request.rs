//! A single delivery request to an endpoint, and the interpretation of its answer.

use std::{error::Error as _, time::Duration};

use reqwest::{Client, ClientBuilder, Response, Url};

use super::{
    error::{Result, WebhookError},
    model::WebhookEventKind,
    signature::{SigningSecret, signature_header},
};
use am_core::{
    config::WebhookEndpoint,
    ids::DeliveryId,
    public_address::{check_literal_host, restrict_to_public},
};
use am_db::codec::Timestamp;

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read of an answer's body. Nothing of it is stored: the status decides.
const MAX_RESPONSE_READ: usize = 16 << 10;
/// Characters stored of an error message.
const MAX_ERROR_LEN: usize = 300;

/// HTTP clients for the two kinds of endpoints.
pub(super) struct WebhookClients {
    /// Client restricted to public Internet addresses.
    public: Client,
    /// Client without restriction.
    any: Client,
}

impl WebhookClients {
    pub(super) fn new() -> Result<Self> {
        let builder = || {
            ClientBuilder::new()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")))
        };
        Ok(Self { public: restrict_to_public(builder()).build()?, any: builder().build()? })
    }
}

/// An endpoint, ready to be called.
pub(super) struct EndpointTarget {
    pub(super) url: Url,
    secrets: Vec<SigningSecret>,
    pub(super) events: Option<Vec<String>>,
    pub(super) allow_private: bool,
    pub(super) timeout: Duration,
}

impl EndpointTarget {
    pub(super) fn new(name: &str, config: &WebhookEndpoint) -> Result<Self> {
        if !config.allow_private {
            check_literal_host(&config.url).map_err(|error| WebhookError::InvalidAddress(name.to_owned(), error))?;
        }
        let secrets: Option<Vec<SigningSecret>> = config.secrets.iter().map(SigningSecret::parse).collect();
        Ok(Self {
            url: config.url.clone(),
            secrets: secrets.ok_or_else(|| WebhookError::InvalidSecret(name.to_owned()))?,
            events: config.events.clone(),
            allow_private: config.allow_private,
            timeout: config.timeout,
        })
    }

    pub(super) fn accepts_kind(&self, kind: WebhookEventKind) -> bool {
        self.events.as_ref().is_none_or(|events| events.iter().any(|event| event == kind.word()))
    }
}

/// Outcome of a request to an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DeliveryOutcome {
    /// Status of the answer; `None` without an answer.
    pub(super) status: Option<u16>,
    /// Description of the failure; `None` when the endpoint accepted the event.
    pub(super) error: Option<String>,
    /// Whether the endpoint answered 410 Gone and wants no further requests.
    pub(super) gone: bool,
    /// Wait requested by the endpoint's `Retry-After`, if any.
    pub(super) ask: Option<Duration>,
}

impl DeliveryOutcome {
    fn from_error(error: &str) -> Self {
        Self { status: None, error: Some(error.chars().take(MAX_ERROR_LEN).collect()), gone: false, ask: None }
    }

    fn from_status(status: u16, ask: Option<Duration>) -> Self {
        let error = match status {
            200..=299 => None,
            300..=399 => Some(format!("it answered {status}; redirects are not followed")),
            _ => Some(format!("it answered {status}")),
        };
        Self { status: Some(status), error, gone: status == 410, ask }
    }
}

/// Send `body` as message `id`.
pub(super) async fn send_request(
    clients: &WebhookClients,
    target: &EndpointTarget,
    id: &DeliveryId,
    body: String,
    now: Timestamp,
) -> DeliveryOutcome {
    let client = if target.allow_private { &clients.any } else { &clients.public };
    let seconds = now.0.timestamp();
    let request = client
        .post(target.url.clone())
        .timeout(target.timeout)
        .header("content-type", "application/json")
        .header("webhook-id", id.as_str())
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature_header(&target.secrets, id, seconds, &body))
        .body(body);
    match request.send().await {
        Ok(response) => {
            let outcome = DeliveryOutcome::from_status(response.status().as_u16(), parse_retry_after(&response));
            drain_body(response).await;
            outcome
        }
        Err(error) => DeliveryOutcome::from_error(&error_with_causes(error.without_url())),
    }
}

/// Read the rest of the answer so that its connection can be reused; the connection of a long answer is closed instead.
async fn drain_body(mut response: Response) {
    let mut read = 0;
    while read < MAX_RESPONSE_READ
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
    }
}

/// Wait requested by `Retry-After` in seconds; dates are not supported.
fn parse_retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Text of an error with all its causes.
fn error_with_causes(error: reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_taken_and_410_is_the_end() {
        for (status, taken, gone) in [
            (200, true, false),
            (204, true, false),
            (299, true, false),
            (301, false, false),
            (307, false, false),
            (400, false, false),
            (410, false, true),
            (429, false, false),
            (500, false, false),
        ] {
            let outcome = DeliveryOutcome::from_status(status, None);
            assert_eq!((outcome.error.is_none(), outcome.gone), (taken, gone), "{status}");
        }
        assert_eq!(DeliveryOutcome::from_error(&"x".repeat(1000)).error.unwrap().len(), MAX_ERROR_LEN);
    }

    #[test]
    fn private_literals_are_refused_unless_allowed() {
        let mut config = WebhookEndpoint {
            url: "https://10.0.0.1/hook".parse().unwrap(),
            secrets: vec!["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".into()],
            events: Some(vec!["job.failed".into()]),
            allow_private: false,
            timeout: Duration::from_secs(1),
        };
        let error = EndpointTarget::new("ops", &config).err().unwrap().to_string();
        assert_eq!(error, "ops: 10.0.0.1 is not a public address; set allow_private if this is intended");
        config.allow_private = true;
        let target = EndpointTarget::new("ops", &config).unwrap();
        assert!(target.accepts_kind(WebhookEventKind::JobFailed) && !target.accepts_kind(WebhookEventKind::JobExpired));
        config.secrets = vec!["whsec_nonsense!".into()];
        assert!(!EndpointTarget::new("ops", &config).err().unwrap().to_string().contains("nonsense"));
    }
}
