//! Completion of a request: by a report of its provider, or by the run of its service's workflow.

use super::{
    CompletionReport, MarketRequest, REFERENCE, RequestAdvance, RequestEvent, RequestState, TakenStep, find,
    is_provider, prepared::PreparedStep, store,
};
use crate::{
    Marketplace,
    agents::MarketCaller,
    error::{MarketError, Result},
    workflow_runs::VerifiedReceipt,
};
use am_core::{
    boxed, crypto,
    ids::{ExecutionId, MarketRequestId},
    money::Money,
    validation::Violations,
};
use am_db::{
    Connection, Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use chrono::TimeDelta;

/// Hexadecimal digits of a hash of results.
const HASH_DIGITS: usize = 64;

/// A completion report that was checked by itself.
struct CheckedReport {
    results_hash: String,
    receipt: Option<VerifiedReceipt>,
}

impl Marketplace {
    /// Complete a request that an agent of the caller's has accepted. From now on the client may confirm or dispute it, until it is
    /// paid by itself.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::InvalidState`]; [`MarketError::Invalid`] for results without a hash, and for a
    /// receipt that is missing, not valid, or not of this request.
    #[boxed]
    pub async fn complete_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        report: CompletionReport,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let now = self.now();
        let checked = self.check_report(report);
        let prepared = match &checked {
            Ok(report) => self.prepare_completion(caller, id, report, now).await,
            Err(_) => Ok(None),
        };
        let completed = match self.write_prepared(once.as_ref(), prepared).await {
            Ok(Some(completed)) => Ok(completed),
            Ok(None) => self.complete_locked(caller, id, checked, once, now).await,
            Err(error) => Err(error),
        };
        if let Ok(completed) = &completed {
            self.count_event(RequestEvent::Complete.counted(), completed.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id), RequestEvent::Complete.action(), completed).await
    }

    /// The same for what a reader sees.
    async fn prepare_completion(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        report: &CheckedReport,
        now: Timestamp,
    ) -> Result<Option<PreparedStep>> {
        let mut conn = self.0.db.read().await?;
        let request = provided(&mut conn, caller, id, now).await?;
        let (request, taken) = self.completed(&mut conn, caller, request, report, now).await?;
        Ok(Some(PreparedStep { rows: self.guarded_rows(taken)?, request }))
    }

    /// The same under the write lock.
    async fn complete_locked(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        checked: Result<CheckedReport>,
        once: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let (this, by, request_id) = (self.clone(), caller.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let request = provided(conn, &by, &request_id, now).await?;
            let (request, taken) = this.completed(conn, &by, request, &checked?, now).await?;
            this.carry_out(tx, taken).await?;
            Ok(request)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// The request as it is completed, and what that writes.
    async fn completed(
        &self,
        conn: &mut Connection,
        caller: &MarketCaller,
        mut request: MarketRequest,
        report: &CheckedReport,
        now: Timestamp,
    ) -> Result<(MarketRequest, TakenStep)> {
        if let (Some(receipt), RequestState::Accepted) = (&report.receipt, request.state) {
            check_receipt(conn, &request, receipt).await?;
            request.execution_id = Some(receipt.execution_id.clone());
            request.receipt_id.clone_from(&receipt.receipt_id);
        }
        request.results_hash = Some(report.results_hash.clone());
        request.completed_at = Some(now);
        let review = TimeDelta::from_std(self.0.settings.review).unwrap_or_default();
        request.due_at = Some(Timestamp(now.0 + review));
        let next = RequestAdvance { event: RequestEvent::Complete, actor: Some(&caller.principal), reason: None, now };
        let taken = self.take(&mut request, next)?;
        Ok((request, taken))
    }

    /// Check a report as far as it goes without the request.
    fn check_report(&self, report: CompletionReport) -> Result<CheckedReport> {
        let CompletionReport { results, results_hash, execution_id, receipt } = report;
        let mut violations = Violations::default();
        let hash = results.as_ref().map(|results| crypto::sha256_hex(&crypto::canonical_results_json(results)));
        if let Some(given) = &results_hash {
            let is_hash = given.len() == HASH_DIGITS && given.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            violations.require(is_hash, "results_hash", "must be a SHA-256 in 64 lower-case hexadecimal digits");
            let agrees = hash.as_ref().is_none_or(|hash| hash == given);
            violations.require(agrees, "results_hash", "is not the hash of `results`");
        }
        let results_hash = results_hash.or(hash);
        violations.require(results_hash.is_some(), "results_hash", "give the results, or their hash");
        let missing = "an execution's signed receipt is required with its id";
        violations.require(execution_id.is_none() || receipt.is_some(), "receipt", missing);
        violations.require(execution_id.is_some() || receipt.is_none(), "execution_id", "is missing for the receipt");
        let verified = match &receipt {
            Some(receipt) => match self.0.runner.verify_receipt(receipt) {
                Ok(verified) => Some(verified),
                Err(reason) => {
                    violations.add("receipt", reason);
                    None
                }
            },
            None => None,
        };
        if let (Some(execution), Some(receipt)) = (&execution_id, &verified) {
            let message = format!("the receipt is of execution {}", receipt.execution_id);
            violations.require(*execution == receipt.execution_id, "execution_id", message);
        }
        let results_hash = violations.finish_with(results_hash).map_err(MarketError::Invalid)?;
        Ok(CheckedReport { results_hash, receipt: verified })
    }

    /// Note which execution does the work of a request. Returns false when the request is not waiting for one any more.
    pub(crate) async fn note_run(&self, id: &MarketRequestId, execution: &ExecutionId) -> Result<bool> {
        let (this, id, execution, now) = (self.clone(), id.clone(), execution.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut request) = find(tx.conn().await?, &id).await? else { return Ok(false) };
            if request.state != RequestState::Accepted || request.execution_id.is_some() {
                return Ok(false);
            }
            request.execution_id = Some(execution);
            request.updated_at = now;
            let mut rows = RowBatch::default();
            this.note(&mut rows, &mut request, "started", None, (Money::ZERO, Money::ZERO), None, now);
            rows.execute(tx).await?;
            Ok(true)
        };
        self.0.db.write(work).await
    }

    /// Complete and pay a request whose workflow's run has completed, by its receipt.
    pub(crate) async fn complete_by_run(
        &self,
        id: &MarketRequestId,
        receipt: VerifiedReceipt,
        results_hash: String,
    ) -> Result<bool> {
        let (this, id, now) = (self.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut request) = find(tx.conn().await?, &id).await? else { return Ok(false) };
            let is_its = request.state == RequestState::Accepted
                && request.execution_id.as_ref() == Some(&receipt.execution_id)
                && (receipt.workflow_id.is_none() || receipt.workflow_id == request.workflow_id);
            if !is_its {
                return Ok(false);
            }
            request.results_hash = Some(results_hash);
            request.receipt_id = receipt.receipt_id;
            request.completed_at = Some(now);
            for event in [RequestEvent::Complete, RequestEvent::Settle] {
                let next = RequestAdvance { event, actor: None, reason: None, now };
                this.advance(tx, &mut request, next).await?;
            }
            am_core::crash_point!("market.before_settle");
            Ok::<_, MarketError>(true)
        };
        let is_paid = self.0.db.write(work).await?;
        self.count_event(RequestEvent::Complete.counted(), !is_paid);
        self.count_event(RequestEvent::Settle.counted(), !is_paid);
        Ok(is_paid)
    }
}

