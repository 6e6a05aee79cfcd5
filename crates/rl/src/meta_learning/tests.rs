//! Gates at a size that a debug build computes in seconds; `make bench-meta` has them at full size.

use tch::{Kind, Tensor};

use super::{
    families::{FamilyPart, FamilyShape},
    learner::{StepMemory, StepSizes, copies, gradient, step},
    network::TaskNetwork,
    tasks::{TaskBatch, TaskExamples},
    *,
};
use crate::network::tensor_numbers;

fn plan(algorithm: MetaAlgorithm, family: TaskFamily, settings: MetaSettings) -> MetaPlan {
    MetaPlan { algorithm, settings, source: TaskSource::Family(family), seed: 3 }
}

fn short(iterations: u64) -> MetaSettings {
    MetaSettings {
        iterations,
        tasks_per_iteration: 8,
        hidden: vec![16, 16],
        inner_rate: 0.002,
        ..MetaSettings::default()
    }
}

fn trained(plan: MetaPlan) -> TrainedModel {
    let mut trainer = MetaTrainer::new(plan).unwrap();
    while trainer.done() < trainer.total() {
        trainer.advance(100).unwrap();
    }
    trainer.finish().unwrap()
}

fn without_time(mut measures: MetaMeasures) -> MetaMeasures {
    measures.processor_seconds = 0.0;
    measures
}

#[test]
fn an_interrupted_training_ends_with_the_same_bits() {
    for algorithm in MetaAlgorithm::ALL {
        let family = match algorithm {
            MetaAlgorithm::PrototypicalNetworks => TaskFamily::GaussianClassification,
            _ => TaskFamily::SinusoidRegression,
        };
        let plan = plan(algorithm, family, MetaSettings { inner_steps: 2, inner_rate: 0.001, ..short(40) });
        let whole = trained(plan.clone());
        let mut trainer = MetaTrainer::new(plan.clone()).unwrap();
        trainer.advance(17).unwrap();
        let kept = trainer.save().unwrap();
        trainer.advance(5).unwrap();
        let mut trainer = MetaTrainer::restored(plan, &kept).unwrap();
        assert_eq!(trainer.done(), 17);
        trainer.advance(1_000).unwrap();
        assert_eq!(trainer.done(), 40, "no further than the plan");
        let resumed = trainer.finish().unwrap();
        assert_eq!(resumed.weights, whole.weights, "{algorithm:?}");
        assert_eq!(without_time(resumed.measures), without_time(whole.measures), "{algorithm:?}");
    }
}

/// The gradient of MAML through two inner steps, beside differences of the loss.
#[test]
fn the_second_derivatives_are_those_of_the_loss() {
    let network = TaskNetwork { sizes: vec![1, 3, 1] };
    let shape = FamilyShape { shots: 6, queries: 6, ways: 2, separation: 1.0 };
    let batch = TaskFamily::SinusoidRegression.draw(3, &shape, FamilyPart::Usual, 5).unwrap();
    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let set = |set: &tasks::ExampleBatch| tasks::ExampleBatch {
        inputs: double(&set.inputs),
        wanted: match &set.wanted {
            tasks::WantedOutputs::Numbers(numbers) => tasks::WantedOutputs::Numbers(double(numbers)),
            tasks::WantedOutputs::Classes(_) => unreachable!(),
        },
    };
    let batch = TaskBatch { support: set(&batch.support), query: set(&batch.query), best_share: None };
    let start: Vec<f64> = (0..network.parameters()).map(|index| (index as f64 * 1.7).sin()).collect();
    let loss = |values: &Tensor, memory: StepMemory| {
        let mut at = copies(values, 3).unwrap();
        for _ in 0..2 {
            at = step(&network, &at, &batch.support, &StepSizes::One(0.05), memory).unwrap();
        }
        let outputs = network.forward(&at, &batch.query.inputs).unwrap();
        let tasks::WantedOutputs::Numbers(wanted) = &batch.query.wanted else { unreachable!() };
        (outputs - wanted).square().mean(Kind::Double)
    };
    let leaf = Tensor::from_slice(&start).set_requires_grad(true);
    let by = |memory: StepMemory| {
        let gradient = gradient(&loss(&leaf, memory), &leaf, StepMemory::Nothing).unwrap();
        Vec::<f64>::try_from(gradient).unwrap()
    };
    let (second, first) = (by(StepMemory::Second), by(StepMemory::First));
    let mut apart: f64 = 0.0;
    for index in 0..start.len() {
        let moved = |by: f64| {
            let mut values = start.clone();
            values[index] += by;
            let leaf = Tensor::from_slice(&values).set_requires_grad(true);
            f64::try_from(loss(&leaf, StepMemory::First).detach()).unwrap()
        };
        let wanted = (moved(1e-6) - moved(-1e-6)) / 2e-6;
        assert!((second[index] - wanted).abs() < 1e-4 * (1.0 + wanted.abs()), "{index}: {} {wanted}", second[index]);
        apart = apart.max((first[index] - wanted).abs());
    }
    assert!(apart > 1e-3, "without second derivatives the gradient is another: {apart}");
}

