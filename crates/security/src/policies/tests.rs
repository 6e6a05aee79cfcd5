//! The rules, one by one and against each other.

use chrono::DateTime;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{check, explain, model::SecurityPolicy, policy_change::PolicyChange, *};
use crate::sandbox::{SandboxRequirements, rules_for_level};
use am_core::validation::Violation;

fn sample_policy() -> SecurityPolicy {
    let mut policy = SecurityPolicy::new("policy_00000001".into(), Timestamp(DateTime::from_timestamp(0, 0).unwrap()));
    policy.name = "p".into();
    policy.security_level = SecurityLevel::Internal;
    policy
}

fn step() -> StepFacts {
    StepFacts {
        key: "s".into(),
        step_type: "data_processing",
        verification_level: None,
        memory_mb: None,
        sandboxed: true,
        leaves: StepDestination::Nothing,
        host: None,
        command: None,
        data_bytes: None,
    }
}

fn facts(step: StepFacts) -> WorkflowFacts {
    WorkflowFacts {
        level: SecurityLevel::Internal,
        verification_level: "basic",
        requires_verification: true,
        max_execution_time: 3600,
        max_cost_budget: Money::ZERO,
        step_count: 1,
        steps: vec![step],
        data_bytes: None,
    }
}

fn change(sent: Value) -> std::result::Result<PolicyChange, Vec<Violation>> {
    PolicyChange::parse(sent.as_object().unwrap())
}

fn with(rules: Value) -> SecurityPolicy {
    let mut policy = sample_policy();
    change(rules).unwrap().apply(&mut policy);
    policy
}

/// The only rule that is broken: its name, limit and what was asked.
fn only(policy: &SecurityPolicy, facts: &WorkflowFacts) -> (&'static str, Value, Value) {
    let broken = check::check_workflow(policy, facts);
    let [refusal] = &broken[..] else { panic!("{broken:?}") };
    (refusal.rule, refusal.limit.clone(), refusal.asked.clone())
}

#[test]
fn each_rule_refuses_what_is_over_it_and_nothing_at_it() {
    assert_eq!(check::check_workflow(&sample_policy(), &facts(step())), []);
    let types = with(json!({"allowed_step_types": ["inference"]}));
    assert_eq!(only(&types, &facts(step())), ("allowed_step_types", json!(["inference"]), json!("data_processing")));
    let levels = with(json!({"allowed_verification_levels": ["full"]}));
    assert_eq!(only(&levels, &facts(step())), ("allowed_verification_levels", json!(["full"]), json!("basic")));
    let own = facts(StepFacts { verification_level: Some("full"), ..step() });
    assert_eq!(only(&sample_policy(), &own), ("allowed_verification_levels", json!(["basic"]), json!("full")));
    let unverified = WorkflowFacts { requires_verification: false, ..facts(step()) };
    assert_eq!(only(&sample_policy(), &unverified), ("require_verification", json!(true), json!(false)));
    for (seconds, good) in [(0, false), (1, true), (3600, true), (3601, false)] {
        let facts = WorkflowFacts { max_execution_time: seconds, ..facts(step()) };
        assert_eq!(check::check_workflow(&sample_policy(), &facts).is_empty(), good, "{seconds}");
    }
    for (mb, good) in [(None, true), (Some(8192.0), true), (Some(8192.5), false)] {
        let facts = facts(StepFacts { memory_mb: mb, ..step() });
        assert_eq!(check::check_workflow(&sample_policy(), &facts).is_empty(), good, "{mb:?}");
    }
    for (steps, good) in [(100, true), (101, false)] {
        let facts = WorkflowFacts { step_count: steps, ..facts(step()) };
        assert_eq!(check::check_workflow(&sample_policy(), &facts).is_empty(), good, "{steps}");
    }
    let small = with(json!({"max_data_size": 10}));
    for (bytes, good) in [(10, true), (11, false), (u64::MAX, false)] {
        let inputs = WorkflowFacts { data_bytes: Some(bytes), ..facts(step()) };
        let input = facts(StepFacts { data_bytes: Some(bytes), ..step() });
        for facts in [inputs, input] {
            assert_eq!(check::check_workflow(&small, &facts).is_empty(), good, "{bytes}");
        }
    }
}

