//! On made-up feedback, in which what is good is known.

use super::*;
use crate::network::tests::{PPO, RAINBOW, SAC, drawn, file, normalisation, ppo, rainbow, squashed_sac};
use crate::training::checkpoint::tests::reread;

fn settings(mode: LearningMode) -> OfflineSettings {
    tch::set_num_threads(1);
    OfflineSettings { mode, epochs: 15, learning_rate: 3e-3, seed: 5, ..OfflineSettings::default() }
}

/// What is right in a state: one action where its first number is below 0, another elsewhere.
fn right(state: &[f32]) -> usize {
    if state[0] < 0.0 { 1 } else { 3 }
}

/// In each of some states each of four actions was done once; the right one was worth 1.
fn discrete(states: &[f32]) -> Vec<FeedbackSample> {
    let rows = states.chunks(9).flat_map(|state| (0..4).map(move |action| (state, action)));
    rows.map(|(state, action)| FeedbackSample {
        state: state.iter().map(|number| f64::from(*number)).collect(),
        action: FeedbackAction::Index(action),
        reward: f64::from(u8::from(right(state) == action as usize)),
    })
    .collect()
}

fn run(
    weights: &[u8],
    feedback: &[FeedbackSample],
    settings: &OfflineSettings,
) -> (OfflineTrainer, Vec<TrainingProgress>) {
    let mut offline = OfflineTrainer::new(weights, feedback, settings.clone(), Device::Cpu).unwrap();
    let all = (0..settings.epochs).map(|_| offline.advance().unwrap()).collect();
    (offline, all)
}

fn measure(progress: &TrainingProgress, name: &str) -> Option<f64> {
    progress.measures.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// In how many of 200 states that were not in the feedback the right thing is done.
fn right_elsewhere(offline: &OfflineTrainer) -> usize {
    let states = drawn(99, 200 * 9, 1.5);
    let mut chosen = ChosenActions::Discrete(Vec::new());
    offline.greedy(&states, &mut chosen).unwrap();
    // As it will be served, too.
    let network = PolicyNetwork::from_safetensors(&offline.weights().unwrap()).unwrap();
    let evaluations = network.evaluate(&states, false).unwrap();
    let acts = evaluations.iter().map(|evaluation| network.form().greedy(evaluation));
    let mut count = 0;
    for (at, (act, state)) in acts.zip(states.chunks(9)).enumerate() {
        let NetworkAction::Discrete(index) = act else { panic!("{act:?}") };
        match &chosen {
            ChosenActions::Discrete(all) => assert_eq!(all[at], index as i64),
            ChosenActions::Continuous(all) => {
                assert_eq!(all[at * 4..][..4].iter().position(|score| *score == 1.0), Some(index))
            }
        }
        count += usize::from(index == right(state));
    }
    count
}

/// Policies with four discrete actions, of each kind.
fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let mut normalised = ppo(9, 32, 4);
    normalised.extend(normalisation(9));
    let scores = file(&squashed_sac(9, 32, 4), &[("algorithm", "sac"), ("actions", "scores")]);
    vec![
        ("ppo", PPO.to_vec()),
        ("normalised ppo", file(&normalised, &[("algorithm", "ppo")])),
        ("rainbow", RAINBOW.to_vec()),
        ("dqn", file(&rainbow(9, 32, 4, 1), &[("algorithm", "dqn")])),
        ("no dueling", file(&rainbow(9, 32, 4, 1), &[("algorithm", "dqn"), ("dueling", "false")])),
        ("scores", scores),
    ]
}

#[test]
fn every_kind_comes_to_do_what_was_rewarded() {
    let feedback = discrete(&drawn(1, 100 * 9, 1.5));
    for (name, weights) in kinds() {
        let (offline, progress) = run(&weights, &feedback, &settings(LearningMode::Reinforcement));
        let last = progress.last().unwrap();
        let (before, after) = (measure(last, "agreement_before").unwrap(), measure(last, "agreement").unwrap());
        let elsewhere = right_elsewhere(&offline);
        println!("{name}: {before} {after} {elsewhere} {:?}", last.measures);
        assert!(before < 0.6 && after > 0.95, "{name}: from {before} to {after}");
        assert!(elsewhere > 170, "{name}: right in {elsewhere} of 200");
        assert!(measure(last, "loss") < measure(&progress[0], "loss"), "{name}");
        let weighed = !matches!(name, "rainbow" | "dqn" | "no dueling");
        assert_eq!(measure(last, "mean_weight").is_some(), weighed, "{name}");
        assert_eq!((offline.steps(), offline.total_steps()), (15, 15));
    }
}

