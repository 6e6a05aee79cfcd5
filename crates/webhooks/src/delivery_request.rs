//! A single delivery request to an endpoint, and the interpretation of its answer.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, Url};
use sha2::{Digest as _, Sha256};

use super::{
    error::{Result, WebhookError},
    model::WebhookEventKind,
    retry_schedule::MAX_REQUESTED_WAIT,
    signature::{SigningSecret, signature_header},
};
use am_core::{
    config::WebhookEndpoint,
    error_text::error_with_causes,
    ids::DeliveryId,
    public_address::{check_literal_host, restrict_to_public},
    retry_after::parse_retry_after,
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
    /// Hash of the URL, which may contain a token.
    pub(super) address_hash: String,
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
        Self::unchecked(name, config)
    }

    /// The same, where the address was checked when the endpoint was made, and is again when it is called.
    pub(super) fn unchecked(name: &str, config: &WebhookEndpoint) -> Result<Self> {
        let secrets: Option<Vec<SigningSecret>> = config.secrets.iter().map(SigningSecret::parse).collect();
        Ok(Self {
            url: config.url.clone(),
            address_hash: hex_of(&Sha256::digest(config.url.as_str())),
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

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

/// What an attempt tells of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointSign {
    /// The endpoint works, whether it accepted this delivery or not.
    Works,
    /// The endpoint does not work now.
    Fails,
    /// The endpoint wants no calls any more.
    Gone,
}

impl DeliveryOutcome {
    fn from_error(error: &str) -> Self {
        Self { status: None, error: Some(error.chars().take(MAX_ERROR_LEN).collect()), gone: false, ask: None }
    }

    /// What the outcome tells of the endpoint: a refusal of one delivery says nothing against the others.
    pub(super) fn sign(&self) -> EndpointSign {
        match self.status {
            _ if self.gone => EndpointSign::Gone,
            None | Some(408 | 425 | 429 | 500..) => EndpointSign::Fails,
            Some(_) => EndpointSign::Works,
        }
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
            let outcome = DeliveryOutcome::from_status(response.status().as_u16(), retry_after(&response, now));
            drain_body(response).await;
            outcome
        }
        Err(error) => DeliveryOutcome::from_error(&error_with_causes(&error.without_url())),
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

/// Wait requested by `Retry-After`.
fn retry_after(response: &Response, now: Timestamp) -> Option<Duration> {
    parse_retry_after(response.headers().get("retry-after")?.to_str().ok()?, now.0, MAX_REQUESTED_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp("2027-01-01T00:00:00Z".parse().unwrap());
        let seconds = |text: &str| parse_retry_after(text, now.0, MAX_REQUESTED_WAIT).map(|wait| wait.as_secs());
        for (text, wait) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Fri, 01 Jan 2027 00:02:00 GMT", Some(120)),
            ("Friday, 01-Jan-27 00:02:00 GMT", Some(120)),
            ("Fri Jan  1 00:02:00 2027", Some(120)),
            ("Thu, 31 Dec 2026 23:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("Fri, 01 Jan 2027 00:02:00", None),
        ] {
            assert_eq!(seconds(text), wait, "{text}");
        }
    }

    #[test]
    fn refusals_of_one_delivery_say_nothing_of_the_endpoint() {
        let sign = |status| DeliveryOutcome::from_status(status, None).sign();
        for (works, statuses) in [
            (EndpointSign::Works, vec![200, 204, 301, 400, 404, 413, 422]),
            (EndpointSign::Fails, vec![408, 425, 429, 500, 502, 503, 599]),
            (EndpointSign::Gone, vec![410]),
        ] {
            for status in statuses {
                assert_eq!(sign(status), works, "{status}");
            }
        }
        assert_eq!(DeliveryOutcome::from_error("timed out").sign(), EndpointSign::Fails);
    }

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
