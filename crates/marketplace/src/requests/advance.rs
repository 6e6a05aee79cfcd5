//! One step in the life of a request, in an open write transaction: its state, its money, figures, history and audit entry.

use serde_json::json;

use super::{
    model::{MarketRequest, RequestHistoryEntry},
    state::{RequestEvent, RequestState, TransitionError, apply},
    store,
};
use crate::{
    Marketplace,
    error::{MarketError, Result},
    figures::{self, AgentCounts},
    guilds,
    rules::divide_payment,
    services, suggestions,
};
use am_audit::EventType;
use am_core::{ids::PrincipalId, money::Money};
use am_db::{Tx, bulk_insert::RowBatch, codec::Timestamp, owner::SYSTEM_PRINCIPAL, principal::Principal};
use am_ledger::{AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryTags, NewEntry};

/// Kind of reference of the ledger's entries about requests.
pub(super) const REFERENCE: &str = "market_request";

/// What a step that was taken in memory writes: entries of the ledger, and rows.
pub(super) struct TakenStep {
    pub entries: Vec<NewEntry>,
    pub rows: RowBatch,
}

/// A step that is to be taken.
pub(super) struct RequestAdvance<'a> {
    pub event: RequestEvent,
    /// Who takes it; `None`: the service by itself.
    pub actor: Option<&'a Principal>,
    pub reason: Option<String>,
    pub now: Timestamp,
}

/// The account that a client's money is in.
pub(super) fn wallet(owner: &PrincipalId) -> AccountKey {
    AccountKey::wallet(AccountOwner::Principal(owner.clone()))
}

/// The account that a client's money waits in.
pub(super) fn escrow(owner: &PrincipalId) -> AccountKey {
    AccountKey::ait(AccountOwner::Principal(owner.clone()), AccountPurpose::Escrow)
}

impl From<TransitionError> for MarketError {
    fn from(error: TransitionError) -> Self {
        match error {
            TransitionError::NotAllowed(..) => Self::InvalidState(error.to_string()),
            TransitionError::BeyondEscrow(..) => Self::Conflict(error.to_string()),
        }
    }
}

impl Marketplace {
    /// Take a step, and write it. The caller has set what the step itself does not: who accepted, results, when it is due next.
    pub(super) async fn advance(
        &self,
        tx: &mut Tx,
        request: &mut MarketRequest,
        next: RequestAdvance<'_>,
    ) -> Result<()> {
        let taken = self.take(request, next)?;
        self.carry_out(tx, taken).await
    }

    /// Write a step that was taken of a request as it stands in the open transaction.
    pub(super) async fn carry_out(&self, tx: &mut Tx, taken: TakenStep) -> Result<()> {
        if !taken.entries.is_empty() {
            self.0.ledger.post_all(tx, taken.entries).await?;
        }
        Ok(taken.rows.execute(tx).await?)
    }

    /// All rows of a step that was taken of a request as a reader saw it. They can be written only if the request has not changed
    /// since: each step adds an event with the next number. The ledger's rows are guarded by the database.
    pub(super) fn guarded_rows(&self, taken: TakenStep) -> Result<RowBatch> {
        let mut rows = RowBatch::default();
        self.0.ledger.add_guarded_rows(&mut rows, &taken.entries)?;
        rows.append(taken.rows);
        Ok(rows)
    }

    /// Take a step of a request in memory.
    pub(super) fn take(&self, request: &mut MarketRequest, next: RequestAdvance<'_>) -> Result<TakenStep> {
        let RequestAdvance { event, actor, reason, now } = next;
        let before = request.state;
        let step = apply(before, request.escrow, event)?;
        request.state = step.state;
        request.escrow = request.escrow - step.refund - step.payment;
        request.refunded += step.refund;
        request.paid += step.payment;
        request.updated_at = now;
        if reason.is_some() {
            request.reason.clone_from(&reason);
        }
        if step.state.is_final() {
            (request.ended_at, request.due_at) = (Some(now), None);
        }
        let mut rows = RowBatch::default();
        let mut entries = Vec::new();
        if step.refund.is_positive() {
            entries.push(refund(request, step.refund));
        }
        if step.payment.is_positive() {
            entries.push(self.payment(request, step.payment, &mut rows, now)?);
        }
        // Budgets reserve what is in escrow.
        if step.state.is_final() {
            self.0.ledger.add_released_rows(&mut rows, &request.id);
        } else if step.refund.is_positive() {
            self.0.ledger.add_settled_rows(&mut rows, &request.id, step.refund);
        }
        if before == RequestState::Open {
            figures::count_closed(&mut rows, request.category);
        }
        // Given up, expired, or decided against the provider as a whole.
        let failed = before != RequestState::Open && step.state.is_final() && !step.payment.is_positive();
        if let (true, Some(agent)) = (failed, &request.agent_id) {
            figures::add_agent(&mut rows, agent, &AgentCounts { failed: 1, ..Default::default() }, now);
        }
        self.note(&mut rows, request, event.word(), actor, (step.refund, step.payment), reason, now);
        Ok(TakenStep { entries, rows })
    }

