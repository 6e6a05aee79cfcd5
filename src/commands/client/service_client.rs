//! Client of a running service: requests, and the reasons for which they fail, in words for people.

use std::{io, path::PathBuf, time::Duration};

use am_core::{ambient::IdGenerator, error_text::error_with_causes};
use clap::Args;
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, Url,
    header::{HeaderMap, HeaderValue, LINK, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::Value;

use crate::commands::output::printable;

/// Time limit for opening a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without a byte after which an answer is given up: above the longest wait and the interval of comments in streams.
const READ_TIMEOUT: Duration = Duration::from_secs(90);
/// How often a request without an answer is sent.
const SEND_ATTEMPTS: u32 = 3;
/// Environment variable with the API key.
const KEY_VARIABLE: &str = "AGENT_MANAGEMENT_KEY";

/// Which service a command asks, and how it prints the answer.
#[derive(Args, Clone)]
pub struct ServiceArguments {
    /// Address of the running service.
    #[arg(
        long,
        global = true,
        env = "AGENT_MANAGEMENT_URL",
        default_value = "http://127.0.0.1:8012",
        value_name = "URL"
    )]
    url: Url,
    /// File whose first line is the API key. Default: the environment variable AGENT_MANAGEMENT_KEY.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print JSON on a terminal too. Output that no terminal reads is JSON always.
    #[arg(long, global = true)]
    pub json: bool,
}

/// Reason for which the service gave no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The key can't be read, or sent.
    #[error("the API key in {place} {fault}")]
    Key {
        /// File or variable that has the key.
        place: String,
        /// What is wrong with it.
        fault: String,
    },
    /// No answer came.
    #[error("no answer from {url}: {cause}{hint}")]
    Unreachable {
        /// Address of the service.
        url: String,
        /// Texts of the error and its causes.
        cause: String,
        /// Advice for the caller; may be empty.
        hint: &'static str,
    },
    /// The service refused the request, or failed.
    #[error("{}{}", .0.text, .0.hint)]
    Refused(Box<ServiceRefusal>),
    /// The answer is none of the API's.
    #[error(
        "the answer of {url} is not this service's: {what}\n  hint: --url or AGENT_MANAGEMENT_URL names the service"
    )]
    Foreign {
        /// Address that answered.
        url: String,
        /// What was expected.
        what: String,
    },
    /// The operating system gave no randomness or no file.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// An error answer of the API.
#[derive(Debug)]
pub struct ServiceRefusal {
    /// HTTP status of the answer.
    status: StatusCode,
    /// Status, code and the API's words.
    text: String,
    /// Advice for the caller; may be empty.
    hint: String,
}

impl ServiceError {
    /// Whether the same request may succeed a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused(refusal) => {
                refusal.status.is_server_error() || refusal.status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Key { .. } | Self::Foreign { .. } | Self::System(_) => false,
        }
    }
}

/// Client of one service.
pub struct ServiceClient {
    client: Client,
    url: Url,
    key: Option<HeaderValue>,
    ids: IdGenerator,
}

/// A good answer: its body and its headers.
pub struct ServiceAnswer {
    /// HTTP status of the answer.
    pub status: StatusCode,
    /// Body as JSON; null where there is none.
    pub body: Value,
    headers: HeaderMap,
}

impl ServiceAnswer {
    /// Number of all rows of the list, if it is known.
    pub fn total(&self) -> Option<u64> {
        self.headers.get("x-total-count")?.to_str().ok()?.parse().ok()
    }

    /// Path and query of the next page, if there is one.
    pub fn next_page(&self) -> Option<String> {
        let links = self.headers.get(LINK)?.to_str().ok()?;
        let next = links.split(", ").find_map(|link| link.strip_suffix("; rel=\"next\""))?;
        Some(next.trim_start_matches('<').trim_end_matches('>').to_owned())
    }
}

