//! The keys that sign receipts and the audit log, and the log with them.

use secrecy::{ExposeSecret as _, SecretString};

use super::StartError;
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    crypto::Signer,
};
use am_db::Database;
use am_webhooks::WebhookService;

/// Return the key that signs receipts: the configured one, or one stored beside the database and made at the first
/// start.
///
/// # Errors
/// When it cannot be read or made.
pub fn receipt_signer(config: &Config) -> Result<Signer, StartError> {
    load_signing_key(config, config.receipt_signing_key.as_ref(), "RECEIPT_SIGNING_KEY_HEX", "receipt-signing-key.hex")
}

fn load_signing_key(config: &Config, set: Option<&SecretString>, name: &str, file: &str) -> Result<Signer, StartError> {
    if let Some(key) = set {
        return Ok(Signer::from_hex(key.expose_secret())?);
    }
    std::fs::create_dir_all(&config.data_dir).map_err(|error| StartError::System("the data directory", error))?;
    let path = config.data_dir.join(file);
    let (signer, created) = Signer::load_or_create(&path)?;
    if created {
        tracing::warn!(path = %path.display(), key_id = signer.key_id(), "{name} is not set; a signing key was created, back up this file");
    }
    Ok(signer)
}

/// File of the key that secrets of webhooks are derived from, in the data directory.
const HOOK_SECRETS_FILE: &str = "webhook-secrets.hex";
/// File of the audit log's key in the data directory.
const AUDIT_KEY_FILE: &str = "audit-signing-key.hex";
/// File of the last signed head in the data directory.
const AUDIT_HEAD_FILE: &str = "audit-last-head.txt";

/// Open the audit log of `db`, and the webhooks that send its signed heads and alerts.
///
/// # Errors
/// When its signing key cannot be read or made, or is not the one that signed the last head.
pub async fn open_audit(
    config: &Config,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
) -> Result<(AuditLog, WebhookService), StartError> {
    let secrets = config.data_dir.join(HOOK_SECRETS_FILE);
    let webhooks = WebhookService::open(db.clone(), clock.clone(), ids.clone(), &config.webhooks, secrets)?;
    let set = &config.audit;
    let previous = match &set.previous_signing_key {
        Some(key) => Some(Signer::from_hex(key.expose_secret())?),
        None => None,
    };
    let heads = am_audit::last_head_size(db).await.map_err(am_audit::CustodyError::Db)?;
    let is_missing = set.signing_key.is_none() && !config.data_dir.join(AUDIT_KEY_FILE).exists();
    if let (true, Some(size), None, false) = (is_missing, heads, &previous, set.new_key) {
        // A new key would only have to be removed again.
        return Err(am_audit::CustodyError::MissingKey(size).into());
    }
    let signer = load_signing_key(config, set.signing_key.as_ref(), "AUDIT_SIGNING_KEY_HEX", AUDIT_KEY_FILE)?;
    std::fs::create_dir_all(&config.data_dir).map_err(|error| StartError::System("the data directory", error))?;
    let last_head = Some(config.data_dir.join(AUDIT_HEAD_FILE));
    let custody = am_audit::KeyCustody { previous, last_head, accept_new_key: set.new_key };
    let settings = am_audit::AuditSettings { origin: set.origin.clone(), every: set.every };
    let audit = AuditLog::new(db.clone(), clock.clone(), ids.clone(), webhooks.clone(), signer, settings);
    Ok((audit.with_custody(custody).await?, webhooks))
}
