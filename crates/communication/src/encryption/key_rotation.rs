//! Rotation of data keys and master keys while the service runs.

use am_core::boxed;
use serde_json::json;

use super::{
    EncryptionService,
    error::{EncryptionError, Result},
    model::{KeyRotationReport, MasterKeyUsage},
    randomness::prepare_randomness,
    store,
};
use am_audit::{AuditEntry, EventType, SecurityLevel};
use am_db::{Tx, codec::Timestamp, owner};

/// Data keys rewrapped per transaction.
const REWRAP_BATCH: u32 = 500;

fn audit_entry(action: &str, now: Timestamp) -> AuditEntry {
    // Keys are rotated on the command line and not over the API, so the acting user is the system.
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
        .on_behalf_of(owner::SYSTEM_PRINCIPAL)
        .of("message_keys", action);
    entry.level(SecurityLevel::Confidential)
}

impl EncryptionService {
    /// Retire all data keys, so that each channel gets a new one with its next message, and rewrap them by the current
    /// master key. Afterwards no stored message needs another master key. Can be interrupted and repeated.
    ///
    /// # Errors
    /// Returns [`EncryptionError::NoMasterKey`]; [`EncryptionError::UnknownMasterKey`] when a data key is wrapped by a master key that is
    /// not configured.
    #[boxed]
    pub async fn rotate(&self) -> Result<KeyRotationReport> {
        let master_id = self.0.masters.current()?.clone();
        let (audit, master) = (self.0.audit.clone(), master_id.clone());
        let now = self.now();
        let retire = async move |tx: &mut Tx| {
            let retired = store::retire_data_keys(tx, now).await?;
            let told = audit_entry("rotated", now).data("master_id", json!(master)).data("retired", json!(retired));
            audit.append(tx, vec![told]).await?;
            Ok::<_, EncryptionError>(retired)
        };
        let retired = self.0.db.write(retire).await?;
        prepare_randomness().await;
        let mut rotated = KeyRotationReport { master_id, retired, rewrapped: 0 };
        loop {
            let done = self.rewrap_batch().await?;
            if done == 0 {
                return Ok(rotated);
            }
            rotated.rewrapped += done;
        }
    }

    async fn rewrap_batch(&self) -> Result<u64> {
        let (sealing, now) = (self.clone(), self.now());
        let rewrap = async move |tx: &mut Tx| {
            let (masters, audit) = (&sealing.0.masters, &sealing.0.audit);
            let current = masters.current()?;
            let keys = store::wrapped_by_others(tx.conn().await?, current, REWRAP_BATCH).await?;
            for key in &keys {
                store::update_wrapped(tx, &masters.rewrap_data_key(key)?).await?;
            }
            if !keys.is_empty() {
                let told = audit_entry("rewrapped", now)
                    .data("master_id", json!(current))
                    .data("data_keys", json!(keys.len()));
                audit.append(tx, vec![told]).await?;
            }
            Ok::<_, EncryptionError>(keys.len() as u64)
        };
        self.0.db.write(rewrap).await
    }

    /// Usage of all master keys. A key that wraps no data key can be removed from the configuration.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn masters(&self) -> Result<Vec<MasterKeyUsage>> {
        let mut used = store::count_by_master_key(&mut *self.0.db.read_list().await?).await?;
        for (place, name) in self.0.masters.names().enumerate() {
            match used.iter_mut().find(|master| master.master_id == *name) {
                Some(master) => (master.configured, master.current) = (true, place == 0),
                None => used.push(MasterKeyUsage {
                    master_id: name.clone(),
                    configured: true,
                    current: place == 0,
                    data_keys: 0,
                }),
            }
        }
        Ok(used)
    }
}
