//! Families of tasks that are drawn.

use std::f64::consts::{PI, TAU};

use rand::SeedableRng;
use serde::{Deserialize, Serialize};
use tch::TchError;
use utoipa::ToSchema;

use super::tasks::{ExampleNumbers, TaskBatch, TaskKind, TaskShape};
use crate::{
    ACTION_NAMES, FEATURE_NAMES,
    environments::{MarketKind, drawn_market},
    training::sampling::{TrainingRng, sample_below, sample_normal, sample_uniform, shuffle},
};

/// Numbers of a point of `gaussian_classification` in which the classes differ.
const TELLING_NUMBERS: usize = 4;
/// Numbers of a point in which they do not.
const IDLE_NUMBERS: usize = 12;
/// Deviation of the numbers in which classes do not differ; of the others it is 1.
const IDLE_DEVIATION: f32 = 3.0;
/// Deviation of what a pull of an arm pays.
const PAY_DEVIATION: f32 = 0.3;
/// Part of the way from a parameter's default to the end of its range within which a market has it, and in harder tasks.
const MARKET_REACH: f64 = 0.25;
const HARDER_MARKET_REACH: f64 = 0.5;

/// A family of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskFamily {
    /// y = a sin(x - p) for x in [-5, 5], with the amplitude a in [0.1, 5] and the phase p in [0, pi] drawn for each task, as in the
    /// paper of MAML. Harder ones: a in [5, 7.5].
    SinusoidRegression,
    /// Classes that are normal distributions in 16 numbers. In 4 of them the classes have means drawn with the deviation
    /// `separation`, and deviation 1; the other 12 have deviation 3 and tell nothing. Harder ones: the separation is three quarters.
    GaussianClassification,
    /// Bandits whose arms lie on a circle: arm k of n pays s cos(2 pi k / n - p) plus noise of deviation 0.3, with p in [0, 2 pi) and
    /// s in [0.5, 1.5] drawn for each task. The support set is pulls of random arms, the query what each arm pays on average.
    /// Harder ones: noise of twice the deviation.
    Bandits,
    /// The environment `marketplace_trading` with drawn parameters, each up to a quarter of the way from its default to either end of its
    /// range: which action pays most at once, in each state. The support set is actions in random states with drawn rewards, the
    /// query all four actions in random states with their expected rewards. Harder ones: up to half of the way.
    MarketplaceTrading,
    /// The same of the environment `resource_allocation`.
    ResourceAllocation,
    /// The same of the environment `price_optimization`.
    PriceOptimization,
    /// The same of the environment `service_selection`.
    ServiceSelection,
    /// The same of the environment `negotiation_strategy`.
    NegotiationStrategy,
    /// The same of the environment `portfolio_management`.
    PortfolioManagement,
}

/// Sizes of the tasks that are drawn.
pub(super) struct FamilyShape {
    pub(super) shots: usize,
    pub(super) queries: usize,
    pub(super) ways: usize,
    pub(super) separation: f32,
}

/// From which part of a family tasks come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FamilyPart {
    /// That of the training.
    Usual,
    /// Harder ones, which the training never sees.
    Harder,
}

impl TaskFamily {
    /// All families that are served.
    pub const ALL: [Self; 9] = [
        Self::SinusoidRegression,
        Self::GaussianClassification,
        Self::Bandits,
        Self::MarketplaceTrading,
        Self::ResourceAllocation,
        Self::PriceOptimization,
        Self::ServiceSelection,
        Self::NegotiationStrategy,
        Self::PortfolioManagement,
    ];