#[test]
fn the_right_thing_is_learnt_in_parts_too() {
    let feedback = discrete(&drawn(1, 100 * 9, 1.5));
    for (name, weights) in kinds() {
        let (offline, progress) =
            run(&weights, &feedback, &OfflineSettings { epochs: 8, ..settings(LearningMode::Meta) });
        let after = measure(progress.last().unwrap(), "agreement").unwrap();
        let elsewhere = right_elsewhere(&offline);
        println!("{name}: {after} {elsewhere}");
        assert!(after > 0.9 && elsewhere > 170, "{name}: {after}, right in {elsewhere} of 200");
    }
}

#[test]
fn vectors_are_imitated_where_they_were_good() {
    // Two numbers of an action were tried; the better the nearer they were to (0.5, -0.25) of the bounds.
    let states = drawn(2, 150 * 9, 1.0);
    let tried = drawn(3, 150 * 4, 1.0);
    let (squashed, clamped) = (file(&squashed_sac(9, 32, 4), &[]), SAC.to_vec());
    for (name, weights, centre, half) in [("clamped", clamped, 0.0, 1.0), ("squashed", squashed, 0.5, 2.5)] {
        let rows = states.chunks(9).zip(tried.chunks(4));
        let feedback: Vec<FeedbackSample> = rows
            .map(|(state, tried)| FeedbackSample {
                state: state.iter().map(|number| f64::from(*number)).collect(),
                action: FeedbackAction::Vector(tried.iter().map(|x| f64::from(centre + half * x)).collect()),
                reward: -f64::from((tried[0] - 0.5).powi(2) + (tried[1] + 0.25).powi(2)) * 4.0,
            })
            .collect();
        let (offline, progress) = run(
            &weights,
            &feedback,
            &OfflineSettings { temperature: 0.3, epochs: 40, ..settings(LearningMode::Reinforcement) },
        );
        let mut chosen = ChosenActions::Discrete(Vec::new());
        offline.greedy(&drawn(4, 50 * 9, 1.0), &mut chosen).unwrap();
        let ChosenActions::Continuous(all) = chosen else { panic!() };
        let mean =
            |at: usize| all.iter().skip(at).step_by(4).map(|number| (number - centre) / half).sum::<f32>() / 50.0;
        println!("{name}: {} {} {:?}", mean(0), mean(1), progress.last().unwrap().measures);
        assert!((mean(0) - 0.5).abs() < 0.2 && (mean(1) + 0.25).abs() < 0.2, "{name}: {} {}", mean(0), mean(1));
    }
}

