//! Tokens of the coordinator: JSON Web Tokens (RFC 7519) that are signed with HMAC-SHA-256 under the secret that both share.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use sha2::Sha256;

use am_keys::KeyRole;

/// Bytes of the longest subject.
const MAX_SUBJECT_BYTES: usize = 256;
/// Seconds by which the issuer's clock may be ahead of this one's.
const MAX_CLOCK_LEAD_SECONDS: f64 = 60.0;

/// What is wrong with a token; the text is shown to its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// A part is not base64url of the JSON that belongs there, or a claim is missing or has another type.
    #[error("Invalid token: it is not a JSON Web Token with sub, role and exp")]
    Malformed,
    /// It is not signed with HMAC-SHA-256, or requires something that is not known here.
    #[error("Invalid token: it should be signed with HS256 and have no critical header")]
    Algorithm,
    /// Its signature is not made with the shared secret.
    #[error("Invalid token: its signature is wrong")]
    Signature,
    /// Its time is over.
    #[error("Invalid token: it has expired")]
    Expired,
    /// Its time has not begun.
    #[error("Invalid token: it is not valid yet")]
    Early,
    /// It is no access token, such as one that serves to renew others.
    #[error("Invalid token: its type is not access")]
    Kind,
    /// Its subject is empty or too long.
    #[error("Invalid token: its sub is empty or longer than 256 bytes")]
    Subject,
    /// Its role is not one that keys have.
    #[error("Invalid token: its role is not admin, client or miner")]
    Role,
}

/// What a valid token states.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenClaims {
    /// Subject: whom the issuer means.
    pub subject: String,
    /// Role of the subject.
    pub role: KeyRole,
    /// End of the token's time, in seconds since 1970.
    expires_at: f64,
}

impl TokenClaims {
    /// Seconds until the token's end.
    pub fn seconds_left(&self, now: DateTime<Utc>) -> f64 {
        self.expires_at - unix_seconds(now)
    }
}

#[derive(Deserialize)]
struct TokenHeader {
    alg: String,
    #[serde(default)]
    typ: Option<String>,
    #[serde(default)]
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct RawClaims {
    sub: String,
    role: String,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

/// Verifies tokens. Holds the secret, which is never shown.
pub struct TokenVerifier(SecretString);

impl TokenVerifier {
    /// Create it from the secret that the coordinator signs with.
    pub fn new(secret: SecretString) -> Self {
        Self(secret)
    }

    /// Verify a token.
    ///
    /// # Errors
    /// What is wrong with it. Its claims are not read before its signature was found right.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<TokenClaims, TokenFault> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenFault::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenFault::Malformed)?;
        let header: TokenHeader = decode(header)?;
        let is_jwt = header.typ.is_none_or(|kind| kind.eq_ignore_ascii_case("JWT"));
        if header.alg != "HS256" || header.crit.is_some() || !is_jwt {
            return Err(TokenFault::Algorithm);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenFault::Malformed)?;
        let mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret().as_bytes());
        let mac = mac.map_err(|_| TokenFault::Signature)?.chain_update(signed);
        // Compares in constant time, and the whole length.
        mac.verify_slice(&signature).map_err(|_| TokenFault::Signature)?;
        checked(decode(claims)?, unix_seconds(now))
    }
}

/// Whether a text has the form of a token: three parts of base64url, of which the first is a JSON object with `alg`.
pub fn has_token_form(text: &str) -> bool {
    let mut parts = text.split('.');
    let header = parts.next().filter(|header| header.starts_with("eyJ"));
    let three = parts.next().is_some() && parts.next().is_some() && parts.next().is_none();
    header.is_some_and(|header| three && decode::<TokenHeader>(header).is_ok())
}

fn checked(raw: RawClaims, now: f64) -> Result<TokenClaims, TokenFault> {
    if raw.kind.is_some_and(|kind| kind != "access") {
        return Err(TokenFault::Kind);
    }
    if raw.exp <= now {
        return Err(TokenFault::Expired);
    }
    if raw.nbf.is_some_and(|from| from > now + MAX_CLOCK_LEAD_SECONDS) {
        return Err(TokenFault::Early);
    }
    if raw.sub.is_empty() || raw.sub.len() > MAX_SUBJECT_BYTES {
        return Err(TokenFault::Subject);
    }
    let role = match raw.role.as_str() {
        "admin" => KeyRole::Admin,
        "client" => KeyRole::Client,
        "miner" => KeyRole::Miner,
        _ => return Err(TokenFault::Role),
    };
    Ok(TokenClaims { subject: raw.sub, role, expires_at: raw.exp })
}

