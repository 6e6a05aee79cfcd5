//! The state machine on random graphs of steps with random outcomes, lost and restored at random moments.

use std::{sync::Arc, time::Duration};

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::claim::{restore_step, store::ClaimedStepRow};
use crate::{
    action::StepAction,
    definition::{CompiledStep, ExecutionPlan, StepDefinition},
    mapping::ValueMapping,
    model::{ExecutionStatus, RetryPolicy, StepType, VerificationLevel},
    run::{AfterFailure, AttemptFailure, AttemptPrice, AttemptResult, BudgetCheck, RunLimits, RunState, StepRun},
};
use am_core::{
    ambient::IdGenerator,
    money::Money,
    value_budget::{ByteLimit, SizedValue},
};
use am_db::codec::{JsonText, Timestamp};

fn step(at: usize, depends_on: Vec<usize>, max_retries: u32) -> CompiledStep {
    CompiledStep {
        key: format!("s{at}"),
        name: format!("s{at}"),
        step_type: StepType::Custom,
        action: StepAction::Identity,
        inputs: None,
        outputs: None,
        timeout: Duration::from_secs(300),
        retry: RetryPolicy::default(),
        max_retries,
        requires_proof: false,
        verification_level: None,
        depends_on,
        scope: None,
        model_requirements: Value::Null,
        raw: StepDefinition::default(),
    }
}

fn sample_run(steps: Vec<CompiledStep>, budget: Money) -> RunState {
    let now = moment(0);
    let rows = (0..steps.len()).map(|at| StepRun::new(format!("step_{at}").into())).collect();
    let plan =
        ExecutionPlan { dependents: vec![Vec::new(); steps.len()], steps, body: "{}".into(), hash: String::new() };
    let mut run = RunState {
        id: Default::default(),
        workflow_id: "agent_1".into(),
        client_id: "key_1".into(),
        plan: Arc::new(plan),
        inputs: SizedValue::accepted(json!({"x": 1})),
        limits: RunLimits { seconds: 0, budget, value: limit(1 << 20), values: limit(4 << 20) },
        level: VerificationLevel::Basic,
        security: am_audit::SecurityLevel::Internal,
        origin: None,
        trace_id: None,
        fence: 1,
        status: ExecutionStatus::Pending,
        steps: rows,
        total_cost: Money::ZERO,
        posted_cost: Money::ZERO,
        is_bound: false,
        created_at: now,
        started_at: None,
        completed_at: None,
        error: None,
        failed_step: None,
        final_result: JsonText::none(),
        receipt: JsonText::none(),
        proof: JsonText::none(),
        active_before: 0.0,
        claimed_at: now,
        is_new: true,
        events: Vec::new(),
    };
    run.name(&IdGenerator::seeded(1));
    run
}

fn limit(bytes: usize) -> ByteLimit {
    ByteLimit { name: "TEST_BYTES", bytes }
}

fn moment(tick: i64) -> Timestamp {
    Timestamp(DateTime::from_timestamp_micros(1_700_000_000_000_000 + tick * 1_000_003).unwrap())
}

/// The steps as another process reads them: from the column `step_states` and the steps' rows.
fn restored(run: &RunState) -> Vec<StepRun> {
    let states: Value = serde_json::from_str(&run.step_states().to_string()).unwrap();
    let doc = |value: &Option<SizedValue>| {
        value.as_deref().map_or(JsonText::none(), |value| JsonText::from_value(value).unwrap())
    };
    let row = |step: &StepRun| ClaimedStepRow {
        row_id: step.row_id.clone(),
        step_id: step.step_id.clone(),
        input: doc(&step.input),
        output: doc(&step.output),
        memory_mb: step.memory_mb,
        gpu: step.gpu,
        verification: step.verification.as_ref().map_or(JsonText::none(), |done| JsonText::from_value(done).unwrap()),
    };
    let rows: Vec<ClaimedStepRow> = run.steps.iter().map(row).collect();
    let restore = |step: &CompiledStep| restore_step(&states[&step.key], &rows, &step.key).unwrap();
    run.plan.steps.iter().map(restore).collect()
}

fn texts(steps: &[StepRun]) -> Vec<String> {
    steps.iter().map(|step| format!("{:?}", StepRun { dirty: false, ..step.clone() })).collect()
}

