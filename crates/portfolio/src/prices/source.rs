//! The configured address that prices are read from.

use std::time::Duration;

use am_core::{
    boxed, config::PortfolioConfig, error_text::error_with_causes, public_address::restrict_to_public,
    response_body::read_response_body,
};
use am_db::Tx;
use reqwest::{Client, ClientBuilder, Url, header};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{PriceBatch, PriceReport, checked, store_prices};
use crate::{
    PortfolioService,
    error::{PortfolioError, Result},
};
use am_audit::{AuditEntry, EventType};

/// Time limit of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that an answer may have.
const MAX_ANSWER: usize = 4 << 20;
/// Longest time between two calls while they fail.
const MAX_BACK_OFF: Duration = Duration::from_secs(3600);
/// Name of the source in recorded prices.
const SOURCE_NAME: &str = "source";

/// Where prices are read from, and how often.
pub(crate) struct PriceSource {
    client: Client,
    url: Url,
    interval: Duration,
}

impl PriceSource {
    /// The source of the configuration; `None`: there is none.
    pub(crate) fn from_config(config: &PortfolioConfig) -> Result<Option<Self>> {
        let Some(url) = config.price_url.clone() else { return Ok(None) };
        let builder = ClientBuilder::new()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(CALL_TIMEOUT)
            .user_agent(concat!("agent-management/", env!("CARGO_PKG_VERSION")));
        let builder = if config.price_private_addresses { builder } else { restrict_to_public(builder) };
        Ok(Some(Self { client: builder.build()?, url, interval: config.price_interval }))
    }

    /// Ask for prices. The error is a text for the log, without the address.
    async fn fetch(&self) -> std::result::Result<PriceBatch, String> {
        let request = self.client.get(self.url.clone()).header(header::ACCEPT, "application/json");
        let answer = request.send().await.map_err(|error| error_with_causes(&error.without_url()))?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = read_response_body(answer, MAX_ANSWER).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body).map_err(|error| format!("its answer is no list of prices: {error}"))
    }
}

/// Time until the next call, after so many failures in a row.
fn wait_after(interval: Duration, failures: u32) -> Duration {
    interval.saturating_mul(1 << failures.min(16)).min(MAX_BACK_OFF.max(interval))
}

impl PortfolioService {
    /// Read prices from the configured address, at intervals until `stop`. Without an address it waits for `stop`.
    #[boxed]
    pub async fn poll_prices(self, stop: CancellationToken) {
        let Some(source) = &self.0.source else { return stop.cancelled().await };
        let mut failures = 0;
        loop {
            match self.poll_once(source).await {
                Ok(_) => failures = 0,
                Err(error) => {
                    failures = u32::saturating_add(failures, 1);
                    self.0.metrics.price_source_failures.inc();
                    tracing::warn!(error, failures, "the price source could not be read");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait_after(source.interval, failures)) => {}
            }
        }
    }

    async fn poll_once(&self, source: &PriceSource) -> std::result::Result<PriceReport, String> {
        let (batch, now) = (source.fetch().await?, self.now());
        let rows = checked(batch.prices, SOURCE_NAME, now);
        let rows = rows.map_err(|violations| PortfolioError::Invalid(violations).to_string())?;
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("price", "recorded");
        let entry = entry.data("prices", json!(rows.len())).data("source", json!(SOURCE_NAME));
        let me = self.clone();
        let work = async move |tx: &mut Tx| {
            let report = store_prices(tx, &rows).await?;
            if report.recorded > 0 {
                me.0.audit.append(tx, vec![entry]).await?;
            }
            Ok::<_, PortfolioError>(report)
        };
        let report = self.0.db.write(work).await.map_err(|error| error.to_string())?;
        self.0.metrics.prices.inc_by(report.recorded);
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_double_the_wait_up_to_an_hour() {
        let interval = Duration::from_secs(300);
        let waits: Vec<u64> = [0, 1, 2, 3, 4, 40].map(|failures| wait_after(interval, failures).as_secs()).into();
        assert_eq!(waits, [300, 600, 1200, 2400, 3600, 3600]);
        assert_eq!(wait_after(Duration::from_secs(7200), 3).as_secs(), 7200);
    }
}
