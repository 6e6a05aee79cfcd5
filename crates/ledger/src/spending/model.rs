//! What spending is summed by.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

am_db::stored_enum! {
    /// What sums of spending are kept for.
    pub enum SpendingDimension {
        /// All that anybody spent.
        All = "all" / "all",
        /// What each principal spent.
        Principal = "principal" / "principal",
        /// What was spent on each agent, or by it for messages.
        Agent = "agent" / "agent",
        /// What was spent on each workflow.
        Workflow = "workflow" / "workflow",
    }
}

/// What spending is reported by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpendingGroup {
    /// By the principal that spent it.
    Principal,
    /// By principal and agent.
    Agent,
    /// By principal and workflow.
    Workflow,
    /// By day, in UTC.
    Day,
}

/// Which sums are meant.
pub(crate) struct SpendingKey<'a> {
    pub(crate) dimension: SpendingDimension,
    /// Principal that spent it; empty for all.
    pub(crate) principal: &'a str,
    /// Agent or workflow; empty where the dimension has none.
    pub(crate) subject: &'a str,
}
