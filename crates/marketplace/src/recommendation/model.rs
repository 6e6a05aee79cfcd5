//! What recommendations are made from, and what they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Purchases of a client, the latest ones, between which pairs are counted: so that a purchase counts a bounded number of
/// pairs.
pub const MAX_COUNTED_PURCHASES: usize = 50;
/// Purchases of a client, the latest ones, from which recommendations are made.
pub const MAX_HISTORY: usize = 20;
/// Other services, those with the most common clients, that are considered for each purchase.
pub const MAX_NEIGHBOURS: usize = 100;

/// A service with the number of clients who paid for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaidService {
    /// Id of the service.
    pub service: String,
    /// Clients who paid for it at least once.
    pub clients: u64,
}

/// How many clients paid for two services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoPayment {
    /// The service that the client has paid for.
    pub paid: String,
    /// The other service.
    pub other: String,
    /// Clients who paid for both.
    pub both: u64,
    /// Clients who paid for the other one.
    pub other_clients: u64,
}

/// All that is known for one client's recommendations.
#[derive(Clone, Copy, Debug)]
pub struct RecommendationInput<'a> {
    /// What the client paid for.
    pub history: &'a [PaidService],
    /// What is often paid for by the same clients.
    pub co_paid: &'a [CoPayment],
    /// What most clients paid for.
    pub popular: &'a [PaidService],
    /// Clients who paid for anything.
    pub all_clients: u64,
}

/// Parameters of the scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecommendationSettings {
    /// Imagined clients of each service who behave as all clients do. 0 counts pairs as they are.
    pub shrinkage: f64,
}

impl Default for RecommendationSettings {
    fn default() -> Self {
        Self { shrinkage: 2.0 }
    }
}

/// A recommended service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Recommendation {
    /// Id of the service.
    pub service: String,
    /// Estimated chance, from 0 to 1, that a client with these purchases pays for it.
    pub score: f64,
    /// Why it is recommended.
    pub reason: RecommendationReason,
}

/// Why a service is recommended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RecommendationReason {
    /// Clients who paid for a service that the client paid for also paid for this one: the purchase with the most weight.
    AlsoPaid {
        /// The service that the client paid for.
        service: String,
        /// Clients who paid for both.
        both: u64,
        /// Clients who paid for `service`.
        clients: u64,
    },
    /// Nothing is known of what goes with the client's purchases; this is what many clients paid for.
    Popular {
        /// Clients who paid for the recommended service.
        clients: u64,
        /// Clients who paid for anything.
        all_clients: u64,
    },
}

impl RecommendationReason {
    /// The reason as a sentence.
    pub fn text(&self) -> String {
        match self {
            Self::AlsoPaid { service, both, clients } => {
                format!("{both} of {clients} clients who paid for {service} also paid for this")
            }
            Self::Popular { clients, all_clients } => {
                format!("{clients} of {all_clients} clients paid for this; what goes with your purchases is not known")
            }
        }
    }
}
