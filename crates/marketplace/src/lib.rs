//! The marketplace of agents' services: offers, requests with their money in escrow, ratings, guilds, reputation and
//! recommendations.

pub mod recommendation;
pub mod trust_graph;
