//! What open jobs wait for: their place in the queue, and how many miners could take them.

use serde_json::Value;

use super::{
    job_queue::JobQueue,
    model::JobState,
    store::{self, AnnouncedMiner, OpenJobRow},
};
use am_core::{boxed, ids::JobId};
use am_db::{Result, codec::Timestamp};

/// What an open job waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct JobWait {
    /// Id of the job.
    pub id: JobId,
    /// Whether a miner has taken the job.
    pub is_taken: bool,
    /// When the job was submitted.
    pub since: Timestamp,
    /// Position in the queue, from 1; `None`: a miner has it, or the queue has not been read yet.
    pub position: Option<usize>,
    /// Number of miners that announce what the job requires, busy or not; `None`: a miner has it, or it is not known.
    pub matching_miners: Option<usize>,
}

impl JobQueue {
    /// What those of these jobs wait for that are open.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn waits(&self, ids: &[JobId]) -> Result<Vec<JobWait>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut conn = self.0.db.read().await?;
        let jobs = store::read_open_jobs(&mut conn, ids).await?;
        let is_queued = |job: &OpenJobRow| JobState::from_stored(&job.state) == Some(JobState::Queued);
        let miners = match jobs.iter().any(is_queued) {
            true => store::announced_miners(&mut conn).await?,
            false => None,
        };
        drop(conn);
        let now = self.0.clock.now();
        let mut queue = self.queue();
        let wait = |job: OpenJobRow| {
            let is_queued = is_queued(&job);
            let needs: Value = job.constraints.parse().ok().flatten().unwrap_or_default();
            let matching = miners.as_ref().map(|miners| miners.iter().filter(|miner| meets(miner, &needs)).count());
            JobWait {
                is_taken: !is_queued,
                since: Timestamp(job.requested_at.0),
                position: (is_queued && queue.has_begun()).then(|| queue.before(&job.id, job.requested_at.0, now) + 1),
                matching_miners: matching.filter(|_| is_queued),
                id: job.id,
            }
        };
        Ok(jobs.into_iter().map(wait).collect())
    }
}

/// The coordinator's rule of which miner gets a job. What is required and can't be read is not met.
fn meets(miner: &AnnouncedMiner, needs: &Value) -> bool {
    let Ok(Some(has)) = miner.capabilities.parse::<Value>() else { return false };
    let required = |name: &str| needs.get(name).filter(|value| !value.is_null());
    let gpus = || has.get("gpus").and_then(Value::as_array).into_iter().flatten();
    let region = required("region").is_none_or(|region| region.as_str() == miner.region.as_deref());
    let gpu = required("gpu").is_none_or(|name| gpus().any(|gpu| gpu.get("name") == Some(name)));
    let memory = required("min_vram_gb").and_then(Value::as_f64).is_none_or(|gb| {
        let has_memory = |gpu: &Value| gpu.get("memory_mb").and_then(Value::as_f64).is_some_and(|mb| mb >= gb * 1024.0);
        gpus().any(has_memory)
    });
    let cuda = required("cuda").and_then(Value::as_str).is_none_or(|version| {
        let announced = has.get("cuda").map(|cuda| cuda.as_str().map_or_else(|| cuda.to_string(), str::to_owned));
        announced.is_some_and(|announced| announced.contains(version))
    });
    let models = required("models").and_then(Value::as_array).is_none_or(|models| {
        let announced = has.get("models").and_then(Value::as_array);
        models.iter().all(|model| announced.is_some_and(|announced| announced.contains(model)))
    });
    let price = required("max_price").and_then(Value::as_f64).is_none_or(|most| {
        let price = has.get("price").and_then(Value::as_f64).unwrap_or(0.0);
        price <= most
    });
    region && gpu && memory && cuda && models && price
}

#[cfg(test)]
mod tests {
    use am_db::codec::JsonText;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_miner_matches_by_the_rule_of_the_coordinator() {
        let miner = |capabilities: Value| AnnouncedMiner {
            region: Some("eu".to_owned()),
            capabilities: JsonText::from_value(&capabilities).unwrap(),
        };
        let large = json!({"gpus": [{"name": "nvidia", "memory_mb": 8192}, {"name": "amd", "memory_mb": 16384}],
            "models": ["llm", "whisper"], "cuda": "11.8, 12.4", "price": 2});
        for (needs, met) in [
            (json!({}), true),
            (json!({"region": "eu", "max_price": 2}), true),
            (json!({"region": "us"}), false),
            (json!({"gpu": "nvidia", "min_vram_gb": 16}), true),
            (json!({"gpu": "any"}), false),
            (json!({"min_vram_gb": 17}), false),
            (json!({"cuda": "11.8"}), true),
            (json!({"cuda": "13.0"}), false),
            (json!({"models": ["llm", "whisper"]}), true),
            (json!({"models": ["llm", "ffmpeg"]}), false),
            (json!({"max_price": 1.5}), false),
            (json!({"models": null, "region": null}), true),
        ] {
            assert_eq!(meets(&miner(large.clone()), &needs), met, "{needs}");
        }
        assert!(meets(&miner(json!({})), &json!({"max_price": 0})), "no price is free");
        for nothing in [json!(null), json!({}), json!({"gpus": {}, "models": "llm"})] {
            for needs in [json!({"gpu": "nvidia"}), json!({"models": ["llm"]}), json!({"min_vram_gb": 1})] {
                assert!(!meets(&miner(nothing.clone()), &needs), "{nothing} {needs}");
            }
        }
    }
}
