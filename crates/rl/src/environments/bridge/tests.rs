//! A bridge whose other side is simulated here: equal steps, and every way in which it can be wrong.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    frames::{CLOSE, FAILED, FrameHead, OBSERVED, RESET, STEP, STEPPED, read_failed, read_observed, read_stepped},
    hub::MAX_WAITING_ANSWERS,
    *,
};
use crate::environments::{ActionBatch, EnvironmentError, VectorEnv, make_environment};
use am_core::validation::join;

/// The side of a bridge: simulated environments of this service.
pub(crate) struct TwinBridge {
    environment: &'static str,
    vectors: HashMap<u32, VectorEnv>,
    /// Seeds that came, in order.
    seeds: Arc<Mutex<Vec<u64>>>,
}

impl TwinBridge {
    pub(crate) fn new(environment: &'static str) -> Self {
        Self { environment, vectors: HashMap::new(), seeds: Arc::default() }
    }

    /// The answer to a command; `None`: it has none.
    pub(crate) fn answer(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let (head, rows) = FrameHead::read(frame).unwrap();
        let reply = |kind: u8| FrameHead { kind, ..head }.bare();
        match head.kind {
            CLOSE => {
                self.vectors.remove(&head.vector);
                None
            }
            RESET => {
                let all = (0..head.count).map(|_| make_environment(self.environment, None).unwrap());
                let mut vector = VectorEnv::new(all.collect()).unwrap();
                let seed = u64::from_le_bytes(rows.try_into().unwrap());
                self.seeds.lock().push(seed);
                vector.reset(seed).unwrap();
                let mut answer = reply(OBSERVED);
                answer.extend(vector.observations().iter().flat_map(|number| number.to_le_bytes()));
                self.vectors.insert(head.vector, vector);
                Some(answer)
            }
            STEP => {
                let vector = self.vectors.get_mut(&head.vector).unwrap();
                let (words, _) = rows.as_chunks::<4>();
                let discrete: Vec<i64> = words.iter().map(|word| i64::from(i32::from_le_bytes(*word))).collect();
                let numbers: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
                let actions = match vector.description().actions {
                    crate::environments::ActionSpace::Discrete { .. } => ActionBatch::Discrete(&discrete),
                    crate::environments::ActionSpace::Continuous { .. } => ActionBatch::Continuous(&numbers),
                };
                vector.step(actions).unwrap();
                let mut answer = reply(STEPPED);
                for numbers in [vector.observations(), vector.rewards()] {
                    answer.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
                }
                for flags in [vector.terminated(), vector.truncated()] {
                    answer.extend(flags.iter().map(|flag| u8::from(*flag)));
                }
                let width = vector.observation_length();
                for ended in vector.ended() {
                    let row = &vector.final_observations()[ended.index * width..][..width];
                    answer.extend(row.iter().flat_map(|number| number.to_le_bytes()));
                }
                Some(answer)
            }
            other => panic!("{other}"),
        }
    }

    /// Answer every command until the connection ends; `change` may change an answer, or hold it back.
    pub(crate) async fn serve(mut self, mut peer: BridgePeer, change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) {
        while let BridgeCommand::Send(frame) = peer.next_command().await {
            if let Some(answer) = self.answer(&frame).and_then(&change) {
                let _ = peer.hand_in(answer.into());
            }
        }
    }
}

pub(crate) fn cart_pole(horizon: u32) -> Value {
    json!({"environment": "CartPole-v1", "observations": 4, "actions": {"type": "discrete", "count": 2}, "horizon": horizon})
}

fn source(parameters: &Value) -> BridgeSource {
    BridgeSource::described(BridgeSpec::read(Some(parameters)).unwrap())
}

fn access(hub: &BridgeHub, patience: u64, stop: &Arc<AtomicBool>) -> BridgeAccess {
    let stop = stop.clone();
    let interrupted = Arc::new(move |_: Duration| stop.load(Ordering::Relaxed));
    BridgeAccess::open(hub, &"train_1".into(), Duration::from_millis(patience), interrupted).unwrap()
}

fn connect(hub: &BridgeHub) -> BridgePeer {
    hub.connect(&"train_1".into(), 1).unwrap()
}