#[test]
fn what_leaves_the_process_is_neither_in_a_sandbox_nor_always_encrypted() {
    let (sandbox, encryption) = (with(json!({"require_sandbox": true})), with(json!({"require_encryption": true})));
    for (leaves, in_sandbox, encrypted) in [
        (StepDestination::Nothing, true, true),
        (StepDestination::Job, false, false),
        (StepDestination::Endpoint { https: true }, false, true),
        (StepDestination::Endpoint { https: false }, false, false),
    ] {
        let facts = facts(StepFacts { leaves, ..step() });
        assert_eq!(check::check_workflow(&sandbox, &facts).is_empty(), in_sandbox, "{leaves:?}");
        assert_eq!(check::check_workflow(&encryption, &facts).is_empty(), encrypted, "{leaves:?}");
    }
    let foreign = facts(StepFacts { sandboxed: false, ..step() });
    assert_eq!(only(&sandbox, &foreign).0, "require_sandbox");
}

#[test]
fn what_is_no_field_is_named_and_so_is_what_is_out_of_bounds() {
    for (sent, path) in [
        (json!({"max_executon_time": 1}), "max_executon_time"),
        (json!({"id": "policy_x"}), "id"),
        (json!({"is_active": null}), "is_active"),
        (json!({"is_active": 1}), "is_active"),
        (json!({"name": ""}), "name"),
        (json!({"name": "x".repeat(101)}), "name"),
        (json!({"security_level": "secret"}), "security_level"),
        (json!({"max_execution_time": 0}), "max_execution_time"),
        (json!({"max_execution_time": 31_536_001}), "max_execution_time"),
        (json!({"max_memory_usage": 1.5}), "max_memory_usage"),
        (json!({"max_workflow_steps": 1001}), "max_workflow_steps"),
        (json!({"allowed_step_types": "training"}), "allowed_step_types"),
        (json!({"allowed_step_types": ["training", "magic"]}), "allowed_step_types.1"),
        (json!({"allowed_verification_levels": ["full", "full"]}), "allowed_verification_levels.1"),
        (json!({"compliance_standards": [""]}), "compliance_standards.0"),
    ] {
        let faults = change(sent.clone()).unwrap_err();
        assert_eq!(faults.len(), 1, "{sent}");
        assert_eq!(faults[0].path.to_string(), path, "{sent}");
    }
    assert_eq!(change(json!({"a": 1, "max_data_size": -1, "is_active": true})).unwrap_err().len(), 2);
}

fn any_policy() -> impl Strategy<Value = SecurityPolicy> {
    let list = |words: &'static [&'static str]| proptest::sample::subsequence(words, 0..=words.len());
    let numbers = (1i64..100, 1i64..100, 1i64..10, 1i64..10, 1i64..100);
    let truths = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let levels = proptest::sample::select(SecurityLevel::ALL);
    (list(model::STEP_TYPES), list(model::VERIFICATION_LEVELS), numbers, truths, levels).prop_map(
        |(types, levels, numbers, truths, level)| {
            let rules = json!({
                "allowed_step_types": types, "allowed_verification_levels": levels,
                "max_execution_time": numbers.0, "max_memory_usage": numbers.1, "max_concurrent_executions": numbers.2,
                "max_workflow_steps": numbers.3, "max_data_size": numbers.4, "require_verification": truths.0,
                "require_sandbox": truths.1, "require_encryption": truths.2, "is_active": truths.3,
                "security_level": level,
            });
            with(rules)
        },
    )
}

