//! What is measured of an agent's work: counts, means, and exponentially weighted means, as they are kept in its profile.

use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Weight of a new value in an exponentially weighted mean.
const NEW_WEIGHT: f64 = 0.1;
/// Seconds after which a task weighs 1/e in the rate of tasks: six hours.
const RATE_SECONDS: f64 = 6.0 * 3600.0;

/// A figure of which many values were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SmoothedFigure {
    /// Number of values.
    pub count: u64,
    /// Mean of all values; null: there is none.
    pub mean: Option<f64>,
    /// Exponentially weighted mean: each value weighs a tenth, those before nine tenths; null: there is none.
    pub smoothed: Option<f64>,
}

impl SmoothedFigure {
    fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        self.count += 1;
        self.mean = Some(self.mean.map_or(value, |mean| mean + (value - mean) / self.count as f64));
        self.smoothed = Some(self.smoothed.map_or(value, |smoothed| smoothed + NEW_WEIGHT * (value - smoothed)));
    }
}

/// What was measured of an agent's work by this service itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeasuredWork {
    /// Tasks that ended: assignments of steps, requests of the marketplace, and jobs of miners.
    pub tasks: u64,
    /// Those that succeeded.
    pub succeeded: u64,
    /// Those that failed, or that the agent lost.
    pub failed: u64,
    /// Share of tasks that succeeded, 0 to 1.
    pub success: SmoothedFigure,
    /// Seconds from the acceptance of a task to its end, of those that succeeded.
    pub latency: SmoothedFigure,
    /// Price of an assignment or a job in AIT.
    pub cost: SmoothedFigure,
    /// What the ledger has as spent on or by the agent in AIT, for each entry.
    pub spending: SmoothedFigure,
    /// Share of an allocation that was used, 0 to 1.
    pub efficiency: SmoothedFigure,
    /// Tasks that ended lately, each weighing e^(−age / 6 hours), as it was at `last_task`.
    pub decayed_tasks: f64,
    /// When the last task ended; null: none did.
    pub last_task: Option<Timestamp>,
}

/// What an end of work tells of an agent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkFact {
    pub source: String,
    pub succeeded: Option<bool>,
    pub seconds: Option<f64>,
    pub cost: Option<f64>,
    pub efficiency: Option<f64>,
    pub at: Timestamp,
}

/// Metrics of time series that come from measured work.
pub(super) const MEASURED_METRICS: [&str; 5] =
    ["measured_success", "measured_latency", "measured_cost", "measured_spending", "measured_efficiency"];

impl MeasuredWork {
    /// Count a fact; answers its values for time series.
    pub(super) fn add(&mut self, fact: &WorkFact) -> Vec<(&'static str, f64)> {
        let [success, latency, cost, spending, efficiency] = MEASURED_METRICS;
        let mut values = Vec::new();
        if let Some(succeeded) = fact.succeeded {
            self.tasks += 1;
            *(if succeeded { &mut self.succeeded } else { &mut self.failed }) += 1;
            let value = f64::from(u8::from(succeeded));
            self.success.add(value);
            values.push((success, value));
            let before = self.last_task.map_or(0.0, |last| self.decayed_tasks * decay(fact.at.seconds_since(last)));
            self.decayed_tasks = before + 1.0;
            self.last_task = Some(self.last_task.map_or(fact.at, |last| last.max(fact.at)));
        }
        let mut note = |figure: &mut SmoothedFigure, name, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) {
                figure.add(value);
                values.push((name, value));
            }
        };
        note(&mut self.latency, latency, fact.seconds);
        if fact.source == "spending" {
            note(&mut self.spending, spending, fact.cost);
        } else {
            note(&mut self.cost, cost, fact.cost);
        }
        note(&mut self.efficiency, efficiency, fact.efficiency);
        values
    }

    /// Tasks an hour at `now`: the decayed count over six hours. `None`: no task has ended.
    pub(super) fn throughput(&self, now: Timestamp) -> Option<f64> {
        let last = self.last_task?;
        Some(self.decayed_tasks * decay(now.seconds_since(last)) * 3600.0 / RATE_SECONDS)
    }

    /// AIT for a task: the mean price of assignments, else what the ledger has as spent over the tasks. `None`: neither is known.
    pub(super) fn cost_per_task(&self) -> Option<f64> {
        let spent = |mean: f64| mean * self.spending.count as f64 / self.tasks as f64;
        self.cost.mean.or_else(|| self.spending.mean.filter(|_| self.tasks > 0).map(spent))
    }
}

fn decay(seconds: f64) -> f64 {
    (-seconds.max(0.0) / RATE_SECONDS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap())
    }

    fn fact(succeeded: bool, seconds: f64, moment: i64) -> WorkFact {
        let cost = succeeded.then_some(0.5);
        let source = "assignment".to_owned();
        WorkFact { source, succeeded: Some(succeeded), seconds: Some(seconds), cost, efficiency: None, at: at(moment) }
    }

    #[test]
    fn means_are_exact_and_smoothed_ones_forget() {
        let mut work = MeasuredWork::default();
        assert_eq!((work.throughput(at(0)), work.cost_per_task()), (None, None));
        for moment in 0..100 {
            work.add(&fact(true, 2.0, moment));
        }
        for moment in 100..130 {
            work.add(&fact(false, 6.0, moment));
        }
        assert_eq!((work.tasks, work.succeeded, work.failed), (130, 100, 30));
        assert!((work.latency.mean.unwrap() - (200.0 + 180.0) / 130.0).abs() < 1e-9);
        assert!((work.latency.smoothed.unwrap() - (6.0 - 4.0 * 0.9f64.powi(30))).abs() < 1e-9);
        assert!((work.success.mean.unwrap() - 100.0 / 130.0).abs() < 1e-9);
        assert_eq!(work.cost_per_task(), Some(0.5));
    }

    #[test]
    fn the_rate_is_that_of_steady_work() {
        let mut work = MeasuredWork::default();
        for moment in 0..20_000 {
            work.add(&fact(true, 1.0, moment * 60));
        }
        let rate = work.throughput(at(19_999 * 60)).unwrap();
        assert!((rate - 60.0).abs() < 0.2, "{rate} tasks an hour, of 60");
        let later = work.throughput(at(19_999 * 60 + 6 * 3600)).unwrap();
        assert!((later - rate / std::f64::consts::E).abs() < 1e-6);
        let text = serde_json::to_string(&work).unwrap();
        assert_eq!(serde_json::from_str::<MeasuredWork>(&text).unwrap(), work);
    }
}
