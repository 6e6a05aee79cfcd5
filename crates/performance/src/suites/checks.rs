//! Cases: what is wrong with those that are sent, and how an output is scored.

use std::{collections::BTreeSet, sync::Arc};

use am_core::{
    crypto,
    validation::{FieldPath, Violation, Violations, has_length},
};
use am_db::codec::Timestamp;
use am_orchestration::jq::{JqError, JqPool, SourceText};
use serde_json::{Value, value::RawValue};

use super::model::{CaseCheck, CaseDraft, SuiteCase, SuiteVersionDraft};

/// Cases of a suite.
const MAX_CASES: usize = 500;
/// Bytes of a version's cases.
const MAX_BYTES: usize = 4 << 20;
/// The largest weight of a case.
const MAX_WEIGHT: f64 = 1000.0;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 4000;
/// Characters of a reason.
const MAX_REASON: usize = 500;
/// A graded case with this score passes.
pub(super) const PASS_SCORE: f64 = 0.5;

/// What is wrong with a name; `None`: nothing.
pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    let sound = has_length(name, &(1..=100)) && !name.chars().any(char::is_control) && name.trim() == name;
    (!sound).then_some("must have 1 to 100 characters, no control characters and no spaces at its ends")
}

/// The cases of a draft, or all that is wrong with it; programs and schemas are compiled elsewhere.
pub(super) fn checked_cases(draft: SuiteVersionDraft, now: Timestamp) -> Result<Vec<SuiteCase>, Vec<Violation>> {
    let mut violations = Violations::default();
    let count = draft.cases.len();
    violations.require((1..=MAX_CASES).contains(&count), "cases", format!("must have 1 to {MAX_CASES} cases"));
    let described = draft.description.chars().count() <= MAX_DESCRIPTION && !draft.description.contains('\0');
    violations.require(described, "description", format!("must have at most {MAX_DESCRIPTION} characters"));
    let step = draft.output_step.as_deref().is_none_or(|step| has_length(step, &(1..=100)));
    violations.require(step, "output_step", "must have 1 to 100 characters");
    let (mut names, mut bytes, mut cases) = (BTreeSet::new(), 0, Vec::with_capacity(count.min(MAX_CASES)));
    for (at, case) in draft.cases.into_iter().take(MAX_CASES).enumerate() {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["cases"]);
        if let Some(fault) = name_fault(&case.name) {
            violations.add(place("name"), fault);
        } else {
            violations.require(names.insert(case.name.clone()), place("name"), "another case has this name");
        }
        let weight = case.weight.unwrap_or(1.0);
        let sound = weight.is_finite() && weight > 0.0 && weight <= MAX_WEIGHT;
        violations.require(sound, place("weight"), format!("must be more than 0 and at most {MAX_WEIGHT}"));
        let Some(check) = check_of(&case, &place, &mut violations) else { continue };
        let Ok(text) = serde_json::to_string(&(&case.input, &check)) else { continue };
        bytes += text.len();
        cases.push(SuiteCase {
            id: at as i64 + 1,
            name: case.name,
            input: case.input,
            check,
            weight,
            sha256: crypto::sha256_hex(text.as_bytes()),
            created_at: now,
        });
    }
    violations.require(bytes <= MAX_BYTES, "cases", format!("must have at most {MAX_BYTES} bytes of JSON in all"));
    violations.finish_with(Some(cases))
}

fn check_of(case: &CaseDraft, place: &impl Fn(&str) -> FieldPath, violations: &mut Violations) -> Option<CaseCheck> {
    let check = match (&case.expected, &case.check) {
        (Some(expected), None) => CaseCheck::Equals { value: expected.clone() },
        (None, Some(check)) => check.clone(),
        (None, None) => {
            violations.add(place("expected"), "say what is expected, or how it is checked (`check`)");
            return None;
        }
        (Some(_), Some(_)) => {
            violations.add(place("check"), "either `expected` or `check`, not both");
            return None;
        }
    };
    let fault = match &check {
        CaseCheck::Number { value, tolerance } => {
            let sound = value.is_finite() && tolerance.is_finite() && *tolerance >= 0.0;
            (!sound).then_some("needs a finite value and a tolerance of at least 0")
        }
        CaseCheck::Contains { text } => text.is_empty().then_some("needs a text"),
        CaseCheck::Jq { program } => program.trim().is_empty().then_some("needs a program"),
        CaseCheck::Equals { .. } | CaseCheck::Schema { .. } => None,
    };
    if let Some(fault) = fault {
        violations.add(place("check"), fault);
        return None;
    }
    Some(check)
}

/// The programs and schemas of cases, each with its place, to be compiled.
pub(super) fn sources(cases: &[SuiteCase]) -> Vec<(FieldPath, SourceText)> {
    let source = |case: &SuiteCase| {
        let (member, text) = match &case.check {
            CaseCheck::Jq { program } => ("program", SourceText::Program(program.as_str().into())),
            CaseCheck::Schema { schema } => ("schema", SourceText::Schema(schema.to_string().into())),
            _ => return None,
        };
        let place = FieldPath::from([member]).within(["check"]).within([case.id as usize - 1]).within(["cases"]);
        Some((place, text))
    };
    cases.iter().filter_map(source).collect()
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CheckOutcome {
    /// The output has this score, from 0 to 1; below 1 for this reason.
    Scored(f64, Option<String>),
    /// The check could not be made, for this reason.
    Broken(String),
}

fn decided(passes: bool, reason: impl FnOnce() -> String) -> CheckOutcome {
    match passes {
        true => CheckOutcome::Scored(1.0, None),
        false => CheckOutcome::Scored(0.0, Some(shortened(&reason()))),
    }
}

/// A reason's first characters.
pub(super) fn shortened(text: &str) -> String {
    text.chars().filter(|one| *one != '\0').take(MAX_REASON).collect()
}

/// Whether two values are the same, numbers compared as numbers.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let equal = |(key, value): (&String, &Value)| other.get(key).is_some_and(|other| same(value, other));
            one.len() == other.len() && one.iter().all(equal)
        }
        _ => one == other,
    }
}