fn tensors(bytes: &[u8]) -> HashMap<String, Vec<u8>> {
    let file = SafeTensors::deserialize(bytes).unwrap();
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

#[test]
fn transfer_changes_output_layers_only() {
    let feedback = discrete(&drawn(1, 50 * 9, 1.5));
    let outputs = |name: &str| {
        ["actor.4.", "critic.4.", "value_stream.2.", "advantage_stream.2.", "actor_mean.", "qf1.4.", "qf2.4."]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    for (name, weights) in kinds() {
        let (offline, _) = run(&weights, &feedback, &OfflineSettings { epochs: 2, ..settings(LearningMode::Transfer) });
        let (before, after) = (tensors(&weights), tensors(&offline.weights().unwrap()));
        assert_eq!(before.len(), after.len());
        for (tensor, bytes) in &before {
            // Without dueling the value stream has no part in anything.
            let may = outputs(tensor) && !(name == "no dueling" && tensor.starts_with("value_stream"));
            assert_eq!(after[tensor] != *bytes, may, "{name}: {tensor}");
        }
        let metadata = |bytes: &[u8]| SafeTensors::read_metadata(bytes).unwrap().1.metadata().clone();
        assert_eq!(metadata(&weights), metadata(&offline.weights().unwrap()));
    }
}

#[test]
fn a_deviation_stays_and_all_else_changes() {
    let feedback = discrete(&drawn(1, 50 * 9, 1.5));
    let (name, weights) = kinds().pop().unwrap();
    let (offline, _) =
        run(&weights, &feedback, &OfflineSettings { epochs: 1, ..settings(LearningMode::Reinforcement) });
    let (before, after) = (tensors(&weights), tensors(&offline.weights().unwrap()));
    for (tensor, bytes) in &before {
        let stays = ["actor_log_std", "action_", "observation_"].iter().any(|prefix| tensor.starts_with(prefix));
        assert_eq!(after[tensor] == *bytes, stays, "{name}: {tensor}");
    }
}

#[test]
fn a_run_goes_on_to_the_bit_and_repeats_by_its_seed() {
    let feedback = discrete(&drawn(1, 40 * 9, 1.5));
    for mode in [LearningMode::Reinforcement, LearningMode::Transfer, LearningMode::Meta] {
        for (name, weights) in kinds() {
            let settings = OfflineSettings { epochs: 4, ..settings(mode) };
            let (whole, all) = run(&weights, &feedback, &settings);
            let mut first = OfflineTrainer::new(&weights, &feedback, settings.clone(), Device::Cpu).unwrap();
            first.advance().unwrap();
            first.advance().unwrap();
            let kept = reread(&first.save().unwrap());
            let mut second = OfflineTrainer::new(&weights, &feedback, settings.clone(), Device::Cpu).unwrap();
            second.restore(kept).unwrap();
            assert_eq!(second.steps(), 2);
            let last: Vec<TrainingProgress> = (0..2).map(|_| second.advance().unwrap()).collect();
            assert_eq!(last, all[2..], "{name}, {mode:?}");
            assert_eq!(second.weights().unwrap(), whole.weights().unwrap(), "{name}, {mode:?}");
            let (other, _) = run(&weights, &feedback, &OfflineSettings { seed: 6, ..settings });
            assert_ne!(other.weights().unwrap(), whole.weights().unwrap(), "{name}, {mode:?}");
        }
    }
}

#[test]
fn agreement_is_with_the_best_rows() {
    let row = |state: f64, action: u64, reward: f64| FeedbackSample {
        state: vec![state; 9],
        action: FeedbackAction::Index(action),
        reward,
    };
    let form = ParsedPolicy::read(PPO).unwrap().form;
    let best = |feedback: &[FeedbackSample]| {
        FeedbackRows::from_feedback(feedback, &form, &OfflineSettings::default()).unwrap().best()
    };
    // The mean is 0.5: row 2 is the best of its state, but a bad one; row 4 is alone in its state and good.
    let feedback = [row(1.0, 0, 1.0), row(1.0, 1, 0.7), row(2.0, 0, 0.1), row(2.0, 1, -0.2), row(3.0, 2, 0.9)];
    assert_eq!(best(&feedback), [0, 4]);
    assert_eq!(best(&[row(1.0, 0, 2.0), row(2.0, 1, 2.0)]), [0, 1], "all were as good");
}

#[test]
fn what_does_not_fit_is_named() {
    let good = discrete(&drawn(1, 9, 1.0));
    let refusal = |weights: &[u8], feedback: &[FeedbackSample], settings: OfflineSettings| {
        OfflineTrainer::new(weights, feedback, settings, Device::Cpu).err().map(|error| error.to_string()).unwrap()
    };
    let of = |change: &dyn Fn(&mut FeedbackSample)| {
        let mut feedback = good.clone();
        change(&mut feedback[2]);
        refusal(PPO, &feedback, OfflineSettings::default())
    };
    assert_eq!(refusal(PPO, &[], OfflineSettings::default()), "feedback: there is none");
    assert_eq!(of(&|row| row.state.truncate(8)), "feedback: row 2: a state of 9 numbers is needed, not of 8");
    let wrong = of(&|row| row.state[3] = f64::NAN);
    assert_eq!(wrong, "feedback: row 2: the state's number at position 3 is not finite as a 32-bit float");
    assert_eq!(of(&|row| row.reward = 1e39), "feedback: row 2: the reward is not finite as a 32-bit float");
    assert_eq!(of(&|row| row.action = FeedbackAction::Index(4)), "feedback: row 2: the action 4 is not below 4");
    let wrong = of(&|row| row.action = FeedbackAction::Vector(vec![0.0; 4]));
    assert_eq!(wrong, "feedback: row 2: an action is needed that is an index below 4");
    let wrong = refusal(SAC, &good, OfflineSettings::default());
    assert_eq!(wrong, "feedback: row 0: an action is needed that is a vector of 4");
    let short = FeedbackSample { action: FeedbackAction::Vector(vec![0.0; 3]), ..good[0].clone() };
    let wrong = refusal(SAC, &[short], OfflineSettings::default());
    assert_eq!(wrong, "feedback: row 0: an action of 4 numbers is needed, not of 3");
    let wrong = refusal(b"PK\x03\x04", &good, OfflineSettings::default());
    assert!(wrong.starts_with("weights: not a safetensors file but a pickle"), "{wrong}");
    let wrong = refusal(PPO, &good, OfflineSettings { learning_rate: 0.0, ..OfflineSettings::default() });
    assert_eq!(wrong, "learning_rate: 0 is not from 0.0000000001 to 1");
    let many = OfflineSettings { mode: LearningMode::Meta, tasks: 5, ..OfflineSettings::default() };
    assert_eq!(refusal(PPO, &good, many), "tasks: 5 is not from 1 to 4");
}

#[test]
fn feedback_is_json() {
    let read = |text: &str| serde_json::from_str::<FeedbackSample>(text).unwrap();
    assert_eq!(read(r#"{"state": [1, 2.5], "action": 3, "reward": -1}"#).action, FeedbackAction::Index(3));
    let vector = read(r#"{"state": [1], "action": [0.5, -1], "reward": 0}"#).action;
    assert_eq!(vector, FeedbackAction::Vector(vec![0.5, -1.0]));
    assert!(serde_json::from_str::<FeedbackSample>(r#"{"state": [1], "action": -1, "reward": 0}"#).is_err());
    let settings: OfflineSettings = serde_json::from_str(r#"{"mode": "meta", "epochs": 3}"#).unwrap();
    assert_eq!((settings.mode, settings.epochs, settings.batch), (LearningMode::Meta, 3, 64));
}

/// 1000 rows of random actions, of which one of four is right in each state.
fn logged(reward: impl Fn(f64) -> f64) -> Vec<FeedbackSample> {
    let states = drawn(31, 1000 * 9, 1.5);
    let actions = drawn(32, 1000, 1.0);
    let rows = states.chunks(9).zip(actions);
    rows.map(|(state, drawn)| {
        let action = (((drawn + 1.0) * 2.0) as u64).min(3);
        FeedbackSample {
            state: state.iter().map(|number| f64::from(*number)).collect(),
            action: FeedbackAction::Index(action),
            reward: reward(f64::from(u8::from(right(state) == action as usize))),
        }
    })
    .collect()
}

#[test]
fn unit_and_offset_of_the_reward_change_nothing() {
    tch::set_num_threads(1);
    let decisions = |weights: &[u8], feedback: &[FeedbackSample]| {
        let (offline, progress) = run(weights, feedback, &OfflineSettings::default());
        let network = PolicyNetwork::from_safetensors(&offline.weights().unwrap()).unwrap();
        let evaluations = network.evaluate(&drawn(99, 200 * 9, 1.5), false).unwrap();
        let all: Vec<NetworkAction> = evaluations.iter().map(|one| network.form().greedy(one)).collect();
        (all, right_elsewhere(&offline), progress.last().unwrap().clone())
    };
    for (name, weights) in kinds() {
        let (wanted, right, last) = decisions(&weights, &logged(|reward| reward));
        println!("{name}: {right} {:?}", last.measures);
        assert!(right > 160, "{name}: {right} of 200 are right, 50 would be by chance");
        let units: [fn(f64) -> f64; 4] = [|r| r * 1000.0, |r| r + 5000.0, |r| r * 1e-3, |r| r * 1e35 - 1e35];
        for (at, unit) in units.into_iter().enumerate() {
            let (found, ..) = decisions(&weights, &logged(unit));
            let alike = found.iter().zip(&wanted).filter(|(one, other)| one == other).count();
            assert!(alike >= 198, "{name}, unit {at}: {alike} of 200 decisions are the same");
        }
        if measure(&last, "mean_weight").is_some() {
            let effective = measure(&last, "effective_samples").unwrap();
            assert!(effective > 100.0 && effective < 1000.0, "{name}: {effective}");
        }
        assert!((measure(&last, "reward_mean").unwrap() - 0.25).abs() < 0.05, "{name}");
    }
}
