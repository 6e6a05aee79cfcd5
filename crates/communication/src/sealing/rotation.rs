//! New data keys, and old ones under the current master, while servers run.

use serde_json::json;

use super::{
    Sealing,
    error::{Result, SealError},
    model::{MasterUse, Rotated},
    store,
};
use am_audit::{Entry, EventType, SecurityLevel};
use am_db::{Tx, codec::Timestamp, owner};

/// Data keys that are wrapped anew in one transaction.
const TOGETHER: u32 = 500;

fn entry(action: &str, now: Timestamp) -> Entry {
    // Nobody who calls does this; whoever may run the executable does.
    let entry = Entry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM).of("message_keys", action);
    entry.level(SecurityLevel::Confidential)
}

impl Sealing {
    /// Let each channel take a new data key with its next message, and wrap all old ones by the current master. After it
    /// no stored message needs another master. Safe to be cut off and run again.
    ///
    /// # Errors
    /// [`SealError::NoMaster`]; [`SealError::UnknownMaster`] when a data key is under a master that is not configured.
    pub async fn rotate(&self) -> Result<Rotated> {
        let master_id = self.0.masters.current()?.to_owned();
        let (now, audit, master) = (self.now(), self.0.audit.clone(), master_id.clone());
        let retire = async move |tx: &mut Tx| {
            let retired = store::retire_all(tx, now).await?;
            let told = entry("rotated", now).data("master_id", json!(master)).data("retired", json!(retired));
            audit.append(tx, vec![told]).await?;
            Ok::<_, SealError>(retired)
        };
        let retired = self.0.db.write(retire).await?;
        let mut rotated = Rotated { master_id, retired, rewrapped: 0 };
        loop {
            let done = self.rewrap_some().await?;
            if done == 0 {
                return Ok(rotated);
            }
            rotated.rewrapped += done;
        }
    }

    async fn rewrap_some(&self) -> Result<u64> {
        let (sealing, now) = (self.clone(), self.now());
        let rewrap = async move |tx: &mut Tx| {
            let (masters, audit) = (&sealing.0.masters, &sealing.0.audit);
            let current = masters.current()?;
            let keys = store::under_others(tx.conn().await?, current, TOGETHER).await?;
            for key in &keys {
                store::set_wrapped(tx, &masters.rewrap(key)?).await?;
            }
            if !keys.is_empty() {
                let told =
                    entry("rewrapped", now).data("master_id", json!(current)).data("data_keys", json!(keys.len()));
                audit.append(tx, vec![told]).await?;
            }
            Ok::<_, SealError>(keys.len() as u64)
        };
        self.0.db.write(rewrap).await
    }

    /// Which master keys there are, and how many data keys each wraps. One that wraps none can be taken out of the
    /// configuration.
    ///
    /// # Errors
    /// As the database.
    pub async fn masters(&self) -> Result<Vec<MasterUse>> {
        let mut used = store::masters(&mut *self.0.db.read().await?).await?;
        for (place, name) in self.0.masters.names().enumerate() {
            match used.iter_mut().find(|master| master.master_id == name) {
                Some(master) => (master.configured, master.current) = (true, place == 0),
                None => used.push(MasterUse {
                    master_id: name.to_owned(),
                    configured: true,
                    current: place == 0,
                    data_keys: 0,
                }),
            }
        }
        Ok(used)
    }
}
