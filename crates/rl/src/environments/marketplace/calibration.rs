//! Estimation of the parameters of `price_optimization` from records of prices and demand.
//!
//! A record is a row of the coordinator's `pricing_history` (`price`, `demand_level`, mean of `competitor_prices`), a
//! listing of `agent_marketplace` (`execution_price`, `total_executions`), or an hour of `job`. The caller reads them;
//! all records of one calibration measure demand in the same unit.

use super::{PriceOptimization, parameters::MarketParameters, poisson_fit::fit_poisson};

/// Minimum number of usable records.
pub const MIN_RECORDS: usize = 30;
/// Maximum standard error at which an elasticity is accepted.
const MAX_STANDARD_ERROR: f64 = 0.5;
/// Minimum standard deviation of the logarithms of prices; below it the records say nothing about elasticity.
const MIN_LOG_PRICE_SPREAD: f64 = 0.01;
/// Minimum of 1 minus the squared correlation of own and rival prices. Below it the effects of the two prices on demand
/// cannot be told apart.
const MIN_PRICE_INDEPENDENCE: f64 = 1e-3;

/// Reason for keeping a default when demand has no finite fit.
const NO_ESTIMATE: &str = "demand has no finite fit: there is none, or none above some price";

/// Price and demand of one provider in an hour, a day or a listing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PriceRecord {
    /// Price, in the marketplace's currency.
    pub price: f64,
    /// Units demanded, or a quantity proportional to them (jobs requested, demand level).
    pub demand: f64,
    /// Price of competing offers in the same currency; `None` where unknown.
    pub rival_price: Option<f64>,
}

/// An estimated parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedParameter {
    /// Name of the parameter.
    pub name: &'static str,
    /// Estimated value of the parameter.
    pub value: f64,
    /// Standard error of the estimate.
    pub standard_error: f64,
    /// Number of records used.
    pub records: usize,
}

/// Parameters of `price_optimization`, some of them estimated.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceCalibration {
    /// All parameters; those that were not estimated have their default. As JSON they are accepted by
    /// [`environment`](super::super::environment).
    pub parameters: PriceOptimization,
    /// Number of usable records: their prices are above 0, their demand is 0 or more.
    pub records: usize,
    /// Parameters that were estimated.
    pub estimated: Vec<FittedParameter>,
    /// Parameters that kept their default although they were tried, with the reason.
    pub kept: Vec<(&'static str, String)>,
}

/// Error: fewer usable records than required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{usable} records of price and demand can be used, {MIN_RECORDS} are needed")]
pub struct TooFewRecords {
    /// Number of usable records.
    pub usable: usize,
}

/// Estimate `reference_price`, `elasticity` and `cross_elasticity` from `records`; the other parameters are defaults.
/// Records without demand count; those with a price of 0 or less have no logarithm and are not used.
///
/// The reference price is the geometric mean. The elasticities are those of the environment's demand curve, whose mean
/// is `exp(a - elasticity x ln price + cross_elasticity x ln rival_price)`, fitted by Poisson pseudo-maximum likelihood
/// with robust errors. With fewer than [`MIN_RECORDS`] records that have a rival's price, that term is left out. An
/// estimate that is too uncertain, or outside the parameter's range, is rejected.
///
/// # Errors
/// [`TooFewRecords`] with fewer than [`MIN_RECORDS`] usable records.
pub fn calibrate_prices(records: &[PriceRecord]) -> Result<PriceCalibration, TooFewRecords> {
    let positive = |number: f64| number.is_finite() && number > 0.0;
    let counted = |number: f64| number.is_finite() && number >= 0.0;
    let usable: Vec<_> = records.iter().filter(|one| positive(one.price) && counted(one.demand)).collect();
    if usable.len() < MIN_RECORDS {
        return Err(TooFewRecords { usable: usable.len() });
    }
    let parameters = PriceOptimization::default();
    let mut calibration = PriceCalibration { parameters, records: usable.len(), estimated: vec![], kept: vec![] };

    let prices = CenteredSample::from_numbers(usable.iter().map(|one| one.price.ln()));
    let value = prices.mean.exp();
    let standard_error = value * prices.deviation() / (usable.len() as f64).sqrt();
    calibration.accept_if_reliable(FittedParameter {
        name: "reference_price",
        value,
        standard_error,
        records: usable.len(),
    });

    let with_rival: Vec<_> = usable
        .iter()
        .filter_map(|one| Some((one.price.ln(), one.rival_price.filter(|price| positive(*price))?.ln(), one.demand)))
        .collect();
    if with_rival.len() < MIN_RECORDS {
        let reason = format!("{} records have a rival's price, {MIN_RECORDS} are needed", with_rival.len());
        calibration.kept.push(("cross_elasticity", reason));
        calibration.fit_own_price(&prices, &usable.iter().map(|one| one.demand).collect::<Vec<_>>());
    } else {
        calibration.fit_own_and_rival_price(
            &CenteredSample::from_numbers(with_rival.iter().map(|one| one.0)),
            &CenteredSample::from_numbers(with_rival.iter().map(|one| one.1)),
            &with_rival.iter().map(|one| one.2).collect::<Vec<_>>(),
        );
    }
    Ok(calibration)
}