/// Begin what is ready, as the driver does.
fn begin_ready(run: &mut RunState, parallel: usize, price: impl Fn(usize) -> AttemptPrice, tick: i64) {
    if run.is_done() {
        return run.finish(moment(tick));
    }
    for at in run.ready() {
        if run.steps.iter().filter(|step| step.status == ExecutionStatus::Running).count() >= parallel {
            return;
        }
        let done = |other: &usize| run.steps[*other].status == ExecutionStatus::Completed;
        assert!(run.plan.steps[at].depends_on.iter().all(done), "{at} begins before what it waits for has ended");
        let input = run.input(at).unwrap();
        match run.check_budget(at, price(at)) {
            Ok(BudgetCheck::Fits(reserve)) => {
                run.begin(at, input, reserve, moment(tick));
                assert!(!run.limits.budget.is_positive() || run.committed_cost() <= run.limits.budget);
            }
            Ok(BudgetCheck::Pending) => {
                assert!(run.steps.iter().any(|step| step.reserved.is_positive()), "nothing to wait for")
            }
            Err(limit) => {
                run.fail(None, &limit, moment(tick));
                return;
            }
        }
    }
}

fn failed(retryable: bool, unanswered: bool) -> AttemptFailure {
    AttemptFailure { message: "no luck".into(), retryable, unanswered, retry_after: None }
}

