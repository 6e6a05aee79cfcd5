//! SQL of tables `am_market_requests` and `am_market_request_events`.

use super::model::{MarketRequest, RequestFilter, RequestHistoryEntry, RequestRole};
use crate::services::MarketService;
use am_core::{
    ids::{ExecutionId, MarketGuildId, MarketRequestId, MarketServiceId, PrincipalId},
    money::Money,
};
use am_db::{
    Connection, FromRow, Result, bulk_insert::RowBatch, codec::Timestamp, push_change, push_row, row, row::Columns, sql,
};

fn amount(units: Option<i64>) -> Option<Money> {
    units.map(Money::from_units)
}

row! {
    MarketRequest from "r." {
        id,
        client_id,
        client_owner,
        service_id,
        category,
        requirements,
        inputs,
        budget => Money::from_units,
        escrow => Money::from_units,
        deadline,
        state,
        due_at,
        agent_id,
        provider_id,
        guild_id,
        guild_contribution = "r.contribution",
        price => amount,
        fee => amount,
        paid => Money::from_units,
        refunded => Money::from_units,
        workflow_id,
        execution_id,
        receipt_id,
        results_hash,
        reason,
        events,
        rating,
        created_at,
        accepted_at,
        completed_at,
        ended_at,
        updated_at,
    }
}

row! {
    RequestHistoryEntry {
        number,
        event,
        state,
        actor,
        refunded => Money::from_units,
        paid => Money::from_units,
        reason,
        happened_at,
    }
}

/// Add the row of a request, new or changed, to `rows`.
pub fn save(rows: &mut RowBatch, request: &MarketRequest) {
    push_row!(rows, "am_market_requests" {
        id: &request.id,
        client_id: &request.client_id,
        client_owner: &request.client_owner,
        service_id: &request.service_id,
        category: request.category,
        requirements: &request.requirements,
        inputs: &request.inputs,
        budget: request.budget.units(),
        escrow: request.escrow.units(),
        deadline: request.deadline,
        state: request.state,
        due_at: request.due_at,
        agent_id: &request.agent_id,
        provider_id: &request.provider_id,
        guild_id: &request.guild_id,
        contribution: request.guild_contribution,
        price: request.price.map(Money::units),
        fee: request.fee.map(Money::units),
        paid: request.paid.units(),
        refunded: request.refunded.units(),
        workflow_id: &request.workflow_id,
        execution_id: &request.execution_id,
        receipt_id: &request.receipt_id,
        results_hash: &request.results_hash,
        reason: &request.reason,
        events: request.events,
        rating: request.rating,
        created_at: request.created_at,
        accepted_at: request.accepted_at,
        completed_at: request.completed_at,
        ended_at: request.ended_at,
        updated_at: request.updated_at,
    } update on (id) except (client_id, client_owner, category, requirements, inputs, budget, deadline, created_at));
}

/// Add the change that ends a request to `rows`: it writes only what ends change, and so only some of the table's indexes.
pub fn save_end(rows: &mut RowBatch, request: &MarketRequest) {
    push_change!(
        rows,
        (
            &request.id,
            request.escrow.units(),
            request.state,
            request.due_at,
            request.fee.map(Money::units),
            request.paid.units(),
            request.refunded.units(),
            &request.reason,
            request.events,
            request.ended_at,
            request.updated_at,
        ),
        "UPDATE am_market_requests SET escrow = r.escrow, state = r.state, due_at = r.due_at, fee = r.fee, paid = r.paid,
             refunded = r.refunded, reason = r.reason, events = r.events, ended_at = r.ended_at, updated_at = r.updated_at
         FROM {records $1 id:text escrow:bigint state:text due_at:timestamp fee:bigint paid:bigint refunded:bigint reason:text
             events:bigint ended_at:timestamp updated_at:timestamp} AS r
         WHERE am_market_requests.id = r.id"
    );
}

/// Add the row of an event of a request to `rows`.
pub fn add_event(rows: &mut RowBatch, request: &MarketRequestId, entry: &RequestHistoryEntry) {
    push_row!(rows, "am_market_request_events" {
        request_id: request,
        number: entry.number,
        event: &entry.event,
        state: entry.state,
        actor: &entry.actor,
        refunded: entry.refunded.units(),
        paid: entry.paid.units(),
        reason: &entry.reason,
        happened_at: entry.happened_at,
    });
}

