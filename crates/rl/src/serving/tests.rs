//! Serving as other modules see it.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::*;
use crate::{marketplace_state::ACTION_NAMES, model::PolicyAction};
use am_core::crypto::sha256_hex;

fn reference(text: &str) -> PolicyReference {
    text.parse().unwrap()
}

fn open(settings: ServingSettings) -> PolicyServer {
    PolicyServer::open(settings, IdGenerator::seeded(1)).unwrap()
}

fn states(count: usize) -> Vec<Vec<f64>> {
    (0..count).map(|row| (0..9).map(|column| ((row * 9 + column) as f64 * 0.7).sin() * 3.0).collect()).collect()
}

/// A directory with the weights of a few networks, and their versions of policy `p`.
fn library(count: u32) -> (tempfile::TempDir, Vec<Arc<ServedVersion>>) {
    let directory = tempfile::tempdir().unwrap();
    let form = PolicyNetwork::from_safetensors(builtin::BUILTIN_BYTES).unwrap().form().clone();
    let versions = (1..=count).map(|version| {
        // Other metadata make another file of the same network.
        let file = safetensors::SafeTensors::deserialize(builtin::BUILTIN_BYTES).unwrap();
        let metadata = HashMap::from([("copy".to_owned(), version.to_string())]);
        let bytes = safetensors::serialize(file.iter(), Some(metadata)).unwrap();
        let sha256 = sha256_hex(&bytes);
        std::fs::write(weights_path(directory.path(), &sha256), bytes).unwrap();
        let action_names = ACTION_NAMES.map(str::to_owned).into();
        let reference = format!("p@{version}");
        Arc::new(ServedVersion {
            reference,
            name: "p".into(),
            version,
            sha256,
            form: form.clone(),
            action_names,
            state_names: vec![],
        })
    });
    let versions = versions.collect();
    (directory, versions)
}

fn entry(versions: &[Arc<ServedVersion>], split: TrafficSplit) -> ServedPolicy {
    let versions = versions.iter().map(|version| (version.version, version.clone())).collect();
    ServedPolicy { versions, aliases: BTreeMap::new(), split }
}

#[tokio::test]
async fn the_built_in_policy_answers() {
    let policies = open(ServingSettings::default());
    for name in ["marketplace-ppo", "marketplace-ppo@1", "marketplace-ppo@latest"] {
        let decision = policies.act(&reference(name), vec![0.5; 9]).await.unwrap();
        assert_eq!(decision.policy, "marketplace-ppo@1");
        let (probabilities, PolicyAction::Index(action)) = (decision.probabilities.unwrap(), decision.action) else {
            panic!()
        };
        assert_eq!(probabilities.len(), 4);
        assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
        assert!(probabilities.iter().all(|p| *p <= probabilities[action]));
        assert_eq!(decision.action_name.unwrap(), ACTION_NAMES[action]);
    }
    assert_eq!(policies.resolve(&reference("marketplace-ppo")).unwrap().reference, "marketplace-ppo@1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_state_gets_the_same_bits_alone_and_in_a_crowd() {
    let policies = open(ServingSettings::default());
    let reference = reference("marketplace-ppo");
    let mut alone = Vec::new();
    for state in states(200) {
        alone.push(policies.act(&reference, state).await.unwrap());
    }
    let crowd = join_all(states(200).into_iter().map(|state| tokio::spawn(policies.act(&reference, state)))).await;
    let crowd: Vec<_> = crowd.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
    assert_eq!(crowd, alone);
    let ask = PolicyQuery { states: states(200), exact: Some(true), ..PolicyQuery::default() };
    assert_eq!(policies.act_all(&reference, ask).await.unwrap(), alone, "and in one call");
}

#[tokio::test]
async fn a_sample_is_repeated_by_its_seed() {
    let policies = open(ServingSettings::default());
    let drawn = async |seed| {
        let ask = PolicyQuery { states: states(50), mode: ActionMode::Sample { seed }, exact: None };
        let decisions = policies.act_all(&reference("marketplace-ppo"), ask).await.unwrap();
        decisions.into_iter().map(|decision| decision.action).collect::<Vec<_>>()
    };
    assert_eq!(drawn(Some(3)).await, drawn(Some(3)).await);
    assert_ne!(drawn(Some(3)).await, drawn(Some(4)).await);
    assert_ne!(drawn(None).await, drawn(None).await);
}

#[tokio::test]
async fn what_cannot_be_answered_says_why() {
    let policies = open(ServingSettings::default());
    let act = |name: &str, state: Vec<f64>| policies.act(&reference(name), state);
    assert_eq!(act("nobody", vec![0.0; 9]).await, Err(ActError::UnknownPolicy("nobody".into())));
    let missing = ActError::UnknownVersion { name: "marketplace-ppo".into(), version: 2 };
    assert_eq!(act("marketplace-ppo@2", vec![0.0; 9]).await, Err(missing));
    for got in [0, 8, 10] {
        let wrong = ActError::Dimension { row: 0, expected: 9, got };
        assert_eq!(act("marketplace-ppo", vec![0.0; got]).await, Err(wrong));
    }
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
        let mut all = states(3);
        all[2][7] = bad;
        let ask = PolicyQuery { states: all, ..PolicyQuery::default() };
        let refused = policies.act_all(&reference("marketplace-ppo"), ask).await;
        assert_eq!(refused, Err(ActError::NotFinite { row: 2, position: 7 }));
    }
    for got in [0, MAX_STATES + 1] {
        let ask = PolicyQuery { states: vec![vec![0.0; 9]; got], ..PolicyQuery::default() };
        let refused = policies.act_all(&reference("marketplace-ppo"), ask).await;
        assert_eq!(refused, Err(ActError::Count { most: MAX_STATES, got }));
    }
}