/// The JSON in a part of a token.
fn decode<T: DeserializeOwned>(part: &str) -> Result<T, TokenFault> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenFault::Malformed)
}

fn unix_seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn signed(header: &Value, claims: &Value, secret: &str) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", part(header), part(claims));
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&text);
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
    }

    fn verify(token: &str) -> Result<TokenClaims, TokenFault> {
        TokenVerifier::new(SECRET.into()).verify(token, at(1000))
    }

    fn claims() -> Value {
        json!({"sub": "alice", "role": "client", "exp": 1001, "iat": 900, "type": "access", "user_id": "alice"})
    }

    #[test]
    fn token_of_a_published_example_is_verified() {
        // The example that most tools for tokens show.
        let secret = "your-256-bit-secret";
        let token = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ\
                     .SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
        let found = TokenVerifier::new(secret.into()).verify(token, at(1000));
        assert_eq!(found, Err(TokenFault::Malformed), "the signature is right, and role and exp are missing");
        let other = TokenVerifier::new(SECRET.into()).verify(token, at(1000));
        assert_eq!(other, Err(TokenFault::Signature));
    }

    #[test]
    fn good_token_states_subject_role_and_end() {
        let header = json!({"alg": "HS256", "typ": "JWT"});
        let token = signed(&header, &claims(), SECRET);
        let found = verify(&token).unwrap();
        assert_eq!((found.subject.as_str(), found.role), ("alice", KeyRole::Client));
        assert!((found.seconds_left(at(1000)) - 1.0).abs() < 1e-9);
        assert!(has_token_form(&token));
    }

    #[test]
    fn other_algorithms_and_signatures_are_refused() {
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "None", "typ": "JWT"}),
            json!({"alg": "hs256"}),
            json!({"alg": "HS512"}),
            json!({"alg": "RS256"}),
            json!({"alg": "HS256", "crit": ["exp"]}),
            json!({"alg": "HS256", "typ": "JWE"}),
        ] {
            assert_eq!(verify(&signed(&header, &claims(), SECRET)), Err(TokenFault::Algorithm), "{header}");
        }
        let header = json!({"alg": "HS256"});
        let token = signed(&header, &claims(), SECRET);
        let (body, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(verify(&signed(&header, &claims(), "another secret")), Err(TokenFault::Signature));
        assert_eq!(verify(&format!("{body}.")), Err(TokenFault::Signature));
        assert_eq!(verify(&format!("{body}.{}", &signature[..20])), Err(TokenFault::Signature));
        assert_eq!(verify(&format!("{body}.{signature}=")), Err(TokenFault::Malformed));
        assert_eq!(verify(&format!("{body}.x.{signature}")), Err(TokenFault::Signature));
        let (other, _) = signed(&header, &json!({"sub": "mallory"}), "x")
            .rsplit_once('.')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!(verify(&format!("{other}.{signature}")), Err(TokenFault::Signature));
        for text in ["", ".", "..", "a.b.c", "eyJ.eyJ.x", "key-0123456789"] {
            assert_eq!(verify(text), Err(TokenFault::Malformed), "{text}");
            assert!(!has_token_form(text), "{text}");
        }
    }

    #[test]
    fn claims_are_held_to_their_rules() {
        let with = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            verify(&signed(&json!({"alg": "HS256"}), &claims, SECRET))
        };
        assert_eq!(with("exp", json!(1000)), Err(TokenFault::Expired));
        assert!(with("exp", json!(1000.5)).is_ok());
        for bad in [json!("2000"), Value::Null] {
            assert_eq!(with("exp", bad), Err(TokenFault::Malformed));
        }
        assert_eq!(with("nbf", json!(1100)), Err(TokenFault::Early));
        assert!(with("nbf", json!(1030)).is_ok());
        assert_eq!(with("type", json!("refresh")), Err(TokenFault::Kind));
        assert_eq!(with("sub", json!("")), Err(TokenFault::Subject));
        assert_eq!(with("sub", json!("a".repeat(257))), Err(TokenFault::Subject));
        assert_eq!(with("sub", json!(7)), Err(TokenFault::Malformed));
        for role in ["agent", "Admin", "root", ""] {
            assert_eq!(with("role", json!(role)), Err(TokenFault::Role), "{role}");
        }
        for (role, key) in [("admin", KeyRole::Admin), ("miner", KeyRole::Miner)] {
            assert_eq!(with("role", json!(role)).unwrap().role, key);
        }
        let twice = r#"{"sub":"alice","sub":"bob","role":"admin","exp":2000}"#;
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(twice));
        let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(&text);
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
        assert_eq!(verify(&token), Err(TokenFault::Malformed), "a claim with two values");
    }
}
