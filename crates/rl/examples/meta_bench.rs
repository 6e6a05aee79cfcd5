//! Gates and speed of meta-learning, for `scripts/bench-meta.sh`:
//!
//! ```text
//! meta_bench gates               trains MAML, plain pre-training and prototypical networks at full size, and checks the gates
//! meta_bench speed ITERATIONS    prints meta-iterations a second of second-order MAML, as JSON
//! ```

use std::{
    env,
    error::Error,
    io::{self, Write},
    time::Instant,
};

use am_rl::meta_learning::{MetaAlgorithm, MetaMeasures, MetaPlan, MetaSettings, MetaTrainer, TaskFamily, TaskSource};

/// Mean squared error that MAML may leave on ten-shot sinusoids after one step.
const MAX_SINUSOID_ERROR: f64 = 0.5;
/// How many times the error of plain pre-training must be larger.
const MIN_BETTER: f64 = 5.0;
/// Accuracy that prototypical networks must reach on five-way five-shot clusters.
const MIN_CLUSTER_ACCURACY: f64 = 0.95;
/// Step sizes of fine-tuning that are tried.
const FINE_TUNING_RATES: [f64; 4] = [0.0003, 0.001, 0.003, 0.01];
/// How far below the best possible accuracy it may be.
const MAX_BELOW_BEST: f64 = 0.02;

fn plan(algorithm: MetaAlgorithm, family: TaskFamily, settings: MetaSettings) -> MetaPlan {
    MetaPlan { algorithm, settings, source: TaskSource::Family(family), seed: 1 }
}

fn train(plan: MetaPlan) -> Result<(MetaMeasures, f64), Box<dyn Error>> {
    let begun = Instant::now();
    let mut trainer = MetaTrainer::new(plan)?;
    while trainer.done() < trainer.total() {
        trainer.advance(500)?;
    }
    Ok((trainer.finish()?.measures, begun.elapsed().as_secs_f64()))
}

fn sinusoid_settings(inner_rate: f64) -> MetaSettings {
    let iterations = env::var("META_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    MetaSettings { iterations, inner_rate, outer_rate: 0.005, ..MetaSettings::default() }
}

fn gates() -> Result<bool, Box<dyn Error>> {
    let mut out = io::stdout().lock();
    let sinusoids =
        |algorithm, inner_rate| plan(algorithm, TaskFamily::SinusoidRegression, sinusoid_settings(inner_rate));
    let (maml, seconds) = train(sinusoids(MetaAlgorithm::Maml, 0.01))?;
    let one = maml.adaptation.losses[1];
    let margin = maml.held_out_loss_margin.unwrap_or_default();
    writeln!(out, "sinusoid, 10 shots, MAML: {one:.3} ± {margin:.3} after one step, trained in {seconds:.0} s")?;
    writeln!(out, "  before and after each step: {:.3?}", maml.adaptation.losses)?;
    // The step size of fine-tuning is not learnt: the best of some counts.
    let mut tuned = f64::INFINITY;
    for inner_rate in FINE_TUNING_RATES {
        let (plain, _) = train(sinusoids(MetaAlgorithm::Pretraining, inner_rate))?;
        tuned = tuned.min(plain.adaptation.losses[1]);
        writeln!(out, "plain pre-training, steps of {inner_rate}: {:.3?}", plain.adaptation.losses)?;
    }
    writeln!(out, "fine-tuning after one step: {tuned:.3}, {:.1} times as much", tuned / one)?;
    let settings = MetaSettings { iterations: 3_000, shots: 5, hidden: vec![64], ..MetaSettings::default() };
    let clusters = plan(MetaAlgorithm::PrototypicalNetworks, TaskFamily::GaussianClassification, settings);
    let (clusters, seconds) = train(clusters)?;
    let (reached, best) =
        (clusters.meta_accuracy.unwrap_or_default(), clusters.best_possible_accuracy.unwrap_or_default());
    writeln!(out, "5 ways, 5 shots, separation 4: {reached:.4} of {best:.4} possible in {seconds:.0} s")?;
    let met = [
        one <= MAX_SINUSOID_ERROR,
        tuned >= MIN_BETTER * one,
        reached >= MIN_CLUSTER_ACCURACY,
        reached >= best - MAX_BELOW_BEST,
    ];
    writeln!(out, "gates met: {met:?}")?;
    Ok(met.into_iter().all(|met| met))
}

fn speed(iterations: u64) -> Result<(), Box<dyn Error>> {
    let settings = MetaSettings { iterations: iterations + 50, ..MetaSettings::default() };
    let mut trainer = MetaTrainer::new(plan(MetaAlgorithm::Maml, TaskFamily::SinusoidRegression, settings))?;
    trainer.advance(50)?;
    let begun = Instant::now();
    trainer.advance(iterations)?;
    let speed = iterations as f64 / begun.elapsed().as_secs_f64();
    writeln!(io::stdout().lock(), "{{\"meta_iterations_per_second\": {speed:.1}}}")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["gates"] if gates()? => Ok(()),
        ["gates"] => Err("a gate is missed".into()),
        ["speed", iterations] => speed(iterations.parse()?),
        _ => Err("gates, or speed ITERATIONS".into()),
    }
}
