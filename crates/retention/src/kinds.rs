//! What is removed: kinds of things, and the rows that each is made of.

use am_db::whole_rows::RowSource;

/// Kind of a thing that is removed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetentionKind {
    /// An execution that ended, with its steps, events, receipt, sandbox and assignments.
    Executions,
    /// An assignment that ended, with its attempts.
    Assignments,
    /// A plan that does not run.
    Plans,
    /// A message that is not pending.
    Messages,
    /// Content that the copies of a message shared, when none is left.
    MessageContents,
    /// A job of the service routes that ended.
    Jobs,
    /// A training run that ended, with its events.
    TrainingRuns,
    /// A version of a policy that nothing names, with its weights.
    PolicyVersions,
    /// A definition that no run refers to.
    Definitions,
    /// A delivery to a webhook endpoint that ended.
    WebhookDeliveries,
    /// A request of the marketplace that ended, with its events; its rating and its entries in the ledger stay.
    MarketRequests,
    /// A settlement in a contract that ended, with its transactions; that of a portfolio's creation and the last mined one stay.
    Settlements,
    /// A background task that ended, with its events.
    BackgroundTasks,
    /// An optimisation that ended and is not applied, with what it tried.
    Optimisations,
    /// A sweep that ended, with its trials.
    Sweeps,
    /// A version of a meta-learning model that nothing names, with its weights.
    MetaModels,
    /// An execution that the coordinator wrote alone, with its steps.
    CoordinatorExecutions,
    /// A job that no client submitted here.
    CoordinatorJobs,
}

/// Why a thing is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovalCause {
    /// It is old.
    Age,
    /// Its owner asked for it.
    Request,
}

const EXECUTION_ROWS: &[RowSource] = &[
    RowSource::of("agent_executions", "id"),
    RowSource::of("agent_step_executions", "execution_id"),
    RowSource::of("am_proofs", "execution_id"),
    RowSource::of("am_proof_parts", "execution_id"),
    RowSource::of("am_proof_orders", "execution_id"),
    RowSource::of("am_runs", "execution_id"),
    RowSource::of("am_events", "stream"),
    RowSource::of("am_sandboxes", "execution_id"),
    RowSource::prefixed("agent_sandbox_configs", "id", "sandbox_"),
    RowSource::of("am_assignments", "execution_id"),
    RowSource::through("am_assignment_attempts", "assignment_id", ("am_assignments", "id", "execution_id")),
];
const COORDINATOR_EXECUTION_ROWS: &[RowSource] = &[
    RowSource::of("agent_executions", "id"),
    RowSource::of("agent_step_executions", "execution_id"),
    RowSource::prefixed("agent_sandbox_configs", "id", "sandbox_"),
];
const ASSIGNMENT_ROWS: &[RowSource] =
    &[RowSource::of("am_assignments", "id"), RowSource::of("am_assignment_attempts", "assignment_id")];
const MARKET_REQUEST_ROWS: &[RowSource] =
    &[RowSource::of("am_market_requests", "id"), RowSource::of("am_market_request_events", "request_id")];
const SETTLEMENT_ROWS: &[RowSource] =
    &[RowSource::of("am_settlements", "id"), RowSource::of("am_settlement_transactions", "settlement_id")];
const TRAINING_RUN_ROWS: &[RowSource] = &[
    RowSource::of("am_training_runs", "id"),
    RowSource::of("am_training_feedback", "run_id"),
    RowSource::of("am_training_labels", "id"),
    RowSource::of("am_events", "stream"),
];
const BACKGROUND_TASK_ROWS: &[RowSource] = &[
    RowSource::of("am_background_tasks", "id"),
    RowSource::of("am_background_checkpoints", "task_id"),
    RowSource::of("am_events", "stream"),
];
const OPTIMISATION_ROWS: &[RowSource] =
    &[RowSource::of("am_optimisations", "id"), RowSource::of("performance_optimizations", "id")];
const SWEEP_ROWS: &[RowSource] = &[RowSource::of("am_sweeps", "id"), RowSource::of("am_sweep_trials", "sweep_id")];
/// Several models may have the same weights.
const META_MODEL_ROWS: &[RowSource] = &[
    RowSource::of("am_meta_models", "id"),
    RowSource::through(SHARED_WEIGHTS, "sha256", ("am_meta_models", "sha256", "id")),
];
/// The table whose rows several things may have: they go with the last.
pub(crate) const SHARED_WEIGHTS: &str = "am_meta_weights";