    /// Add the rows of a request, its event and its audit entry.
    #[expect(clippy::too_many_arguments, reason = "each is a column of the event")]
    pub(super) fn note(
        &self,
        rows: &mut RowBatch,
        request: &mut MarketRequest,
        event: &str,
        actor: Option<&Principal>,
        (refunded, paid): (Money, Money),
        reason: Option<String>,
        now: Timestamp,
    ) {
        request.events += 1;
        if request.state.is_final() {
            store::save_end(rows, request);
        } else {
            store::save(rows, request);
        }
        let entry = RequestHistoryEntry {
            number: request.events,
            event: event.to_owned(),
            state: request.state,
            actor: actor.map_or_else(|| SYSTEM_PRINCIPAL.to_owned(), |actor| actor.name.to_string()),
            refunded,
            paid,
            reason,
            happened_at: now,
        };
        store::add_event(rows, &request.id, &entry);
        let audit = self.entry(EventType::WorkflowUpdated, REFERENCE, event);
        let audit = match actor {
            Some(actor) => audit.by(actor),
            None => audit.on_behalf_of(SYSTEM_PRINCIPAL),
        };
        let audit = audit
            .data("request_id", json!(request.id))
            .data("state", json!(request.state))
            .data("escrow", json!(request.escrow))
            .data("refunded", json!(refunded))
            .data("paid", json!(paid))
            .data("client_id", json!(request.client_id))
            .data("provider_id", json!(request.provider_id))
            .data("agent_id", json!(request.agent_id));
        self.0.audit.add_entry_rows(rows, [audit]);
    }

    /// The ledger's entry that pays the provider, the platform and the guild; its figures are added to `rows`.
    fn payment(
        &self,
        request: &mut MarketRequest,
        payment: Money,
        rows: &mut RowBatch,
        now: Timestamp,
    ) -> Result<NewEntry> {
        let (Some(agent), Some(provider), Some(service_id)) =
            (request.agent_id.clone(), request.provider_id.clone(), request.service_id.clone())
        else {
            return Err(MarketError::InvalidState("nobody has accepted the request".to_owned()));
        };
        let shares = divide_payment(payment, request.guild_contribution);
        request.fee = Some(shares.fee);
        let from = escrow(&request.client_id);
        let mut entry = NewEntry::new(EntryKind::Payment)
            .of(REFERENCE, request.id.as_str())
            .moving(from.clone(), wallet(&provider), shares.provider)
            .fee(from.clone(), figures::fee_account(), shares.fee)
            .tagged(EntryTags {
                principal: Some(request.client_id.clone()),
                agent: Some(agent.clone()),
                workflow: request.workflow_id.clone(),
                execution: request.execution_id.clone(),
            })
            .spending(payment)
            .once(format!("market:{}:paid", request.id));
        if let Some(guild) = &request.guild_id {
            entry = entry.moving(from, guilds::treasury(guild), shares.guild);
        }
        services::add_job(rows, &service_id);
        figures::count_paid(rows, request.category, now, payment, shares.fee);
        figures::add_agent(rows, &agent, &AgentCounts { jobs: 1, earned: payment, ..Default::default() }, now);
        suggestions::add_purchase(rows, &request.client_id, &service_id);
        self.add_paid_work(rows, &agent, payment, now);
        Ok(entry)
    }
}

/// The ledger's entry that gives money in escrow back.
fn refund(request: &MarketRequest, amount: Money) -> NewEntry {
    let tags = EntryTags { principal: Some(request.client_id.clone()), ..Default::default() };
    NewEntry::new(EntryKind::Refund)
        .of(REFERENCE, request.id.as_str())
        .moving(escrow(&request.client_id), wallet(&request.client_id), amount)
        .tagged(tags)
        .once(format!("market:{}:refund:{}", request.id, request.events + 1))
}