fn any_facts() -> impl Strategy<Value = WorkflowFacts> {
    let word = |words: &'static [&'static str]| proptest::sample::select(words);
    let leaves = proptest::sample::select(vec![
        StepDestination::Nothing,
        StepDestination::Job,
        StepDestination::Endpoint { https: true },
        StepDestination::Endpoint { https: false },
    ]);
    let level = proptest::option::of(word(model::VERIFICATION_LEVELS));
    let bytes = proptest::option::of(0u64..120);
    let step = (word(model::STEP_TYPES), level, proptest::option::of(0f64..120.0), any::<bool>(), leaves, bytes)
        .prop_map(|(step_type, verification_level, memory_mb, sandboxed, leaves, data_bytes)| StepFacts {
            key: "s".into(),
            step_type,
            verification_level,
            memory_mb,
            sandboxed,
            leaves,
            host: None,
            command: None,
            data_bytes,
        });
    let steps = proptest::collection::vec(step, 0..12);
    let levels = proptest::sample::select(SecurityLevel::ALL);
    (steps, levels, word(model::VERIFICATION_LEVELS), any::<bool>(), 0i64..120, proptest::option::of(0u64..120))
        .prop_map(|(steps, level, verification_level, requires_verification, max_execution_time, data_bytes)| {
            WorkflowFacts {
                level,
                verification_level,
                requires_verification,
                max_execution_time,
                max_cost_budget: Money::ZERO,
                step_count: steps.len(),
                steps,
                data_bytes,
            }
        })
}

proptest! {
    /// What is explained is what is refused.
    #[test]
    fn a_rule_is_not_met_exactly_when_it_refuses(policy in any_policy(), facts in any_facts(), under_way in 0i64..12) {
        let broken = check::check_workflow(&policy, &facts);
        let full = under_way >= policy.max_concurrent_executions;
        let explained = explain::explain_policy(policy, &facts, under_way);
        prop_assert_eq!(explained.binds, explained.is_active && explained.security_level == facts.level);
        prop_assert_eq!(explained.rules.len(), 11);
        for rule in &explained.rules {
            let refused = broken.iter().any(|refusal| refusal.rule == rule.rule);
            let refused = refused || rule.rule == "max_concurrent_executions" && full;
            prop_assert_eq!(rule.met, !refused, "{}", rule.rule);
        }
    }

    /// A workflow that may be stored breaks nothing when its steps begin, as long as nothing more is known of them.
    #[test]
    fn what_may_be_stored_may_begin(policy in any_policy(), facts in any_facts()) {
        if check::check_workflow(&policy, &facts).is_empty() {
            prop_assert_eq!(check::check_run(&policy, &facts), vec![]);
            for step in &facts.steps {
                prop_assert_eq!(check::check_step(&policy, step), vec![]);
            }
        }
    }

    /// Nothing becomes allowed by a stricter limit.
    #[test]
    fn a_stricter_policy_refuses_no_less(policy in any_policy(), facts in any_facts(), less in 1i64..50) {
        let lower = |value: i64| (value - less).max(1);
        let stricter = SecurityPolicy {
            max_execution_time: lower(policy.max_execution_time),
            max_memory_usage: lower(policy.max_memory_usage),
            max_workflow_steps: lower(policy.max_workflow_steps),
            max_data_size: lower(policy.max_data_size),
            require_verification: true,
            require_sandbox: true,
            require_encryption: true,
            ..policy.clone()
        };
        for refusal in check::check_workflow(&policy, &facts) {
            let still = check::check_workflow(&stricter, &facts);
            prop_assert!(still.iter().any(|other| other.rule == refusal.rule && other.step == refusal.step));
        }
    }

    /// A policy that was changed by what it says itself stays as it is.
    #[test]
    fn a_policy_is_read_as_it_is_shown(policy in any_policy()) {
        let Value::Object(mut shown) = json!(policy) else { unreachable!() };
        for fixed in ["id", "created_at", "updated_at"] {
            shown.remove(fixed);
        }
        let mut other = SecurityPolicy::new(policy.id.clone(), policy.created_at);
        PolicyChange::parse(&shown).unwrap().apply(&mut other);
        prop_assert_eq!(other, policy);
        prop_assert_eq!(PolicyChange::parse(&Map::new()).unwrap(), PolicyChange::default());
    }
}

