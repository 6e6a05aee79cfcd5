//! Trust between clients and agents, computed from ratings of paid requests, without I/O.
//!
//! It is EigenTrust (Kamvar, Schlosser, Garcia-Molina: The EigenTrust Algorithm for Reputation Management in P2P Networks,
//! WWW 2003) on a graph with two kinds of nodes, since most clients of a market sell nothing and nobody rates them:
//!
//! - A rater trusts the agents it rated well: `local(c, a) = ln(1 + paid / 1 AIT) * max(satisfaction / paid, 0)`, where `paid`
//!   is what it paid for rated requests and `satisfaction` the same amounts, each times `(rating - 3) / 2`. Both are halved
//!   each [`TrustSettings::half_life_days`]. A rater's local trust is normalised to a sum of 1, so that nobody has more to
//!   give by rating more.
//! - An agent vouches for the clients who paid it, in proportion to what they paid: this is linear, so that a payment
//!   divided among many accounts gains nothing. It passes on [`TrustSettings::vouching`] of its trust.
//! - The rest, the trust of raters who trust nobody, and [`TrustSettings::restart`] of everything returns to the seeds.
//!
//! Accounts that only pay and rate each other therefore get nothing, however many they are: trust reaches them only by way
//! of somebody whom the seeds reach. The vector is found by power iteration; what is left of the difference to the fixed
//! point shrinks by `1 - restart` in each round, so [`TrustSettings::max_rounds`] is enough whatever the graph.

mod evidence;
mod flow;
mod iteration;
mod network;
mod report;
mod settings;

pub use evidence::{PairEvidence, RatedPayment};
pub use network::TrustNetwork;
pub use report::{AgentTrust, ScoreExplanation, TrustContribution, TrustReport};
pub use settings::{SettingFault, TrustSeeding, TrustSeeds, TrustSettings};
