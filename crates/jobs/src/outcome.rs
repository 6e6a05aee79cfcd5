//! What became of a job, as far as the coordinator's row tells: its state, the miner's result, and the receipt.

use serde_json::Value;

use super::model::JobState;
use am_core::money::Money;

/// Words of a result's `status` by which a miner reports that it failed. The SQL in `store.rs` names the same.
const FAILURE_WORDS: [&str; 3] = ["failed", "failure", "error"];
/// Reason of a failure for which the miner gave none.
const NO_REASON_MESSAGE: &str = "its miner reported a failure without a reason";

/// Outcome of a job.
#[derive(Clone, Debug)]
pub struct JobOutcome {
    /// Final state of the job; failed also when the miner delivered a result that says so.
    pub state: JobState,
    /// Result delivered by the miner.
    pub result: Value,
    /// Reason of the failure; `None` after a success.
    pub error: Option<String>,
    /// Price of the job in the marketplace's currency according to its receipt; `None` when the receipt states none, and
    /// for a job that was completed with a report of failure.
    pub price: Option<Money>,
    /// Receipt of the miner; null if there is none.
    pub receipt: Value,
    /// Id of the miner; `None` when no miner took the job.
    pub miner: Option<String>,
}

impl JobOutcome {
    /// The outcome as the row states it, except that a completed job whose result reports a failure has failed: miners
    /// have no other way to report one than the route for results.
    pub(super) fn from_row(
        state: JobState,
        result: Value,
        error: Option<String>,
        receipt: Value,
        miner: Option<String>,
    ) -> Self {
        let failure = (state == JobState::Completed).then(|| reported_failure(&result)).flatten();
        match failure {
            Some(reason) => {
                let error = error.or(Some(reason));
                Self { state: JobState::Failed, result, error, price: None, receipt, miner }
            }
            None => {
                let price = receipt.get("price").and_then(number).filter(|price| *price >= 0.0).map(Money::from_f64);
                Self { state, result, error, price, receipt, miner }
            }
        }
    }

    /// Most GPU memory that the job used, in MB, as its receipt states it; `None` when it does not.
    pub fn memory_mb(&self) -> Option<f64> {
        let stated = |place| self.receipt.pointer(place).and_then(number);
        stated("/memory_mb").or_else(|| stated("/metadata/metrics/memory_peak")).filter(|used| *used >= 0.0)
    }

    /// Whether a GPU did the job. A result that does not say so came from one: this is what miners are for.
    pub fn used_gpu(&self) -> bool {
        self.result.get("gpu_used").and_then(Value::as_bool).unwrap_or(true)
    }
}

/// Cost of a job that has completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCost {
    /// Price in the marketplace's currency according to the receipt; 0 when the receipt states none.
    pub price: Money,
    /// Most that the miner was to ask; `None`: any price.
    pub max_price: Option<Money>,
}

/// Reason of the failure that a result reports; `None` for any other result.
fn reported_failure(result: &Value) -> Option<String> {
    let status = result.get("status")?.as_str()?.to_ascii_lowercase();
    let reason = || match result.get("error") {
        Some(Value::String(text)) => failure_reason(text),
        Some(other) => failure_reason(&if other.is_null() { String::new() } else { other.to_string() }),
        None => failure_reason(""),
    };
    FAILURE_WORDS.contains(&status.as_str()).then(reason)
}

/// The reason that a miner gave, or that it gave none.
pub(super) fn failure_reason(given: &str) -> String {
    if given.trim().is_empty() { NO_REASON_MESSAGE.to_owned() } else { given.to_owned() }
}

/// A number, or a text that is one: amounts are also written as decimal texts.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn completed(result: Value, receipt: Value) -> JobOutcome {
        JobOutcome::from_row(JobState::Completed, result, None, receipt, Some("miner-1".into()))
    }

    #[test]
    fn failure_inside_a_result_is_a_failure_without_a_price() {
        for (result, reason) in [
            (json!({"status": "failed", "error": "out of memory"}), "out of memory"),
            (json!({"status": "FAILED", "error": {"code": 7}}), "{\"code\":7}"),
            (json!({"status": "error"}), NO_REASON_MESSAGE),
            (json!({"status": "Failure", "error": " "}), NO_REASON_MESSAGE),
            (json!({"status": "failed", "error": null, "output": "x"}), NO_REASON_MESSAGE),
        ] {
            let outcome = completed(result.clone(), json!({"price": 0.5}));
            let found = (outcome.state, outcome.error.as_deref(), outcome.price);
            assert_eq!(found, (JobState::Failed, Some(reason), None), "{result}");
        }
        for result in [json!({"status": "completed"}), json!({"status": 1}), json!("failed"), json!({"error": "x"})] {
            let outcome = completed(result.clone(), json!({"price": "0.50"}));
            let found = (outcome.state, outcome.error, outcome.price);
            assert_eq!(found, (JobState::Completed, None, Some(Money::from_f64(0.5))), "{result}");
        }
    }

    #[test]
    fn figures_are_read_from_the_coordinators_receipt() {
        let receipt = json!({"price": 0.01, "metadata": {"metrics": {"memory_peak": 2048}}});
        let outcome = completed(json!({"gpu_used": false}), receipt);
        assert_eq!((outcome.memory_mb(), outcome.used_gpu()), (Some(2048.0), false));
        let outcome = completed(json!({"text": "x"}), json!({"memory_mb": 1.5, "metadata": null}));
        assert_eq!((outcome.memory_mb(), outcome.used_gpu()), (Some(1.5), true));
        let odd = json!({"price": -1, "metadata": {"metrics": {"memory_peak": "NaN"}}});
        let outcome = completed(json!(null), odd);
        assert_eq!((outcome.memory_mb(), outcome.price), (None, None));
    }
}
