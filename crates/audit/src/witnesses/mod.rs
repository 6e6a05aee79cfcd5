//! Submission of signed heads to witnesses. Each witness has a task of its own, which depends on stored rows only: sealing waits
//! for none, and one that is slow or down delays no other. A witness that holds what the log does not continue is an alarm.

mod metrics;
mod submission;

use std::{sync::Arc, time::Duration};

use reqwest::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    AuditLog, Result,
    checkpoint::split_note,
    cosignature::{HeadCosignature, verify_cosignatures},
    cosigned_heads::{insert_cosignature, last_cosigned},
    model::SignedTreeHead,
    proofs::consistency_hashes,
    store,
};
use am_core::{config::WitnessEndpoint, supervisor::BackgroundTask};
use am_db::Tx;
use metrics::WitnessMetrics;
use submission::{WitnessAnswer, build_client, request_body, submit};

pub use submission::WitnessError;

/// Wait after the first round that failed; each further one doubles it.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two rounds.
const MAX_RETRY: Duration = Duration::from_secs(600);
/// Random share of a wait, so that processes that failed together do not repeat together.
const JITTER_FRACTION: f64 = 0.1;

/// Submits the heads of the log to its witnesses. Cheap to clone.
#[derive(Clone)]
pub struct WitnessService(Arc<WitnessServiceInner>);

struct WitnessServiceInner {
    audit: AuditLog,
    witnesses: Vec<(WitnessEndpoint, Client)>,
    metrics: WitnessMetrics,
}

/// How a round ended without a cosignature over the newest head.
#[derive(Clone, Debug, PartialEq, Eq)]
enum RoundFailure {
    /// The witness holds what the log does not continue.
    Refused(String),
    /// Anything else, which may pass.
    Failed(String),
}

/// What follows from an answer.
#[derive(Debug, PartialEq, Eq)]
enum NextStep {
    /// These signature lines are verified and stored.
    Store(String),
    /// The witness has a head of this size: prove from there.
    ProveFrom(u64),
}

impl From<super::AuditError> for RoundFailure {
    fn from(error: super::AuditError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The witness has cosigned more than the log has.
fn refused_beyond(known: u64, size: u64) -> RoundFailure {
    RoundFailure::Refused(format!("it cosigned a head over {known} entries, but the log ends with one over {size}"))
}

/// Judge the answer to a head over `size` entries that was proved from `old`, at the first try or after the witness named `old`.
fn judge(answer: WitnessAnswer, old: u64, size: u64, is_first: bool) -> std::result::Result<NextStep, RoundFailure> {
    let refused = |what: String| Err(RoundFailure::Refused(what));
    match answer {
        WitnessAnswer::Cosigned(lines) => Ok(NextStep::Store(lines)),
        WitnessAnswer::Failed(what) => Err(RoundFailure::Failed(what)),
        WitnessAnswer::ProofRefused => refused(format!(
            "the head that it cosigned over {old} entries is not the beginning of the log's over {size}"
        )),
        WitnessAnswer::Conflict(Some(known)) if known > size => Err(refused_beyond(known, size)),
        WitnessAnswer::Conflict(known) if old == size && known.is_none_or(|known| known == size) => {
            refused(format!("it cosigned another head over {size} entries"))
        }
        WitnessAnswer::Conflict(Some(known)) if is_first && known != old => Ok(NextStep::ProveFrom(known)),
        WitnessAnswer::Conflict(known) => {
            let known = known.map_or("none".to_owned(), |known| known.to_string());
            Err(RoundFailure::Failed(format!("it refused a proof from size {old}, and says that it has size {known}")))
        }
    }
}

/// Wait after so many failed rounds in a row; `chance` is a random number from 0 to 1.
fn retry_wait(failures: u32, chance: f64) -> Duration {
    let doubled = FIRST_RETRY.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1)));
    doubled.min(MAX_RETRY).mul_f64(1.0 + JITTER_FRACTION * chance)
}

impl WitnessService {
    /// The service for these witnesses of `audit`.
    ///
    /// # Errors
    /// Returns [`WitnessError`] when a witness's address is not public, or the HTTP client can't be built.
    pub fn new(audit: AuditLog, witnesses: &[WitnessEndpoint]) -> std::result::Result<Self, WitnessError> {
        let with_client = |witness: &WitnessEndpoint| build_client(witness).map(|client| (witness.clone(), client));
        let witnesses = witnesses.iter().map(with_client).collect::<std::result::Result<_, _>>()?;
        Ok(Self(Arc::new(WitnessServiceInner { audit, witnesses, metrics: WitnessMetrics::default() })))
    }

