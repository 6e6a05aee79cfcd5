use proptest::prelude::*;

use super::*;

fn at(second: i64) -> Timestamp {
    let start = Timestamp::from_stored("2026-05-12 14:00:00.000000").unwrap();
    Timestamp(start.0 + chrono::Duration::seconds(second))
}

fn sample_assignment(max_retries: i64) -> Assignment {
    Assignment {
        id: "assign_0".into(),
        execution_id: "exec_0".into(),
        step_key: "s".into(),
        workflow_id: "plan_0".into(),
        client_id: "key_0".into(),
        task_type: TaskType::DataAnalysis,
        gpu_tier: None,
        agent_type: None,
        only_agent: None,
        priority: 1,
        request: JsonText::none(),
        max_price: None,
        estimated_seconds: None,
        max_retries,
        state: AssignmentState::Waiting,
        attempt: 0,
        agent_id: None,
        failures: 0,
        progress: 0.0,
        result: JsonText::none(),
        error: None,
        seconds: None,
        cost: None,
        deadline: at(1000),
        placed_at: at(0),
        offered_at: None,
        accepted_at: None,
        ended_at: None,
    }
}

#[test]
fn what_is_completed_is_paid_by_the_hour_up_to_its_limit() {
    for (limit, cost) in [(None, 0.2), (Some(0.05), 0.05)] {
        let (limit, cost) = (limit.map(Money::from_f64), Money::from_f64(cost));
        let mut one = Assignment { max_price: limit, ..sample_assignment(3) };
        let mut attempt = one.offer((&"a".into(), 1), 0.9, Money::from_f64(7.2), at(0)).unwrap();
        assert!(one.offer((&"b".into(), 1), 0.9, Money::from_f64(7.2), at(0)).is_none(), "one at a time");
        one.accept(&mut attempt, at(10));
        one.close(&mut attempt, AttemptOutcome::Completed, None, false, at(110));
        assert_eq!((one.seconds, one.cost, one.state), (Some(100.0), Some(cost), AssignmentState::Completed));
    }
}

#[test]
fn three_failures_are_tried_again_and_a_lost_agent_is_none() {
    let mut one = sample_assignment(3);
    for n in 1..=4 {
        let mut lost = one.offer((&"gone".into(), 1), 0.9, Money::ZERO, at(n)).unwrap();
        one.close(&mut lost, AttemptOutcome::Lost, Some("silent"), false, at(n));
        let mut failed = one.offer((&"bad".into(), 1), 0.9, Money::ZERO, at(n)).unwrap();
        one.close(&mut failed, AttemptOutcome::Failed, Some("no"), false, at(n));
        assert_eq!(one.state, if n < 4 { AssignmentState::Waiting } else { AssignmentState::Failed }, "{n}");
    }
    assert_eq!((one.attempt, one.failures, one.error.as_deref()), (8, 4, Some("no")));
    let mut one = sample_assignment(3);
    let mut failed = one.offer((&"a".into(), 1), 0.9, Money::ZERO, at(0)).unwrap();
    one.close(&mut failed, AttemptOutcome::Failed, Some("impossible"), true, at(1));
    assert_eq!(one.state, AssignmentState::Failed);
}

#[test]
fn an_assignment_with_which_every_agent_is_lost_is_given_up() {
    let mut one = sample_assignment(0);
    for n in 1..=MAX_LOST_ATTEMPTS {
        assert_eq!(one.state, AssignmentState::Waiting);
        let mut lost = one.offer((&format!("agent-{n}").into(), 1), 0.9, Money::ZERO, at(n)).unwrap();
        one.accept(&mut lost, at(n));
        one.close(&mut lost, AttemptOutcome::Lost, Some("agent \"x\": silent"), false, at(n));
    }
    assert_eq!((one.state, one.failures, one.ended_at), (AssignmentState::Failed, 0, Some(at(MAX_LOST_ATTEMPTS))));
    assert!(one.error.unwrap().starts_with("given up: 5 agents were lost that had it; the last: agent"));
}

