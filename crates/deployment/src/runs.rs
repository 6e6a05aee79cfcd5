//! Runs of a revision's snapshot for its instances.

use std::{collections::HashMap, sync::Arc, time::Duration};

use am_core::boxed;
use am_db::idempotency::IdempotencyKey;
use parking_lot::Mutex;
use serde_json::{Map, Value};

use crate::{
    DeploymentError, DeploymentService, Result, instances,
    model::{SnapshotAnswer, SnapshotRun},
    store, tokens,
};

/// Snapshots that are kept at most.
const KEPT_SNAPSHOTS: usize = 128;

/// Workflows of revisions, which never change.
#[derive(Default)]
pub(crate) struct SnapshotCache(Mutex<HashMap<(String, i64), Arc<Value>>>);

impl DeploymentService {
    /// Run the snapshot of the revision that an instance serves, for the deployment's owner; once for each key, which comes with what
    /// tells one request from another.
    ///
    /// # Errors
    /// [`DeploymentError::Unauthorized`] where the token is not the instance's; [`DeploymentError::Refused`] where the workflow can't be run.
    #[boxed]
    pub async fn run_for_instance(
        &self,
        (id, token): (&str, &str),
        inputs: Map<String, Value>,
        once: Option<(String, String)>,
        wait: Duration,
    ) -> Result<SnapshotAnswer> {
        let found = instances::store::caller(&mut *self.db().read().await?, id).await?;
        // The hashes of two tokens tell nothing of how far they agree.
        let caller = found.filter(|caller| caller.token_hash == tokens::token_hash(token));
        let caller = caller.ok_or(DeploymentError::Unauthorized)?;
        let workflow = self.snapshot(&caller.deployment_id, caller.revision).await?;
        let run = SnapshotRun {
            owner_id: caller.owner_id,
            workflow: Value::clone(&workflow),
            inputs,
            once: once.map(|(key, fingerprint)| {
                let scope = format!("deployment:{}", caller.deployment_id);
                IdempotencyKey { scope, key, fingerprint }
            }),
            wait,
        };
        let answer = self.0.parts.workflows.run(run).await?;
        Ok(SnapshotAnswer { instance_id: caller.instance_id, revision: caller.revision, ..answer })
    }

    async fn snapshot(&self, deployment: &str, revision: i64) -> Result<Arc<Value>> {
        let key = (deployment.to_owned(), revision);
        if let Some(found) = self.0.snapshots.0.lock().get(&key) {
            return Ok(found.clone());
        }
        let found = store::revision(&mut *self.db().read().await?, deployment, revision).await?;
        let found = found.ok_or_else(|| DeploymentError::NotFound(format!("No revision {revision}")))?;
        let workflow: Option<Value> =
            found.workflow.parse().map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
        let workflow = Arc::new(workflow.unwrap_or_default());
        let mut kept = self.0.snapshots.0.lock();
        if kept.len() >= KEPT_SNAPSHOTS {
            kept.clear();
        }
        kept.insert(key, workflow.clone());
        Ok(workflow)
    }
}
