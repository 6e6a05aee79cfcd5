//! Counts of clients by service and by pair of services, made from whole histories.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::model::{CoPayment, MAX_COUNTED_PURCHASES, MAX_HISTORY, MAX_NEIGHBOURS, PaidService, RecommendationInput};

/// Counts of clients, by the same rules as those that a service keeps purchase by purchase.
#[derive(Clone, Debug, Default)]
pub struct CoPaymentCounts {
    clients: HashMap<String, u64>,
    /// By service, the other ones with the number of common clients.
    pairs: HashMap<String, BTreeMap<String, u64>>,
    /// The services that most clients paid for, as far as they may be needed.
    popular: Vec<PaidService>,
    all_clients: u64,
}

/// Data of one client's recommendations, from which a [`RecommendationInput`] borrows.
#[derive(Clone, Debug)]
pub struct ClientCounts {
    history: Vec<PaidService>,
    co_paid: Vec<CoPayment>,
}

impl CoPaymentCounts {
    /// Count histories: each a client's purchases, oldest first. A service counts once for a client, at its first purchase.
    pub fn new(histories: &[Vec<String>]) -> Self {
        let mut counts = Self::default();
        for history in histories {
            counts.count(history);
        }
        let all =
            counts.clients.iter().map(|(service, clients)| PaidService { service: service.clone(), clients: *clients });
        let mut popular: Vec<PaidService> = all.collect();
        popular.sort_by(|a, b| b.clients.cmp(&a.clients).then_with(|| a.service.cmp(&b.service)));
        popular.truncate(MAX_NEIGHBOURS + MAX_COUNTED_PURCHASES);
        counts.popular = popular;
        counts
    }

    fn count(&mut self, history: &[String]) {
        let mut known: Vec<&str> = Vec::new();
        let mut seen = HashSet::new();
        for service in history.iter().map(String::as_str).filter(|service| seen.insert(*service)) {
            *self.clients.entry(service.to_owned()).or_default() += 1;
            for other in known.iter().rev().take(MAX_COUNTED_PURCHASES - 1) {
                for (from, to) in [(service, *other), (*other, service)] {
                    *self.pairs.entry(from.to_owned()).or_default().entry(to.to_owned()).or_default() += 1;
                }
            }
            known.push(service);
        }
        self.all_clients += u64::from(!known.is_empty());
    }

    fn paid(&self, service: &str) -> PaidService {
        PaidService { service: service.to_owned(), clients: self.clients.get(service).copied().unwrap_or_default() }
    }

    /// What is known for a client who paid for `history`, oldest first.
    pub fn of_client(&self, history: &[String]) -> ClientCounts {
        let recent = || history.iter().rev().take(MAX_HISTORY);
        let neighbours = |service: &String| {
            let mut others: Vec<(&String, u64)> =
                self.pairs.get(service).into_iter().flatten().map(|(other, both)| (other, *both)).collect();
            // Stable, and the others are by id.
            others.sort_by_key(|(_, both)| std::cmp::Reverse(*both));
            others.truncate(MAX_NEIGHBOURS);
            others
        };
        let co_paid = recent().flat_map(|service| {
            neighbours(service).into_iter().map(|(other, both)| CoPayment {
                paid: service.clone(),
                other: other.clone(),
                both,
                other_clients: self.paid(other).clients,
            })
        });
        ClientCounts { co_paid: co_paid.collect(), history: history.iter().rev().map(|one| self.paid(one)).collect() }
    }

    /// The same as input of [`super::recommend`].
    pub fn input<'a>(&'a self, client: &'a ClientCounts) -> RecommendationInput<'a> {
        RecommendationInput {
            history: &client.history,
            co_paid: &client.co_paid,
            popular: &self.popular,
            all_clients: self.all_clients,
        }
    }

    /// The services that most clients paid for, most first.
    pub fn popular(&self) -> &[PaidService] {
        &self.popular
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(services: &[&str]) -> Vec<String> {
        services.iter().map(|&service| service.to_owned()).collect()
    }

    #[test]
    fn service_counts_once_for_a_client() {
        let counts =
            CoPaymentCounts::new(&[history(&["a", "b", "a"]), history(&["b", "a"]), history(&["a"]), history(&[])]);
        assert_eq!(counts.all_clients, 3);
        assert_eq!(counts.popular, [counts.paid("a"), counts.paid("b")]);
        assert_eq!((counts.paid("a").clients, counts.pairs["a"]["b"], counts.pairs["b"]["a"]), (3, 2, 2));
        let client = counts.of_client(&history(&["a"]));
        let expected = CoPayment { paid: "a".to_owned(), other: "b".to_owned(), both: 2, other_clients: 2 };
        assert_eq!(client.co_paid, [expected]);
    }

    #[test]
    fn purchases_long_ago_are_not_paired() {
        let services: Vec<String> = (0..60).map(|n| format!("s{n:02}")).collect();
        let counts = CoPaymentCounts::new(std::slice::from_ref(&services));
        assert_eq!(counts.pairs["s59"].len(), MAX_COUNTED_PURCHASES - 1);
        assert!(counts.pairs["s59"].contains_key("s10") && !counts.pairs["s59"].contains_key("s09"));
    }
}