#[derive(Clone, Debug)]
enum Event {
    Offer,
    Report(usize, u8, u8),
    Lose,
    Miss,
    Cancel,
    Expire,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Offer),
        // Of any attempt so far, also one that is over: accept, progress, complete, fail.
        8 => (0usize..8, 0u8..4, 0u8..2).prop_map(|(which, kind, what)| Event::Report(which, kind, what)),
        2 => Just(Event::Lose),
        1 => Just(Event::Miss),
        1 => Just(Event::Cancel),
        1 => Just(Event::Expire),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_it_is_one_agents_at_a_time_and_ends_once(
        events in proptest::collection::vec(event(), 0..60), max_retries in 0i64..5,
    ) {
        let mut one = sample_assignment(max_retries);
        let mut attempts: Vec<AssignmentAttempt> = Vec::new();
        for (second, event) in events.into_iter().enumerate() {
            let (now, before) = (at(second as i64), one.clone());
            match event {
                Event::Offer => {
                    let given = one.offer((&format!("agent-{second}").into(), 1), 0.5, Money::from_f64(1.0), now);
                    prop_assert_eq!(given.is_some(), before.state == AssignmentState::Waiting);
                    attempts.extend(given);
                }
                Event::Report(which, kind, what) => {
                    let Some(at) = which.checked_rem(attempts.len().max(1)).filter(|at| *at < attempts.len()) else { continue };
                    let report = match kind {
                        0 => AgentReport::Accept,
                        1 => AgentReport::Progress(50.0),
                        2 => AgentReport::Complete(what.into()),
                        _ => AgentReport::Fail { reason: what.to_string(), retryable: true },
                    };
                    let digest = format!("{kind} {what}");
                    let attempt = &mut attempts[at];
                    match one.judge(attempt, &report, &digest) {
                        ReportDisposition::Counts => {
                            prop_assert!(before.state.is_held() && attempt.attempt == before.attempt);
                            match report {
                                AgentReport::Accept => one.accept(attempt, now),
                                AgentReport::Progress(percent) => { one.accept(attempt, now); one.advance(percent); }
                                AgentReport::Complete(_) => {
                                    attempt.digest = Some(digest.clone());
                                    one.close(attempt, AttemptOutcome::Completed, None, false, now);
                                }
                                AgentReport::Fail { reason: ref why, .. } => {
                                    attempt.digest = Some(digest.clone());
                                    one.close(attempt, AttemptOutcome::Failed, Some(why), false, now);
                                }
                            }
                            let kind_ends = matches!(report, AgentReport::Complete(_) | AgentReport::Fail { .. });
                            let again = one.judge(attempt, &report, &digest);
                            prop_assert!(!kind_ends || again == ReportDisposition::Known, "a repetition is known: {again:?}");
                        }
                        ReportDisposition::Known => {}
                        ReportDisposition::Late(_) => prop_assert!(attempt.outcome.is_some()),
                    }
                }
                Event::Lose | Event::Miss | Event::Cancel | Event::Expire => {
                    if before.state.is_final() { continue }
                    let outcome = match event {
                        Event::Lose => AttemptOutcome::Lost,
                        Event::Miss => AttemptOutcome::Missed,
                        Event::Cancel => AttemptOutcome::Cancelled,
                        _ => AttemptOutcome::Expired,
                    };
                    if before.state.is_held() {
                        let last = attempts.len() - 1;
                        one.close(&mut attempts[last], outcome, Some("x"), false, now);
                    } else if matches!(outcome, AttemptOutcome::Cancelled) {
                        one.end_unheld(AssignmentState::Cancelled, None, now);
                    } else if matches!(outcome, AttemptOutcome::Expired) {
                        one.end_unheld(AssignmentState::Failed, Some("x"), now);
                    }
                }
            }
            let open: Vec<&AssignmentAttempt> = attempts.iter().filter(|attempt| attempt.outcome.is_none()).collect();
            prop_assert_eq!(open.len(), usize::from(one.state.is_held()), "as many attempts as agents that have it");
            prop_assert!(open.iter().all(|attempt| attempt.attempt == one.attempt && Some(&attempt.agent_id) == one.agent_id.as_ref()));
            prop_assert_eq!(one.attempt, attempts.len() as i64);
            prop_assert!(one.failures <= max_retries + 1);
            prop_assert_eq!(one.state.is_final(), one.ended_at.is_some());
            prop_assert!(!before.state.is_final() || before.state == one.state, "an end is an end");
            let completed = attempts.iter().filter(|attempt| attempt.outcome == Some(AttemptOutcome::Completed)).count();
            prop_assert_eq!(completed, usize::from(one.state == AssignmentState::Completed));
        }
    }
}
