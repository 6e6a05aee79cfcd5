//! A market whose clients have interests, for the offline evaluation of recommendations.
//!
//! Its law: 1 000 services, 50 in each of 20 categories; the k-th of a category has the weight 1/k (Zipf). Each of 2 000 clients has two
//! categories of interest, drawn uniformly, and makes from 5 to 25 purchases, uniformly many. Each purchase is, with a chance of
//! 0.8, from one of its two categories, and otherwise from all services; in both cases drawn by the weights. A service that the client has
//! paid for is drawn again, so all its purchases differ.

use std::{collections::HashSet, fmt::Write};

use am_marketplace::recommendation::{OfflineEvaluation, RecommendationSettings, evaluate};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

const CATEGORIES: usize = 20;
const SERVICES: usize = 50;
const CLIENTS: usize = 2000;
const INTERESTED: f64 = 0.8;
/// Recommendations that a client is shown.
const SHOWN: usize = 10;
const SIMULATIONS: u64 = 5;

/// Numbers from 0 whose k-th has the weight `1 / (k + 1)`.
struct ZipfLaw(Vec<f64>);

impl ZipfLaw {
    fn new(count: usize) -> Self {
        let mut sum = 0.0;
        Self(
            (1..=count)
                .map(|k| {
                    sum += 1.0 / k as f64;
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, rng: &mut Xoshiro256PlusPlus) -> usize {
        let at = rng.random_range(0.0..self.0[self.0.len() - 1]);
        self.0.partition_point(|sum| *sum <= at).min(self.0.len() - 1)
    }
}

/// Each client's purchases, oldest first.
fn histories(clients: usize, seed: u64) -> Vec<Vec<String>> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let law = ZipfLaw::new(SERVICES);
    (0..clients)
        .map(|_| {
            let interests = [rng.random_range(0..CATEGORIES), rng.random_range(0..CATEGORIES)];
            let wanted = rng.random_range(5..=25);
            let (mut history, mut seen) = (Vec::new(), HashSet::new());
            while history.len() < wanted {
                let category = match rng.random_bool(INTERESTED) {
                    true => interests[rng.random_range(0..2)],
                    false => rng.random_range(0..CATEGORIES),
                };
                let service = (category, law.draw(&mut rng));
                if seen.insert(service) {
                    history.push(format!("service-{:02}-{:02}", service.0, service.1));
                }
            }
            history
        })
        .collect()
}

/// Evaluations over several simulated markets as one.
fn evaluation(clients: usize, shrinkage: f64, simulations: u64) -> OfflineEvaluation {
    let settings = RecommendationSettings { shrinkage };
    (0..simulations).fold(OfflineEvaluation { clients: 0, hits: 0, popular_hits: 0 }, |sum, seed| {
        let one = evaluate(&histories(clients, seed), &settings, SHOWN);
        OfflineEvaluation {
            clients: sum.clients + one.clients,
            hits: sum.hits + one.hits,
            popular_hits: sum.popular_hits + one.popular_hits,
        }
    })
}

/// The table of docs/ECONOMY.md.
pub fn table() -> String {
    let mut table =
        String::from("| clients | shrinkage | hit rate at 10 | popularity | ratio |\n|---:|---:|---:|---:|---:|\n");
    let usual = RecommendationSettings::default().shrinkage;
    for clients in [100, CLIENTS] {
        for shrinkage in [0.0, usual] {
            let found = evaluation(clients, shrinkage, SIMULATIONS);
            let (hit, popular) = (found.hit_rate(), found.popular_hit_rate());
            let _ = writeln!(
                table,
                "| {clients} | {shrinkage} | {:.1} % | {:.1} % | {:.2} |",
                100.0 * hit,
                100.0 * popular,
                hit / popular
            );
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recommendations_hit_more_often_than_popularity() {
        let found = evaluation(600, RecommendationSettings::default().shrinkage, 1);
        assert_eq!(found.clients, 600);
        assert!(found.hit_rate() > 1.5 * found.popular_hit_rate(), "{found:?}");
        assert!(found.hit_rate() > 0.15, "{found:?}");
    }

    #[test]
    fn market_follows_its_law() {
        let all = histories(400, 3);
        assert!(all.iter().all(|history| (5..=25).contains(&history.len())));
        let first = all.iter().flatten().filter(|service| service.ends_with("-00")).count() as f64;
        let second = all.iter().flatten().filter(|service| service.ends_with("-01")).count() as f64;
        // Less than 2, as each service is bought once.
        assert!((1.1..2.0).contains(&(first / second)), "{first} {second}");
        assert_eq!(all, histories(400, 3), "the same seed is the same market");
    }
}