    /// Register the metrics of witnesses.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.metrics.register(registry);
    }

    /// One task for each witness, which ends when `stopping` is cancelled.
    pub fn background_tasks(&self, stopping: &CancellationToken) -> Vec<BackgroundTask> {
        let task = |place| {
            let (service, stopping) = (self.clone(), stopping.clone());
            let work = async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = service.follow(place) => {}
                }
            };
            BackgroundTask::new("audit.witnesses", work)
        };
        (0..self.0.witnesses.len()).map(task).collect()
    }

    /// Submit each newest head to the witness at this place of the list.
    async fn follow(&self, place: usize) {
        let Some((witness, client)) = self.0.witnesses.get(place) else { return };
        let (inner, name) = (&self.0, witness.key.name());
        let mut heads = inner.audit.0.heads.subscribe();
        let mut last_failure = None;
        let mut failures = 0;
        inner.metrics.set_refused(name, false);
        loop {
            heads.mark_unchanged();
            let wait = match self.round(witness, client).await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(witness = name, "the witness cosigns the audit log again");
                        inner.metrics.set_refused(name, false);
                    }
                    (failures, last_failure) = (0, None);
                    // Another process may sign the next head.
                    wait_for_head(&mut heads, inner.audit.0.every).await;
                    continue;
                }
                Err(failure) => {
                    failures += 1;
                    self.tell(name, &failure, last_failure.as_ref() != Some(&failure));
                    last_failure = Some(failure);
                    retry_wait(failures, inner.audit.0.ids.fraction())
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Count a round that failed, and log it unless the last one failed the same way.
    fn tell(&self, name: &str, failure: &RoundFailure, is_new: bool) {
        let metrics = &self.0.metrics;
        match failure {
            RoundFailure::Refused(reason) => {
                metrics.count(name, "refused");
                metrics.set_refused(name, true);
                if is_new {
                    tracing::error!(
                        witness = name,
                        reason,
                        "a witness refuses the audit log: it was restored, cut off or rewritten after the witness cosigned it"
                    );
                }
            }
            RoundFailure::Failed(error) => {
                metrics.count(name, "failed");
                if is_new {
                    tracing::warn!(
                        witness = name,
                        error,
                        "a head of the audit log was not cosigned; it will be repeated"
                    );
                }
            }
        }
    }

    /// Submit the newest head, if the witness has not cosigned it yet.
    async fn round(&self, witness: &WitnessEndpoint, client: &Client) -> std::result::Result<(), RoundFailure> {
        let Some((old, head)) = self.next_head(witness).await? else { return Ok(()) };
        if old > head.size {
            return Err(refused_beyond(old, head.size));
        }
        let answer = self.call(witness, client, old, &head).await?;
        let (head, lines) = match judge(answer, old, head.size, true) {
            Ok(NextStep::Store(lines)) => (head, lines),
            Ok(NextStep::ProveFrom(known)) => {
                if known < old {
                    let name = witness.key.name();
                    tracing::warn!(witness = name, known, old, "a witness has forgotten heads that it cosigned");
                }
                self.call_again(witness, client, known).await?
            }
            // Another process may have signed and submitted a larger head meanwhile: only the newest one tells.
            Err(RoundFailure::Refused(_)) => self.call_again(witness, client, old).await?,
            Err(failure) => return Err(failure),
        };
        self.keep(witness, &head, &lines).await?;
        self.0.metrics.count(witness.key.name(), "cosigned");
        Ok(())
    }

    /// Submit what is the newest head by now, proved from the size that the witness has.
    async fn call_again(
        &self,
        witness: &WitnessEndpoint,
        client: &Client,
        known: u64,
    ) -> std::result::Result<(SignedTreeHead, String), RoundFailure> {
        let head = self.newest_head().await?;
        let size = head.as_ref().map_or(0, |head| head.size);
        let Some(head) = head.filter(|head| head.size >= known) else { return Err(refused_beyond(known, size)) };
        let answer = self.call(witness, client, known, &head).await?;
        match judge(answer, known, head.size, false)? {
            NextStep::Store(lines) => Ok((head, lines)),
            NextStep::ProveFrom(other) => Err(RoundFailure::Failed(format!("its size changed to {other} meanwhile"))),
        }
    }

    /// Size of the last head that the witness cosigned, and the newest head if that is another one.
    async fn next_head(&self, witness: &WitnessEndpoint) -> Result<Option<(u64, SignedTreeHead)>> {
        let mut conn = self.0.audit.0.db.read().await?;
        // In this order: heads are only added, so the newest one is not older than what another process has submitted.
        let old = last_cosigned(&mut conn, &witness.key).await?;
        self.0.metrics.set_cosigned(witness.key.name(), old);
        let head = store::head_until(&mut conn, u64::MAX).await?;
        Ok(head.filter(|head| head.size != old).map(|head| (old, head)))
    }

    async fn newest_head(&self) -> Result<Option<SignedTreeHead>> {
        Ok(store::head_until(&mut *self.0.audit.0.db.read().await?, u64::MAX).await?)
    }

    async fn call(
        &self,
        witness: &WitnessEndpoint,
        client: &Client,
        old: u64,
        head: &SignedTreeHead,
    ) -> Result<WitnessAnswer> {
        let proof = consistency_hashes(&mut *self.0.audit.0.db.read().await?, old, head.size).await?;
        Ok(submit(client, witness, request_body(old, &proof, &head.checkpoint)).await)
    }

    /// Verify the answer and store the cosignature.
    async fn keep(
        &self,
        witness: &WitnessEndpoint,
        head: &SignedTreeHead,
        lines: &str,
    ) -> std::result::Result<(), RoundFailure> {
        let cosignature = accept(head, lines, witness).map_err(RoundFailure::Failed)?;
        let size = head.size;
        let stored = self.0.audit.0.db.write(async move |tx: &mut Tx| insert_cosignature(tx, size, &cosignature).await);
        stored.await.map_err(super::AuditError::Db)?;
        self.0.metrics.set_cosigned(witness.key.name(), size);
        tracing::debug!(size, witness = witness.key.name(), "a head of the audit log was cosigned");
        Ok(())
    }
}

