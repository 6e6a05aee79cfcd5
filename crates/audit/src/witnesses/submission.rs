//! A single call of a witness's `add-checkpoint` (<https://c2sp.org/tlog-witness>), and the interpretation of its answer.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response};

use am_core::{
    config::WitnessEndpoint,
    error_text::error_with_causes,
    public_address::{AddressError, check_literal_host, restrict_to_public},
    response_body::{ResponseBodyError, read_response_body},
};

/// Time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes read of an answer at most: sixteen signatures of the largest kind that there is.
const MAX_ANSWER_BYTES: usize = 128 << 10;
/// Media type of the size that a witness answers when another one was submitted than it has.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// Reason why witnesses cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The host is not public; the first value is the witness's name.
    #[error("{0}: {1}; set allow_private if this is intended")]
    InvalidAddress(String, AddressError),
    /// The HTTP client cannot be built.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WitnessAnswer {
    /// It cosigned: its signature lines.
    Cosigned(String),
    /// The last head that it cosigned has another size, or another root at the same size; `None`: it did not say the size.
    Conflict(Option<u64>),
    /// The proof does not lead from the head that it cosigned to this one.
    ProofRefused,
    /// Anything else, such as no answer: nothing is known of what it holds.
    Failed(String),
}

/// The client for a witness. It follows no redirect, and reaches public addresses only unless others are allowed.
pub(super) fn build_client(witness: &WitnessEndpoint) -> Result<Client, WitnessError> {
    let builder = ClientBuilder::new()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")));
    if witness.allow_private {
        return Ok(builder.build()?);
    }
    let named = |error| WitnessError::InvalidAddress(witness.key.name().to_owned(), error);
    check_literal_host(&witness.url).map_err(named)?;
    Ok(restrict_to_public(builder).build()?)
}

/// The body that submits a checkpoint with the proof that it continues the one over `old` entries.
pub(super) fn request_body(old: u64, proof: &[String], checkpoint: &str) -> String {
    let lines: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
    format!("old {old}\n{lines}\n{checkpoint}")
}

/// Submit `body`. An answer that does not come in time is a failure.
pub(super) async fn submit(client: &Client, witness: &WitnessEndpoint, body: String) -> WitnessAnswer {
    let request = client.post(witness.url.clone()).timeout(witness.timeout).header("content-type", "text/plain");
    match request.body(body).send().await {
        Ok(response) => read_answer(response).await,
        Err(error) => WitnessAnswer::Failed(error_with_causes(&error.without_url())),
    }
}

async fn read_answer(response: Response) -> WitnessAnswer {
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    match read_response_body(response, MAX_ANSWER_BYTES).await {
        Ok(body) => interpret(status, kind.as_deref(), body),
        Err(ResponseBodyError::TooLarge(most)) => {
            WitnessAnswer::Failed(format!("it answered {status} with more than {most} bytes"))
        }
        Err(ResponseBodyError::Broken(error)) => WitnessAnswer::Failed(error_with_causes(&error)),
    }
}

fn interpret(status: u16, kind: Option<&str>, body: Vec<u8>) -> WitnessAnswer {
    let failed = |why: &str| WitnessAnswer::Failed(format!("it answered {status}{why}"));
    match (status, String::from_utf8(body)) {
        (200, Ok(lines)) => WitnessAnswer::Cosigned(lines),
        (200, Err(_)) => failed(" with a body that is no text"),
        (409, body) => {
            let size = body.ok().filter(|_| kind == Some(SIZE_TYPE)).and_then(|body| parse_size(&body));
            WitnessAnswer::Conflict(size)
        }
        (422, _) => WitnessAnswer::ProofRefused,
        (403, _) => failed(": it knows none of the keys that signed the head"),
        (404, _) => failed(": it does not know the log, or its url is wrong"),
        (300..=399, _) => failed("; redirects are not followed"),
        _ => failed(""),
    }
}

/// A size in decimal without leading zeros, and a newline.
fn parse_size(body: &str) -> Option<u64> {
    let digits = body.strip_suffix('\n')?;
    let size: u64 = digits.parse().ok()?;
    (size.to_string() == digits).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_has_the_lines_of_the_specification() {
        let proof = ["PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=".to_owned(), "b".to_owned()];
        let body = request_body(20_852_014, &proof, "o\n1\nr\n\nsig\n");
        assert_eq!(body, "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\nb\n\no\n1\nr\n\nsig\n");
        assert_eq!(request_body(0, &[], "o\n"), "old 0\n\no\n");
    }

    #[test]
    fn each_status_of_the_specification_is_told_apart() {
        let answer = |status, kind, body: &str| interpret(status, kind, body.as_bytes().to_vec());
        let size = Some(SIZE_TYPE);
        assert_eq!(answer(200, None, "x\n"), WitnessAnswer::Cosigned("x\n".into()));
        assert_eq!(answer(409, size, "20852014\n"), WitnessAnswer::Conflict(Some(20_852_014)));
        assert_eq!(answer(409, size, "0\n"), WitnessAnswer::Conflict(Some(0)));
        for (kind, body) in
            [(Some("text/plain"), "7\n"), (None, "7\n"), (size, "07\n"), (size, "7"), (size, "-7\n"), (size, "")]
        {
            assert_eq!(answer(409, kind, body), WitnessAnswer::Conflict(None), "{kind:?} {body:?}");
        }
        assert_eq!(answer(422, None, ""), WitnessAnswer::ProofRefused);
        for status in [201, 301, 400, 403, 404, 429, 500, 503] {
            let WitnessAnswer::Failed(why) = answer(status, size, "7\n") else { panic!("{status}") };
            assert!(why.contains(&status.to_string()), "{why}");
        }
        assert!(matches!(interpret(200, None, vec![0xff]), WitnessAnswer::Failed(_)));
    }
}
