//! Settings of portfolios.

use std::time::Duration;

use reqwest::Url;

use super::{
    SettlementConfig,
    endpoints::parse_webhook_url,
    group::settings,
    setting_reader::{SettingReader, boolean, number, seconds},
};

settings! {
    /// Settings of portfolios: what trades cost, which prices they take, and when portfolios are looked at.
    pub struct PortfolioConfig {
        /// Fee of a trade in basis points (ten-thousandths) of what is bought, default 10.
        "PORTFOLIO_FEE_BPS" fee_bps: u32 = 10, number(0..=1000);
        /// How much worse than the recorded price a trade is assumed to be, in basis points, default 5.
        "PORTFOLIO_SLIPPAGE_BPS" slippage_bps: u32 = 5, number(0..=1000);
        /// Age from which a recorded price is not taken any more, default 86400 s.
        "PORTFOLIO_PRICE_MAX_AGE_SECONDS" price_max_age: Duration = Duration::from_secs(86_400), seconds(1..=31_536_000);
        /// Time for which a quote holds, default 60 s.
        "PORTFOLIO_QUOTE_SECONDS" quote_time: Duration = Duration::from_secs(60), seconds(1..=86_400);
        /// Time between two snapshots of a portfolio, default 3600 s.
        "PORTFOLIO_SNAPSHOT_SECONDS" snapshot_interval: Duration = Duration::from_secs(3600), seconds(1..=31_536_000);
        /// Address that prices are read from. `None`: prices come over the API only.
        "PORTFOLIO_PRICE_URL" price_url: Option<Url> = None, price_address;
        /// Time between two calls of that address, default 300 s; after failures up to an hour.
        "PORTFOLIO_PRICE_SECONDS" price_interval: Duration = Duration::from_secs(300), seconds(1..=86_400);
        /// Whether that address may use http and a host outside the public Internet, default false.
        "PORTFOLIO_PRICE_PRIVATE_ADDRESSES" price_private_addresses: bool = false, boolean;
    groups:
        /// Settings of the settlement in a contract.
        settlement: SettlementConfig;
    }
}

fn price_address(from: &mut SettingReader, key: &str, default: Option<Url>) -> Option<Url> {
    let Some(text) = from.plain_text(key).filter(|text| !text.is_empty()) else { return default };
    match parse_webhook_url(&text) {
        Ok(url) => Some(url),
        Err(message) => {
            from.reject(key, message);
            default
        }
    }
}
