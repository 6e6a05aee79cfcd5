//! What is known of deployments between two looks: which instances calls go to, what the calls were like, and what the processes use.
//! In memory only; a new process reads the rest from the database and begins to measure anew.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use am_agent_process::protocol::KeptState;
use am_core::ids::PrincipalId;

use crate::{
    alerts::{AlertTrack, DeploymentAlertRule},
    balance::CallBalance,
    model::{HealthCheckRecord, InstanceHealth},
    rollout::TrialBaseline,
    samples::SampleSums,
    scaling::ScalingWatch,
};

/// Share of the calls for instances of another revision than the serving one: they get calls only where it has none.
pub(crate) const LAST_RESORT: f64 = f64::MIN_POSITIVE;
/// Response times of the serving revision that are kept for the 95th percentile.
const KEPT_TIMES: usize = 512;
/// Samples that alerts look at: a minute.
const RECENT_SAMPLES: usize = 6;
/// Weight of the newest look in the mean of what is under way.
const LOAD_WEIGHT: f64 = 0.3;

/// All live deployments, by id.
#[derive(Default)]
pub(crate) struct LiveFleet {
    pub deployments: HashMap<String, LiveDeployment>,
}

/// An instance as this process knows it.
#[derive(Clone, Debug)]
pub(crate) struct LiveInstance {
    pub instance_id: String,
    pub port: u16,
    pub revision: i64,
    pub token: Arc<str>,
    pub health: InstanceHealth,
    pub failures: i64,
    /// Failed checks in a row that make it unhealthy.
    pub max_failures: i64,
    /// What its supervisor does; `None`: it does not know it.
    pub kept: Option<KeptState>,
    /// Its process by pid and start.
    pub process: Option<(u32, u64)>,
    /// When that process was first seen, in time that passes evenly.
    pub born: Duration,
    pub restarts: u64,
    /// When it is checked next, in time that passes evenly; `None`: a check is under way.
    pub next_check: Option<Duration>,
    /// When it was last checked, in time that passes evenly.
    pub checked: Option<Duration>,
    pub history: VecDeque<HealthCheckRecord>,
    pub up_seconds: f64,
    pub down_seconds: f64,
    /// Processor time at the last look, and when that was.
    pub cpu: Option<(Duration, Duration)>,
    /// Percent of a core since the look before.
    pub cpu_usage: Option<f64>,
    pub memory_bytes: Option<u64>,
    pub requests: i64,
    pub errors: i64,
    pub response_seconds: f64,
}

impl LiveInstance {
    /// Whether calls may go to it.
    pub fn takes_calls(&self) -> bool {
        matches!(self.health, InstanceHealth::Healthy | InstanceHealth::Degraded)
    }
}

/// A deployment as this process knows it.
pub(crate) struct LiveDeployment {
    pub owner_id: PrincipalId,
    /// Whether its status lets calls in.
    pub takes_calls: bool,
    pub desired: i64,
    pub balance: CallBalance,
    /// Share of the calls that goes to the revision that is rolled out; `None`: no matter.
    pub share: Option<f64>,
    pub instances: BTreeMap<String, LiveInstance>,
    /// Calls since the last sample.
    pub sums: SampleSums,
    /// Response times of the serving revision's last calls.
    pub times: VecDeque<f64>,
    /// The serving revision's calls since this process began, halved now and then.
    pub served: (u64, u64),
    /// Calls of the canary that its trial has not taken in: whether they failed, and their seconds.
    pub trial_calls: Vec<(bool, f64)>,
    /// Calls that wait for an instance.
    pub held: u32,
    pub load: f64,
    pub watch: ScalingWatch,
    pub tracks: HashMap<DeploymentAlertRule, AlertTrack>,
    pub recent: VecDeque<SampleSums>,
}

impl LiveDeployment {
    /// Send calls to this revision from now on, and to others only where it has no instance. Its instances are taken in that were
    /// found healthy since the last look.
    pub fn serve(&mut self, revision: i64) {
        self.share = Some(LAST_RESORT);
        let own = self.instances.iter().filter(|(_, one)| one.revision == revision && one.takes_calls());
        let mut members: Vec<(String, bool)> = own.map(|(id, _)| (id.clone(), false)).collect();
        let others = self.balance.members().filter(|id| members.iter().all(|(own, _)| own != id));
        members.extend(others.map(|id| (id.to_owned(), true)).collect::<Vec<_>>());
        self.balance.set_members(members);
    }