/// Score an output. Programs and schemas run in worker processes, within their limits.
///
/// # Errors
/// What may pass: no worker can be had now.
pub(super) async fn score_output(jq: &JqPool, check: &CaseCheck, output: &Value) -> Result<CheckOutcome, JqError> {
    let text = || output.to_string();
    Ok(match check {
        CaseCheck::Equals { value } => {
            decided(same(value, output), || format!("expected {}, not {}", shortened(&value.to_string()), text()))
        }
        CaseCheck::Number { value, tolerance } => {
            let near = output.as_f64().is_some_and(|found| (found - value).abs() <= *tolerance);
            decided(near, || format!("expected {value} within {tolerance}, not {}", text()))
        }
        CaseCheck::Contains { text: part } => {
            let found = output.as_str().map_or_else(|| text().contains(part), |whole| whole.contains(part));
            decided(found, || format!("{} does not contain {part:?}", shortened(&text())))
        }
        CaseCheck::Schema { schema } => {
            let Some(instance) = raw(output) else { return Ok(CheckOutcome::Broken("the output is not JSON".into())) };
            match jq.validate(schema.to_string().into(), instance).await {
                Ok(found) => decided(found.violations.is_empty(), || {
                    found.violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
                }),
                Err(error) => broken(error)?,
            }
        }
        CaseCheck::Jq { program } => {
            let Some(input) = raw(output) else { return Ok(CheckOutcome::Broken("the output is not JSON".into())) };
            match jq.eval(program.as_str().into(), input).await {
                Ok(answer) => judged(answer.output.get()),
                Err(error) => broken(error)?,
            }
        }
    })
}

fn raw(value: &Value) -> Option<Arc<RawValue>> {
    RawValue::from_string(value.to_string()).ok().map(Arc::from)
}

fn broken(error: JqError) -> Result<CheckOutcome, JqError> {
    match error {
        JqError::NoWorker(_) | JqError::PoolClosed => Err(error),
        other => Ok(CheckOutcome::Broken(shortened(&format!("the check failed: {other}")))),
    }
}

/// What a program's answer says.
fn judged(answer: &str) -> CheckOutcome {
    match serde_json::from_str::<Value>(answer) {
        Ok(Value::Bool(passes)) => decided(passes, || "the program answered false".to_owned()),
        Ok(Value::Number(score)) if score.as_f64().is_some_and(|score| (0.0..=1.0).contains(&score)) => {
            let score = score.as_f64().unwrap_or(0.0);
            CheckOutcome::Scored(score, (score < 1.0).then(|| format!("the program gave {score}")))
        }
        _ => {
            let text = format!("the program must answer true, false or a number from 0 to 1, not {answer}");
            CheckOutcome::Broken(shortened(&text))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(cases: Value) -> Vec<String> {
        let draft = serde_json::from_value(json!({"cases": cases})).unwrap();
        let now: Timestamp = serde_json::from_value(json!("2026-05-12T00:00:00Z")).unwrap();
        checked_cases(draft, now)
            .map_or_else(|all| all.iter().map(|one| one.path.to_string()).collect(), |_| Vec::new())
    }

    #[test]
    fn cases_are_checked_together() {
        let found = faults(json!([
            {"name": "a"},
            {"name": "b", "expected": 1, "check": {"kind": "contains", "text": "x"}},
            {"name": "c", "expected": 1, "weight": 0},
            {"name": "c", "expected": 1},
            {"name": " ", "expected": 1},
            {"name": "d", "check": {"kind": "number", "value": 1, "tolerance": -1}},
            {"name": "e", "check": {"kind": "contains", "text": ""}},
        ]));
        let wanted = ["0.expected", "1.check", "2.weight", "3.name", "4.name", "5.check", "6.check"];
        assert_eq!(found, wanted.map(|place| format!("cases.{place}")));
        assert_eq!(faults(json!([])), ["cases"]);
        let many: Vec<Value> = (0..501).map(|at| json!({"name": at.to_string(), "expected": at})).collect();
        assert_eq!(faults(json!(many)), ["cases"]);
        assert!(faults(json!([{"name": "a", "expected": false}])).is_empty());
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        assert!(same(&json!({"a": [1, 2.0]}), &json!({"a": [1.0, 2]})));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": 2})));
        assert!(!same(&json!("1"), &json!(1)));
    }

    #[test]
    fn a_program_answers_a_truth_or_a_score() {
        assert_eq!(judged("true"), CheckOutcome::Scored(1.0, None));
        assert!(matches!(judged("0.25"), CheckOutcome::Scored(score, Some(_)) if score == 0.25));
        assert!(matches!(judged("false"), CheckOutcome::Scored(score, Some(_)) if score == 0.0));
        for answer in ["1.5", "-1", "null", "\"yes\"", "[]"] {
            assert!(matches!(judged(answer), CheckOutcome::Broken(_)), "{answer}");
        }
    }
}