#[test]
fn maml_learns_sinusoids_from_ten_examples_in_one_step() {
    let settings = MetaSettings {
        iterations: 1_200,
        outer_rate: 0.005,
        hidden: vec![40, 40, 40],
        tasks_per_iteration: 16,
        ..MetaSettings::default()
    };
    let maml = trained(plan(MetaAlgorithm::Maml, TaskFamily::SinusoidRegression, settings.clone())).measures;
    let plain = trained(plan(MetaAlgorithm::Pretraining, TaskFamily::SinusoidRegression, settings)).measures;
    let (ours, theirs) = (maml.adaptation.losses[1], plain.adaptation.losses[1]);
    assert!(ours < 1.1, "{ours}");
    assert!(theirs > 1.8 * ours, "{theirs} beside {ours}");
    assert!(maml.adaptation.losses[0] > 2.0 * ours, "it is the step that does it");
    let speed = maml.adaptation_speed.unwrap();
    assert!((0.0..=1.0).contains(&speed) && (0.0..=1.0).contains(&maml.meta_accuracy.unwrap()));
    assert!(maml.training_curve.last().unwrap().loss < maml.training_curve[0].loss);
}

#[test]
fn prototypes_tell_clusters_apart_nearly_as_well_as_can_be() {
    let settings =
        MetaSettings { iterations: 300, shots: 5, hidden: Vec::new(), outer_rate: 0.01, ..MetaSettings::default() };
    let plan = plan(MetaAlgorithm::PrototypicalNetworks, TaskFamily::GaussianClassification, settings);
    let begun = MetaTrainer::new(plan.clone()).unwrap().finish().unwrap().measures.meta_accuracy.unwrap();
    let measures = trained(plan).measures;
    let (reached, best) = (measures.meta_accuracy.unwrap(), measures.best_possible_accuracy.unwrap());
    assert!(best > 0.98 && best < 1.0, "{best}");
    assert!(reached >= 0.95 && reached > best - 0.02 && reached < best, "{reached} of {best}");
    assert!(reached > begun + 0.1, "{begun} before, {reached} after");
    assert_eq!((measures.adaptation_speed, measures.adaptation.losses.len()), (None, 1));
}

#[test]
fn the_other_algorithms_learn_too() {
    let reached = |algorithm, family, settings: MetaSettings| {
        let plan = plan(algorithm, family, settings);
        let begun = MetaTrainer::new(plan.clone()).unwrap().finish().unwrap().measures;
        (begun.held_out_loss, trained(plan).measures)
    };
    let usual = MetaSettings { iterations: 400, inner_rate: 0.05, ways: 6, ..MetaSettings::default() };
    for algorithm in [MetaAlgorithm::FirstOrderMaml, MetaAlgorithm::MetaSgd] {
        let (before, after) = reached(algorithm, TaskFamily::Bandits, usual.clone());
        assert!(after.held_out_loss < 0.6 * before, "{algorithm:?}: {before} {after:?}");
        assert!(after.meta_accuracy.unwrap() > 0.8, "{algorithm:?}: {after:?}");
        assert!(after.generalization_ability.unwrap() < 1.0, "noisier pulls say less");
    }
    let reptile = MetaSettings { inner_steps: 5, outer_rate: 0.5, ..usual };
    let (before, after) = reached(MetaAlgorithm::Reptile, TaskFamily::Bandits, reptile);
    assert!(after.held_out_loss < 0.9 * before, "{before} {after:?}");
}

#[test]
fn what_actions_pay_in_markets_is_learnt() {
    let settings = MetaSettings {
        iterations: 300,
        tasks_per_iteration: 8,
        hidden: vec![32, 32],
        inner_rate: 0.02,
        ..MetaSettings::default()
    };
    let plan = plan(MetaAlgorithm::FirstOrderMaml, TaskFamily::PriceOptimization, settings);
    plan.check().unwrap();
    let before = MetaTrainer::new(plan.clone()).unwrap().finish().unwrap().measures;
    let after = trained(plan).measures;
    assert!(after.held_out_loss < 0.7 * before.held_out_loss, "{before:?} {after:?}");
    let [learnt, begun] = [&after, &before].map(|measures| measures.meta_accuracy.unwrap());
    assert!(learnt > begun && learnt > 0.25, "{begun} before, {learnt} after");
}

