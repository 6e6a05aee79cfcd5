//! Changes of where a deployment stands, whoever makes them.

use am_db::{Tx, codec::Timestamp};

use crate::{
    DeploymentService, Result,
    model::{DeploymentDocument, DeploymentRecord, DeploymentStatus, RevisionState},
    store,
};

impl DeploymentService {
    /// Let the fleet's task look as soon as the transaction is durable.
    pub(crate) fn wake_after(&self, tx: &mut Tx) {
        let me = self.clone();
        tx.after_commit(move || me.0.wake.notify_one());
    }

    /// Store another number of instances, with why.
    pub(crate) async fn set_desired(
        &self,
        tx: &mut Tx,
        record: &mut DeploymentRecord,
        wanted: i64,
        (reason, now): (&str, Timestamp),
    ) -> Result<()> {
        if record.document.desired_instances == wanted {
            return Ok(());
        }
        let before = std::mem::replace(&mut record.document.desired_instances, wanted);
        record.document.updated_at = now;
        store::update_deployment(tx, record).await?;
        let (id, reason) = (record.document.id.clone(), format!("{before} to {wanted} instances: {reason}"));
        store::note_change(tx, &id, "scale", Some(record.document.revision), (&reason, now)).await?;
        self.wake_after(tx);
        Ok(())
    }
}

/// End a rollout that is under way; its revision counts as undone.
pub(crate) async fn end_rollout(tx: &mut Tx, record: &mut DeploymentRecord, now: Timestamp) -> Result<()> {
    if let Some(rollout) = record.document.rollout.take() {
        let id = record.document.id.clone();
        store::end_revision(tx, &id, rollout.target, RevisionState::Undone, now).await?;
    }
    Ok(())
}

/// A deployment without the rollout that was undone for this reason: the revision before serves on, if there is one.
pub(crate) fn stand_as_before(document: &mut DeploymentDocument, reason: &str, now: Timestamp) {
    (document.rollout, document.updated_at) = (None, now);
    document.error = Some(reason.to_owned());
    if document.revision == 0 {
        (document.status, document.desired_instances) = (DeploymentStatus::Failed, 0);
    } else {
        document.status = DeploymentStatus::Deployed;
    }
}
