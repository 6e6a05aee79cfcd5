//! Offline evaluation: does the service recommend what clients paid for next?

use std::collections::HashSet;

use super::{co_payments::CoPaymentCounts, model::RecommendationSettings, scoring::recommend};

/// Result of an evaluation by leaving out each client's last purchase.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OfflineEvaluation {
    /// Clients with at least two different purchases.
    pub clients: u64,
    /// Clients whose last purchase was among the recommendations.
    pub hits: u64,
    /// Clients whose last purchase was among as many most popular services that they had not paid for.
    pub popular_hits: u64,
}

impl OfflineEvaluation {
    /// Share of the clients whose last purchase was recommended, from 0 to 1.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / self.clients.max(1) as f64
    }

    /// The same for the most popular services.
    pub fn popular_hit_rate(&self) -> f64 {
        self.popular_hits as f64 / self.clients.max(1) as f64
    }
}

/// Evaluate `cut` recommendations for each client. `histories` has each client's purchases, oldest first; the last one that
/// the client had not made before is left out of all that is counted.
pub fn evaluate(histories: &[Vec<String>], settings: &RecommendationSettings, cut: usize) -> OfflineEvaluation {
    let mut known = Vec::new();
    let mut left_out = Vec::new();
    for history in histories {
        let mut seen = HashSet::new();
        let mut distinct: Vec<String> = history.iter().filter(|service| seen.insert(*service)).cloned().collect();
        if let Some(last) = distinct.pop().filter(|_| !distinct.is_empty()) {
            known.push(distinct);
            left_out.push(last);
        }
    }
    let counts = CoPaymentCounts::new(&known);
    let mut evaluation = OfflineEvaluation { clients: known.len() as u64, hits: 0, popular_hits: 0 };
    for (history, last) in known.iter().zip(&left_out) {
        let client = counts.of_client(history);
        let found = recommend(&counts.input(&client), settings, cut);
        evaluation.hits += u64::from(found.iter().any(|one| one.service == *last));
        let new = counts.popular().iter().filter(|popular| !history.contains(&popular.service));
        evaluation.popular_hits += u64::from(new.take(cut).any(|popular| popular.service == *last));
    }
    evaluation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_purchase_is_left_out_of_the_counts() {
        let client = |services: &[&str]| services.iter().map(|&service| service.to_owned()).collect::<Vec<_>>();
        let mut histories = vec![client(&["bread", "butter"]); 3];
        histories.extend(vec![client(&["butter", "bread", "bread"]); 3]);
        histories.push(client(&["bread"]));
        let evaluation = evaluate(&histories, &RecommendationSettings::default(), 1);
        // Without the last purchases nobody has paid for two, so both are popularity: each is what the others paid for.
        assert_eq!(evaluation, OfflineEvaluation { clients: 6, hits: 6, popular_hits: 6 });
        assert_eq!(evaluation.hit_rate(), 1.0);
        let never_before = vec![client(&["bread", "salt"]), client(&["bread", "pepper"])];
        assert_eq!(evaluate(&never_before, &RecommendationSettings::default(), 10).hits, 0);
    }

    #[test]
    fn co_occurrence_beats_popularity_where_clients_differ() {
        // Two kinds of clients, each of which pays for three services of its own; everybody pays for the same two first.
        let kinds = [["a1", "a2", "a3"], ["b1", "b2", "b3"]];
        let histories: Vec<Vec<String>> = (0..40)
            .map(|n| {
                let own = kinds[n % 2];
                let order = [own[n / 2 % 3], own[(n / 2 + 1) % 3], own[(n / 2 + 2) % 3]];
                ["all1", "all2"].iter().chain(&order).map(|&service| service.to_owned()).collect()
            })
            .collect();
        let evaluation = evaluate(&histories, &RecommendationSettings::default(), 1);
        assert_eq!(evaluation.hits, 40);
        assert!(evaluation.popular_hits < 20, "{evaluation:?}");
    }
}
