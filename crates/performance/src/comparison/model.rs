//! Types of comparisons of policies' versions.

use am_db::stored_enum;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

stored_enum! {
    /// What an interval is made of.
    pub enum ComparisonMethod {
        /// Scores of versions that were trained alike with different seeds: it says what such trainings come to.
        TrainingSeeds = "training_seeds" / "training_seeds",
        /// Scores in the episodes of different seeds, the same for all versions: differences are taken seed by seed.
        EvaluationSeeds = "evaluation_seeds" / "evaluation_seeds",
        /// Episodes of one evaluation: it says how well the version's mean return is known.
        Episodes = "episodes" / "episodes",
        /// Exact expected returns, computed from the environment's model: they have no width.
        Exact = "exact" / "exact",
    }
}

stored_enum! {
    /// What is compared.
    pub enum ComparedMeasure {
        /// Exact expected return of an episode, which the environment's model allows for all versions.
        ExpectedReturn = "expected_return" / "expected_return",
        /// Mean return of the episodes of an evaluation.
        MeanReturn = "mean_return" / "mean_return",
    }
}

stored_enum! {
    /// What a comparison says of a version beside another.
    pub enum ComparisonVerdict {
        /// The interval of the difference lies above 0.
        Better = "better" / "better",
        /// The interval of the difference lies below 0.
        Worse = "worse" / "worse",
        /// The interval holds 0: the difference may be chance.
        Unclear = "unclear" / "unclear",
        /// There is nothing to compare.
        Unknown = "unknown" / "unknown",
    }
}

/// The score with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = VersionSeedScore)]
pub struct SeedScore {
    /// Seed of the training, or of the episodes.
    pub seed: u64,
    /// Version that has the score, `name@version`.
    pub reference: String,
    /// What it scored in that seed, in the unit of the measure.
    pub score: f64,
}

/// A version that is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = ComparedVersion)]
pub struct ComparedVersion {
    /// The version, `name@version`.
    pub reference: String,
    /// Its score, or the mean of its scores with several seeds; null: `reason` says why.
    pub score: Option<f64>,
    /// Lower end of the score's 95 % interval, after Student; null: there is none.
    pub low: Option<f64>,
    /// Upper end of the score's 95 % interval.
    pub high: Option<f64>,
    /// What the interval is made of; null without a score.
    pub method: Option<ComparisonMethod>,
    /// Episodes of each evaluation; null without a score.
    pub episodes: Option<u64>,
    /// Scores with each seed; empty where there is one evaluation.
    pub seeds: Vec<SeedScore>,
    /// Why there is no score; null: there is one.
    pub reason: Option<String>,
}

/// A version beside another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = VersionDifference)]
pub struct VersionDifference {
    /// The version, `name@version`.
    pub version: String,
    /// The version that it is compared with.
    pub against: String,
    /// Score of `version` less that of `against`; null: one has no score.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval; null: there is none.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub high: Option<f64>,
    /// What the interval is made of; null: there is none.
    pub method: Option<ComparisonMethod>,
    /// Whether 0 lies outside the interval; null: there is none.
    pub excludes_zero: Option<bool>,
    /// Which is better.
    pub verdict: ComparisonVerdict,
    /// The same as a sentence.
    pub summary: String,
}

/// Versions compared with each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = VersionComparison)]
pub struct VersionComparison {
    /// Name of the environment; null: no version has an evaluation.
    pub environment: Option<String>,
    /// Parameters of the environment by name; null: its defaults.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// What is compared; null: no version has an evaluation.
    pub measure: Option<ComparedMeasure>,
    /// The versions in the order in which they were named.
    pub versions: Vec<ComparedVersion>,
    /// Each other version beside the first one.
    pub differences: Vec<VersionDifference>,
    /// The version that is better than each of the others; null: none is, or the differences may be chance. Of several differences
    /// one may exclude 0 by chance more often than 1 in 20 times.
    pub best: Option<String>,
    /// What is to be said of the best one, as a sentence.
    pub summary: String,
}

/// Versions that are to be evaluated and compared.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = ComparisonRequest, example = json!({
    "versions": ["cartpole-v1-ppo@1", "cartpole-v1-ppo@2"],
    "episodes": 20,
    "seeds": [0, 1, 2, 3, 4],
}))]
pub struct ComparisonDraft {
    /// 2 to 10 different versions: `name`, `name@version` or `name@alias`. The others are compared with the first one.
    pub versions: Vec<String>,
    /// Name of the environment. Default: the one that the first version was trained in.
    #[serde(default)]
    pub environment: Option<String>,
    /// Parameters of the environment by name. Default: the environment's.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Whole episodes of each evaluation, 1 to 200. Default 20.
    #[serde(default)]
    pub episodes: Option<usize>,
    /// Seeds of the episodes, 2 to 20 different ones. Default 0 to 4.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
}

/// What a comparison is to do, whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ComparisonOrder {
    /// The versions, `name@version`.
    pub(super) versions: Vec<String>,
    pub(super) environment: String,
    pub(super) parameters: Option<Value>,
    pub(super) episodes: usize,
    pub(super) seeds: Vec<u64>,
}