    /// Its word in requests.
    pub fn word(self) -> &'static str {
        match self {
            Self::SinusoidRegression => "sinusoid_regression",
            Self::GaussianClassification => "gaussian_classification",
            Self::Bandits => "bandits",
            Self::MarketplaceTrading => "marketplace_trading",
            Self::ResourceAllocation => "resource_allocation",
            Self::PriceOptimization => "price_optimization",
            Self::ServiceSelection => "service_selection",
            Self::NegotiationStrategy => "negotiation_strategy",
            Self::PortfolioManagement => "portfolio_management",
        }
    }

    /// The market whose actions are learnt; `None`: it has none.
    fn market(self) -> Option<MarketKind> {
        match self {
            Self::SinusoidRegression | Self::GaussianClassification | Self::Bandits => None,
            Self::MarketplaceTrading => Some(MarketKind::Trading),
            Self::ResourceAllocation => Some(MarketKind::Resources),
            Self::PriceOptimization => Some(MarketKind::Prices),
            Self::ServiceSelection => Some(MarketKind::Services),
            Self::NegotiationStrategy => Some(MarketKind::Negotiation),
            Self::PortfolioManagement => Some(MarketKind::Portfolio),
        }
    }

    /// Whether its tasks are choices that pay.
    pub fn is_of_choices(self) -> bool {
        self == Self::Bandits || self.market().is_some()
    }

    /// Query examples of a drawn task where `queries` are asked for.
    pub(super) fn query_rows(self, queries: u64) -> u64 {
        queries * if self.market().is_some() { ACTION_NAMES.len() as u64 } else { 1 }
    }

    /// The family of an adaptation target, in either case, with spaces or hyphens for underscores; also by its kind of task alone.
    pub fn parse(target: &str) -> Option<Self> {
        match target.trim().to_lowercase().replace(['-', ' '], "_").as_str() {
            "sinusoid_regression" | "sinusoid" | "regression" => Some(Self::SinusoidRegression),
            "gaussian_classification" | "gaussian_mixture_classification" | "classification" => {
                Some(Self::GaussianClassification)
            }
            "bandits" | "bandit" => Some(Self::Bandits),
            other => Self::ALL.into_iter().find(|family| family.word() == other),
        }
    }

    pub(super) fn kind(self) -> TaskKind {
        match self {
            Self::SinusoidRegression => TaskKind::Regression,
            Self::GaussianClassification => TaskKind::Classification,
            Self::Bandits => TaskKind::Bandits,
            _ => TaskKind::MarketActions,
        }
    }

    pub(super) fn task_shape(self, ways: usize) -> TaskShape {
        let (inputs, outputs) = match self {
            Self::SinusoidRegression => (1, 1),
            Self::GaussianClassification => (TELLING_NUMBERS + IDLE_NUMBERS, ways),
            Self::Bandits => (ways, 1),
            _ => (FEATURE_NAMES.len() + ACTION_NAMES.len(), 1),
        };
        TaskShape { inputs, outputs, kind: self.kind() }
    }

    /// Draw `tasks` tasks; equal seeds draw equal ones.
    pub(super) fn draw(
        self,
        tasks: usize,
        shape: &FamilyShape,
        part: FamilyPart,
        seed: u64,
    ) -> Result<TaskBatch, TchError> {
        let mut generator = TrainingRng::seed_from_u64(seed);
        let (mut support, mut query) = (ExampleNumbers::default(), ExampleNumbers::default());
        let (mut right, mut asked) = (0usize, 0usize);
        for _ in 0..tasks {
            if let Some(market) = self.market() {
                draw_market(market, shape, part, &mut generator, [&mut support, &mut query]);
                continue;
            }
            match self {
                Self::Bandits => draw_bandit(shape, part, &mut generator, [&mut support, &mut query]),
                Self::GaussianClassification => {
                    right += draw_classes(shape, part, &mut generator, [&mut support, &mut query]);
                    asked += shape.ways * shape.queries;
                }
                _ => draw_sinusoid(shape, part, &mut generator, [&mut support, &mut query]),
            }
        }
        let TaskShape { inputs, outputs, .. } = self.task_shape(shape.ways);
        Ok(TaskBatch {
            support: support.batch(tasks, inputs, outputs)?,
            query: query.batch(tasks, inputs, outputs)?,
            best_share: (asked > 0).then(|| right as f64 / asked as f64),
        })
    }
}

fn draw_sinusoid(
    shape: &FamilyShape,
    part: FamilyPart,
    generator: &mut TrainingRng,
    [support, query]: [&mut ExampleNumbers; 2],
) {
    let amplitudes = if part == FamilyPart::Usual { [0.1, 5.0] } else { [5.0, 7.5] };
    let amplitude = sample_uniform(generator, amplitudes[0], amplitudes[1]);
    let phase = sample_uniform(generator, 0.0, PI);
    for (set, count) in [(support, shape.shots), (query, shape.queries)] {
        for _ in 0..count {
            let x = sample_uniform(generator, -5.0, 5.0);
            set.inputs.push(x as f32);
            set.numbers.push((amplitude * (x - phase).sin()) as f32);
        }
    }
}