impl PriceCalibration {
    /// Accept an estimate if its error is small enough and its value lies in the parameter's range.
    fn accept_if_reliable(&mut self, estimate: FittedParameter) {
        let FittedParameter { name, value, standard_error, .. } = estimate;
        let mut with = self.parameters.clone();
        let limit = match name {
            "reference_price" => {
                with.reference_price = value;
                f64::INFINITY
            }
            "elasticity" => {
                with.elasticity = value;
                MAX_STANDARD_ERROR
            }
            _ => {
                with.cross_elasticity = value;
                MAX_STANDARD_ERROR
            }
        };
        if standard_error.is_nan() || standard_error > limit {
            self.kept.push((name, format!("{value:.2} has a standard error of {standard_error:.2}")));
        } else if let Err(reason) = with.validate() {
            self.kept.push((name, reason));
        } else {
            self.parameters = with;
            self.estimated.push(estimate);
        }
    }

    /// Fit demand by own price alone.
    fn fit_own_price(&mut self, price: &CenteredSample, demand: &[f64]) {
        if price.deviation() < MIN_LOG_PRICE_SPREAD {
            return self.kept.push(("elasticity", "prices hardly differ".into()));
        }
        let rows: Vec<_> = price.distances.iter().zip(demand).map(|(price, demand)| ([1.0, *price], *demand)).collect();
        let Some(fit) = fit_poisson(&rows) else { return self.kept.push(("elasticity", NO_ESTIMATE.into())) };
        self.accept_if_reliable(FittedParameter {
            name: "elasticity",
            value: -fit.coefficients[1],
            standard_error: fit.errors[1],
            records: price.len(),
        });
    }

    /// Fit demand by own and rival price.
    fn fit_own_and_rival_price(&mut self, price: &CenteredSample, rival: &CenteredSample, demand: &[f64]) {
        if rival.deviation() < MIN_LOG_PRICE_SPREAD {
            self.kept.push(("cross_elasticity", "the rival's prices hardly differ".into()));
            return self.fit_own_price(price, demand);
        }
        let (own, cross, both) = (price.with(price), rival.with(rival), price.with(rival));
        let determinant = own * cross - both * both;
        let mut keep = |reason: &str| {
            self.kept.extend([("elasticity", reason.to_owned()), ("cross_elasticity", reason.to_owned())]);
        };
        if price.deviation() < MIN_LOG_PRICE_SPREAD || determinant < MIN_PRICE_INDEPENDENCE * own * cross {
            return keep("prices hardly differ, or go with the rival's");
        }
        let prices = price.distances.iter().zip(&rival.distances);
        let rows: Vec<_> = prices.zip(demand).map(|((own, rival), demand)| ([1.0, *own, *rival], *demand)).collect();
        let Some(fit) = fit_poisson(&rows) else { return keep(NO_ESTIMATE) };
        for (name, at, sign) in [("elasticity", 1, -1.0), ("cross_elasticity", 2, 1.0)] {
            self.accept_if_reliable(FittedParameter {
                name,
                value: sign * fit.coefficients[at],
                standard_error: fit.errors[at],
                records: price.len(),
            });
        }
    }
}

