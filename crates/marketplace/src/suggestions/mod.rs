//! Recommendations of services to a client, from what clients have paid for.

mod store;

use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use store::add_purchase;

use am_core::{boxed, ids::MarketServiceId};
use am_db::Tx;

use crate::{
    Marketplace,
    agents::MarketCaller,
    error::{MarketError, Result},
    recommendation::{
        MAX_COUNTED_PURCHASES, MAX_HISTORY, MAX_NEIGHBOURS, RecommendationInput, RecommendationReason,
        RecommendationSettings, recommend,
    },
    services::{MarketService, ServiceState, find_all},
};

/// Services that are looked at for each that is recommended: some may not be offered.
const SPARE_FACTOR: usize = 3;
/// Purchases that are counted in a round.
const COUNT_BATCH: usize = 100;

/// A service that is recommended.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MarketSuggestion)]
pub struct SuggestedService {
    /// The service that is recommended.
    pub service: MarketService,
    /// Estimated chance that such a client pays for it, 0 to 1.
    pub score: f64,
    /// Why it is recommended.
    pub reason: RecommendationReason,
    /// The reason in words.
    pub text: String,
}

impl Marketplace {
    /// Recommend services to the caller: such as go with what it paid for, or what most clients paid for where nothing is known of
    /// that. Its own are left out, and those that are not offered.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn suggest_services(&self, caller: &MarketCaller, limit: usize) -> Result<Vec<SuggestedService>> {
        let client = caller.principal.id();
        let mut conn = self.0.db.read().await?;
        let history = store::history(&mut conn, &client, MAX_HISTORY as i64).await?;
        let mut co_paid = Vec::new();
        for paid in &history {
            co_paid.extend(store::paid_with(&mut conn, &paid.service, MAX_NEIGHBOURS as i64).await?);
        }
        let popular = store::popular(&mut conn, (MAX_NEIGHBOURS + MAX_COUNTED_PURCHASES) as i64).await?;
        let all_clients = store::paying_clients(&mut conn).await?.unsigned_abs();
        let input = RecommendationInput { history: &history, co_paid: &co_paid, popular: &popular, all_clients };
        let found = recommend(&input, &RecommendationSettings::default(), limit * SPARE_FACTOR + MAX_COUNTED_PURCHASES);
        let ids: Vec<MarketServiceId> = found.iter().map(|one| one.service.as_str().into()).collect();
        let services = if ids.is_empty() { Vec::new() } else { find_all(&mut conn, &ids).await? };
        let suggested = found.into_iter().filter_map(|one| {
            let service = services.iter().find(|service| service.id.as_str() == one.service)?;
            let fits = service.state == ServiceState::Active && !caller.principal.owns(&service.owner_id);
            let text = one.reason.text();
            fits.then(|| SuggestedService { service: service.clone(), score: one.score, reason: one.reason, text })
        });
        Ok(suggested.take(limit).collect())
    }

    /// Count purchases that were not counted yet, each in a transaction of its own. Returns whether there may be more.
    pub(crate) async fn count_purchases(&self) -> Result<bool> {
        for _ in 0..COUNT_BATCH {
            let mut conn = self.0.db.read().await?;
            let Some(purchase) = store::next_uncounted(&mut conn).await? else { return Ok(false) };
            drop(conn);
            let work = async move |tx: &mut Tx| {
                let before = (MAX_COUNTED_PURCHASES - 1) as i64;
                let others = store::counted_before(tx.conn().await?, &purchase, before).await?;
                store::count_purchase(tx, &purchase, &others).await?;
                Ok::<_, MarketError>(())
            };
            self.0.db.write(work).await?;
        }
        Ok(true)
    }
}