/// One thing happens: an attempt ends, a retry falls due, or the process is lost and another restores the run.
fn happen(run: &mut RunState, what: u8, cost: Money, tick: i64) {
    let open: Vec<usize> = (0..run.steps.len())
        .filter(|at| run.steps[*at].status == ExecutionStatus::Running || run.steps[*at].retry_at.is_some())
        .collect();
    let at = open[usize::from(what) % open.len()];
    if run.steps[at].retry_at.take().is_some() {
        return;
    }
    let now = moment(tick);
    let reserved_by_others = run.committed_cost() - run.total_cost - run.steps[at].reserved;
    match what / 16 {
        0..=2 => {
            let retryable = what / 16 < 2;
            let attempts = run.steps[at].attempts;
            match run.fail_attempt(at, &failed(retryable, what.is_multiple_of(3)), 0.5, 0.5, now) {
                AfterFailure::Retry(_) => assert!(retryable && attempts <= run.plan.steps[at].max_retries),
                AfterFailure::Final(_) => assert!(!retryable || attempts > run.plan.steps[at].max_retries),
            }
        }
        3..=5 => {
            let before = texts(&run.steps);
            let after = restored(run);
            assert_eq!(texts(&after), before, "what is saved is what is restored");
            run.steps = after;
        }
        _ => {
            let output = if what.is_multiple_of(5) { Value::Null } else { json!({"from": at}) };
            let outcome = AttemptResult {
                output: output.into(),
                seconds: 0.25,
                cost,
                memory_mb: Some(1.5),
                gpu: true,
                proof: None,
                miner_receipt: None,
            };
            run.complete(at, outcome, now).unwrap();
            if let Some(limit) = run.budget_exceeded() {
                run.fail(None, &limit, now);
            } else {
                assert_eq!(run.committed_cost() - run.total_cost, reserved_by_others, "it is settled");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_run_ends_in_order_and_within_its_budget(
        shape in prop::collection::vec((any::<u8>(), 0u32..3), 1..9),
        script in prop::collection::vec(any::<u8>(), 1..40),
        parallel in 1usize..5,
        budget in prop_oneof![Just(0.0), 0.1f64..8.0],
        (estimate, actual) in (0.0f64..2.0, 0.0f64..1.5),
    ) {
        let steps = shape.iter().enumerate().map(|(at, (mask, retries))| {
            step(at, (0..at.min(8)).filter(|other| mask & (1 << other) != 0).collect(), *retries)
        });
        let [budget, estimate, cost] = [budget, estimate, estimate * actual].map(Money::from_f64);
        let mut run = sample_run(steps.collect(), budget);
        // A whole script of losses would go on for ever; after some time attempts end well.
        let script = script.iter().copied().cycle().take(200).chain(std::iter::repeat(200));
        for (tick, what) in (1i64..).zip(script) {
            prop_assert!(tick < 400, "it does not end: {:?}", run.step_states());
            begin_ready(&mut run, parallel, |_| AttemptPrice::AtMost(estimate), tick);
            if run.status.is_final() {
                break;
            }
            happen(&mut run, what, cost, tick);
            if run.status.is_final() {
                break;
            }
        }
        let of = |status: ExecutionStatus| run.steps.iter().filter(|step| step.status == status).count();
        prop_assert_eq!(of(ExecutionStatus::Running), 0);
        prop_assert_eq!(run.status == ExecutionStatus::Completed, of(ExecutionStatus::Completed) == run.steps.len() && run.error.is_none());
        prop_assert!(run.steps.iter().all(|step| step.reserved == Money::ZERO && step.retry_at.is_none() && step.job_id.is_none()));
        let spent: Money = run.steps.iter().map(|step| step.cost).sum();
        prop_assert_eq!(spent, run.total_cost);
        // One attempt may cost more than was set aside for it; nothing begins after that.
        let overrun = (cost - estimate).max(Money::ZERO).scaled(parallel as f64);
        prop_assert!(!budget.is_positive() || run.total_cost <= budget + overrun, "{} of {budget}", run.total_cost);
    }
}

/// A step that an agent does, for a price that is not known before.
fn ordered(at: usize, depends_on: Vec<usize>) -> CompiledStep {
    let action = json!({"kind": "agent", "task_type": "text_processing"});
    let spec = crate::agent_step::parse_agent_step(action.as_object().unwrap()).unwrap();
    CompiledStep { action: StepAction::Agent(spec.into()), ..step(at, depends_on, 0) }
}

proptest! {
    #[test]
    fn orders_of_any_price_never_overspend_a_budget(
        shape in prop::collection::vec((any::<u8>(), any::<bool>()), 1..9),
        prices in prop::collection::vec(0.0f64..10.0, 9),
        ends in prop::collection::vec(any::<prop::sample::Index>(), 40),
        parallel in 1usize..9,
        (budget, own) in (0.01f64..5.0, 0.0f64..0.5),
    ) {
        let [budget, own] = [budget, own].map(Money::from_f64);
        let steps = shape.iter().enumerate().map(|(at, (mask, _))| {
            ordered(at, (0..at.min(8)).filter(|other| mask & (1 << other) != 0).collect())
        });
        let mut run = sample_run(steps.collect(), budget);
        let price = |at: usize| match shape[at].1 {
            true => AttemptPrice::Open(own),
            false => AttemptPrice::AtMost(own + Money::from_f64(0.25)),
        };
        for (tick, end) in (1i64..).zip(ends) {
            begin_ready(&mut run, parallel, price, tick);
            let running: Vec<usize> =
                (0..run.steps.len()).filter(|at| run.steps[*at].status == ExecutionStatus::Running).collect();
            if run.status.is_final() || running.is_empty() {
                break;
            }
            let at = running[end.index(running.len())];
            let cost = own + Money::from_f64(prices[at]);
            let granted = run.granted_price(at, own).unwrap();
            let outcome = AttemptResult {
                output: json!(1).into(),
                seconds: 0.0,
                cost,
                memory_mb: None,
                gpu: false,
                proof: None,
                miner_receipt: None,
            };
            run.complete(at, outcome, moment(tick)).unwrap();
            prop_assert_eq!(run.steps[at].cost, cost.min(own + granted));
            prop_assert!(run.committed_cost() <= budget, "{} of {budget}", run.committed_cost());
        }
        prop_assert!(run.status.is_final(), "{:?}", run.step_states());
        prop_assert!(run.total_cost <= budget);
    }
}

proptest! {
    #[test]
    fn a_call_without_answer_is_repeated_under_its_key_and_no_other_is(script in prop::collection::vec(0u8..4, 1..60)) {
        let mut run = sample_run(vec![step(0, vec![], 100)], Money::ZERO);
        let mut last: Option<(u32, bool)> = None;
        let mut seen = std::collections::BTreeSet::new();
        for (tick, what) in (1i64..).zip(script) {
            if run.steps[0].retry_at.take().is_some() || run.steps[0].status == ExecutionStatus::Pending {
                run.begin(0, SizedValue::default(), Money::ZERO, moment(tick));
                let number = run.steps[0].call_number();
                match last {
                    Some((before, false)) => prop_assert_eq!(number, before, "it may have taken effect"),
                    _ => prop_assert!(seen.insert(number), "it was used for another call"),
                }
                last = Some((number, false));
            }
            let number = run.steps[0].call_number();
            match what {
                // Lost and taken over: the same call.
                0 => {
                    run.steps = restored(&run);
                    prop_assert_eq!(run.steps[0].call_number(), number);
                }
                _ => {
                    let unanswered = what == 1;
                    run.fail_attempt(0, &failed(true, unanswered), 0.0, 0.5, moment(tick));
                    last = Some((number, !unanswered));
                    if what == 3 {
                        run.steps = restored(&run);
                    }
                }
            }
        }
    }
}

#[test]
fn the_wait_that_an_endpoint_asks_for_is_kept_unless_the_policy_waits_longer() {
    for (asked, waited) in [(None, 1), (Some(30), 30), (Some(0), 1)] {
        let mut run = sample_run(vec![step(0, vec![], 3)], Money::ZERO);
        run.plan = Arc::new(ExecutionPlan {
            steps: vec![CompiledStep {
                retry: RetryPolicy { initial_seconds: 1.0, backoff: 1.0, max_seconds: 1.0, jitter: 0.0 },
                ..step(0, vec![], 3)
            }],
            dependents: vec![Vec::new()],
            body: "{}".into(),
            hash: String::new(),
        });
        run.begin(0, SizedValue::default(), Money::ZERO, moment(1));
        let failure = AttemptFailure { retry_after: asked.map(Duration::from_secs), ..failed(true, false) };
        let AfterFailure::Retry(wait) = run.fail_attempt(0, &failure, 0.0, 0.5, moment(2)) else { panic!("no retry") };
        assert_eq!(wait, Duration::from_secs(waited), "{asked:?}");
    }
}

#[test]
fn a_mapping_that_fails_after_the_work_leaves_the_work_paid() {
    let mut only = step(0, vec![], 0);
    let mapping = json!({"y": "$.output.none"});
    only.outputs = Some(ValueMapping::parse(mapping.as_object().unwrap()).unwrap());
    let mut run = sample_run(vec![only], Money::from_f64(1.0));
    run.begin(0, SizedValue::default(), Money::from_f64(0.5), moment(1));
    let outcome = AttemptResult {
        output: json!({}).into(),
        seconds: 1.0,
        cost: Money::from_f64(0.3),
        memory_mb: None,
        gpu: false,
        proof: None,
        miner_receipt: None,
    };
    assert!(run.complete(0, outcome, moment(2)).unwrap_err().contains("$.output.none"));
    assert_eq!((run.total_cost, run.committed_cost()), (Money::from_f64(0.3), Money::from_f64(0.3)));
}

#[test]
fn a_run_begun_anew_has_other_names_and_no_past() {
    let mut first = sample_run(vec![step(0, vec![], 0), step(1, vec![0], 0)], Money::ZERO);
    let fresh = texts(&first.steps);
    let (id, row) = (first.id.clone(), first.steps[0].row_id.clone());
    first.begin(0, SizedValue::default(), Money::from_f64(0.5), moment(1));
    let outcome = AttemptResult {
        output: json!(1).into(),
        seconds: 1.0,
        cost: Money::from_f64(0.3),
        memory_mb: None,
        gpu: false,
        proof: None,
        miner_receipt: None,
    };
    first.complete(0, outcome, moment(2)).unwrap();
    first.reset(&IdGenerator::seeded(2));
    assert!(first.is_new && first.events.is_empty() && first.started_at.is_none());
    assert_eq!((first.status, first.total_cost), (ExecutionStatus::Pending, Money::ZERO));
    assert_ne!((&first.id, &first.steps[0].row_id), (&id, &row));
    let unnamed = |texts: Vec<String>| {
        texts.iter().map(|text| text.split_once("step_id").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(unnamed(texts(&first.steps)), unnamed(fresh));
}

#[test]
fn sums_of_prices_have_no_tail() {
    let mut run = sample_run((0..5).map(|at| step(at, vec![], 0)).collect(), Money::ZERO);
    for at in 0..5 {
        run.begin(at, SizedValue::default(), Money::from_f64(0.01), moment(1));
        let cost = if at == 4 { 0.26 } else { 0.01 };
        let outcome = AttemptResult {
            output: json!(1).into(),
            seconds: 0.0,
            cost: Money::from_f64(cost),
            memory_mb: None,
            gpu: false,
            proof: None,
            miner_receipt: None,
        };
        run.complete(at, outcome, moment(2)).unwrap();
    }
    assert_eq!(run.total_cost, Money::from_f64(0.3));
}