fn read_key(file: Option<&PathBuf>) -> Result<Option<HeaderValue>, ServiceError> {
    let (place, text) = match file {
        Some(file) => {
            let place = file.display().to_string();
            let fault =
                |error: io::Error| ServiceError::Key { place: place.clone(), fault: format!("can't be read: {error}") };
            let text = std::fs::read_to_string(file).map_err(fault)?;
            (place, text)
        }
        None => match std::env::var(KEY_VARIABLE) {
            Ok(text) => (KEY_VARIABLE.to_owned(), text),
            Err(_) => return Ok(None),
        },
    };
    let key = text.lines().next().unwrap_or_default().trim();
    let fault = |fault: &str| ServiceError::Key { place: place.clone(), fault: fault.to_owned() };
    if key.is_empty() {
        return if file.is_some() { Err(fault("is empty")) } else { Ok(None) };
    }
    let mut header = HeaderValue::from_str(key).map_err(|_| fault("has characters that no key has"))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl ServiceClient {
    /// Make the client. Nothing is sent yet.
    ///
    /// # Errors
    /// [`ServiceError::Key`] for a key that can't be read.
    pub fn new(arguments: &ServiceArguments) -> Result<Self, ServiceError> {
        let url = arguments.url.clone();
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // The key goes to nobody but the address that was named.
            .redirect(Policy::none())
            .user_agent(concat!("agent-management-cli/", env!("CARGO_PKG_VERSION")));
        if is_this_machine(&url) {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| unreachable(&url, &error))?;
        Ok(Self { client, key: read_key(arguments.key_file.as_ref())?, url, ids: IdGenerator::system()? })
    }

    /// Address of the service.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether requests have a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, ServiceError> {
        let base = self.url.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}{path}"))
            .map_err(|error| ServiceError::Foreign { url: self.url.to_string(), what: error.to_string() })?;
        let request = self.client.request(method, url);
        Ok(match &self.key {
            Some(key) => request.header("x-api-key", key.clone()),
            None => request,
        })
    }

    /// GET of a path with this query.
    ///
    /// # Errors
    /// Any but a good answer.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<ServiceAnswer, ServiceError> {
        self.good(self.answer(self.request(Method::GET, path)?.query(query)).await?)
    }

    /// GET of a path whose answers of any status are documents.
    ///
    /// # Errors
    /// When there is no answer, or it is no JSON.
    pub async fn get_any(&self, path: &str) -> Result<ServiceAnswer, ServiceError> {
        self.answer(self.request(Method::GET, path)?).await
    }

    /// POST that is done once, however often it is sent.
    ///
    /// # Errors
    /// Any but a good answer.
    pub async fn post(&self, path: &str, query: &[(&str, String)], body: &Value) -> Result<Value, ServiceError> {
        let key = self.ids.random_id("cli_", 32);
        let request = self.request(Method::POST, path)?.query(query).header("idempotency-key", key).json(body);
        Ok(self.good(self.answer(request).await?)?.body)
    }

    /// DELETE of a path.
    ///
    /// # Errors
    /// Any but a good answer.
    pub async fn delete(&self, path: &str) -> Result<Value, ServiceError> {
        Ok(self.good(self.answer(self.request(Method::DELETE, path)?).await?)?.body)
    }

    /// Open a stream of Server-Sent Events after the event of this number; `None` if nothing will follow it.
    ///
    /// # Errors
    /// Any but a good answer.
    pub async fn open_stream(&self, path: &str, after: u64) -> Result<Option<Response>, ServiceError> {
        let request = self.request(Method::GET, path)?.header("accept", "text/event-stream");
        let response = self.send(request.header("last-event-id", after.to_string())).await?;
        match response.status() {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => Ok(Some(response)),
            _ => self.good(self.read(response).await?).map(|_| None),
        }
    }

    /// The error of a connection that was lost.
    pub fn lost(&self, cause: &(dyn std::error::Error + 'static)) -> ServiceError {
        ServiceError::Unreachable { url: self.url.to_string(), cause: error_with_causes(cause), hint: "" }
    }

    /// Send a request, again if the connection is lost before an answer: each is safe to repeat.
    async fn send(&self, request: RequestBuilder) -> Result<Response, ServiceError> {
        for _ in 1..SEND_ATTEMPTS {
            // Bodies are JSON in memory, which can be sent again.
            let Some(again) = request.try_clone() else { break };
            match again.send().await {
                Ok(response) => return Ok(response),
                Err(error) if error.is_connect() => return Err(unreachable(&self.url, &error)),
                Err(_) => {}
            }
        }
        request.send().await.map_err(|error| unreachable(&self.url, &error))
    }

    async fn answer(&self, request: RequestBuilder) -> Result<ServiceAnswer, ServiceError> {
        let response = self.send(request).await?;
        self.read(response).await
    }

    async fn read(&self, response: Response) -> Result<ServiceAnswer, ServiceError> {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.map_err(|error| self.lost(&error))?;
        let body = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        match body {
            Ok(body) => Ok(ServiceAnswer { status, body, headers }),
            // A proxy before the service answers in its own words.
            Err(_) if status.is_client_error() || status.is_server_error() => {
                Ok(ServiceAnswer { status, body: Value::Null, headers })
            }
            Err(error) => {
                Err(ServiceError::Foreign { url: self.url.to_string(), what: format!("{status}, not JSON ({error})") })
            }
        }
    }

    fn good(&self, answer: ServiceAnswer) -> Result<ServiceAnswer, ServiceError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        if !answer.status.is_client_error() && !answer.status.is_server_error() {
            return Err(ServiceError::Foreign { url: self.url.to_string(), what: answer.status.to_string() });
        }
        let wait = answer.headers.get(RETRY_AFTER).and_then(|wait| wait.to_str().ok());
        let hint = hint_for(answer.status, &answer.body, wait, self.has_key());
        let text = refusal_text(answer.status, &answer.body);
        Err(ServiceError::Refused(Box::new(ServiceRefusal { status: answer.status, text, hint })))
    }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> ServiceError {
    let hint = match error.is_connect() {
        true => "\n  hint: is the service running? --url or AGENT_MANAGEMENT_URL names another address",
        false => "",
    };
    // The outermost text repeats the address.
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), error_with_causes);
    ServiceError::Unreachable { url: url.to_string(), cause, hint }
}

