//! Training a row, and what comes of it.

use std::{
    error::Error,
    io::{Write, stderr},
    time::Instant,
};

use am_rl::{
    environments::{make_environment, with_score_actions},
    training::{Algorithm, ChosenActions, Device, Trainer, TrainingPlan, evaluate_trainer, set_threads},
};

use crate::{
    record::{Row, Seed, Speed},
    rows::{self, SEEDS},
};

/// Greedy episodes after training.
pub const EPISODES: usize = 100;
/// The seed of the environments in which a policy is evaluated: none of the runs'.
pub const EVALUATION: u64 = 1_000_000;
/// Points of a curve.
const SPANS: u64 = 60;

/// Train with each seed.
pub fn train(name: &str, plan: &TrainingPlan) -> Result<Row, Box<dyn Error>> {
    set_threads(1);
    let seeds = SEEDS.iter().map(|seed| {
        let trained = one(&TrainingPlan { seed: *seed, ..plan.clone() })?;
        let Seed { evaluated, expected, seconds, .. } = &trained;
        let trained_last = trained.curve.last().map_or(f64::NAN, |(_, mean)| *mean);
        let expected = expected.map(|expected| format!(", expects {expected:.2}")).unwrap_or_default();
        writeln!(
            stderr(),
            "{name}, seed {seed}: {:.1} ± {:.1} (in training {trained_last:.1}){expected}, {seconds:.0} s",
            evaluated.mean,
            evaluated.deviation
        )?;
        Ok(trained)
    });
    let seeds = seeds.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let plan = plan.whole()?;
    let reference = make_environment(&plan.environment, None)?.reference();
    Ok(Row { plan, reference, seeds })
}

fn one(plan: &TrainingPlan) -> Result<Seed, Box<dyn Error>> {
    let mut trainer = plan.make_trainer(Device::Cpu)?;
    let begin = Instant::now();
    let mut curve = Vec::new();
    let (mut sum, mut count) = (0.0, 0u32);
    while trainer.steps() < plan.steps {
        for ended in trainer.advance()?.ended {
            sum += ended.total;
            count += 1;
        }
        let due = trainer.steps() * SPANS / plan.steps > curve.len() as u64;
        if due && count > 0 {
            let mean = sum / f64::from(count);
            curve.push((trainer.steps(), (mean * 1000.0).round() / 1000.0));
            (sum, count) = (0.0, 0);
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let evaluated = evaluate_trainer(trainer.as_ref(), &mut plan.environments(10)?, EPISODES, EVALUATION)?;
    let expected = expected(plan, trainer.as_ref())?;
    Ok(Seed { seed: plan.seed, seconds, evaluated, expected, curve })
}

/// What the policy can expect of an episode, where that can be computed.
fn expected(plan: &TrainingPlan, trainer: &dyn Trainer) -> Result<Option<f64>, Box<dyn Error>> {
    let one = make_environment(&plan.environment, None)?;
    let one = if plan.algorithm == Algorithm::Sac { with_score_actions(one) } else { one };
    let width = one.description().observations.len();
    let actions = match &one.description().actions {
        am_rl::environments::ActionSpace::Discrete { names } => names.len(),
        am_rl::environments::ActionSpace::Continuous { low, .. } => low.len(),
    };
    let mut chosen = ChosenActions::Discrete(Vec::new());
    let mut refused = None;
    let expected = one.expected_return(&mut |observations| {
        refused = trainer.greedy(observations, &mut chosen).err();
        match &chosen {
            ChosenActions::Continuous(all) => all.iter().map(|number| f64::from(*number)).collect(),
            ChosenActions::Discrete(all) => {
                let mut rows = vec![0.0; observations.len() / width * actions];
                for (row, index) in rows.chunks_mut(actions).zip(all) {
                    row[*index as usize] = 1.0;
                }
                rows
            }
        }
    });
    refused.map_or(Ok(expected), |error| Err(error.into()))
}

/// Steps a second of training, with one thread. The first part of a run, before it learns, isn't measured.
pub fn speed(row: &rows::Row, steps: u64) -> Result<Speed, Box<dyn Error>> {
    set_threads(1);
    let plan = TrainingPlan { steps: 100 * steps, ..row.plan(SEEDS[0])? };
    let mut trainer = plan.make_trainer(Device::Cpu)?;
    while trainer.steps() < 1000 {
        trainer.advance()?;
    }
    let (begin, first) = (Instant::now(), trainer.steps());
    while trainer.steps() < first + steps {
        trainer.advance()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    Ok(Speed { row: row.name.clone(), who: "ours".into(), steps: trainer.steps() - first, seconds })
}
