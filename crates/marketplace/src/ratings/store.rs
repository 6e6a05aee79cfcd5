//! SQL of table `am_market_ratings`.

use super::ServiceRating;
use crate::reputation::ReputationChange;
use am_core::ids::MarketServiceId;
use am_db::{Connection, FromRow as _, Result, bulk_insert::RowBatch, page::PageRequest, push_row, row, sql};

/// Lists don't show what a rating changed.
fn not_shown(_: Option<i64>) -> Option<ReputationChange> {
    None
}

row! {
    ServiceRating {
        request_id,
        service_id,
        agent_id,
        client_id,
        rating,
        comment,
        created_at,
        reputation = "NULL" => not_shown,
    }
}

/// Add the row of a rating to `rows`.
pub fn insert(rows: &mut RowBatch, rating: &ServiceRating) {
    push_row!(rows, "am_market_ratings" {
        request_id: &rating.request_id,
        service_id: &rating.service_id,
        agent_id: &rating.agent_id,
        client_id: &rating.client_id,
        rating: rating.rating,
        comment: &rating.comment,
        created_at: rating.created_at,
    });
}

/// Read a page of a service's ratings.
pub async fn list(conn: &mut Connection, service: &MarketServiceId, page: &PageRequest) -> Result<Vec<ServiceRating>> {
    let ratings = sql!(
        "SELECT ",
        ServiceRating::COLUMNS,
        " FROM (SELECT *, request_id AS id FROM am_market_ratings WHERE service_id = $1) AS r WHERE true {page $2}",
    );
    ratings.bind(service).bind_page(page).fetch_all(conn).await
}
