//! SQL of tables `am_proofs` and `am_proof_parts`, and what is written of proofs to the coordinator's rows.

use am_core::ids::{ExecutionId, PrincipalId, StepExecutionId};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    codec::{Json, JsonOr, JsonText, Timestamp},
    insert, row, sql, update,
};
use serde::Serialize;
use serde_json::Value;

use crate::model::{IntegrationStatus, ProofExport, ProofRecord};

row! {
    ProofRecord {
        document => Json::into_inner,
        plan => JsonOr::into_inner,
    }
}

row! {
    /// Values of a step, and what was verified of it.
    pub(crate) struct StepValues {
        /// Id of the row.
        pub(crate) id: StepExecutionId,
        /// The input of the step.
        pub(crate) input: JsonText = "input_data",
        /// The output of the step.
        pub(crate) output: JsonText = "output_data",
        /// What its proof says.
        pub(crate) proof: JsonText = "step_proof",
    }
}

fn text(value: &impl Serialize) -> Result<JsonText> {
    JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))
}

/// Store a proof that is asked for.
pub(crate) async fn insert(tx: &mut Tx, record: &ProofRecord, owner: &PrincipalId) -> Result<()> {
    let document = &record.document;
    let made = insert!("am_proofs" {
        id: &document.proof_id,
        execution_id: &document.execution_id,
        owner_id: owner,
        status: document.integration_status,
        document: text(document)?,
        plan: text(&record.plan)?,
        created_at: document.created_at,
        updated_at: document.created_at,
    });
    made.execute(tx.conn().await?).await?;
    Ok(())
}

/// Store what became of a proof. Its plan is not needed any more.
pub(crate) async fn save(tx: &mut Tx, record: &ProofRecord, now: Timestamp) -> Result<()> {
    let document = &record.document;
    let saved = update!("am_proofs" {
        status: document.integration_status,
        document: text(document)?,
        plan: text(&record.plan)?,
        updated_at: now,
    } where "id = $1" (&document.proof_id));
    saved.execute(tx.conn().await?).await?;
    Ok(())
}

/// Read one proof.
pub(crate) async fn get(conn: &mut Connection, id: &str) -> Result<Option<ProofRecord>> {
    sql!("SELECT ", ProofRecord::COLUMNS, " FROM am_proofs WHERE id = $1").bind(id).fetch_optional(conn).await
}

/// The newest proof of an execution.
pub(crate) async fn latest(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<ProofRecord>> {
    let found = sql!(
        "SELECT ",
        ProofRecord::COLUMNS,
        " FROM am_proofs WHERE execution_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1",
    );
    found.bind(execution).fetch_optional(conn).await
}

/// Keep a zero-knowledge proof. A process that goes on where another died makes it anew.
pub(crate) async fn put_part(
    tx: &mut Tx,
    (execution, proof, number): (&ExecutionId, &str, i64),
    export: &ProofExport,
    now: Timestamp,
) -> Result<()> {
    let put = insert!("am_proof_parts" {
        execution_id: execution,
        proof_id: proof,
        number: number,
        export: text(export)?,
        created_at: now,
    } update on (execution_id, proof_id, number) except (created_at));
    put.execute(tx.conn().await?).await?;
    Ok(())
}

/// A zero-knowledge proof, as JSON.
pub(crate) async fn part(conn: &mut Connection, execution: &ExecutionId, proof: &str, number: i64) -> Result<JsonText> {
    let found = sql!("SELECT export FROM am_proof_parts WHERE execution_id = $1 AND proof_id = $2 AND number = $3");
    let found = found.bind(execution).bind(proof).bind(number);
    Ok(found.fetch_optional_value(conn).await?.unwrap_or_else(JsonText::none))
}

/// The values of an execution's steps.
pub(crate) async fn step_values(conn: &mut Connection, execution: &ExecutionId) -> Result<Vec<StepValues>> {
    let rows = sql!("SELECT ", StepValues::COLUMNS, " FROM agent_step_executions WHERE execution_id = $1");
    rows.bind(execution).fetch_all(conn).await
}

/// What was verified of a completed execution.
pub(crate) async fn execution_proof(conn: &mut Connection, execution: &ExecutionId) -> Result<JsonText> {
    let found = sql!("SELECT verification_proof FROM agent_executions WHERE id = $1").bind(execution);
    Ok(found.fetch_optional_value(conn).await?.unwrap_or_else(JsonText::none))
}

/// Write what was verified of a step to its row.
pub(crate) async fn write_step(
    tx: &mut Tx,
    row: &StepExecutionId,
    proof: &Value,
    verified: bool,
    now: Timestamp,
) -> Result<()> {
    let word = if verified { "verified" } else { "failed" };
    let written = update!("agent_step_executions" {
        step_proof: text(proof)?,
        verification_status: word,
        updated_at: now,
    } where "id = $1" (row));
    written.execute(tx.conn().await?).await?;
    Ok(())
}

/// Write what was verified of an execution to its row.
pub(crate) async fn write_execution(tx: &mut Tx, execution: &ExecutionId, proof: &Value, now: Timestamp) -> Result<()> {
    let written = update!("agent_executions" {
        verification_proof: text(proof)?,
        updated_at: now,
    } where "id = $1" (execution));
    written.execute(tx.conn().await?).await?;
    Ok(())
}

/// Some executions whose proofs were ordered and not begun.
pub(crate) async fn ordered(conn: &mut Connection, limit: i64) -> Result<Vec<ExecutionId>> {
    let found = sql!("SELECT execution_id FROM am_proof_orders ORDER BY execution_id LIMIT $1").bind(limit);
    found.fetch_values(conn).await
}

/// Take an order. False: another process took it.
pub(crate) async fn take_order(tx: &mut Tx, execution: &ExecutionId) -> Result<bool> {
    let taken = sql!("DELETE FROM am_proof_orders WHERE execution_id = $1").bind(execution);
    Ok(taken.execute(tx.conn().await?).await? > 0)
}

/// The client of an execution, as it is stored; `None`: the execution is gone.
pub(crate) async fn client(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<String>> {
    let found = sql!("SELECT client_id FROM agent_executions WHERE id = $1").bind(execution);
    found.fetch_optional_value(conn).await
}

/// Say of steps that wait for a proof that they get none.
pub(crate) async fn fail_pending(tx: &mut Tx, execution: &ExecutionId, now: Timestamp) -> Result<()> {
    let failed = update!("agent_step_executions" {
        verification_status: "failed",
        updated_at: now,
    } where "execution_id = $1 AND verification_status = 'pending'" (execution));
    failed.execute(tx.conn().await?).await?;
    Ok(())
}

/// Whether a proof of the execution is being made.
pub(crate) async fn under_way(conn: &mut Connection, execution: &ExecutionId) -> Result<Option<ProofRecord>> {
    let found = latest(conn, execution).await?;
    Ok(found.filter(|record| record.document.integration_status == IntegrationStatus::InProgress))
}
