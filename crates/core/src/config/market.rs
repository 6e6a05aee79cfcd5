//! Settings of the marketplace of services.

use std::time::Duration;

use super::{
    group::settings,
    setting_reader::{SettingReader, seconds},
};

settings! {
    /// Settings of the marketplace of services.
    pub struct MarketConfig {
        /// Time in which a client may dispute a completed request before it is paid by itself, 1 s to 90 days, default a day.
        "MARKET_REVIEW_SECONDS" review: Duration = Duration::from_secs(86_400), seconds(1..=7_776_000);
        /// Time in which an arbiter may decide a dispute before the rule for undecided ones applies, 1 s to 90 days, default a
        /// week.
        "MARKET_ARBITRATION_SECONDS" arbitration: Duration = Duration::from_secs(604_800), seconds(1..=7_776_000);
        /// Interval at which trust is computed anew where requests were rated, default 30 s.
        "MARKET_TRUST_SECONDS" trust_interval: Duration = Duration::from_secs(30), seconds(1..=86_400);
        /// Principals of clients whose ratings are trusted beforehand. Default none.
        "MARKET_TRUSTED_CLIENTS" trusted_clients: Vec<String> = Vec::new(), names;
        /// Agents that are trusted beforehand. Default none.
        "MARKET_TRUSTED_AGENTS" trusted_agents: Vec<String> = Vec::new(), names;
    }
}

fn names(from: &mut SettingReader, key: &str, _: Vec<String>) -> Vec<String> {
    from.list(key)
}