#[test]
fn bounds_refuse_what_passes_them_and_narrow_sandboxes() {
    let requirements = |sent: Value| SandboxRequirements::parse(Some(sent)).unwrap();
    let asked = |level, program, sent: Value| {
        let command = CommandFacts::new(Some(level), Some(program), &requirements(sent));
        facts(StepFacts { command: Some(command), ..step() })
    };
    use SecurityLevel::{Internal, Public, Restricted};
    let none = json!({});
    for (bounds, over, at, rule) in [
        (
            json!({"allow_network": false}),
            asked(Public, "python3", json!({"network_access": true})),
            asked(Internal, "python3", none.clone()),
            "allow_network",
        ),
        (
            json!({"allow_network": false}),
            asked(Internal, "python3", json!({"allowed_domains": ["a.example"]})),
            asked(Public, "python3", json!({"allowed_domains": ["a.example"]})),
            "allow_network",
        ),
        (
            json!({"allowed_domains": ["*.example", "b.test"]}),
            asked(Public, "python3", json!({"allowed_domains": ["b.test", "example"]})),
            asked(Public, "python3", json!({"allowed_domains": ["B.test", "a.example", "*.a.example"]})),
            "allowed_domains",
        ),
        (
            json!({"allowed_domains": []}),
            asked(Public, "python3", json!({"allowed_domains": ["*"]})),
            asked(Public, "python3", none.clone()),
            "allowed_domains",
        ),
        (
            json!({"allowed_commands": ["python"]}),
            asked(Public, "/usr/bin/node", none.clone()),
            asked(Public, "python3.11", json!({"allowed_commands": ["python"]})),
            "allowed_commands",
        ),
        (
            json!({"allowed_commands": ["python"]}),
            asked(Public, "python3", json!({"allowed_commands": ["sh"]})),
            asked(Public, "python3", none.clone()),
            "allowed_commands",
        ),
        (
            json!({"max_sandbox_level": "internal"}),
            asked(Restricted, "python3", none.clone()),
            asked(Internal, "python3", none.clone()),
            "max_sandbox_level",
        ),
        (
            json!({"max_cpu_cores": 2}),
            asked(Public, "python3", json!({"cpu_cores": 2.5})),
            asked(Public, "python3", json!({"cpu_cores": 2})),
            "max_cpu_cores",
        ),
        (
            json!({"max_disk_mb": 100}),
            asked(Public, "python3", json!({"disk_mb": 101})),
            asked(Public, "python3", json!({"disk_mb": 100})),
            "max_disk_mb",
        ),
    ] {
        let policy = with(bounds.clone());
        assert_eq!(only(&policy, &over).0, rule, "{bounds}");
        assert_eq!(check::check_workflow(&policy, &at), [], "{bounds}");
    }
    let budget = with(json!({"max_cost_budget": 2.5}));
    for (amount, good) in [(0.0, false), (2.5, true), (2.6, false)] {
        let facts = WorkflowFacts { max_cost_budget: Money::from_f64(amount), ..facts(step()) };
        assert_eq!(check::check_workflow(&budget, &facts).is_empty(), good, "{amount}");
    }
    let mut bounds = SandboxBounds::default();
    for set in [
        json!({"allowed_domains": ["*.a.test", "b.test"], "allowed_commands": ["python", "node"]}),
        json!({"allowed_domains": ["*.test"], "allowed_commands": ["python"], "max_cpu_cores": 0.5, "max_disk_mb": 7}),
    ] {
        with(set).bounds.narrow(&mut bounds);
    }
    bounds.memory_mb = Some(64);
    let wide = requirements(json!({"allowed_domains": ["x.a.test", "c.test", "b.test"], "allowed_commands": ["sh"]}));
    let rules = rules_for_level(Restricted).with(&wide).within(&bounds);
    assert_eq!(
        (&rules.allowed_domains, &rules.allowed_commands),
        (&words(&["x.a.test", "b.test"]), &words(&["python"]))
    );
    assert_eq!((rules.cpu_limit, rules.memory_limit, rules.disk_limit), (0.5, 64, 7));
    assert!(rules.network_access);
    with(json!({"allow_network": false})).bounds.narrow(&mut bounds);
    assert!(!rules.within(&bounds).network_access);
    assert!(change(json!({"allowed_domains": ["a b"]})).is_err() && change(json!({"max_cost_budget": 0})).is_err());
    assert_eq!(with(json!({"max_disk_mb": null})).bounds, PolicyBounds::default());
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