/// A vector of `count` environments whose bridge answers as `change` makes it.
fn vector(
    parameters: &Value,
    count: usize,
    change: impl Fn(Vec<u8>) -> Option<Vec<u8>> + Send + 'static,
) -> (VectorEnv, Arc<Mutex<Vec<u64>>>, BridgeHub) {
    let hub = BridgeHub::default();
    let twin = TwinBridge::new("CartPole-v1");
    let seeds = twin.seeds.clone();
    tokio::spawn(twin.serve(connect(&hub), change));
    let bridged = source(parameters).connected(access(&hub, 2000, &Arc::default())).vector(count).unwrap();
    (VectorEnv::bridged(vec![bridged]), seeds, hub)
}

fn scripted(step: usize, count: usize) -> Vec<i64> {
    (0..count).map(|index| ((step * 7 + index * 3) % 5 % 2) as i64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn bridged_environments_step_as_their_twins() {
    let (mut bridged, seeds, hub) = vector(&cart_pole(500), 3, Some);
    let work = move || {
        bridged.reset(5).unwrap();
        let all = (0..3).map(|_| make_environment("CartPole-v1", None).unwrap());
        let mut twin = VectorEnv::new(all.collect()).unwrap();
        twin.reset(seeds.lock()[0]).unwrap();
        assert_eq!(bridged.observations(), twin.observations());
        let mut ends = 0;
        for step in 0..300 {
            let actions = scripted(step, 3);
            bridged.step(ActionBatch::Discrete(&actions)).unwrap();
            twin.step(ActionBatch::Discrete(&actions)).unwrap();
            assert_eq!(bridged.observations(), twin.observations(), "step {step}");
            assert_eq!(bridged.rewards(), twin.rewards());
            assert_eq!((bridged.terminated(), bridged.truncated()), (twin.terminated(), twin.truncated()));
            assert_eq!(bridged.ended(), twin.ended());
            for ended in twin.ended() {
                let row = ended.index * 4..ended.index * 4 + 4;
                assert_eq!(bridged.final_observations()[row.clone()], twin.final_observations()[row]);
                ends += 1;
            }
        }
        assert!(ends > 10, "{ends}");
        // What is restored begins anew, from another seed.
        assert!(bridged.forgets_its_state() && !twin.forgets_its_state());
        let snapshot = bridged.snapshot().unwrap();
        assert_eq!(snapshot, json!({"resets": 1}));
        bridged.restore(&snapshot).unwrap();
        let seeds = seeds.lock().clone();
        assert_ne!(seeds[0], seeds[1]);
        assert!(bridged.observations().iter().all(|number| number.abs() < 0.06), "a first observation");
        bridged.step(ActionBatch::Discrete(&[0, 1, 0])).unwrap();
    };
    tokio::task::spawn_blocking(work).await.unwrap();
    assert!(hub.is_connected(&"train_1".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_stepped_in_turn_and_at_once() {
    let hub = BridgeHub::default();
    let twin = TwinBridge::new("CartPole-v1");
    let seeds = twin.seeds.clone();
    tokio::spawn(twin.serve(connect(&hub), Some));
    let bridged = source(&cart_pole(500)).connected(access(&hub, 2000, &Arc::default()));
    let work = move || {
        let whole = VectorEnv::bridged(bridged.vectors(7).unwrap()).parts().to_vec();
        assert_eq!((whole.len(), &whole[0]), (1, &(0..7)));
        let mut bridged = VectorEnv::bridged(bridged.vectors(9).unwrap());
        bridged.reset(5).unwrap();
        let parts = bridged.parts().to_vec();
        assert_eq!((bridged.len(), &parts[..]), (9, &[0..5, 5..9][..]));
        let drawn = seeds.lock().clone();
        assert_ne!(drawn[0], drawn[1], "the parts differ");
        let mut twins: Vec<VectorEnv> = parts
            .iter()
            .zip(&drawn)
            .map(|(part, seed)| {
                let all = part.clone().map(|_| make_environment("CartPole-v1", None).unwrap());
                let mut twin = VectorEnv::new(all.collect()).unwrap();
                twin.reset(*seed).unwrap();
                twin
            })
            .collect();
        let same = |bridged: &VectorEnv, twins: &[VectorEnv], part: usize, step: usize| {
            let (at, twin) = (parts[part].clone(), &twins[part]);
            assert_eq!(bridged.observations()[at.start * 4..at.end * 4], *twin.observations(), "{part} of step {step}");
            assert_eq!(bridged.rewards()[at.clone()], *twin.rewards());
            assert_eq!(bridged.terminated()[at], *twin.terminated());
        };
        let mut ends = 0;
        for step in 0..200 {
            let actions = scripted(step, 9);
            // Both are under way before the first is waited for.
            for (part, at) in parts.iter().enumerate() {
                bridged.begin(part, ActionBatch::Discrete(&actions[at.clone()])).unwrap();
                twins[part].step(ActionBatch::Discrete(&actions[at.clone()])).unwrap();
            }
            for (part, at) in parts.iter().enumerate() {
                bridged.finish(part).unwrap();
                same(&bridged, &twins, part, step);
                let own: Vec<usize> = twins[part].ended().iter().map(|ended| ended.index + at.start).collect();
                let told: Vec<usize> = bridged.ended().iter().map(|ended| ended.index).collect();
                assert_eq!(told, own);
                ends += own.len();
            }
        }
        assert!(ends > 20, "{ends}");
        let actions = scripted(1, 9);
        bridged.step(ActionBatch::Discrete(&actions)).unwrap();
        for (part, at) in parts.iter().enumerate() {
            twins[part].step(ActionBatch::Discrete(&actions[at.clone()])).unwrap();
            same(&bridged, &twins, part, 200);
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap();
}

/// What a step says whose answer is `change`d; the reset's is not.
async fn fault(change: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> String {
    let changed = move |answer: Vec<u8>| Some(if answer[0] == STEPPED { change(answer) } else { answer });
    let (mut bridged, _, _hub) = vector(&cart_pole(500), 2, changed);
    let work = move || {
        bridged.reset(1).unwrap();
        match bridged.step(ActionBatch::Discrete(&[0, 1])) {
            Err(EnvironmentError::Bridge(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The answer with other bytes at `at`.
fn with(mut answer: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    answer[at..at + bytes.len()].copy_from_slice(bytes);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_answer_is_told() {
    // A head of 16 bytes, two rows of four observations, two rewards, two and two flags.
    let nan = f32::NAN.to_le_bytes();
    assert_eq!(fault(move |a| with(a, 16, &nan)).await, "it sent an observation that is NaN, the number 0 of them");
    let infinite = f32::INFINITY.to_le_bytes();
    assert_eq!(fault(move |a| with(a, 52, &infinite)).await, "it sent a reward that is inf, the number 1 of them");
    assert_eq!(fault(|a| with(a, 56, &[2])).await, "it sent a flag of a termination that is 2, neither 0 nor 1");
    assert_eq!(fault(|a| with(a, 59, &[9])).await, "it sent a flag of a truncation that is 9, neither 0 nor 1");
    assert_eq!(fault(|a| a[..a.len() - 1].to_vec()).await, "it sent a frame that is too short");
    assert_eq!(
        fault(|mut a| {
            a.push(0);
            a
        })
        .await,
        "it sent a frame with 1 bytes too many"
    );
    assert_eq!(fault(|a| with(a, 56, &[1])).await, "it sent a frame that is too short", "no last observation");
    assert_eq!(fault(|a| a[..7].to_vec()).await, "it sent a frame of 7 bytes, and 16 belong to its head");
    assert_eq!(fault(|_| Vec::new()).await, "it sent a frame of 0 bytes, and 16 belong to its head");
    assert_eq!(fault(|a| with(a, 1, &[2])).await, "it sent a frame that is not of protocol 1");
    assert_eq!(fault(|a| with(a, 0, &[OBSERVED])).await, "it sent an answer of kind 129, not 130");
    assert_eq!(fault(|a| with(a, 4, &[77])).await, "it sent an answer to what it was not asked");
    let other = fault(|a| with(a, 8, &[5])).await;
    assert_eq!(other, "it sent an answer of 2 environments of vector 5, not of 2 of vector 1");
    let more = fault(|a| with(a, 12, &[3])).await;
    assert_eq!(more, "it sent an answer of 3 environments of vector 1, not of 2 of vector 1");
    let failed = |a: Vec<u8>| [&with(a, 0, &[FAILED])[..16], b"KeyError:\n'x'"].concat();
    assert_eq!(fault(failed).await, "it says: KeyError: 'x'");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_silent_or_gone_holds_nobody() {
    let hub = BridgeHub::default();
    let stop: Arc<AtomicBool> = Arc::default();
    let peer = connect(&hub);
    let slow = source(&cart_pole(500)).connected(access(&hub, 150, &stop)).vector(1).unwrap();
    let work = move || {
        let mut slow = VectorEnv::bridged(vec![slow]);
        slow.reset(1).unwrap_err()
    };
    let error = tokio::task::spawn_blocking(work).await.unwrap();
    assert_eq!(error.to_string(), "the bridge: it did not answer within 0.15 s");
    let gone = |error: EnvironmentError| match error {
        EnvironmentError::BridgeGone(why) => why,
        other => panic!("{other}"),
    };
    // Asked to stop while it waits.
    stop.store(true, Ordering::Relaxed);
    let waiting = source(&cart_pole(500)).connected(access(&hub, 60_000, &stop)).vector(1).unwrap();
    let work = move || VectorEnv::bridged(vec![waiting]).reset(1).unwrap_err();
    let why = gone(tokio::task::spawn_blocking(work).await.unwrap());
    assert!(why.starts_with("the run was asked to stop"), "{why}");
    // Gone while it waits, and gone before.
    stop.store(false, Ordering::Relaxed);
    let waiting = source(&cart_pole(500)).connected(access(&hub, 60_000, &stop)).vector(1).unwrap();
    let work = move || {
        let mut waiting = VectorEnv::bridged(vec![waiting]);
        [waiting.reset(1).unwrap_err(), waiting.reset(1).unwrap_err()]
    };
    let waiting = tokio::task::spawn_blocking(work);
    drop(peer);
    assert_eq!(waiting.await.unwrap().map(gone), ["the bridge is gone", "the bridge is gone"]);
    assert!(!hub.is_connected(&"train_1".into()));
    let described = source(&cart_pole(500)).vector(1);
    assert_eq!(described.map(|_| ()).unwrap_err().to_string(), "no bridge is connected");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_late_is_not_taken_for_another() {
    let hub = BridgeHub::default();
    let stop: Arc<AtomicBool> = Arc::default();
    let mut peer = connect(&hub);
    let mut twin = TwinBridge::new("CartPole-v1");
    let first = source(&cart_pole(500)).connected(access(&hub, 60_000, &stop)).vector(2).unwrap();
    stop.store(true, Ordering::Relaxed);
    let work = move || VectorEnv::bridged(vec![first]).reset(1).unwrap_err();
    tokio::task::spawn_blocking(work).await.unwrap();
    stop.store(false, Ordering::Relaxed);
    // The command of the trainer before, and that its vector is needed no more.
    for _ in 0..2 {
        let BridgeCommand::Send(frame) = peer.next_command().await else { panic!() };
        if let Some(answer) = twin.answer(&frame) {
            peer.hand_in(answer.into()).unwrap();
        }
    }
    let second = source(&cart_pole(500)).connected(access(&hub, 60_000, &stop)).vector(3).unwrap();
    tokio::spawn(twin.serve(peer, Some));
    let work = move || {
        let mut second = VectorEnv::bridged(vec![second]);
        second.reset(1).unwrap();
        second.step(ActionBatch::Discrete(&[0, 1, 0])).unwrap();
        second.len()
    };
    assert_eq!(tokio::task::spawn_blocking(work).await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_takes_the_place_of_another_and_there_is_a_limit() {
    let hub = BridgeHub::default();
    let mut first = connect(&hub);
    assert!(hub.connect(&"train_2".into(), 1).is_none(), "another run's");
    let second = connect(&hub);
    assert_eq!(first.next_command().await, BridgeCommand::Replaced);
    drop(first);
    assert!(hub.is_connected(&"train_1".into()), "the second one is there");
    let answer = || Bytes::from_static(b"x");
    for _ in 0..MAX_WAITING_ANSWERS {
        assert_eq!(second.hand_in(answer()), Ok(()));
    }
    assert_eq!(second.hand_in(answer()), Err(BridgeFault::Unasked));
    drop(second);
    assert_eq!(hub.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_episode_has_its_horizon() {
    let (mut bridged, _, _hub) = vector(&cart_pole(5), 2, Some);
    let work = move || {
        bridged.reset(1).unwrap();
        // No pole falls within five steps.
        (0..5).map(|step| bridged.step(ActionBatch::Discrete(&scripted(step, 2)))).collect::<Vec<_>>()
    };
    let steps = tokio::task::spawn_blocking(work).await.unwrap();
    assert!(steps[..4].iter().all(Result::is_ok));
    let why = "the bridge: environment 0 has not ended its episode within 5 steps, the run's horizon";
    assert_eq!(steps[4].clone().unwrap_err().to_string(), why);
}

#[test]
fn parameters_are_checked_and_compared() {
    let refused = |parameters: Value| join(&BridgeSpec::read(Some(&parameters)).unwrap_err());
    let changed = |member: &str, value: Value| {
        let mut parameters = cart_pole(500);
        parameters[member] = value;
        parameters
    };
    assert!(BridgeSpec::read(None).is_err() && BridgeSpec::read(Some(&Value::Null)).is_err());
    for positional in [json!([]), json!(["CartPole-v1", 4, {"type": "discrete", "count": 2}, 500])] {
        assert!(refused(positional).starts_with("must describe the bridge's environments"));
    }
    assert_eq!(refused(changed("observations", json!(0))), "observations: must be from 1 to 4096");
    assert_eq!(refused(changed("horizon", json!(0))), "horizon: must be from 1 to 1000000");
    assert!(refused(changed("gravity", json!(1))).contains("unknown field `gravity`"));
    assert!(refused(changed("environment", json!(""))).starts_with("environment: must have 1 to 100"));
    assert!(
        refused(changed("actions", json!({"type": "none"}))).starts_with("actions.type: unknown variant")
            || refused(changed("actions", json!({"type": "none"}))).starts_with("actions: unknown variant")
    );
    let many = json!({"type": "discrete", "count": 2000});
    assert_eq!(refused(changed("actions", many)), "actions.count: must be from 1 to 1024");
    let uneven = json!({"type": "continuous", "low": [0, 1], "high": [1]});
    assert_eq!(refused(changed("actions", uneven)), "actions.high: must have as many numbers as low");
    let reversed = json!({"type": "continuous", "low": [0, 1], "high": [1, 1]});
    assert!(refused(changed("actions", reversed)).starts_with("actions.high.1: must be above the number of low"));
    let spec = |parameters: Value| BridgeSpec::read(Some(&parameters)).unwrap();
    let run = spec(cart_pole(500));
    assert_eq!(run.check_same(&spec(cart_pole(500))), Ok(()));
    assert_eq!(run.check_same(&spec(cart_pole(200))), Err("horizon is not what the run says".to_owned()));
    let three = changed("actions", json!({"type": "discrete", "count": 3}));
    assert_eq!(run.check_same(&spec(three)), Err("actions is not what the run says".to_owned()));
    assert!(source(&changed("observations", json!(4096))).check_count(600).is_err(), "a frame has a size");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Rows are read as they were written, and no bytes end the reader.
    #[test]
    fn rows_are_read_as_written(
        numbers in prop::collection::vec(-1e30f32..1e30, 1..40),
        ended in prop::collection::vec(any::<(bool, bool)>(), 1..6),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (count, width) = (ended.len(), 3);
        let number = |at: usize| numbers[at % numbers.len()];
        let mut rows = Vec::new();
        (0..count * width + count).for_each(|at| rows.extend(number(at).to_le_bytes()));
        rows.extend(ended.iter().map(|(one, _)| u8::from(*one)));
        rows.extend(ended.iter().map(|(_, other)| u8::from(*other)));
        let lasts = ended.iter().filter(|(one, other)| *one || *other).count();
        (0..lasts * width).for_each(|at| rows.extend(number(7 * at).to_le_bytes()));
        let (mut observations, mut finals) = (vec![0.0; count * width], vec![0.0; count * width]);
        let (mut rewards, mut terminated, mut truncated) = (vec![0.0; count], vec![false; count], vec![false; count]);
        let mut into = super::BridgeRows {
            observations: &mut observations,
            finals: &mut finals,
            rewards: &mut rewards,
            terminated: &mut terminated,
            truncated: &mut truncated,
        };
        prop_assert_eq!(read_stepped(&rows, width, &mut into), Ok(()));
        prop_assert!(read_stepped(&rows[..rows.len() - 1], width, &mut into).is_err());
        let _ = (read_stepped(&noise, width, &mut into), read_failed(&noise), FrameHead::read(&noise).is_ok());
        prop_assert_eq!(read_stepped(&rows, width, &mut into), Ok(()));
        prop_assert!(observations.iter().enumerate().all(|(at, one)| *one == number(at)));
        let flags: Vec<(bool, bool)> = terminated.iter().copied().zip(truncated.iter().copied()).collect();
        prop_assert_eq!(flags, ended);
        let mut short = vec![0.0; 2];
        prop_assert_eq!(read_observed(&noise, &mut short).is_ok(), noise.len() == 8 && short.iter().all(|one| one.is_finite()));
    }
}
