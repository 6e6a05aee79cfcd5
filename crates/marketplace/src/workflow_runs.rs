//! What the marketplace needs of the part of the service that runs workflows and signs receipts, which fills this trait.

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

use am_core::{
    ids::{ExecutionId, MarketRequestId, PrincipalId, ReceiptId, WorkflowId},
    money::Money,
};
use am_db::{codec::Timestamp, principal::Principal};

/// Run of a service's workflow for a request.
#[derive(Clone, Debug)]
pub struct RunOrder {
    /// Request that the run is for; it is started once for it, however often it is asked for.
    pub request_id: MarketRequestId,
    /// Owner of the service, for whom it runs.
    pub provider_id: PrincipalId,
    /// Workflow to run.
    pub workflow_id: WorkflowId,
    /// Inputs of the run.
    pub inputs: Map<String, Value>,
    /// Most that the run may cost: what is in escrow.
    pub budget: Money,
}

/// Why a run could not be started or looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunFault {
    /// It will never be possible, for this reason.
    Permanent(String),
    /// It may be possible later.
    Transient(String),
}

/// How far a run is.
#[derive(Clone, Debug)]
pub enum RunOutcome {
    /// It goes on.
    Running,
    /// It has completed, with a receipt.
    Completed {
        /// Its signed receipt, as JSON.
        receipt: String,
        /// Hash of its result, as the coordinator computes it.
        results_hash: String,
    },
    /// It failed or was cancelled, for this reason.
    Failed(String),
}

/// What a valid receipt says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReceipt {
    /// Id of the receipt.
    pub receipt_id: Option<ReceiptId>,
    /// Execution that it is about.
    pub execution_id: ExecutionId,
    /// Workflow of the execution.
    pub workflow_id: Option<WorkflowId>,
    /// Principal that the execution ran for.
    pub client_id: Option<PrincipalId>,
    /// When the execution started.
    pub started_at: Option<Timestamp>,
}

/// Runs workflows, and checks receipts.
pub trait WorkflowRunner: Send + Sync {
    /// Check that `caller` may run the workflow; else say why.
    fn check_workflow<'a>(
        &'a self,
        caller: &'a Principal,
        workflow: &'a WorkflowId,
    ) -> BoxFuture<'a, Result<(), String>>;

    /// Start the run for a request, or find the one that was started for it.
    fn start_run<'a>(&'a self, order: &'a RunOrder) -> BoxFuture<'a, Result<ExecutionId, RunFault>>;

    /// How far the run of `provider` is.
    fn run_outcome<'a>(
        &'a self,
        provider: &'a PrincipalId,
        execution: &'a ExecutionId,
    ) -> BoxFuture<'a, Result<RunOutcome, RunFault>>;

    /// Check the signature of a receipt, given as JSON; else say why it is not valid.
    ///
    /// # Errors
    /// The reason why it is not valid.
    fn verify_receipt(&self, receipt: &str) -> Result<VerifiedReceipt, String>;
}