/// The witness's cosignature among the lines that it answered.
fn accept(
    head: &SignedTreeHead,
    lines: &str,
    witness: &WitnessEndpoint,
) -> std::result::Result<HeadCosignature, String> {
    let (text, _) = split_note(&head.checkpoint).ok_or("the head is no checkpoint")?;
    let found = verify_cosignatures(text, lines, &witness.key).map_err(|error| format!("its cosignature: {error}"))?;
    found.into_iter().next().ok_or_else(|| "its answer has no cosignature by the configured key".to_owned())
}

/// Return when this process has signed another head, at the latest after `every`.
async fn wait_for_head(heads: &mut watch::Receiver<u64>, every: Duration) {
    tokio::select! {
        // The sender lives as long as the log.
        _ = heads.changed() => {}
        () = tokio::time::sleep(every) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_that_holds_more_or_something_else_refuses_the_log() {
        let refused = |answer, old, first| match judge(answer, old, 10, first) {
            Err(RoundFailure::Refused(why)) => why,
            other => panic!("{other:?}"),
        };
        for first in [true, false] {
            assert!(refused(WitnessAnswer::ProofRefused, 4, first).contains("over 4 entries is not the beginning"));
            assert!(refused(WitnessAnswer::Conflict(Some(11)), 4, first).contains("over 11 entries"));
            assert!(refused(WitnessAnswer::Conflict(Some(10)), 10, first).contains("another head over 10"));
            assert!(refused(WitnessAnswer::Conflict(None), 10, first).contains("another head over 10"));
        }
    }

    #[test]
    fn the_size_of_a_witness_is_proved_from_once() {
        let answer = |known| WitnessAnswer::Conflict(known);
        assert_eq!(judge(answer(Some(7)), 4, 10, true), Ok(NextStep::ProveFrom(7)));
        assert_eq!(judge(answer(Some(0)), 4, 10, true), Ok(NextStep::ProveFrom(0)), "it may have lost what it had");
        assert_eq!(judge(answer(Some(10)), 4, 10, true), Ok(NextStep::ProveFrom(10)), "another process was faster");
        for (known, first) in [(Some(7), false), (Some(4), true), (None, true)] {
            assert!(matches!(judge(answer(known), 4, 10, first), Err(RoundFailure::Failed(_))), "{known:?}");
        }
        assert_eq!(judge(WitnessAnswer::Cosigned("x".into()), 4, 10, true), Ok(NextStep::Store("x".into())));
        assert!(matches!(judge(WitnessAnswer::Failed("x".into()), 4, 10, true), Err(RoundFailure::Failed(_))));
    }

    #[test]
    fn waits_double_up_to_ten_minutes() {
        let waits: Vec<u64> = (1..=12).map(|failures| retry_wait(failures, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert_eq!(retry_wait(u32::MAX, 1.0), Duration::from_secs(660));
    }
}
