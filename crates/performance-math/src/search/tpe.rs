//! The tree-structured Parzen estimator (Bergstra, Bardenet, Bengio and Kégl, NIPS 2011): points are drawn where good ones were dense
//! and others were not. The densities are mixtures of one kernel a trial over all dimensions together, so that dimensions that belong
//! together are drawn together, and of the uniform prior.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};

use super::space::{SearchDimension, SearchSpace};

/// Points drawn at random before densities are estimated.
const STARTUP_TRIALS: usize = 10;
/// Points of which the most promising is proposed.
const CANDIDATES: usize = 24;
/// Share of the trials that counts as good, and their number at most.
const GOOD_SHARE: f64 = 0.15;
const MAX_GOOD: usize = 25;
/// Draws of a truncated kernel before its bound is taken.
const MAX_DRAWS: usize = 64;
/// Bandwidths of a kernel are at least this in the unit interval.
const MIN_BANDWIDTH: f64 = 1e-3;

/// A trial: a point and its loss, less being better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchTrial {
    /// The point, one value a dimension.
    pub point: Vec<f64>,
    /// Its loss; null where it could not be measured, which counts as the worst.
    pub loss: Option<f64>,
}

/// A search under way: its proposals depend on the seed and the trials only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TpeSearch {
    space: SearchSpace,
    seed: u64,
    trials: Vec<SearchTrial>,
}

/// A mixture of kernels over the unit cube, with the uniform prior as the last of them.
struct ParzenMixture<'a> {
    space: &'a SearchSpace,
    /// Places of the kernels' middles, one row a kernel.
    places: Vec<Vec<f64>>,
    /// Bandwidths, one row a kernel; of choices unused.
    widths: Vec<Vec<f64>>,
    /// Logarithm of each kernel's factor before the exponential.
    factors: Vec<f64>,
}

fn normal_cdf(x: f64) -> f64 {
    // Abramowitz and Stegun 7.1.26, to 1.5e-7.
    let z = x.abs() / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let poly =
        t * (0.254_829_592 + t * (-0.284_496_736 + t * (1.421_413_741 + t * (-1.453_152_027 + t * 1.061_405_429))));
    let erf = 1.0 - poly * (-z * z).exp();
    if x >= 0.0 { 0.5 * (1.0 + erf) } else { 0.5 * (1.0 - erf) }
}

