//! Requests as clients see them, and what is asked about them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::state::RequestState;
use crate::category::ServiceCategory;
use am_core::{
    ids::{AgentId, ExecutionId, MarketGuildId, MarketRequestId, MarketServiceId, PrincipalId, ReceiptId, WorkflowId},
    money::{Money, StatedAmount},
};
use am_db::{
    codec::{JsonText, Timestamp},
    page::PageRequest,
};

am_db::stored_enum! {
    /// What the caller is to the requests that it lists.
    #[schema(as = MarketRequestRole)]
    pub enum RequestRole {
        /// It made them.
        Client = "client" / "client",
        /// Its agents accepted them.
        Provider = "provider" / "provider",
        /// Anybody's that its agents may accept: open, and for no service in particular.
        Open = "open" / "open",
        /// Everybody's, for admins.
        All = "all" / "all",
    }
}

/// A request for a service.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MarketRequest {
    /// Id of the request.
    pub id: MarketRequestId,
    /// Principal that made it and pays.
    pub client_id: PrincipalId,
    /// Owner of the agent that the client's key is bound to; null: it is bound to none.
    pub client_owner: Option<PrincipalId>,
    /// Service that is asked for, or that was accepted; null: any of the category may accept.
    pub service_id: Option<MarketServiceId>,
    /// Category of the service.
    pub category: ServiceCategory,
    /// What is wanted.
    pub requirements: String,
    /// Inputs of the service's workflow.
    #[schema(value_type = Object)]
    pub inputs: JsonText,
    /// Most that the client pays, in AIT.
    #[serde(with = "am_core::money::exact")]
    pub budget: Money,
    /// What is in escrow now, in AIT.
    #[serde(with = "am_core::money::exact")]
    pub escrow: Money,
    /// When it must be completed.
    pub deadline: Timestamp,
    /// State of the request.
    pub state: RequestState,
    /// When the next thing happens to it by itself: it expires, is paid, or is decided; null: it has ended.
    pub due_at: Option<Timestamp>,
    /// Agent that accepted it; null: none has.
    pub agent_id: Option<AgentId>,
    /// Owner of the agent that was asked or has accepted, who is paid; null: nobody in particular was asked.
    pub provider_id: Option<PrincipalId>,
    /// Guild of the agent when it accepted; null: it was in none.
    pub guild_id: Option<MarketGuildId>,
    /// Basis points of the income that go to the guild, as they were on acceptance.
    pub guild_contribution: i64,
    /// Price in AIT, fixed on acceptance; null: nobody has accepted it.
    #[serde(with = "am_core::money::exact_option", default)]
    pub price: Option<Money>,
    /// The platform's fee in AIT; null: nothing was paid.
    #[serde(with = "am_core::money::exact_option", default)]
    pub fee: Option<Money>,
    /// What was paid in AIT, before fees.
    #[serde(with = "am_core::money::exact")]
    pub paid: Money,
    /// What the client got back in AIT.
    #[serde(with = "am_core::money::exact")]
    pub refunded: Money,
    /// Workflow that does the work; null: the agent reports results itself.
    pub workflow_id: Option<WorkflowId>,
    /// Execution whose receipt it was completed with, or that does the work; null: none.
    pub execution_id: Option<ExecutionId>,
    /// Receipt that it was completed with; null: none.
    pub receipt_id: Option<ReceiptId>,
    /// SHA-256 of the results, in hex; null: it was not completed.
    pub results_hash: Option<String>,
    /// Why it was rejected, disputed, or decided as it was; null: no reason was given.
    pub reason: Option<String>,
    /// Number of its events.
    pub events: i64,
    /// The client's rating, 1 to 5; null: it was not rated.
    pub rating: Option<i64>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was accepted; null: it was not.
    pub accepted_at: Option<Timestamp>,
    /// When it was completed; null: it was not.
    pub completed_at: Option<Timestamp>,
    /// When it ended; null: it has not.
    pub ended_at: Option<Timestamp>,
    /// When it changed last.
    pub updated_at: Timestamp,
}

/// Request to make.
#[derive(Clone, Debug)]
pub struct RequestDraft {
    /// Service that is asked for; `None`: any of the category.
    pub service_id: Option<MarketServiceId>,
    /// Category of the service; `None`: the service's.
    pub category: Option<ServiceCategory>,
    /// What is wanted.
    pub requirements: String,
    /// Inputs of the service's workflow.
    pub inputs: Map<String, Value>,
    /// Most that the client pays; it is put in escrow.
    pub budget: StatedAmount,
    /// When it must be completed.
    pub deadline: Timestamp,
}

/// Acceptance of a request.
#[derive(Clone, Debug, Default)]
pub struct AcceptOrder {
    /// Service that the work is done as; `None`: the one that is asked for.
    pub service_id: Option<MarketServiceId>,
    /// Agent that does the work; `None`: the service's. Another must be a member of the service's guild.
    pub agent_id: Option<AgentId>,
}

/// What a provider reports of the work that it has done.
#[derive(Clone, Debug, Default)]
pub struct CompletionReport {
    /// Results, as JSON; their hash is kept.
    pub results: Option<Value>,
    /// SHA-256 of the results in the coordinator's form; must be that of `results` where both are given.
    pub results_hash: Option<String>,
    /// Execution that did the work; its receipt is then required.
    pub execution_id: Option<ExecutionId>,
    /// Signed receipt of the execution, as JSON text.
    pub receipt: Option<String>,
}

/// An arbiter's decision.
#[derive(Clone, Debug)]
pub struct DisputeDecision {
    /// Share of the price that the provider gets, in percent.
    pub provider_percent: f64,
    /// Why it was decided so.
    pub reason: String,
}

/// Which requests are listed.
#[derive(Clone, Debug)]
pub struct RequestFilter {
    /// What the caller is to them.
    pub role: RequestRole,
    /// State of the requests; `None`: any.
    pub state: Option<RequestState>,
    /// Category of the requests, of open ones only; `None`: any.
    pub category: Option<ServiceCategory>,
    /// Part of the list.
    pub page: PageRequest,
}

/// An event in the life of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MarketRequestEvent)]
pub struct RequestHistoryEntry {
    /// Number of the event, from 1.
    pub number: i64,
    /// What happened: `created`, `accepted`, `started`, `completed`, `settled`, `rejected`, `cancelled`, `expired`, `disputed`,
    /// `resolved`, `rated`.
    pub event: String,
    /// State after it.
    pub state: RequestState,
    /// Principal that did it; `system`: it happened by itself.
    pub actor: String,
    /// What went back to the client, in AIT.
    pub refunded: Money,
    /// What was paid, in AIT, before fees.
    pub paid: Money,
    /// Why; null: no reason was given.
    pub reason: Option<String>,
    /// When it happened.
    pub happened_at: Timestamp,
}
