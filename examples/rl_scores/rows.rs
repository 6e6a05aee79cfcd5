//! The rows of the table: what is trained, and what is aimed at.

use am_rl::training::TrainingPlan;
use serde_json::{Value, json};

/// Of the three runs of each row.
pub const SEEDS: [u64; 3] = [1, 2, 3];
/// What a marketplace's best policy must reach, as a share of the optimum.
pub const SHARE: f64 = 0.95;
/// The six of them.
pub const MARKETS: [&str; 6] = [
    "marketplace_trading",
    "resource_allocation",
    "price_optimization",
    "service_selection",
    "negotiation_strategy",
    "portfolio_management",
];
/// Algorithms that are tried in each of them.
pub const ALGORITHMS: [&str; 3] = ["ppo", "rainbow_dqn", "sac"];

/// One of the runs.
pub struct Row {
    /// Its name: `algorithm-environment`.
    pub name: String,
    environment: &'static str,
    algorithm: &'static str,
    steps: u64,
    settings: Value,
    /// The least that the median must be; a share of the optimum in a marketplace.
    pub target: f64,
}

impl Row {
    fn new(algorithm: &'static str, environment: &'static str, steps: u64, target: f64, settings: Value) -> Self {
        let name = format!("{algorithm}-{environment}").replace('_', "-").to_lowercase();
        Self { name, environment, algorithm, steps, settings, target }
    }

    /// Whether its name begins so.
    pub fn is(&self, name: &str) -> bool {
        self.name.starts_with(name)
    }

    /// # Errors
    /// When there is no such algorithm.
    pub fn plan(&self, seed: u64) -> Result<TrainingPlan, serde_json::Error> {
        serde_json::from_value(json!({
            "environment": self.environment, "algorithm": self.algorithm, "steps": self.steps, "seed": seed,
            "settings": self.settings,
        }))
    }
}

/// All of them.
pub fn rows() -> Vec<Row> {
    let classic = [
        Row::new(
            "ppo",
            "CartPole-v1",
            100_000,
            475.0,
            json!({"environments": 8, "rollout": 32, "batch": 256, "epochs": 20, "learning_rate": 1e-3, "gamma": 0.98,
                "lambda": 0.8, "entropy": 0.0, "clip_value": false, "hidden": [64, 64]}),
        ),
        Row::new(
            "ppo",
            "Acrobot-v1",
            300_000,
            -100.0,
            json!({"environments": 16, "rollout": 128, "batch": 256, "epochs": 10, "learning_rate": 1e-3, "gamma": 0.99,
                "lambda": 0.94, "entropy": 0.0, "clip_value": false, "hidden": [64, 64]}),
        ),
        Row::new(
            "rainbow_dqn",
            "CartPole-v1",
            100_000,
            475.0,
            json!({"learning_rate": 5e-4, "anneal": true, "v_min": 0.0, "v_max": 100.0, "batch": 64, "every": 2,
                "target_every": 500, "hidden": [128, 128], "stream": 128}),
        ),
        Row::new("sac", "Pendulum-v1", 20_000, -200.0, json!({"learning_rate": 1e-3})),
    ];
    let markets = MARKETS.into_iter().flat_map(|environment| {
        ALGORITHMS.into_iter().map(move |algorithm| {
            let (steps, settings) = market(algorithm, environment);
            Row::new(algorithm, environment, steps, SHARE, settings)
        })
    });
    classic.into_iter().chain(markets).collect()
}

/// Steps and settings of each algorithm: the same in all marketplaces, but for PPO in the one whose rewards are noisiest.
fn market(algorithm: &str, environment: &str) -> (u64, Value) {
    match (algorithm, environment) {
        ("ppo", "marketplace_trading") => (
            3_000_000,
            json!({"environments": 128, "rollout": 32, "batch": 2048, "epochs": 10, "learning_rate": 2e-3, "gamma": 0.96,
                "lambda": 0.9, "entropy": 0.001, "clip_value": false, "hidden": [64, 64]}),
        ),
        ("ppo", _) => (
            500_000,
            json!({"environments": 16, "rollout": 64, "batch": 256, "epochs": 10, "learning_rate": 1e-3, "gamma": 0.97,
                "lambda": 0.9, "entropy": 0.005, "clip_value": false, "hidden": [64, 64]}),
        ),
        ("rainbow_dqn", _) => (
            60_000,
            json!({"learning_rate": 1e-3, "anneal": true, "gamma": 0.97, "v_min": -30.0, "v_max": 30.0, "batch": 128,
                "every": 2, "target_every": 250, "hidden": [64, 64], "stream": 64}),
        ),
        _ => (20_000, json!({"learning_rate": 1e-3, "gamma": 0.97, "batch": 128, "hidden": [64, 64]})),
    }
}

/// # Errors
/// When there is no such row.
pub fn named(name: &str) -> Result<Row, String> {
    let all = rows();
    let known = all.iter().map(|row| row.name.clone()).collect::<Vec<_>>().join(", ");
    all.into_iter().find(|row| row.name == name).ok_or_else(|| format!("there is no row '{name}': there are {known}"))
}
