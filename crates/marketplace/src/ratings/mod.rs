//! Ratings: of requests that were paid, by their clients, one each; they change reputation and trust.

mod store;

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use am_audit::EventType;
use am_core::{
    boxed,
    ids::{AgentId, MarketRequestId, MarketServiceId, PrincipalId},
    validation::Violations,
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};

use crate::{
    Marketplace,
    agents::MarketCaller,
    error::{MarketError, Result},
    figures::{self, AgentCounts},
    reputation::ReputationChange,
    requests, rules, services,
};

/// Characters of a comment.
const MAX_COMMENT_LEN: usize = 2000;

/// Rating to give.
#[derive(Clone, Debug)]
pub struct RatingDraft {
    /// Rating, 1 to 5.
    pub rating: i64,
    /// What the client says to it.
    pub comment: Option<String>,
}

/// A rating of a paid request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketRating)]
pub struct ServiceRating {
    /// Request that was rated.
    pub request_id: MarketRequestId,
    /// Service that did the work.
    pub service_id: MarketServiceId,
    /// Agent that did the work.
    pub agent_id: AgentId,
    /// Client that rated it.
    pub client_id: PrincipalId,
    /// Rating, 1 to 5.
    pub rating: i64,
    /// What the client says to it; null: nothing.
    pub comment: Option<String>,
    /// When it was rated.
    pub created_at: Timestamp,
    /// What it changed of the agent's reputation; null in lists, and where the coordinator's tables are not there.
    #[serde(default)]
    pub reputation: Option<ReputationChange>,
}

impl Marketplace {
    /// Rate a request that was paid, as its client.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Invalid`]; [`MarketError::InvalidState`] for one that was not paid, or too late;
    /// [`MarketError::Conflict`] for one that was rated; [`MarketError::Forbidden`] for who is not its client.
    #[boxed]
    pub async fn rate_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        draft: RatingDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<ServiceRating>> {
        let RatingDraft { rating, comment } = draft;
        let mut violations = Violations::default();
        violations.require(rules::rating_change(rating).is_some(), "rating", "must be from 1 to 5");
        let holds = comment.as_ref().is_none_or(|text| text.chars().count() <= MAX_COMMENT_LEN && !text.contains('\0'));
        violations.require(holds, "comment", format!("at most {MAX_COMMENT_LEN} characters"));
        violations.finish().map_err(MarketError::Invalid)?;
        let (this, by, request_id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut request = requests::find(conn, &request_id).await?.ok_or(MarketError::NotFound("Request"))?;
            if !by.principal.owns(&request.client_id) {
                let is_party = by.is_admin || request.provider_id.as_ref().is_some_and(|id| by.principal.owns(id));
                return Err(match is_party {
                    true => MarketError::Forbidden("Only the request's client may rate it"),
                    false => MarketError::NotFound("Request"),
                });
            }
            if request.rating.is_some() {
                return Err(MarketError::Conflict("the request was rated already".to_owned()));
            }
            let (Some(service_id), Some(agent_id), true) =
                (request.service_id.clone(), request.agent_id.clone(), request.paid.is_positive())
            else {
                return Err(MarketError::InvalidState("only a request that was paid can be rated".to_owned()));
            };
            if !rules::may_be_rated(request.deadline, now) {
                let message = "a request can be rated until 30 days after its deadline";
                return Err(MarketError::InvalidState(message.to_owned()));
            }
            let service = services::find(conn, &service_id).await?;
            request.rating = Some(rating);
            request.updated_at = now;
            let mut given = ServiceRating {
                request_id,
                service_id,
                agent_id,
                client_id: request.client_id.clone(),
                rating,
                comment,
                created_at: now,
                reputation: None,
            };
            let mut rows = RowBatch::default();
            if let Some(mut service) = service {
                services::note_rating(&mut service, rating);
                services::save(&mut rows, &service)?;
            }
            requests::save(&mut rows, &request);
            store::insert(&mut rows, &given);
            let counts = AgentCounts { rating_count: 1, rating_sum: rating, ..Default::default() };
            figures::add_agent(&mut rows, &given.agent_id, &counts, now);
            let entry = this.entry(EventType::WorkflowUpdated, "market_request", "rated").by(&by.principal);
            let entry = entry.data("request_id", json!(given.request_id)).data("agent_id", json!(given.agent_id));
            this.0.audit.add_entry_rows(&mut rows, [entry.data("rating", json!(rating))]);
            rows.execute(tx).await?;
            this.note_evidence(tx, &given.client_id, &given.agent_id, (request.paid, rating), now).await?;
            given.reputation = this.change_reputation(tx, &given.agent_id, &given.request_id, rating, now).await?;
            Ok(given)
        };
        let rated = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        self.count_event("request_rated", rated.replayed);
        Ok(rated)
    }

    /// Return a page of a service's ratings, newest first, and their number.
    ///
    /// # Errors
    /// [`MarketError::NotFound`].
    #[boxed]
    pub async fn list_ratings(&self, id: &MarketServiceId, page: &PageRequest) -> Result<(Vec<ServiceRating>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let service = services::find(&mut conn, id).await?.ok_or(MarketError::NotFound("Service"))?;
        Ok((store::list(&mut conn, id, page).await?, service.rating_count))
    }
}
