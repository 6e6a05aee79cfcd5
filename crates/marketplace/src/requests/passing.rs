//! What ends a request otherwise, or delays its end: confirmation, rejection, withdrawal, disputes, and what happens by itself.

use super::{
    DisputeDecision, MarketRequest, REFERENCE, RequestAdvance, RequestEvent, RequestState, TakenStep, check_reason,
    completion::not_providers, find, is_provider, prepared::PreparedStep, store,
};
use crate::{
    Marketplace,
    agents::MarketCaller,
    error::{MarketError, Result},
    rules::BASIS_POINTS,
};
use am_core::{boxed, ids::MarketRequestId, money::Money};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use chrono::TimeDelta;

/// Reason of a decision that no arbiter made.
const UNDECIDED: &str = "no arbiter decided in time";

/// Which party of a request may do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestParty {
    Client,
    Provider,
}

/// A step that a party takes.
struct PartyStep {
    party: RequestParty,
    event: RequestEvent,
    reason: Option<String>,
}

impl Marketplace {
    /// Confirm a request that was completed: the price is paid.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::InvalidState`]; [`MarketError::Forbidden`] for the provider.
    #[boxed]
    pub async fn settle_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let (party, event) = (RequestParty::Client, RequestEvent::Settle);
        let step = PartyStep { party, event, reason: None };
        self.take_step(caller, id, step, once).await
    }

    /// Withdraw a request that nobody has accepted: the client has its money back.
    ///
    /// # Errors
    /// As [`Marketplace::settle_request`].
    #[boxed]
    pub async fn cancel_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let (party, event) = (RequestParty::Client, RequestEvent::Cancel);
        let step = PartyStep { party, event, reason: None };
        self.take_step(caller, id, step, once).await
    }

    /// Refuse a request that was made to a service of the caller's, or give up one that was accepted: the client has its money
    /// back.
    ///
    /// # Errors
    /// As [`Marketplace::settle_request`], with the parties exchanged.
    #[boxed]
    pub async fn reject_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        reason: String,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        check_reason(&reason)?;
        let (party, event, reason) = (RequestParty::Provider, RequestEvent::Reject, Some(reason));
        let step = PartyStep { party, event, reason };
        self.take_step(caller, id, step, once).await
    }

    /// Dispute a request that was accepted or completed: an arbiter decides.
    ///
    /// # Errors
    /// As [`Marketplace::settle_request`].
    #[boxed]
    pub async fn dispute_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        reason: String,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        check_reason(&reason)?;
        let (party, event, reason) = (RequestParty::Client, RequestEvent::Dispute, Some(reason));
        let step = PartyStep { party, event, reason };
        self.take_step(caller, id, step, once).await
    }

    async fn take_step(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        step: PartyStep,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let (event, now) = (step.event, self.now());
        let prepared = self.prepare_party_step(caller, id, &step, now).await;
        let taken = match self.write_prepared(once.as_ref(), prepared).await {
            Ok(Some(taken)) => Ok(taken),
            Ok(None) => {
                let (this, by, request_id) = (self.clone(), caller.clone(), id.clone());
                let work = async move |tx: &mut Tx| {
                    let (request, taken) = this.party_step(tx.conn().await?, &by, &request_id, &step, now).await?;
                    this.carry_out(tx, taken).await?;
                    am_core::crash_point!("market.before_step");
                    Ok(request)
                };
                self.0.db.write_idempotent(&self.0.clock, once, work).await
            }
            Err(error) => Err(error),
        };
        if let Ok(taken) = &taken {
            self.count_event(event.counted(), taken.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id), event.action(), taken).await
    }

    /// A party's step for what a reader sees.
    async fn prepare_party_step(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        step: &PartyStep,
        now: Timestamp,
    ) -> Result<Option<PreparedStep>> {
        let mut conn = self.0.db.read().await?;
        let (request, taken) = self.party_step(&mut conn, caller, id, step, now).await?;
        am_core::crash_point!("market.before_step");
        Ok(Some(PreparedStep { rows: self.guarded_rows(taken)?, request }))
    }

    /// The request as it is after a party's step, and what that writes.
    async fn party_step(
        &self,
        conn: &mut Connection,
        caller: &MarketCaller,
        id: &MarketRequestId,
        step: &PartyStep,
        now: Timestamp,
    ) -> Result<(MarketRequest, TakenStep)> {
        let PartyStep { party, event, reason } = step;
        let mut request = find(conn, id).await?.ok_or(MarketError::NotFound("Request"))?;
        require_party(conn, caller, &request, *party).await?;
        if *event == RequestEvent::Dispute {
            let arbitration = TimeDelta::from_std(self.0.settings.arbitration).unwrap_or_default();
            request.due_at = Some(Timestamp(now.0 + arbitration));
        }
        let next = RequestAdvance { event: *event, actor: Some(&caller.principal), reason: reason.clone(), now };
        let taken = self.take(&mut request, next)?;
        Ok((request, taken))
    }

    /// Decide a dispute as an arbiter: an admin who is none of its parties.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`] for who is no arbiter; [`MarketError::Invalid`]; and
    /// [`MarketError::InvalidState`] for a request that is not disputed.
    #[boxed]
    pub async fn decide_dispute(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        decision: DisputeDecision,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        check_reason(&decision.reason)?;
        let points = (decision.provider_percent * (BASIS_POINTS / 100) as f64).round();
        if !(0.0..=BASIS_POINTS as f64).contains(&points) {
            return Err(MarketError::field("provider_percent", "must be from 0 to 100"));
        }
        let (this, by, request_id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut request = super::visible(conn, &by, &request_id).await?;
            let parties = [Some(&request.client_id), request.provider_id.as_ref(), request.client_owner.as_ref()];
            let is_party = parties.into_iter().flatten().any(|party| by.principal.owns(party));
            if !by.is_admin || is_party {
                return Err(MarketError::Forbidden("An arbiter is an admin who is no party of the request"));
            }
            let provider = request.escrow.mul_div(points as i64, BASIS_POINTS).unwrap_or(Money::ZERO);
            let (event, reason) = (RequestEvent::Decide { provider }, Some(decision.reason));
            this.advance(tx, &mut request, RequestAdvance { event, actor: Some(&by.principal), reason, now }).await?;
            Ok(request)
        };
        let decided = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        if let Ok(decided) = &decided {
            self.count_event("request_resolved", decided.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id), "decide", decided).await
    }

    /// Read requests to which something happens by itself now.
    pub(crate) async fn due_requests(&self, limit: i64) -> Result<Vec<MarketRequestId>> {
        let now = self.now();
        Ok(store::due(&mut *self.0.db.read().await?, now, limit).await?)
    }

    /// Read requests whose workflow is to be started, or runs, after `after`.
    pub(crate) async fn requests_with_workflow(&self, after: &str, limit: i64) -> Result<Vec<MarketRequest>> {
        Ok(store::with_workflow(&mut *self.0.db.read().await?, after, limit).await?)
    }

    /// Let happen to a request what is due: it expires, is paid, or is decided by the rule. One that is not due any more stays.
    pub(crate) async fn pass_deadline(&self, id: &MarketRequestId) -> Result<()> {
        let (this, id, now) = (self.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let Some(mut request) = find(tx.conn().await?, &id).await? else { return Ok(None) };
            if request.due_at.is_none_or(|due| due > now) {
                return Ok(None);
            }
            let (event, reason) = match request.state {
                RequestState::Open | RequestState::Accepted => (RequestEvent::Expire, None),
                RequestState::Completed => (RequestEvent::Settle, None),
                RequestState::Disputed => {
                    (RequestEvent::Decide { provider: undecided_share(&request) }, Some(UNDECIDED.to_owned()))
                }
                _ => return Ok(None),
            };
            this.advance(tx, &mut request, RequestAdvance { event, actor: None, reason, now }).await?;
            am_core::crash_point!("market.before_deadline");
            Ok::<_, MarketError>(Some(event.counted()))
        };
        if let Some(counted) = self.0.db.write(work).await? {
            self.count_event(counted, false);
        }
        Ok(())
    }

    /// Give the client its money back for a request whose workflow could not be run to its end.
    pub(crate) async fn reject_run(&self, id: &MarketRequestId, reason: String) -> Result<()> {
        let (this, id, now) = (self.clone(), id.clone(), self.now());
        let reason: String = reason.replace('\0', "").chars().take(*super::REASON_LEN.end()).collect();
        let work = async move |tx: &mut Tx| {
            let Some(mut request) = find(tx.conn().await?, &id).await? else { return Ok(false) };
            if request.state != RequestState::Accepted {
                return Ok(false);
            }
            let next = RequestAdvance { event: RequestEvent::Reject, actor: None, reason: Some(reason), now };
            this.advance(tx, &mut request, next).await?;
            Ok::<_, MarketError>(true)
        };
        let is_rejected = self.0.db.write(work).await?;
        self.count_event(RequestEvent::Reject.counted(), !is_rejected);
        Ok(())
    }
}

/// What the provider gets of a dispute that nobody decided: all, if it had completed the request; else nothing.
fn undecided_share(request: &MarketRequest) -> Money {
    if request.completed_at.is_some() { request.escrow } else { Money::ZERO }
}

/// Check that the caller is this party of a request. The other party is told so; others are told that there is none.
async fn require_party(
    conn: &mut Connection,
    caller: &MarketCaller,
    request: &MarketRequest,
    party: RequestParty,
) -> Result<()> {
    let is_client = caller.is_or_governs(&request.client_id);
    let is_provider = is_provider(conn, caller, request).await?;
    match party {
        RequestParty::Client if is_client => Ok(()),
        RequestParty::Provider if is_provider => Ok(()),
        RequestParty::Client if is_provider => Err(MarketError::Forbidden("Only the request's client may do this")),
        RequestParty::Client => Err(MarketError::NotFound("Request")),
        RequestParty::Provider => Err(not_providers(caller, request)),
    }
}