fn draw_bandit(
    shape: &FamilyShape,
    part: FamilyPart,
    generator: &mut TrainingRng,
    [support, query]: [&mut ExampleNumbers; 2],
) {
    let (best, scale) = (sample_uniform(generator, 0.0, TAU), sample_uniform(generator, 0.5, 1.5));
    let deviation = PAY_DEVIATION * if part == FamilyPart::Usual { 1.0 } else { 2.0 };
    let pays = |arm: usize| (scale * (TAU * arm as f64 / shape.ways as f64 - best).cos()) as f32;
    let add = |set: &mut ExampleNumbers, arm: usize, number: f32| {
        set.inputs.extend((0..shape.ways).map(|other| if other == arm { 1.0 } else { 0.0 }));
        set.numbers.push(number);
    };
    for _ in 0..shape.shots {
        let arm = sample_below(generator, shape.ways);
        add(support, arm, pays(arm) + deviation * sample_normal(generator));
    }
    (0..shape.ways).for_each(|arm| add(query, arm, pays(arm)));
}

fn draw_market(
    kind: MarketKind,
    shape: &FamilyShape,
    part: FamilyPart,
    generator: &mut TrainingRng,
    [support, query]: [&mut ExampleNumbers; 2],
) {
    let reach = if part == FamilyPart::Usual { MARKET_REACH } else { HARDER_MARKET_REACH };
    let market = drawn_market(kind, &mut |one| {
        let way = sample_uniform(generator, -reach, reach);
        one.default + way * if way < 0.0 { one.default - one.low } else { one.high - one.default }
    });
    let add = |set: &mut ExampleNumbers, state: usize, action: usize, pays: f64| {
        let mut seen = [0.0; FEATURE_NAMES.len()];
        market.write_features(state, &mut seen);
        set.inputs.extend(seen);
        set.inputs.extend((0..ACTION_NAMES.len()).map(|other| if other == action { 1.0 } else { 0.0 }));
        set.numbers.push(pays as f32);
    };
    for _ in 0..shape.shots {
        let (state, action) = (sample_below(generator, market.states()), sample_below(generator, ACTION_NAMES.len()));
        add(support, state, action, market.drawn(state, action, sample_uniform(generator, 0.0, 1.0)));
    }
    for _ in 0..shape.queries {
        let state = sample_below(generator, market.states());
        (0..ACTION_NAMES.len()).for_each(|action| add(query, state, action, market.expected(state, action)));
    }
}

/// Draw a task of classes; returns how many query examples are nearest to the mean of their own class, which is the best rule for
/// normal distributions of equal deviation.
fn draw_classes(
    shape: &FamilyShape,
    part: FamilyPart,
    generator: &mut TrainingRng,
    [support, query]: [&mut ExampleNumbers; 2],
) -> usize {
    let separation = shape.separation * if part == FamilyPart::Usual { 1.0 } else { 0.75 };
    let means: Vec<[f32; TELLING_NUMBERS]> =
        (0..shape.ways).map(|_| std::array::from_fn(|_| separation * sample_normal(generator))).collect();
    let mut right = 0;
    for (set, each, is_query) in [(support, shape.shots, false), (query, shape.queries, true)] {
        let mut order: Vec<usize> = (0..shape.ways * each).map(|index| index % shape.ways).collect();
        shuffle(generator, &mut order);
        for class in order {
            let point: [f32; TELLING_NUMBERS] = means[class].map(|mean| mean + sample_normal(generator));
            set.inputs.extend(point);
            set.inputs.extend((0..IDLE_NUMBERS).map(|_| IDLE_DEVIATION * sample_normal(generator)));
            set.classes.push(class as i64);
            right += usize::from(is_query && nearest(&point, &means) == class);
        }
    }
    right
}

fn nearest(point: &[f32; TELLING_NUMBERS], means: &[[f32; TELLING_NUMBERS]]) -> usize {
    let distance = |mean: &[f32; TELLING_NUMBERS]| -> f32 {
        point.iter().zip(mean).map(|(one, other)| (one - other).powi(2)).sum()
    };
    let order = |one: &usize, other: &usize| distance(&means[*one]).total_cmp(&distance(&means[*other]));
    (0..means.len()).min_by(order).unwrap_or(0)
}