/// A request that the caller may complete by a report, as far as its state is concerned.
async fn provided(
    conn: &mut Connection,
    caller: &MarketCaller,
    id: &MarketRequestId,
    now: Timestamp,
) -> Result<MarketRequest> {
    let request = find(conn, id).await?.ok_or(MarketError::NotFound("Request"))?;
    if !is_provider(conn, caller, &request).await? {
        return Err(not_providers(caller, &request));
    }
    if request.workflow_id.is_some() && request.state == RequestState::Accepted {
        let message = "the run of the service's workflow completes the request";
        return Err(MarketError::InvalidState(message.to_owned()));
    }
    if request.state == RequestState::Accepted && request.deadline <= now {
        return Err(MarketError::InvalidState("the request's deadline has passed".to_owned()));
    }
    Ok(request)
}

/// The refusal of what only the provider may do.
pub(super) fn not_providers(caller: &MarketCaller, request: &MarketRequest) -> MarketError {
    if caller.is_or_governs(&request.client_id) {
        MarketError::Forbidden("Only the agent that accepted the request may do this")
    } else {
        MarketError::NotFound("Request")
    }
}

/// Check that a receipt is of this request: of no other's execution, of a run for one of its parties, begun after its acceptance.
async fn check_receipt(conn: &mut Connection, request: &MarketRequest, receipt: &VerifiedReceipt) -> Result<()> {
    let mut violations = Violations::default();
    let other = store::of_execution(conn, &receipt.execution_id).await?.filter(|other| *other != request.id);
    violations.require(other.is_none(), "execution_id", "is the execution of another request");
    let parties = [Some(&request.client_id), request.provider_id.as_ref()];
    let is_partys = receipt.client_id.as_ref().is_some_and(|client| parties.contains(&Some(client)));
    violations.require(is_partys, "receipt", "is of an execution that ran for neither party of the request");
    let is_later = receipt.started_at.zip(request.accepted_at).is_some_and(|(started, accepted)| started >= accepted);
    violations.require(is_later, "receipt", "is of an execution that began before the request was accepted");
    violations.finish().map_err(MarketError::Invalid)
}
