//! Signatures of Standard Webhooks: HMAC-SHA256 over id, time and body.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::Sha256;

use am_core::ids::DeliveryId;

const SECRET_PREFIX: &str = "whsec_";

/// Secret shared with an endpoint.
pub(super) struct SigningSecret(SecretBox<[u8]>);

impl SigningSecret {
    /// Parse `whsec_` and base64; `None` when the text has another form.
    pub(super) fn parse(text: &SecretString) -> Option<Self> {
        let bytes = STANDARD.decode(text.expose_secret().strip_prefix(SECRET_PREFIX)?).ok()?;
        (!bytes.is_empty()).then(|| Self(SecretBox::new(bytes.into_boxed_slice())))
    }

    fn sign(&self, id: &DeliveryId, seconds: i64, body: &str) -> Option<String> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret()).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body.as_bytes());
        Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// Value of the header `webhook-signature` for a message sent at Unix time `seconds`: one signature per secret.
pub(super) fn signature_header(secrets: &[SigningSecret], id: &DeliveryId, seconds: i64, body: &str) -> String {
    // HMAC accepts keys of any length.
    let signatures: Vec<String> = secrets.iter().filter_map(|secret| secret.sign(id, seconds, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standards_own_library_accepts_it() {
        let texts = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB"];
        let secrets: Vec<SigningSecret> = texts.map(|text| SigningSecret::parse(&text.into()).unwrap()).into();
        let (id, body) = (&"msg_p5jXN8AQM9LWM0D4loKWxJek".into(), r#"{"test": 2432232314}"#);
        // printf %s 'msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}' |
        //   openssl dgst -sha256 -mac HMAC -macopt hexkey:$(base64 -d <<< MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw | xxd -p) -binary | base64
        let known = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature_header(&secrets[..1], id, 1_614_265_330, body), known);
        let both = signature_header(&secrets, id, 1_614_265_330, body);
        assert!(both.starts_with(known) && both.len() == 2 * known.len() + 1);
        for text in texts {
            let library = standardwebhooks::Webhook::new(text).unwrap();
            let theirs = library.sign(id, 1_614_265_330, body.as_bytes()).unwrap();
            assert!(both.split(' ').any(|one| one == theirs));
        }
        assert_ne!(signature_header(&secrets[..1], id, 1_614_265_331, body), known);
        assert_ne!(signature_header(&secrets[..1], id, 1_614_265_330, "{}"), known);
    }

    #[test]
    fn only_secrets_are_read() {
        for bad in ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"] {
            assert!(SigningSecret::parse(&bad.into()).is_none(), "{bad}");
        }
    }
}
