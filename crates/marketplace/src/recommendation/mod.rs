//! Recommendations of services from what clients paid for, without I/O.
//!
//! Services are compared by co-occurrence (item-item collaborative filtering; Linden, Smith, York: Amazon.com
//! Recommendations, IEEE Internet Computing 2003): of the `n_i` clients who paid for service i, `n_ij` also paid for j. A
//! client who paid for the services H is expected to pay for j with the chance
//!
//! `score(j) = mean over i in H of (n_ij + s * p_j) / (n_i + s)`, with `p_j = n_j / N`,
//!
//! where `n_j` of all `N` paying clients paid for j. The shrinkage `s` is a number of imagined clients of i who behave as all
//! clients do: what few clients did counts little, and where nothing is known of i the score is the popularity of j. A
//! pair in which only one client is involved is no evidence: shown as a reason it would tell what that client did.

mod co_payments;
mod evaluation;
mod model;
mod scoring;

pub use co_payments::{ClientCounts, CoPaymentCounts};
pub use evaluation::{OfflineEvaluation, evaluate};
pub use model::{
    CoPayment, MAX_COUNTED_PURCHASES, MAX_HISTORY, MAX_NEIGHBOURS, PaidService, Recommendation, RecommendationInput,
    RecommendationReason, RecommendationSettings,
};
pub use scoring::recommend;
