//! The scores and their order.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{
    CoPayment, MAX_HISTORY, PaidService, Recommendation, RecommendationInput, RecommendationReason,
    RecommendationSettings,
};

/// Clients that a pair needs to be evidence.
const MIN_COMMON_CLIENTS: u64 = 2;

/// What is known of a service that could be recommended.
struct Candidate<'a> {
    clients: u64,
    /// Purchases of the client, by their position in the history, with the number of clients who paid for both.
    pairs: BTreeMap<usize, &'a CoPayment>,
}

/// Chance of a payment by a client of a service, shrunk to the chance of any client.
fn shrunk(both: u64, clients: u64, popularity: f64, shrinkage: f64) -> f64 {
    let (both, clients) = (both.min(clients) as f64, clients as f64);
    let total = clients + shrinkage;
    if total > 0.0 { (both + shrinkage * popularity) / total } else { popularity }
}

/// Up to `limit` services that the client has not paid for, the best first; of equal ones, that with the lesser id.
pub fn recommend(
    input: &RecommendationInput<'_>,
    settings: &RecommendationSettings,
    limit: usize,
) -> Vec<Recommendation> {
    let history = &input.history[..input.history.len().min(MAX_HISTORY)];
    let positions: BTreeMap<&str, usize> =
        history.iter().enumerate().map(|(position, paid)| (paid.service.as_str(), position)).collect();
    let has_paid: BTreeSet<&str> = input.history.iter().map(|paid| paid.service.as_str()).collect();
    let mut candidates: BTreeMap<&str, Candidate<'_>> = BTreeMap::new();
    for pair in input.co_paid.iter().filter(|pair| pair.both >= MIN_COMMON_CLIENTS) {
        let Some(position) = positions.get(pair.paid.as_str()).filter(|_| !has_paid.contains(pair.other.as_str()))
        else {
            continue;
        };
        let new = || Candidate { clients: pair.other_clients, pairs: BTreeMap::new() };
        candidates.entry(pair.other.as_str()).or_insert_with(new).pairs.insert(*position, pair);
    }
    for popular in input.popular.iter().filter(|popular| !has_paid.contains(popular.service.as_str())) {
        let new = || Candidate { clients: popular.clients, pairs: BTreeMap::new() };
        candidates.entry(popular.service.as_str()).or_insert_with(new);
    }
    let mut found: Vec<Recommendation> = candidates
        .into_iter()
        .map(|(service, candidate)| recommendation(service, &candidate, history, input.all_clients, settings))
        .collect();
    // Stable, and the candidates are by id.
    found.sort_by(|a, b| b.score.total_cmp(&a.score));
    found.truncate(limit);
    found
}