/// The API's own words, each fault of a 422 on a line of its own.
fn refusal_text(status: StatusCode, body: &Value) -> String {
    let code = body["code"].as_str().unwrap_or("no further explanation");
    let mut text = format!("{} {code}", status.as_u16());
    match &body["detail"] {
        Value::Array(faults) => {
            for fault in faults {
                let words = |part: &Value| part.as_str().map_or_else(|| part.to_string(), str::to_owned);
                let place = fault["loc"].as_array().map(|loc| loc.iter().map(words).collect::<Vec<_>>().join("."));
                text += &format!("\n  {}: {}", place.unwrap_or_default(), words(&fault["msg"]));
            }
        }
        Value::String(detail) => text += &format!(": {detail}"),
        _ => {}
    }
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

fn hint_for(status: StatusCode, body: &Value, wait: Option<&str>, has_key: bool) -> String {
    let request = body["request_id"].as_str().map(printable);
    match (status, wait) {
        (StatusCode::UNAUTHORIZED, _) if !has_key => {
            "\n  hint: set AGENT_MANAGEMENT_KEY, or name a file with the key by --key-file".to_owned()
        }
        (StatusCode::UNAUTHORIZED, _) => {
            "\n  hint: the key is unknown, revoked or expired: `agent-management keys list`".to_owned()
        }
        (StatusCode::FORBIDDEN, _) if body["code"] == "insufficient_role" => {
            "\n  hint: this needs a key of the role admin".to_owned()
        }
        (_, Some(seconds)) => format!("\n  hint: try again in {} s", printable(seconds)),
        (status, None) if status.is_server_error() => request.map_or_else(String::new, |id| {
            format!("\n  hint: the service's log has the cause, in the lines with request_id {id}")
        }),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_fault_of_a_refusal_is_shown_with_its_place() {
        let body = json!({"code": "validation_error", "detail": [
            {"loc": ["body", "steps", "a", 0], "msg": "no such step"},
            {"loc": ["query", "limit"], "msg": "Input should be\u{1b}[1m from 1 to 500"},
        ]});
        let expected = "422 validation_error\n  body.steps.a.0: no such step\n  query.limit: Input should be\u{fffd}[1m from 1 to 500";
        assert_eq!(refusal_text(StatusCode::UNPROCESSABLE_ENTITY, &body), expected);
        let body = json!({"code": "not_found", "detail": "There is none"});
        assert_eq!(refusal_text(StatusCode::NOT_FOUND, &body), "404 not_found: There is none");
        assert_eq!(refusal_text(StatusCode::BAD_GATEWAY, &Value::Null), "502 no further explanation");
    }

    #[test]
    fn hints_say_what_to_do_next() {
        let hint = |status, body: Value, wait, key| hint_for(StatusCode::from_u16(status).unwrap(), &body, wait, key);
        for (found, words) in [
            (hint(401, json!({}), None, false), "AGENT_MANAGEMENT_KEY"),
            (hint(401, json!({}), None, true), "keys list"),
            (hint(403, json!({"code": "insufficient_role"}), None, true), "role admin"),
            (hint(429, json!({}), Some("7"), true), "in 7 s"),
            (hint(500, json!({"request_id": "req_1"}), None, true), "request_id req_1"),
        ] {
            assert!(found.contains(words), "{found}");
        }
        assert_eq!(hint(404, json!({}), None, true), "");
    }

    #[test]
    fn no_proxy_stands_between_processes_of_one_machine() {
        let found =
            ["http://localhost:1", "http://127.0.0.1", "http://[::1]:2", "http://example.com", "http://10.0.0.1"];
        assert_eq!(found.map(|url| is_this_machine(&url.parse().unwrap())), [true, true, true, false, false]);
    }
}