impl RetentionKind {
    /// All kinds, those that others refer to last.
    pub const ALL: [Self; 18] = [
        Self::Executions,
        Self::Assignments,
        Self::Plans,
        Self::Messages,
        Self::MessageContents,
        Self::Jobs,
        Self::TrainingRuns,
        Self::PolicyVersions,
        Self::Definitions,
        Self::WebhookDeliveries,
        Self::MarketRequests,
        Self::Settlements,
        Self::BackgroundTasks,
        Self::Optimisations,
        Self::Sweeps,
        Self::MetaModels,
        Self::CoordinatorExecutions,
        Self::CoordinatorJobs,
    ];

    /// Name in archives, metrics and log lines.
    pub fn word(self) -> &'static str {
        match self {
            Self::Executions => "executions",
            Self::Assignments => "assignments",
            Self::Plans => "plans",
            Self::Messages => "messages",
            Self::MessageContents => "message_contents",
            Self::Jobs => "jobs",
            Self::TrainingRuns => "training_runs",
            Self::PolicyVersions => "policy_versions",
            Self::Definitions => "definitions",
            Self::WebhookDeliveries => "webhook_deliveries",
            Self::MarketRequests => "market_requests",
            Self::Settlements => "settlements",
            Self::BackgroundTasks => "background_tasks",
            Self::Optimisations => "optimisations",
            Self::Sweeps => "sweeps",
            Self::MetaModels => "meta_models",
            Self::CoordinatorExecutions => "coordinator_executions",
            Self::CoordinatorJobs => "coordinator_jobs",
        }
    }

    /// The kind with this name.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// The rows that a thing is made of; the first is its own, without which it is not there.
    pub fn rows(self) -> &'static [RowSource] {
        match self {
            Self::Executions => EXECUTION_ROWS,
            Self::Assignments => ASSIGNMENT_ROWS,
            Self::Plans => const { &[RowSource::of("am_plans", "id")] },
            Self::Messages => const { &[RowSource::numbered("am_messages", "id")] },
            Self::MessageContents => const { &[RowSource::of("am_message_contents", "id")] },
            Self::Jobs => const { &[RowSource::of("am_jobs", "id"), RowSource::of("job", "id")] },
            Self::TrainingRuns => TRAINING_RUN_ROWS,
            Self::PolicyVersions => const { &[RowSource::of("am_policy_versions", "id")] },
            Self::Definitions => const { &[RowSource::of("am_definitions", "hash")] },
            Self::WebhookDeliveries => const { &[RowSource::of("am_webhook_deliveries", "id")] },
            Self::MarketRequests => MARKET_REQUEST_ROWS,
            Self::Settlements => SETTLEMENT_ROWS,
            Self::BackgroundTasks => BACKGROUND_TASK_ROWS,
            Self::Optimisations => OPTIMISATION_ROWS,
            Self::Sweeps => SWEEP_ROWS,
            Self::MetaModels => META_MODEL_ROWS,
            Self::CoordinatorExecutions => COORDINATOR_EXECUTION_ROWS,
            Self::CoordinatorJobs => const { &[RowSource::of("job", "id")] },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use am_core::ambient::Clock;
    use am_db::{Database, DatabaseSettings};

    use super::*;

    #[tokio::test]
    async fn rows_of_every_kind_are_found_by_an_index() {
        let folder = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&folder.path().join("t.db"), &settings).await.unwrap();
        am_db::migrate(&db, &Clock::system()).await.unwrap();
        let mut conn = db.read().await.unwrap();
        for kind in RetentionKind::ALL {
            assert_eq!(RetentionKind::from_word(kind.word()), Some(kind));
            for source in kind.rows() {
                let steps = source.plans(&mut conn).await.unwrap();
                let scans = steps.iter().filter(|step| step.starts_with("SCAN") && !step.contains("json_each"));
                assert_eq!(scans.count(), 0, "{}: {steps:?}", source.table);
            }
        }
    }
}