/// Read a request.
pub async fn find(conn: &mut Connection, id: &MarketRequestId) -> Result<Option<MarketRequest>> {
    let found = sql!("SELECT ", MarketRequest::COLUMNS, " FROM am_market_requests r WHERE r.id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// What an acceptance by a service's own agent is decided by, but for the agent's reputation.
pub struct AcceptanceFacts {
    pub request: MarketRequest,
    pub service: MarketService,
    /// The stored owner of the service's agent.
    pub owner: String,
    /// Paid requests of the agent.
    pub jobs: i64,
    /// Guild of the agent, and its contribution in basis points.
    pub guild: Option<(MarketGuildId, i64)>,
}

impl FromRow for AcceptanceFacts {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            request: MarketRequest::from_row(columns)?,
            service: MarketService::from_row(columns)?,
            owner: columns.next_value()?,
            jobs: columns.next_value()?,
            guild: columns.next_value::<Option<MarketGuildId>>()?.zip(columns.next_value()?),
        })
    }
}

/// Read, in one statement, what an acceptance as `service` is decided by, or as the service that was asked for. `None`: one of the
/// request, the service and its agent is not there.
pub async fn acceptance_facts(
    conn: &mut Connection,
    id: &MarketRequestId,
    service: Option<&MarketServiceId>,
) -> Result<Option<AcceptanceFacts>> {
    let facts = sql!(
        "SELECT ",
        MarketRequest::COLUMNS,
        ", ",
        MarketService::COLUMNS,
        ", a.owner_id, coalesce(c.jobs, 0), g.id, g.contribution
         FROM am_market_requests r
         {then} am_market_services s ON s.id = coalesce($2, r.service_id)
         {then} am_agents a ON a.id = s.agent_id
         LEFT JOIN am_market_agents c ON c.agent_id = s.agent_id
         LEFT JOIN am_market_guild_members m ON m.agent_id = s.agent_id
         LEFT JOIN am_market_guilds g ON g.id = m.guild_id
         WHERE r.id = $1",
    );
    facts.bind(id).bind(service).fetch_optional(conn).await
}

/// Read the request that an execution belongs to.
pub async fn of_execution(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<MarketRequestId>> {
    let found = sql!("SELECT id FROM am_market_requests WHERE execution_id = $1");
    found.bind(execution).fetch_optional_value(conn).await
}

/// Read a page of requests: those of a client or of a provider, those that are open to all, or all.
pub async fn list(conn: &mut Connection, owner: &PrincipalId, filter: &RequestFilter) -> Result<Vec<MarketRequest>> {
    let query = match filter.role {
        RequestRole::Client => sql!(
            "SELECT ",
            MarketRequest::COLUMNS,
            " FROM am_market_requests r WHERE r.client_id = $1 [AND r.state = $2] {page r. $3}",
        )
        .bind(owner)
        .bind_some(filter.state),
        RequestRole::Provider => sql!(
            "SELECT ",
            MarketRequest::COLUMNS,
            " FROM am_market_requests r WHERE r.provider_id = $1 [AND r.state = $2] {page r. $3}",
        )
        .bind(owner)
        .bind_some(filter.state),
        RequestRole::Open => sql!(
            "SELECT ",
            MarketRequest::COLUMNS,
            " FROM am_market_requests r WHERE r.state = 'OPEN' AND r.service_id IS NULL [AND r.category = $1] {page r. $2}",
        )
        .bind_some(filter.category),
        RequestRole::All => sql!("SELECT ", MarketRequest::COLUMNS, " FROM am_market_requests r WHERE true {page r. $1}"),
    };
    query.bind_page(&filter.page).fetch_all(conn).await
}

/// Read the events of a request with numbers above `after`, in order.
pub async fn history(
    conn: &mut Connection,
    id: &MarketRequestId,
    after: i64,
    limit: i64,
) -> Result<Vec<RequestHistoryEntry>> {
    let events = sql!(
        "SELECT ",
        RequestHistoryEntry::COLUMNS,
        " FROM am_market_request_events WHERE request_id = $1 AND number > $2 ORDER BY number LIMIT $3",
    );
    events.bind(id).bind(after).bind(limit).fetch_all(conn).await
}

/// Read requests to which something happens by itself now, the longest due first.
pub async fn due(conn: &mut Connection, now: Timestamp, limit: i64) -> Result<Vec<MarketRequestId>> {
    let due =
        sql!("SELECT id FROM am_market_requests WHERE due_at IS NOT NULL AND due_at <= $1 ORDER BY due_at LIMIT $2");
    due.bind(now).bind(limit).fetch_values(conn).await
}

/// Read requests whose workflow is to be started, or runs, after `after`.
pub async fn with_workflow(conn: &mut Connection, after: &str, limit: i64) -> Result<Vec<MarketRequest>> {
    let running = sql!(
        "SELECT ",
        MarketRequest::COLUMNS,
        " FROM am_market_requests r WHERE r.state = 'ACCEPTED' AND r.workflow_id IS NOT NULL AND r.id > $1 ORDER BY r.id LIMIT $2",
    );
    running.bind(after).bind(limit).fetch_all(conn).await
}