/// Numbers, stored as their mean and their deviations from it.
struct CenteredSample {
    mean: f64,
    distances: Vec<f64>,
}

impl CenteredSample {
    /// Build a sample from at least one number.
    fn from_numbers(numbers: impl Iterator<Item = f64>) -> Self {
        let mut distances: Vec<_> = numbers.collect();
        let mean = distances.iter().sum::<f64>() / distances.len() as f64;
        distances.iter_mut().for_each(|number| *number -= mean);
        Self { mean, distances }
    }

    fn len(&self) -> usize {
        self.distances.len()
    }

    /// Sum of the products of the deviations with those of another sample.
    fn with(&self, other: &Self) -> f64 {
        self.distances.iter().zip(&other.distances).map(|(one, other)| one * other).sum()
    }

    /// Standard deviation of the sample.
    fn deviation(&self) -> f64 {
        (self.with(self) / (self.len() - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{
        super::{super::make_environment, EnvironmentRng, sample_unit},
        *,
    };

    const SEED: u64 = 9;

    /// `count` records of the demand curve 5 x price^-1.7 x rival^0.8 around a price of 20, with uniform noise of
    /// `noise` on the logarithm of demand.
    fn records(count: usize, noise: f64) -> Vec<PriceRecord> {
        let mut generator = EnvironmentRng::seed_from_u64(SEED);
        let mut about = |spread: f64| spread * (2.0 * sample_unit(&mut generator) - 1.0);
        let record = |_| {
            let (price, rival) = (20.0 * about(0.4).exp(), 22.0 * about(0.3).exp());
            let demand = 5.0 * price.powf(-1.7) * rival.powf(0.8) * about(noise).exp();
            PriceRecord { price, demand, rival_price: Some(rival) }
        };
        (0..count).map(record).collect()
    }

    fn why<'a>(calibration: &'a PriceCalibration, name: &str) -> &'a str {
        &calibration.kept.iter().find(|(kept, _)| *kept == name).unwrap().1
    }

    #[test]
    fn records_without_noise_give_the_parameters_back() {
        let calibration = calibrate_prices(&records(MIN_RECORDS, 0.0)).unwrap();
        let PriceOptimization { reference_price, elasticity, cross_elasticity, .. } = calibration.parameters;
        assert!((elasticity - 1.7).abs() < 1e-9 && (cross_elasticity - 0.8).abs() < 1e-9);
        let geometric = records(MIN_RECORDS, 0.0).iter().map(|one| one.price.ln()).sum::<f64>() / 30.0;
        assert!((reference_price - geometric.exp()).abs() < 1e-9);
        assert_eq!((calibration.records, calibration.kept), (MIN_RECORDS, vec![]));
        let untouched =
            PriceOptimization { reference_price, elasticity, cross_elasticity, ..PriceOptimization::default() };
        assert_eq!(calibration.parameters, untouched);
        let parameters = serde_json::to_value(&calibration.parameters).unwrap();
        let made = make_environment("price_optimization", Some(&parameters)).unwrap().parameters();
        let elastic = made.iter().find(|one| one.name == "elasticity").unwrap();
        assert_eq!(elastic.value, elasticity);
    }

    #[test]
    fn estimates_lie_within_their_errors() {
        println!("seed {SEED}");
        let calibration = calibrate_prices(&records(300, 0.5)).unwrap();
        let truth = [("reference_price", 20.0), ("elasticity", 1.7), ("cross_elasticity", 0.8)];
        for (estimate, (name, value)) in calibration.estimated.iter().zip(truth) {
            assert_eq!((estimate.name, estimate.records), (name, 300));
            assert!((estimate.value - value).abs() < 4.0 * estimate.standard_error, "{estimate:?}");
            assert!(estimate.standard_error > 0.0 && estimate.standard_error < 0.5, "{estimate:?}");
        }
        assert_eq!(calibration.estimated.len(), 3);
    }

    /// Records of the environment's own law: prices on its ladder, Poisson demand.
    fn simulated(count: usize, seed: u64) -> Vec<PriceRecord> {
        let mut generator = EnvironmentRng::seed_from_u64(seed);
        let mut record = || {
            let mut level = || 1.2f64.powi((7.0 * sample_unit(&mut generator)) as i32 - 3);
            let (price, rival) = (level(), level());
            let (mean, mut left) = (1.2 * price.powf(-2.2) * rival.powf(1.4), sample_unit(&mut generator));
            let (mut probability, mut demand) = ((-mean).exp(), 0.0);
            while left > probability && demand < 200.0 {
                left -= probability;
                demand += 1.0;
                probability *= mean / demand;
            }
            PriceRecord { price, demand, rival_price: Some(rival) }
        };
        (0..count).map(|_| record()).collect()
    }

    #[test]
    fn its_own_law_is_recovered_within_its_errors() {
        let truth = [("reference_price", 1.0), ("elasticity", 2.2), ("cross_elasticity", 1.4)];
        let mut covered = [0; 3];
        for seed in 0..100 {
            let calibration = calibrate_prices(&simulated(1000, seed)).unwrap();
            for (at, (name, value)) in truth.into_iter().enumerate() {
                let estimate = calibration.estimated.iter().find(|one| one.name == name).unwrap();
                covered[at] += usize::from((estimate.value - value).abs() <= 2.0 * estimate.standard_error);
                assert!(estimate.standard_error < 0.15, "{estimate:?}");
            }
        }
        assert!(covered.iter().all(|count| *count >= 88), "{covered:?} of 100 within two standard errors");
    }

    #[test]
    fn too_few_say_nothing() {
        let mut few = records(MIN_RECORDS, 0.1);
        few[3].demand = -1.0;
        few[4].price = f64::NAN;
        assert_eq!(calibrate_prices(&few), Err(TooFewRecords { usable: 28 }));
        let message = "28 records of price and demand can be used, 30 are needed";
        assert_eq!(calibrate_prices(&few).unwrap_err().to_string(), message);
    }

    #[test]
    fn what_cannot_be_believed_keeps_its_default() {
        let default = PriceOptimization::default();
        let of = |change: &dyn Fn(&mut PriceRecord)| {
            let mut all = records(60, 0.2);
            all.iter_mut().for_each(change);
            calibrate_prices(&all).unwrap()
        };
        let constant = of(&|one| one.price = 20.0);
        assert_eq!(constant.parameters.elasticity, default.elasticity);
        assert!((constant.parameters.reference_price - 20.0).abs() < 1e-9);
        assert_eq!(why(&constant, "elasticity"), "prices hardly differ, or go with the rival's");
        let together = of(&|one| one.rival_price = Some(1.1 * one.price));
        assert_eq!(why(&together, "cross_elasticity"), "prices hardly differ, or go with the rival's");
        let luxury = of(&|one| one.demand = one.price);
        assert!(why(&luxury, "elasticity").starts_with("elasticity is -"), "{luxury:?}");
        assert_eq!(luxury.parameters.elasticity, default.elasticity);
        let calm = of(&|one| one.rival_price = Some(22.0));
        assert_eq!(why(&calm, "cross_elasticity"), "the rival's prices hardly differ");
        assert!(calm.estimated.iter().any(|one| one.name == "elasticity"));
        let noisy = calibrate_prices(&records(30, 2.5)).unwrap();
        assert!(why(&noisy, "elasticity").contains("standard error"), "{noisy:?}");
    }
}