fn recommendation(
    service: &str,
    candidate: &Candidate<'_>,
    history: &[PaidService],
    all_clients: u64,
    settings: &RecommendationSettings,
) -> Recommendation {
    let popularity =
        if all_clients > 0 { (candidate.clients.min(all_clients)) as f64 / all_clients as f64 } else { 0.0 };
    let mut sum = 0.0;
    let mut best: Option<(f64, &PaidService, u64)> = None;
    for (position, paid) in history.iter().enumerate() {
        let both = candidate.pairs.get(&position).map_or(0, |pair| pair.both);
        let chance = shrunk(both, paid.clients, popularity, settings.shrinkage);
        sum += chance;
        if both > 0 && best.is_none_or(|(highest, _, _)| chance > highest) {
            best = Some((chance, paid, both.min(paid.clients)));
        }
    }
    let score = if history.is_empty() { popularity } else { sum / history.len() as f64 };
    let reason = match best {
        Some((_, paid, both)) => {
            RecommendationReason::AlsoPaid { service: paid.service.clone(), both, clients: paid.clients }
        }
        None => RecommendationReason::Popular { clients: candidate.clients, all_clients },
    };
    Recommendation { service: service.to_owned(), score, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paid(service: &str, clients: u64) -> PaidService {
        PaidService { service: service.to_owned(), clients }
    }

    fn pair(from: &str, to: &str, both: u64, other_clients: u64) -> CoPayment {
        CoPayment { paid: from.to_owned(), other: to.to_owned(), both, other_clients }
    }

    fn names(found: &[Recommendation]) -> Vec<&str> {
        found.iter().map(|one| one.service.as_str()).collect()
    }

    const SETTINGS: RecommendationSettings = RecommendationSettings { shrinkage: 10.0 };

    #[test]
    fn nothing_known_is_popularity_and_says_so() {
        let popular = [paid("a", 30), paid("b", 20), paid("c", 20)];
        let input = RecommendationInput { history: &[], co_paid: &[], popular: &popular, all_clients: 40 };
        let found = recommend(&input, &SETTINGS, 2);
        assert_eq!(names(&found), ["a", "b"]);
        assert_eq!(found[0].score, 0.75);
        assert_eq!(found[0].reason, RecommendationReason::Popular { clients: 30, all_clients: 40 });
        assert!(found[0].reason.text().starts_with("30 of 40 clients paid for this; "));
        let none = RecommendationInput { history: &[], co_paid: &[], popular: &[], all_clients: 0 };
        assert_eq!(recommend(&none, &SETTINGS, 5), []);
    }

    #[test]
    fn reason_is_the_purchase_with_the_most_weight() {
        let history = [paid("x", 40), paid("y", 10)];
        let co_paid = [pair("x", "z", 20, 25), pair("y", "z", 8, 25)];
        let input =
            RecommendationInput { history: &history, co_paid: &co_paid, popular: &[paid("p", 50)], all_clients: 100 };
        let found = recommend(&input, &SETTINGS, 10);
        assert_eq!(names(&found), ["z", "p"]);
        // (20 + 2.5) / 50 and (8 + 2.5) / 20.
        assert!((found[0].score - (0.45 + 0.525) / 2.0).abs() < 1e-12);
        assert_eq!(found[0].reason, RecommendationReason::AlsoPaid { service: "y".to_owned(), both: 8, clients: 10 });
        assert_eq!(found[0].reason.text(), "8 of 10 clients who paid for y also paid for this");
        assert!(matches!(found[1].reason, RecommendationReason::Popular { clients: 50, .. }));
    }

    #[test]
    fn few_clients_count_little() {
        let history = [paid("rare", 2), paid("common", 200)];
        let co_paid = [pair("rare", "chance", 2, 4), pair("common", "custom", 140, 150)];
        let input = RecommendationInput { history: &history, co_paid: &co_paid, popular: &[], all_clients: 1000 };
        assert_eq!(names(&recommend(&input, &SETTINGS, 2)), ["custom", "chance"]);
        // Without shrinkage two of two are certainty.
        let plain = RecommendationSettings { shrinkage: 0.0 };
        assert_eq!(names(&recommend(&input, &plain, 2)), ["chance", "custom"]);
    }

    #[test]
    fn one_client_s_pair_is_not_told() {
        let history = [paid("x", 3)];
        let co_paid = [pair("x", "secret", 1, 1)];
        let input =
            RecommendationInput { history: &history, co_paid: &co_paid, popular: &[paid("p", 9)], all_clients: 20 };
        assert_eq!(names(&recommend(&input, &SETTINGS, 5)), ["p"]);
    }

    #[test]
    fn what_was_paid_for_is_never_recommended() {
        let history: Vec<PaidService> = (0..30).map(|n| paid(&format!("s{n:02}"), 50)).collect();
        let co_paid = [pair("s00", "s29", 40, 50), pair("s00", "new", 20, 20)];
        let popular: Vec<PaidService> = (0..32).map(|n| paid(&format!("s{n:02}"), 50)).collect();
        let input = RecommendationInput { history: &history, co_paid: &co_paid, popular: &popular, all_clients: 60 };
        assert_eq!(names(&recommend(&input, &SETTINGS, 9)).len(), 3);
        assert!(
            recommend(&input, &SETTINGS, 9).iter().all(|one| ["new", "s30", "s31"].contains(&one.service.as_str()))
        );
    }
}
