//! Deletion of one thing that its owner asked for.

use super::{
    RetentionInner,
    error::{Result, RetentionError},
    files::blocking,
    kinds::{RemovalCause, RetentionKind},
    metrics::KindLabel,
    removal::{self, BatchOutcome, DraftThing},
    store,
    sweep::record_of,
};
use am_audit::AuditEntry;
use am_core::crash_point;
use am_db::{Tx, codec::Timestamp};
use serde_json::json;

/// Why things are removed, in archives.
const CAUSE: &str = "request";
/// Times that a thing is archived anew because it changed meanwhile.
const MAX_ATTEMPTS: usize = 3;

/// What is said of a thing that may not be deleted.
fn refusal(kind: RetentionKind) -> &'static str {
    match kind {
        RetentionKind::Executions => {
            "The execution has not ended, or a job, an assignment or the files of a sandbox of it are still there; cancel it, or clean up its sandbox, first"
        }
        RetentionKind::Assignments => "The assignment has not ended, or its execution has not",
        RetentionKind::Plans => "The plan runs; cancel it first",
        RetentionKind::Messages => "The message is still to be delivered",
        RetentionKind::MessageContents => "Messages refer to it",
        RetentionKind::Jobs => "The job has not ended, was not submitted here, or has a receipt of the coordinator",
        RetentionKind::TrainingRuns => "The run has not ended, or an execution of its owner may wait for it",
        RetentionKind::PolicyVersions => "An alias or the split names the version, or it serves",
        RetentionKind::Definitions => "Executions refer to it",
        RetentionKind::WebhookDeliveries => {
            "The delivery is still to be tried; it has neither succeeded nor been given up"
        }
        RetentionKind::MarketRequests => "The request has not ended",
        RetentionKind::Settlements => {
            "The settlement has not ended, is of the portfolio's creation, or is the last in the contract"
        }
        RetentionKind::BackgroundTasks => "The task has not ended",
        RetentionKind::Optimisations => "The optimization has not ended, or is applied",
        RetentionKind::Sweeps => "The sweep has not ended",
        RetentionKind::MetaModels => "The model is its name's last version, an alias names it, or it is being trained",
        RetentionKind::CoordinatorExecutions => "The execution has not ended, or is this service's own",
        RetentionKind::CoordinatorJobs => {
            "The job has not ended, was submitted here, or has a receipt of the coordinator"
        }
    }
}

impl RetentionInner {
    /// Delete one thing, which is archived first, with `entry` in the audit log. The caller has checked whose it is.
    pub async fn remove(&self, kind: RetentionKind, what: &'static str, id: &str, entry: AuditEntry) -> Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let mut things = removal::read_things(&mut *self.db.read().await?, kind, &[id]).await?;
            let Some(thing) = things.first() else { return Err(RetentionError::NotFound(what)) };
            let draft = DraftThing { id: id.to_owned(), digest: Some(thing.digest()) };
            if store::removable(&mut *self.db.read().await?, kind, RemovalCause::Request, &[id]).await?.is_empty() {
                return Err(RetentionError::InUse(refusal(kind).to_owned()));
            }
            let file = match &self.settings.archive {
                None => None,
                Some(folder) => {
                    let mut writer = self.begin_archive(folder, kind, CAUSE)?;
                    let weights = self.settings.weights.clone();
                    let written = blocking(move || {
                        removal::add_files(&weights, &mut things);
                        things.iter().try_for_each(|thing| writer.add(thing))?;
                        writer.finish()
                    });
                    Some(written.await.map_err(RetentionError::storage(folder))?)
                }
            };
            let name = file.as_ref().map(|file| file.name.clone());
            let now = Timestamp(self.clock.now());
            let mut entry = entry.clone();
            if let Some(file) = &file {
                entry = entry.data("archive", json!(file.name)).data("archive_sha256", json!(file.sha256));
            }
            let (audit, weights) = (self.audit.clone(), self.settings.weights.clone());
            crash_point!("retention.before_request");
            let deleted = self.db.write(async move |tx: &mut Tx| {
                let done = removal::delete_things(tx, kind, RemovalCause::Request, &[draft], &weights).await?;
                if done.removed == 0 {
                    // Nothing is written: the audit log would tell of what did not happen.
                    return Ok(done);
                }
                let audit_id = audit.record(tx, entry).await?;
                if let Some(file) = file {
                    let mut record = record_of(kind, CAUSE, &file, audit_id.as_str(), now);
                    record.things = 1;
                    store::insert_archive(tx, &record).await?;
                    store::count_removed(tx, &record.name, 1, 0).await?;
                    store::finish_archive(tx, &record.name, now).await?;
                }
                Ok::<BatchOutcome, RetentionError>(done)
            });
            let done = deleted.await;
            crash_point!("retention.after_request");
            match (&done, &name) {
                (Ok(BatchOutcome { removed: 1.., .. }), Some(name)) => {
                    if let Err(error) = self.place(name) {
                        tracing::warn!(%error, "an archive could not be given its name; the next round of retention does");
                    }
                }
                (_, Some(name)) => self.discard(name),
                (_, None) => {}
            }
            if done?.removed > 0 {
                self.metrics.removed.get_or_create(&KindLabel { kind: kind.word() }).inc();
                return Ok(());
            }
        }
        Err(RetentionError::InUse("It changed at the same moment; try again".to_owned()))
    }

    /// Remove an archive of which nothing was deleted.
    fn discard(&self, name: &str) {
        if let Some(folder) = &self.settings.archive {
            super::archive::discard_file(folder, name);
        }
    }
}
