//! Requests: a client puts its budget in escrow, an agent accepts and completes, and is paid; or the client has its money back.

mod acceptance;
mod advance;
mod completion;
mod model;
mod passing;
mod prepared;
mod state;
mod store;

use serde_json::Value;

pub use model::{
    AcceptOrder, CompletionReport, DisputeDecision, MarketRequest, RequestDraft, RequestFilter, RequestHistoryEntry,
    RequestRole,
};
pub use state::RequestState;
pub(crate) use store::{find, save};

use am_core::{
    boxed,
    ids::{AgentId, MarketRequestId, WorkflowId},
    money::Money,
    validation::{Violation, Violations, has_length},
};
use am_db::{
    Connection, Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_ledger::{BudgetUse, EntryKind, EntryTags, NewEntry};

use crate::{
    Marketplace,
    agents::{MarketCaller, find_owner},
    error::{MarketError, Result, corrupt},
    figures,
    rules::{BASE_PRICE_UNITS, MAX_DEADLINE},
    services::{self, MarketService, ServiceState, check_offer},
};
use advance::{REFERENCE, RequestAdvance, TakenStep, escrow, wallet};
use prepared::PreparedStep;
use state::RequestEvent;

/// Lengths of what is wanted, in characters.
const REQUIREMENTS_LEN: std::ops::RangeInclusive<usize> = 1..=5000;
/// Characters of a reason.
const REASON_LEN: std::ops::RangeInclusive<usize> = 1..=1000;
/// Bytes of the inputs for a workflow.
const MAX_INPUT_BYTES: usize = 65_536;
/// Events of a request that are shown, more than there can be.
const MAX_HISTORY: i64 = 100;

/// A draft that was checked by itself.
struct CheckedRequest {
    id: MarketRequestId,
    draft: RequestDraft,
    inputs: JsonText,
    budget: Money,
    now: Timestamp,
}

/// A request that is to be made.
struct MadeRequest {
    request: MarketRequest,
    /// Agent of the service that is asked for; `None`: none in particular is.
    agent: Option<AgentId>,
    /// Workflow of the service that is asked for; `None`: it has none.
    workflow: Option<WorkflowId>,
    taken: TakenStep,
}

impl Marketplace {
    /// Make a request and put its budget in escrow.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] with all faults; [`MarketError::Ledger`] when the caller's wallet has less than the budget.
    #[boxed]
    pub async fn create_request(
        &self,
        caller: &MarketCaller,
        draft: RequestDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let id: MarketRequestId = self.0.ids.next("mreq_", 12).into();
        let made = self.create_checked(caller, id.clone(), draft, once).await;
        if let Ok(made) = &made {
            self.count_event("request_created", made.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id.as_str()), "create", made).await
    }

    async fn create_checked(
        &self,
        caller: &MarketCaller,
        id: MarketRequestId,
        draft: RequestDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let now = self.now();
        let inputs = JsonText::from_value(&draft.inputs).map_err(|error| corrupt("inputs", error))?;
        let budget = check_draft(&draft, &inputs, now).map_err(MarketError::Invalid)?;
        let draft = CheckedRequest { id, draft, inputs, budget, now };
        let prepared = self.prepare_request(caller, &draft).await;
        if let Some(made) = self.write_prepared(once.as_ref(), prepared).await? {
            return Ok(made);
        }
        let (this, caller) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let made = this.new_request(tx.conn().await?, &caller, &draft).await?;
            let MadeRequest { request, agent, workflow, taken } = made;
            this.0.ledger.post_all(tx, taken.entries).await?;
            // What is in escrow counts as spent until it comes back.
            let client = &request.client_id;
            let spending = BudgetUse { principal: client, agent: agent.as_ref(), workflow: workflow.as_ref() };
            this.0.ledger.reserve_for(tx, &request.id, &spending, request.budget).await?;
            taken.rows.execute(tx).await?;
            am_core::crash_point!("market.before_create");
            Ok(request)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// The same for what a reader sees, where no budget is asked and the client has enough.
    async fn prepare_request(&self, caller: &MarketCaller, draft: &CheckedRequest) -> Result<Option<PreparedStep>> {
        let mut conn = self.0.db.read().await?;
        let MadeRequest { request, agent, workflow, taken } = self.new_request(&mut conn, caller, draft).await?;
        let client = &request.client_id;
        let spending = BudgetUse { principal: client, agent: agent.as_ref(), workflow: workflow.as_ref() };
        // The database would refuse a budget beyond the wallet, and with it what others write at the same time.
        let has_enough = self.0.ledger.balance(&mut conn, &wallet(client)).await?.available >= request.budget;
        drop(conn);
        if self.0.ledger.binds(&spending) || !has_enough {
            return Ok(None);
        }
        am_core::crash_point!("market.before_create");
        Ok(Some(PreparedStep { rows: self.guarded_rows(taken)?, request }))
    }

    /// The request that a draft makes, and what that writes.
    async fn new_request(
        &self,
        conn: &mut Connection,
        caller: &MarketCaller,
        checked: &CheckedRequest,
    ) -> Result<MadeRequest> {
        let CheckedRequest { id, draft, inputs, budget, now } = checked;
        let client_owner = match &caller.principal.agent {
            Some(agent) => find_owner(conn, agent).await?,
            None => None,
        };
        let service = match &draft.service_id {
            Some(id) => {
                let unknown = || MarketError::field("service_id", "is no service that is offered");
                Some(services::find(conn, id).await?.ok_or_else(unknown)?)
            }
            None => None,
        };
        let mut violations = Violations::default();
        if let Some(service) = &service {
            violations.extend(Vec::from(check_offer(service, *budget)));
            let agrees = draft.category.is_none_or(|category| category == service.category);
            violations.require(agrees, "category", format!("is not the service's, {}", service.category));
            let is_own = caller.principal.owns(&service.owner_id) || client_owner.as_ref() == Some(&service.owner_id);
            violations.require(!is_own, "service_id", "is offered by an agent of yours: nobody trades with itself");
        }
        violations.finish().map_err(MarketError::Invalid)?;
        let category = service.as_ref().map(|service| service.category).or(draft.category);
        let mut request = MarketRequest {
            id: id.clone(),
            client_id: caller.principal.id(),
            client_owner,
            service_id: draft.service_id.clone(),
            category: category.ok_or_else(|| MarketError::field("category", "is missing"))?,
            requirements: draft.requirements.clone(),
            inputs: inputs.clone(),
            budget: *budget,
            escrow: *budget,
            deadline: draft.deadline,
            state: RequestState::Open,
            due_at: Some(draft.deadline),
            agent_id: None,
            provider_id: service.as_ref().map(|service| service.owner_id.clone()),
            guild_id: None,
            guild_contribution: 0,
            price: None,
            fee: None,
            paid: Money::ZERO,
            refunded: Money::ZERO,
            workflow_id: None,
            execution_id: None,
            receipt_id: None,
            results_hash: None,
            reason: None,
            events: 0,
            rating: None,
            created_at: *now,
            accepted_at: None,
            completed_at: None,
            ended_at: None,
            updated_at: *now,
        };
        let client = &request.client_id;
        let tags = EntryTags { principal: Some(client.clone()), ..Default::default() };
        let entry = NewEntry::new(EntryKind::Transfer)
            .of(REFERENCE, request.id.as_str())
            .moving(wallet(client), escrow(client), request.budget)
            .tagged(tags);
        let mut rows = RowBatch::default();
        figures::count_created(&mut rows, request.category, *now);
        let nothing = (Money::ZERO, Money::ZERO);
        self.note(&mut rows, &mut request, "created", Some(&caller.principal), nothing, None, *now);
        let taken = TakenStep { entries: vec![entry], rows };
        let (agent, workflow) = service.map(|service| (service.agent_id, service.workflow_id)).unzip();
        Ok(MadeRequest { request, agent, workflow: workflow.flatten(), taken })
    }

    /// Return a request that the caller may see.
    ///
    /// # Errors
    /// [`MarketError::NotFound`], for one that the caller may not know of too.
    #[boxed]
    pub async fn request(&self, caller: &MarketCaller, id: &MarketRequestId) -> Result<MarketRequest> {
        visible(&mut *self.0.db.read().await?, caller, id).await
    }

    /// Return the events of a request that the caller may see, the first first.
    ///
    /// # Errors
    /// As [`Marketplace::request`].
    #[boxed]
    pub async fn request_history(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
    ) -> Result<Vec<RequestHistoryEntry>> {
        let mut conn = self.0.db.read().await?;
        visible(&mut conn, caller, id).await?;
        Ok(store::history(&mut conn, id, 0, MAX_HISTORY).await?)
    }

    /// Return a page of requests, newest first.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] for filters that don't go together; [`MarketError::Forbidden`] for all requests without an admin
    /// key.
    #[boxed]
    pub async fn list_requests(&self, caller: &MarketCaller, filter: &RequestFilter) -> Result<Vec<MarketRequest>> {
        let by_state = matches!(filter.role, RequestRole::Client | RequestRole::Provider);
        let mut violations = Violations::default();
        violations.require(by_state || filter.state.is_none(), "state", "goes with the roles client and provider only");
        let by_category = filter.role == RequestRole::Open || filter.category.is_none();
        violations.require(by_category, "category", "goes with the role open only");
        violations.finish().map_err(MarketError::Invalid)?;
        if filter.role == RequestRole::All && !caller.is_admin {
            return Err(MarketError::Forbidden("The role `all` needs an admin key"));
        }
        let mut conn = self.0.db.read_list().await?;
        // An agent's key sees what its owner's agents have.
        let owner = match (&caller.principal.agent, filter.role) {
            (Some(agent), RequestRole::Provider) => find_owner(&mut conn, agent).await?,
            _ => None,
        };
        let owner = owner.unwrap_or_else(|| caller.principal.id());
        let mut found = store::list(&mut conn, &owner, filter).await?;
        if let (Some(bound), RequestRole::Provider) = (&caller.principal.agent, filter.role) {
            found.retain(|request| request.agent_id.as_ref().is_none_or(|agent| agent == bound));
        }
        Ok(found)
    }
}

/// A request that the caller may see: its client, whoever was asked or has accepted, an admin; everybody while it is open to all.
async fn visible(conn: &mut Connection, caller: &MarketCaller, id: &MarketRequestId) -> Result<MarketRequest> {
    let found = store::find(conn, id).await?.ok_or(MarketError::NotFound("Request"))?;
    if is_public(&found) || caller.is_or_governs(&found.client_id) || is_provider(conn, caller, &found).await? {
        return Ok(found);
    }
    Err(MarketError::NotFound("Request"))
}

/// Whether a request is open to all agents of its category.
fn is_public(request: &MarketRequest) -> bool {
    request.state == RequestState::Open && request.service_id.is_none()
}

/// Whether the caller acts for the agent that has accepted a request, or that was asked.
async fn is_provider(conn: &mut Connection, caller: &MarketCaller, request: &MarketRequest) -> Result<bool> {
    // A key that is bound to no agent is known by the owner alone.
    let is_bound = caller.principal.agent.is_some() && request.provider_id.is_some();
    let asked = request.service_id.as_ref().filter(|_| is_bound && request.agent_id.is_none());
    let agent = match asked {
        Some(service) => services::find(conn, service).await?.map(|service| service.agent_id),
        None => request.agent_id.clone(),
    };
    Ok(acts_as_provider(caller, request, agent.as_ref()))
}

/// The same, where it is known which agent has accepted the request, or was asked.
fn acts_as_provider(caller: &MarketCaller, request: &MarketRequest, agent: Option<&AgentId>) -> bool {
    let Some(provider) = &request.provider_id else { return caller.is_admin };
    if caller.principal.agent.is_none() {
        return caller.is_or_governs(provider);
    }
    agent.is_some_and(|agent| caller.acts_for(agent, provider))
}

/// The budget of a request, or all that is wrong with it.
fn check_draft(draft: &RequestDraft, inputs: &JsonText, now: Timestamp) -> std::result::Result<Money, Vec<Violation>> {
    let mut violations = Violations::default();
    let text = &draft.requirements;
    let holds = has_length(text.trim(), &REQUIREMENTS_LEN) && !text.contains('\0');
    violations.require(holds, "requirements", "must have 1 to 5000 characters");
    let least = Money::from_units(*BASE_PRICE_UNITS.start());
    let budget = draft.budget.amount("budget", &mut violations);
    violations.require(budget.is_none_or(|budget| budget >= least), "budget", format!("must be at least {least} AIT"));
    let in_time = draft.deadline > now && draft.deadline.0 <= now.0 + MAX_DEADLINE;
    violations.require(in_time, "deadline", "must be in the future, and within 365 days");
    let is_named = draft.service_id.is_some() || draft.category.is_some();
    violations.require(is_named, "service_id", "name a service, or a category that any service of may accept");
    let bytes = inputs.get().map_or(0, |raw| raw.get().len());
    violations.require(bytes <= MAX_INPUT_BYTES, "inputs", format!("at most {MAX_INPUT_BYTES} bytes of JSON"));
    violations.finish_with(budget)
}

/// Check a reason.
fn check_reason(reason: &str) -> Result<()> {
    if has_length(reason.trim(), &REASON_LEN) && !reason.contains('\0') {
        return Ok(());
    }
    Err(MarketError::field("reason", "must have 1 to 1000 characters"))
}

/// Inputs of a request as an object.
pub(crate) fn inputs_of(request: &MarketRequest) -> Result<serde_json::Map<String, Value>> {
    Ok(request.inputs.parse().map_err(|error| corrupt("inputs", error))?.unwrap_or_default())
}

fn is_offered(service: &MarketService) -> bool {
    service.state == ServiceState::Active
}