#[test]
fn a_model_is_read_as_it_was_written_and_adapts_as_measured() {
    let trained = trained(plan(MetaAlgorithm::MetaSgd, TaskFamily::SinusoidRegression, short(60)));
    let model = MetaModel::read(&trained.weights).unwrap();
    assert_eq!(model.file().unwrap(), trained.weights);
    assert_eq!((model.algorithm(), model.shape()), (MetaAlgorithm::MetaSgd, (1, 1, TaskKind::Regression)));
    let one = model.adapt_to_drawn(9, 3).unwrap().unwrap();
    assert_eq!((one.curve.losses.len(), &model.adapt_to_drawn(9, 3).unwrap().unwrap()), (4, &one));
    assert_ne!(model.adapt_to_drawn(10, 3).unwrap().unwrap().curve, one.curve);
    // The adapted model, before a step, is where the adaptation ended.
    let again = MetaModel::read(&one.weights).unwrap().adapt_to_drawn(9, 1).unwrap().unwrap();
    assert_eq!(again.curve.losses[0], one.curve.losses[3]);
    assert!(MetaModel::read(&trained.weights[..40]).is_err());
}

#[test]
fn sent_tasks_are_trained_with_and_some_are_held_out() {
    let task = |slope: f64| {
        let set = |from: i32| {
            let inputs: Vec<Vec<f64>> = (from..from + 4).map(|x| vec![f64::from(x) / 4.0]).collect();
            let targets = Some(inputs.iter().map(|row| vec![slope * row[0]]).collect());
            TaskExamples { inputs, targets, labels: None }
        };
        LearningTask { support: set(-4), query: set(0) }
    };
    let tasks: Vec<_> = (0..10).map(|index| task(f64::from(index) - 4.5)).collect();
    let settings = MetaSettings { inner_rate: 0.1, outer_rate: 0.01, ..short(300) };
    let plan = MetaPlan { algorithm: MetaAlgorithm::Maml, settings, source: TaskSource::Sent(tasks), seed: 1 };
    plan.check().unwrap();
    let measures = trained(plan).measures;
    assert_eq!(measures.held_out_tasks, 2);
    assert!(measures.meta_accuracy.unwrap() > 0.5, "{measures:?}");
    assert!(measures.held_out_loss_margin.is_some() && measures.best_possible_accuracy.is_none());
}

#[test]
fn families_are_drawn_as_described() {
    let shape = FamilyShape { shots: 7, queries: 9, ways: 4, separation: 4.0 };
    let batch = TaskFamily::Bandits.draw(5, &shape, FamilyPart::Usual, 1).unwrap();
    assert_eq!((batch.support.inputs.size(), batch.query.inputs.size()), (vec![5, 7, 4], vec![5, 4, 4]));
    for family in TaskFamily::ALL {
        assert_eq!(TaskFamily::parse(family.word()), Some(family));
        let draw = |seed| family.draw(2, &shape, FamilyPart::Usual, seed).unwrap();
        let numbers = |batch: &TaskBatch| tensor_numbers(&batch.support.inputs).unwrap();
        assert_eq!(numbers(&draw(4)), numbers(&draw(4)), "{family:?}");
        assert_ne!(numbers(&draw(4)), numbers(&draw(5)), "{family:?}");
    }
    let batch = TaskFamily::PriceOptimization.draw(5, &shape, FamilyPart::Usual, 1).unwrap();
    let inputs = (crate::FEATURE_NAMES.len() + crate::ACTION_NAMES.len()) as i64;
    assert_eq!((batch.support.inputs.size(), batch.query.inputs.size()), (vec![5, 7, inputs], vec![5, 36, inputs]));
    let batch = TaskFamily::GaussianClassification.draw(200, &shape, FamilyPart::Usual, 1).unwrap();
    assert_eq!(batch.query.inputs.size(), [200, 36, 16]);
    let harder = TaskFamily::GaussianClassification.draw(200, &shape, FamilyPart::Harder, 1).unwrap();
    assert!(harder.best_share.unwrap() < batch.best_share.unwrap());
    let batch = TaskFamily::SinusoidRegression.draw(300, &shape, FamilyPart::Usual, 1).unwrap();
    let most = tensor_numbers(&batch.query.inputs).unwrap().into_iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(most <= 5.0 && most > 4.9);
}