fn standard_normal(rng: &mut SmallRng) -> f64 {
    let (u, v): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

impl<'a> ParzenMixture<'a> {
    fn new(space: &'a SearchSpace, places: Vec<Vec<f64>>) -> Self {
        let kernels = places.len() + 1;
        let mut mixture =
            Self { space, widths: vec![vec![1.0; space.dimensions.len()]; places.len()], places, factors: Vec::new() };
        for (at, (_, dimension)) in space.dimensions.iter().enumerate() {
            if dimension.choices().is_none() {
                mixture.set_widths(at);
            }
        }
        let weight = -(kernels as f64).ln();
        mixture.factors = (0..mixture.places.len())
            .map(|kernel| {
                let log_norm = space.dimensions.iter().enumerate().map(|(at, (_, dimension))| {
                    if dimension.choices().is_some() {
                        return 0.0;
                    }
                    let (middle, width) = (mixture.places[kernel][at], mixture.widths[kernel][at]);
                    let inside = normal_cdf((1.0 - middle) / width) - normal_cdf(-middle / width);
                    -(width * inside.max(1e-12)).ln() - 0.5 * std::f64::consts::TAU.ln()
                });
                weight + log_norm.sum::<f64>()
            })
            .collect();
        mixture
    }

    /// The bandwidth of a kernel is the larger distance to its neighbours, the prior's middle being one; the fewer kernels there
    /// are, the wider is the narrowest.
    fn set_widths(&mut self, at: usize) {
        let count = self.places.len();
        let mut order: Vec<(f64, Option<usize>)> =
            self.places.iter().enumerate().map(|(kernel, row)| (row[at], Some(kernel))).collect();
        order.push((0.5, None));
        order.sort_by(|a, b| a.0.total_cmp(&b.0));
        let least = (1.0 / (1.0 + count as f64).min(100.0)).max(MIN_BANDWIDTH);
        for (rank, (place, kernel)) in order.iter().enumerate() {
            let Some(kernel) = kernel else { continue };
            let left = rank.checked_sub(1).map(|before| place - order[before].0);
            let right = order.get(rank + 1).map(|after| after.0 - place);
            let width = left.unwrap_or(0.0).max(right.unwrap_or(0.0));
            self.widths[*kernel][at] = width.clamp(least, 1.0);
        }
    }

    /// Logarithm of the probability of a choice under a kernel: its own choice counts one more.
    fn log_choice(&self, own: bool, choices: usize) -> f64 {
        let prior = 1.0 / (self.places.len() + 1) as f64;
        let count = if own { 1.0 + prior } else { prior };
        (count / (1.0 + prior * choices as f64)).ln()
    }

    fn log_density(&self, units: &[f64], scratch: &mut Vec<f64>) -> f64 {
        scratch.clear();
        for (kernel, place) in self.places.iter().enumerate() {
            let mut log = self.factors[kernel];
            for (at, (_, dimension)) in self.space.dimensions.iter().enumerate() {
                match dimension.choices() {
                    Some(choices) => log += self.log_choice(same_choice(dimension, units[at], place[at]), choices),
                    None => {
                        let z = (units[at] - place[at]) / self.widths[kernel][at];
                        log -= 0.5 * z * z;
                    }
                }
            }
            scratch.push(log);
        }
        // The prior: density 1 in the unit cube, and each choice as likely.
        let choices = self.space.dimensions.iter().filter_map(|(_, dimension)| dimension.choices());
        let prior: f64 = choices.map(|choices| -(choices as f64).ln()).sum();
        scratch.push(prior - ((self.places.len() + 1) as f64).ln());
        let most = scratch.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + scratch.iter().map(|log| (log - most).exp()).sum::<f64>().ln()
    }

    fn draw(&self, rng: &mut SmallRng) -> Vec<f64> {
        let kernel = rng.random_range(0..=self.places.len());
        let Some(place) = self.places.get(kernel) else { return draw_uniform(self.space, rng) };
        let dimensions = self.space.dimensions.iter().enumerate();
        dimensions
            .map(|(at, (_, dimension))| match dimension.choices() {
                Some(choices) => {
                    let keeps = rng.random::<f64>() < self.log_choice(true, choices).exp();
                    if keeps { place[at] } else { rng.random() }
                }
                None => {
                    let width = self.widths[kernel][at];
                    let mut draws = (0..MAX_DRAWS).map(|_| place[at] + width * standard_normal(rng));
                    draws.find(|unit| (0.0..=1.0).contains(unit)).unwrap_or(place[at])
                }
            })
            .collect()
    }
}

fn same_choice(dimension: &SearchDimension, one: f64, other: f64) -> bool {
    dimension.value(one) == dimension.value(other)
}

fn draw_uniform(space: &SearchSpace, rng: &mut SmallRng) -> Vec<f64> {
    space.dimensions.iter().map(|_| rng.random()).collect()
}

impl TpeSearch {
    /// Begin a search of `space`, which is [checked](SearchSpace::check) already.
    pub fn new(space: SearchSpace, seed: u64) -> Self {
        Self { space, seed, trials: Vec::new() }
    }

    /// The space that is searched.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// The trials so far, in their order.
    pub fn trials(&self) -> &[SearchTrial] {
        &self.trials
    }

    /// Add a trial. A loss that is not finite counts as not measured.
    pub fn tell(&mut self, point: Vec<f64>, loss: f64) {
        self.trials.push(SearchTrial { point, loss: loss.is_finite().then_some(loss) });
    }

    /// The trial with the least loss; `None` before one was measured.
    pub fn best(&self) -> Option<&SearchTrial> {
        let measured = self.trials.iter().filter_map(|trial| Some((trial.loss?, trial)));
        measured.min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, trial)| trial)
    }

    /// The least loss after each trial; `None` before one was measured.
    pub fn curve(&self) -> Vec<Option<f64>> {
        let mut best: Option<f64> = None;
        let step = |trial: &SearchTrial| {
            best = match (best, trial.loss) {
                (Some(best), Some(loss)) => Some(best.min(loss)),
                (best, loss) => best.or(loss),
            };
            best
        };
        self.trials.iter().map(step).collect()
    }

    /// The point to try next.
    pub fn suggest(&self) -> Vec<f64> {
        let count = self.trials.len();
        let mut rng = SmallRng::seed_from_u64(self.seed ^ (count as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        if count < STARTUP_TRIALS {
            return self.space.point(&draw_uniform(&self.space, &mut rng));
        }
        let losses: Vec<f64> = self.trials.iter().map(|trial| trial.loss.unwrap_or(f64::INFINITY)).collect();
        let order = super::best_indices(&losses, count);
        let good = ((GOOD_SHARE * count as f64).ceil() as usize).clamp(1, MAX_GOOD);
        let units = |indices: &[usize]| {
            let mut indices = indices.to_vec();
            indices.sort_unstable();
            indices.iter().map(|at| self.space.units(&self.trials[*at].point)).collect::<Vec<_>>()
        };
        let (below, above) = order.split_at(good.min(count));
        let below = ParzenMixture::new(&self.space, units(below));
        let above = ParzenMixture::new(&self.space, units(above));
        let (mut best, mut scratch) = (None, Vec::with_capacity(count + 1));
        for _ in 0..CANDIDATES {
            let drawn = below.draw(&mut rng);
            let score = below.log_density(&drawn, &mut scratch) - above.log_density(&drawn, &mut scratch);
            if best.as_ref().is_none_or(|(highest, _)| score > *highest) {
                best = Some((score, drawn));
            }
        }
        let (_, units) = best.unwrap_or_default();
        self.space.point(&units)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(low: f64, high: f64) -> SearchDimension {
        SearchDimension::Float { low, high, log: false }
    }

    fn run(space: SearchSpace, seed: u64, trials: usize, loss: impl Fn(&[f64]) -> f64) -> TpeSearch {
        let mut search = TpeSearch::new(space, seed);
        for _ in 0..trials {
            let point = search.suggest();
            let found = loss(&point);
            search.tell(point, found);
        }
        search
    }

    #[test]
    fn it_comes_nearer_than_chance() {
        let space = SearchSpace {
            dimensions: vec![
                ("x".into(), float(-5.0, 5.0)),
                ("rate".into(), SearchDimension::Float { low: 1e-5, high: 1.0, log: true }),
                ("layers".into(), SearchDimension::Integer { low: 1, high: 9, log: false }),
                ("kind".into(), SearchDimension::Choice { count: 4 }),
            ],
        };
        let loss = |point: &[f64]| {
            (point[0] - 1.0).powi(2)
                + (point[1].log10() + 3.0).powi(2)
                + (point[2] - 7.0).abs()
                + f64::from(u8::from(point[3] != 2.0))
        };
        let mean = |of: &dyn Fn(u64) -> f64| (0..10).map(of).sum::<f64>() / 10.0;
        let searched = mean(&|seed| run(space.clone(), seed, 60, loss).best().unwrap().loss.unwrap());
        let chance = mean(&|seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            (0..60).map(|_| loss(&space.point(&draw_uniform(&space, &mut rng)))).fold(f64::INFINITY, f64::min)
        });
        assert!(searched < 0.5 * chance, "{searched} against {chance} by chance");
    }

    #[test]
    fn the_same_seed_and_trials_give_the_same_proposals() {
        let space = SearchSpace { dimensions: vec![("x".into(), float(0.0, 1.0)), ("y".into(), float(0.0, 1.0))] };
        let loss = |point: &[f64]| point[0] * point[0] + point[1];
        let (one, other) = (run(space.clone(), 7, 30, loss), run(space.clone(), 7, 30, loss));
        assert_eq!(one, other);
        let text = serde_json::to_string(&one).unwrap();
        let read: TpeSearch = serde_json::from_str(&text).unwrap();
        assert_eq!(read.suggest(), one.suggest(), "also after it was stored");
        assert_ne!(run(space, 8, 30, loss).trials(), one.trials());
    }

    #[test]
    fn what_could_not_be_measured_is_the_worst() {
        let space = SearchSpace { dimensions: vec![("x".into(), float(0.0, 1.0))] };
        let search = run(space, 1, 40, |point| if point[0] < 0.5 { f64::NAN } else { (point[0] - 0.8).abs() });
        assert!(search.best().unwrap().point[0] >= 0.5);
        let late = search.trials()[20..].iter().filter(|trial| trial.loss.is_some()).count();
        assert!(late >= 14, "{late} of the last 20 were drawn where something can be measured");
        assert_eq!(search.curve().len(), 40);
        assert!(search.curve().windows(2).all(|pair| pair[1] <= pair[0] || pair[0].is_none()));
    }

    #[test]
    fn the_normal_distribution_is_right() {
        for (x, wanted) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.96, 0.024_997_9), (3.0, 0.998_650_1)] {
            assert!((normal_cdf(x) - wanted).abs() < 1e-6, "{x}");
        }
    }
}