#[tokio::test]
async fn the_least_recently_used_makes_room() {
    let (directory, versions) = library(3);
    let size = PolicyNetwork::from_safetensors(builtin::BUILTIN_BYTES).unwrap().size();
    let settings =
        ServingSettings { directory: directory.path().to_owned(), memory: 2 * size, ..ServingSettings::default() };
    let policies = open(settings);
    policies.put("p", entry(&versions, TrafficSplit::default()));
    for version in ["p@1", "p@2", "p@1", "p@3"] {
        policies.act(&reference(version), vec![0.0; 9]).await.unwrap();
    }
    let mut loaded = policies.loaded();
    loaded.sort_unstable();
    assert_eq!(loaded, ["p@1", "p@3"], "the built-in one went first, then the second");
    assert_eq!(policies.act(&reference("p@2"), vec![0.0; 9]).await.unwrap().policy, "p@2", "it is loaded again");
}

#[tokio::test]
async fn a_file_that_is_not_what_it_was_is_not_served() {
    let (directory, versions) = library(2);
    let policies = open(ServingSettings { directory: directory.path().to_owned(), ..ServingSettings::default() });
    policies.put("p", entry(&versions, TrafficSplit::default()));
    let path = weights_path(directory.path(), &versions[0].sha256);
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_file(weights_path(directory.path(), &versions[1].sha256)).unwrap();
    for (version, reason) in [("p@1", "SHA-256"), ("p@2", "No such file")] {
        let refused = policies.act(&reference(version), vec![0.0; 9]).await.unwrap_err();
        assert!(matches!(&refused, ActError::Storage(why) if why.contains(reason)), "{refused}");
    }
}

#[tokio::test]
async fn a_split_is_for_bare_names_only() {
    let (directory, versions) = library(2);
    let policies = open(ServingSettings { directory: directory.path().to_owned(), ..ServingSettings::default() });
    let split = TrafficSplit {
        canary: Some(CanaryVersion { version: 1, share: 0.25 }),
        shadow: Some(ShadowVersion { version: 1 }),
    };
    policies.put("p", entry(&versions, split));
    let ask = || PolicyQuery { states: states(1), ..PolicyQuery::default() };
    let mut answered = Vec::new();
    for _ in 0..8 {
        answered.push(policies.act_all(&reference("p"), ask()).await.unwrap().remove(0).policy);
    }
    assert_eq!(answered.iter().filter(|policy| *policy == "p@1").count(), 2);
    assert_eq!(policies.act_all(&reference("p@latest"), ask()).await.unwrap()[0].policy, "p@2");
    assert_eq!(policies.act(&reference("p"), vec![0.0; 9]).await.unwrap().policy, "p@2", "a step is not routed");
    let seen = loop {
        // The shadow's calls end by themselves.
        let seen = policies.comparison("p").unwrap().unwrap();
        if seen.shadow.as_ref().unwrap().calls == 6 {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((seen.serving.calls, seen.canary.unwrap().calls), (6, 2));
    assert_eq!((seen.agreement, seen.mean_value_difference), (Some(1.0), Some(0.0)), "they are the same network");
    policies.put("p", entry(&versions, TrafficSplit::default()));
    assert_eq!(policies.comparison("p"), Ok(None));
}

#[tokio::test]
async fn a_stopped_room_refuses_and_metrics_have_counted() {
    let policies = open(ServingSettings::default());
    let mut registry = Registry::default();
    policies.register(&mut registry);
    policies.act(&reference("marketplace-ppo"), vec![0.0; 9]).await.unwrap();
    policies.clone().stop();
    assert_eq!(policies.act(&reference("marketplace-ppo"), vec![0.0; 9]).await, Err(ActError::Stopped));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("rl_act_duration_seconds_count{policy=\"marketplace-ppo@1\"} 1"), "{text}");
    assert!(text.contains("rl_act_waiting{policy=\"marketplace-ppo@1\"} 0"), "{text}");
}
