//! What was measured, as it is kept beside the page.

use std::{collections::BTreeMap, fs, io, path::Path};

use am_rl::{
    environments::ReferenceReturns,
    training::{EpisodeStats, TrainingPlan},
};
use serde::{Deserialize, Serialize};

/// Everything that the page is made from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Results {
    /// In words.
    pub hardware: String,
    /// By the row's name.
    pub rows: BTreeMap<String, Row>,
    /// Side by side with stable-baselines3: written by `scripts/rl-scores.sh`.
    #[serde(default)]
    pub speed: Vec<Speed>,
}

/// What a row reached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// As trained, with every setting; the seed is the first one's.
    pub plan: TrainingPlan,
    /// What can be expected of the environment, where that is computed.
    pub reference: Option<ReferenceReturns>,
    /// One for each seed.
    pub seeds: Vec<Seed>,
}

/// What one seed reached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seed {
    /// Of the run; the evaluation's is [`crate::run::EVALUATION`].
    pub seed: u64,
    /// Of training, by the wall clock.
    pub seconds: f64,
    /// After training, without exploring.
    pub evaluated: EpisodeStats,
    /// What the policy can expect of an episode, computed from the environment's laws.
    pub expected: Option<f64>,
    /// While training: environment steps, and the mean return of the episodes that ended in the span up to there.
    pub curve: Vec<(u64, f64)>,
}

/// Steps a second of one measured run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Speed {
    /// The row that it trained.
    pub row: String,
    /// `ours`, or the other's name and version.
    pub who: String,
    /// Environment steps.
    pub steps: u64,
    /// By the wall clock.
    pub seconds: f64,
}

impl Speed {
    pub fn rate(&self) -> f64 {
        self.steps as f64 / self.seconds
    }
}

impl Row {
    /// What is shown: the share of the optimum where it is known, the mean return else.
    pub fn score(&self, seed: &Seed) -> f64 {
        match (&self.reference, seed.expected) {
            (Some(reference), Some(expected)) => expected / reference.optimum,
            _ => seed.evaluated.mean,
        }
    }

    /// The median of the seeds' scores.
    pub fn median(&self) -> f64 {
        median(self.seeds.iter().map(|seed| self.score(seed)))
    }
}

pub fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = numbers.collect();
    all.sort_by(f64::total_cmp);
    match all.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => all[odd / 2],
        even => 0.5 * (all[even / 2 - 1] + all[even / 2]),
    }
}

impl Results {
    /// Nothing where there is no file.
    pub fn read(place: &Path) -> io::Result<Self> {
        match fs::read(place) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    pub fn write(&self, place: &Path) -> io::Result<()> {
        if let Some(folder) = place.parent() {
            fs::create_dir_all(folder)?;
        }
        // A line for each row and each measured run.
        let row = |(name, row)| Ok(format!("{}: {}", serde_json::to_string(name)?, serde_json::to_string(row)?));
        let rows = self.rows.iter().map(row).collect::<Result<Vec<_>, serde_json::Error>>()?.join(",\n");
        let speed = self.speed.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?.join(",\n");
        let hardware = serde_json::to_string(&self.hardware)?;
        let text = format!("{{\"hardware\": {hardware},\n\"rows\": {{\n{rows}\n}},\n\"speed\": [\n{speed}\n]}}\n");
        fs::write(place, text)
    }
}

/// The processor's name and the number of its cores that this process sees.
pub fn hardware() -> io::Result<String> {
    let model = fs::read_to_string("/proc/cpuinfo")?;
    let model = model.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    let cores = std::thread::available_parallelism()?;
    Ok(format!("{} ({cores} cores)", model.unwrap_or("an unnamed processor")))
}
