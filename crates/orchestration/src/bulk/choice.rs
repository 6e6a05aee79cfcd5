//! Which executions an operation is about.

use std::collections::HashMap;

use serde_json::Value;

use super::{
    model::{BulkFilter, ErrorClass},
    store::{self, CandidateQuery, CandidateRow},
};
use crate::{definition::WorkflowDefinition, error::Result, model::ExecutionStatus};
use am_core::ids::ExecutionId;
use am_db::{Connection, Database, codec::Timestamp, kept_list::ListedTable, principal::Principal};

/// Executions that one operation takes.
const MAX_EXECUTIONS: usize = 10_000;
/// Executions that are looked at for one operation, where a filter asks what no index has.
const MAX_EXAMINED: usize = 200_000;
/// Executions that are read together.
const BATCH: i64 = 1000;

/// Executions that were chosen.
pub struct ChosenExecutions {
    /// Their ids, the oldest first.
    pub ids: Vec<ExecutionId>,
    /// Whether others match, or may match.
    pub has_more: bool,
}

/// Choose executions of `caller` in one of these statuses.
pub async fn choose(
    db: &Database,
    caller: &Principal,
    statuses: &[ExecutionStatus],
    filter: &BulkFilter,
) -> Result<ChosenExecutions> {
    let mut conn = db.read_list().await?;
    let is_listed = db.follow_list(&mut conn, ListedTable::Executions, true).await?;
    let forms = if is_listed { caller.listed_forms() } else { caller.aliases.to_vec() };
    let (mut found, mut has_more, mut examined) = (Vec::new(), false, 0);
    let mut classes = ErrorClasses::default();
    let mut parts = Vec::new();
    for form in &forms {
        parts.extend(statuses.iter().map(|status| (form.as_str(), *status)));
    }
    for (client, status) in parts {
        let (mut after, mut taken) = (None, 0);
        loop {
            let wanted = CandidateQuery { client, status, filter, after: after.take(), limit: BATCH };
            let read = match is_listed {
                true => store::list_candidates(&mut conn, &wanted).await?,
                false => store::list_unlisted_candidates(&mut conn, &wanted).await?,
            };
            let is_last = (read.len() as i64) < BATCH;
            examined += read.len();
            after = read.last().map(|row| (row.created_at, row.id.clone()));
            for row in read {
                if matches_class(&mut conn, &mut classes, filter, &row).await? {
                    taken += 1;
                    found.push((row.created_at, row.id));
                }
            }
            // Of each status at most so many are taken as there may be in all.
            if is_last {
                break;
            }
            if taken > MAX_EXECUTIONS || examined >= MAX_EXAMINED {
                has_more = true;
                break;
            }
        }
    }
    found.sort_unstable();
    has_more |= found.len() > MAX_EXECUTIONS;
    found.truncate(MAX_EXECUTIONS);
    Ok(ChosenExecutions { ids: found.into_iter().map(|(_, id): (Timestamp, ExecutionId)| id).collect(), has_more })
}

async fn matches_class(
    conn: &mut Connection,
    classes: &mut ErrorClasses,
    filter: &BulkFilter,
    row: &CandidateRow,
) -> Result<bool> {
    match filter.error_class {
        Some(wanted) => Ok(classes.of(conn, row).await? == Some(wanted)),
        None => Ok(true),
    }
}

/// Kinds of steps by definition and key, as far as they were read.
#[derive(Default)]
struct ErrorClasses(HashMap<String, HashMap<String, ErrorClass>>);

impl ErrorClasses {
    /// What failed in an execution; `None`: it is not known, because the coordinator ran it.
    async fn of(&mut self, conn: &mut Connection, row: &CandidateRow) -> Result<Option<ErrorClass>> {
        let (Some(step), Some(hash)) = (&row.failed_step, &row.definition_hash) else {
            return Ok(row.definition_hash.as_ref().map(|_| ErrorClass::Limit));
        };
        if !self.0.contains_key(hash) {
            let body = store::get_definition(conn, hash).await?.unwrap_or_default();
            let steps = WorkflowDefinition::from_snapshot(&body).map(|definition| definition.steps).unwrap_or_default();
            let classes = steps.iter().map(|(key, step)| (key.clone(), class_of(step))).collect();
            self.0.insert(hash.clone(), classes);
        }
        Ok(self.0.get(hash).and_then(|classes| classes.get(step)).copied())
    }
}

/// The kind of a step, as the log has it.
fn class_of(step: &Value) -> ErrorClass {
    let kind = step.get("action").and_then(|action| action.get("kind")).and_then(Value::as_str);
    if let Some(class) = kind.and_then(ErrorClass::from_value) {
        return class;
    }
    let model = step.pointer("/model_requirements/model").filter(|model| model.is_string());
    match step.get("step_type").and_then(Value::as_str).unwrap_or("inference") {
        "inference" if model.is_some() => ErrorClass::Job,
        "verification" => ErrorClass::Check,
        _ => ErrorClass::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_without_an_action_has_the_class_of_what_it_does() {
        for (step, class) in [
            (json!({"step_type": "custom", "action": {"kind": "http"}}), ErrorClass::Http),
            (json!({"step_type": "data_processing", "action": {"kind": "jq"}}), ErrorClass::Jq),
            (json!({"model_requirements": {"model": "llama-7b"}}), ErrorClass::Job),
            (json!({"step_type": "inference"}), ErrorClass::None),
            (json!({"step_type": "verification"}), ErrorClass::Check),
            (json!({"step_type": "custom", "action": null}), ErrorClass::None),
        ] {
            assert_eq!(class_of(&step), class, "{step}");
        }
    }
}