    pub fn new(owner_id: PrincipalId) -> Self {
        Self {
            owner_id,
            takes_calls: false,
            desired: 0,
            balance: CallBalance::default(),
            share: None,
            instances: BTreeMap::new(),
            sums: SampleSums::default(),
            times: VecDeque::new(),
            served: (0, 0),
            trial_calls: Vec::new(),
            held: 0,
            load: 0.0,
            watch: ScalingWatch::default(),
            tracks: HashMap::new(),
            recent: VecDeque::new(),
        }
    }

    /// A call has ended.
    pub fn note_call(&mut self, id: &str, is_target: bool, failed: bool, seconds: f64) {
        self.sums.requests += 1;
        self.sums.errors += i64::from(failed);
        self.sums.response_seconds += seconds;
        self.sums.slowest_seconds = self.sums.slowest_seconds.max(seconds);
        if let Some(instance) = self.instances.get_mut(id) {
            instance.requests += 1;
            instance.errors += i64::from(failed);
            instance.response_seconds += seconds;
        }
        if is_target {
            self.trial_calls.push((failed, seconds));
            return;
        }
        self.served.0 += 1;
        self.served.1 += u64::from(failed);
        if self.served.0 > 10_000 {
            self.served = (self.served.0 / 2, self.served.1 / 2);
        }
        if !failed {
            if self.times.len() == KEPT_TIMES {
                self.times.pop_front();
            }
            self.times.push_back(seconds);
        }
    }

    /// What the serving revision's calls are like.
    pub fn baseline(&self) -> TrialBaseline {
        let mut times: Vec<f64> = self.times.iter().copied().collect();
        times.sort_by(f64::total_cmp);
        // Nearest rank: the smallest value that at least 95 % do not exceed.
        let rank = (times.len() * 95).div_ceil(100);
        let p95_seconds = rank.checked_sub(1).and_then(|at| times.get(at).copied());
        TrialBaseline { calls: self.served.0, errors: self.served.1, p95_seconds }
    }

    /// Take in how many calls are under way and wait.
    pub fn observe_load(&mut self) -> f64 {
        let now = f64::from(self.balance.total_in_flight() + self.held);
        self.load += LOAD_WEIGHT * (now - self.load);
        // An exponential mean never becomes zero by itself.
        if now == 0.0 && self.load < 0.01 {
            self.load = 0.0;
        }
        self.load
    }

    /// Take the calls since the last sample, and what the instances are like.
    pub fn take_sample(&mut self, cpu_seconds: f64) -> SampleSums {
        let mut sums = std::mem::take(&mut self.sums);
        let count = self.instances.len();
        sums.cpu_seconds = cpu_seconds;
        sums.looks = 1;
        sums.instances = count as i64;
        sums.healthy = self.instances.values().filter(|one| one.health == InstanceHealth::Healthy).count() as i64;
        let bytes: u64 = self.instances.values().filter_map(|one| one.memory_bytes).sum();
        sums.memory_bytes = if count > 0 { bytes as f64 / count as f64 } else { 0.0 };
        if self.recent.len() == RECENT_SAMPLES {
            self.recent.pop_front();
        }
        self.recent.push_back(sums);
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_the_serving_revisions() {
        let mut live = LiveDeployment::new("key_a".into());
        assert_eq!(live.baseline(), TrialBaseline::default());
        for at in 1..=100 {
            live.note_call("a", false, at % 50 == 0, f64::from(at));
        }
        live.note_call("b", true, true, 1000.0);
        let baseline = live.baseline();
        assert_eq!((baseline.calls, baseline.errors), (100, 2));
        // The 98 that did not fail: rank 94 of them, where 50 is left out.
        assert_eq!(baseline.p95_seconds, Some(95.0));
        assert_eq!(live.trial_calls, [(true, 1000.0)]);
        assert_eq!((live.sums.requests, live.sums.errors, live.sums.slowest_seconds), (101, 3, 1000.0));
    }

    #[test]
    fn a_load_that_ends_becomes_zero() {
        let mut live = LiveDeployment::new("key_a".into());
        live.held = 10;
        let loads: Vec<f64> = (0..5).map(|_| live.observe_load()).collect();
        assert!(loads.windows(2).all(|two| two[0] < two[1]) && loads[4] < 10.0, "{loads:?}");
        live.held = 0;
        let looks = std::iter::repeat_with(|| live.observe_load()).take(100).position(|load| load == 0.0);
        assert!(looks.is_some_and(|looks| looks < 30), "{looks:?}");
    }
}
