//! SQL of table `am_market_services`.

use super::model::{MarketService, ServiceFilter, ServiceOrder, ServiceState};
use am_core::{
    ids::{AgentId, MarketServiceId},
    money::Money,
};
use am_db::{
    Connection, FromRow as _, Result,
    bulk_insert::RowBatch,
    codec::{Json, JsonText, Timestamp},
    push_row, row, sql,
    statement::Query,
};

row! {
    MarketService from "s." {
        id,
        agent_id,
        owner_id,
        guild_id,
        name,
        description,
        category,
        tags => Json::into_inner,
        base_price => Money::from_units,
        workflow_id,
        state,
        jobs,
        rating_count,
        rating_sum,
        rating => |rating: f64| (rating > 0.0).then_some(rating),
        created_at,
        updated_at,
    }
}

row! {
    /// Where a service stands in each order.
    pub struct ServicePlace from "s." {
        pub id: MarketServiceId,
        pub rating: f64,
        pub base_price: i64,
        pub jobs: i64,
        pub tags: Vec<String> => Json::into_inner,
        pub created_at: Timestamp,
    }
}

/// Add the row of a service, new or changed, to `rows`.
pub fn save(rows: &mut RowBatch, service: &MarketService) -> Result<()> {
    let tags =
        JsonText::from_value(&service.tags).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
    push_row!(rows, "am_market_services" {
        id: &service.id,
        agent_id: &service.agent_id,
        owner_id: &service.owner_id,
        guild_id: &service.guild_id,
        name: &service.name,
        description: &service.description,
        category: service.category,
        tags: tags,
        base_price: service.base_price.units(),
        workflow_id: &service.workflow_id,
        state: service.state,
        jobs: service.jobs,
        rating_count: service.rating_count,
        rating_sum: service.rating_sum,
        rating: service.rating.unwrap_or(0.0),
        created_at: service.created_at,
        updated_at: service.updated_at,
    } update on (id) except (agent_id, owner_id, created_at));
    Ok(())
}

/// Read a service.
pub async fn find(conn: &mut Connection, id: &MarketServiceId) -> Result<Option<MarketService>> {
    let found = sql!("SELECT ", MarketService::COLUMNS, " FROM am_market_services s WHERE s.id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// Read these services, in no order.
pub async fn find_all(conn: &mut Connection, ids: &[MarketServiceId]) -> Result<Vec<MarketService>> {
    let found = sql!("SELECT ", MarketService::COLUMNS, " FROM am_market_services s WHERE s.id IN ($1)");
    found.bind_all(ids).fetch_all(conn).await
}

/// Count an agent's services that were not retired.
pub async fn count_of_agent(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    let count = sql!("SELECT count(*) FROM am_market_services WHERE agent_id = $1 AND state <> 'RETIRED'");
    count.bind(agent).fetch_value(conn).await
}

/// Read where a service stands in each order.
pub async fn find_place(conn: &mut Connection, id: &MarketServiceId) -> Result<Option<ServicePlace>> {
    let place = sql!("SELECT ", ServicePlace::COLUMNS, " FROM am_market_services s WHERE s.id = $1");
    place.bind(id).fetch_optional(conn).await
}

const OFFERED: &str = " FROM am_market_services s WHERE s.state = 'ACTIVE' [AND s.category = $1]";
// A plus keeps the planner at the index of the order.
const BY_RATING: &str = " [AND +s.base_price >= $2] [AND +s.base_price <= $3] [AND s.rating >= $4]";
const BY_PRICE: &str = " [AND s.base_price >= $2] [AND s.base_price <= $3] [AND +s.rating >= $4]";
const BY_NEITHER: &str = " [AND +s.base_price >= $2] [AND +s.base_price <= $3] [AND +s.rating >= $4]";

/// Read a page of the services that are offered, in this order, after `after`.
pub async fn browse(
    conn: &mut Connection,
    filter: &ServiceFilter,
    order: ServiceOrder,
    after: Option<&ServicePlace>,
    (limit, offset): (i64, i64),
) -> Result<Vec<MarketService>> {
    let query = match order {
        ServiceOrder::Rating | ServiceOrder::Relevance => sql!(
            "SELECT ",
            MarketService::COLUMNS,
            OFFERED,
            BY_RATING,
            " [AND (s.rating, s.id) < ($5, $6)] ORDER BY s.rating DESC, s.id DESC LIMIT $7 OFFSET $8",
        ),
        ServiceOrder::Price => sql!(
            "SELECT ",
            MarketService::COLUMNS,
            OFFERED,
            BY_PRICE,
            " [AND (s.base_price, s.id) > ($5, $6)] ORDER BY s.base_price, s.id LIMIT $7 OFFSET $8",
        ),
        ServiceOrder::Jobs => sql!(
            "SELECT ",
            MarketService::COLUMNS,
            OFFERED,
            BY_NEITHER,
            " [AND (s.jobs, s.id) < ($5, $6)] ORDER BY s.jobs DESC, s.id DESC LIMIT $7 OFFSET $8",
        ),
        ServiceOrder::Newest => sql!(
            "SELECT ",
            MarketService::COLUMNS,
            OFFERED,
            BY_NEITHER,
            " [AND (s.created_at, s.id) < ($5, $6)] ORDER BY s.created_at DESC, s.id DESC LIMIT $7 OFFSET $8",
        ),
    };
    let query = query
        .bind_some(filter.category)
        .bind_some(filter.min_price.map(Money::units))
        .bind_some(filter.max_price.map(Money::units))
        .bind_some(filter.min_rating);
    let query = match order {
        ServiceOrder::Rating | ServiceOrder::Relevance => query.bind_some(after.map(|place| place.rating)),
        ServiceOrder::Price => query.bind_some(after.map(|place| place.base_price)),
        ServiceOrder::Jobs => query.bind_some(after.map(|place| place.jobs)),
        ServiceOrder::Newest => query.bind_some(after.map(|place| place.created_at)),
    };
    query.bind_some(after.map(|place| &place.id)).bind(limit).bind(offset).fetch_all(conn).await
}

const FITTING: &str = " [AND s.category = $2] [AND s.base_price >= $3] [AND s.base_price <= $4] [AND s.rating >= $5]
     [AND s.agent_id = $6] [AND s.guild_id = $7] AND s.state = $8";

fn bind_fitting(query: Query, filter: &ServiceFilter) -> Query {
    query
        .bind_some(filter.category)
        .bind_some(filter.min_price.map(Money::units))
        .bind_some(filter.max_price.map(Money::units))
        .bind_some(filter.min_rating)
        .bind_some(filter.agent_id.as_ref())
        .bind_some(filter.guild_id.as_ref())
        .bind(filter.state.unwrap_or(ServiceState::Active))
}

/// Read where the services stand whose texts match best: of those that match the newest.
pub async fn match_text(conn: &mut Connection, text: &str, filter: &ServiceFilter) -> Result<Vec<ServicePlace>> {
    let found = sql!(
        "SELECT ",
        ServicePlace::COLUMNS,
        " FROM {matches am_market_text am_market_services $1 name tags description} AS m
         {then} am_market_services s ON s.number = m.number WHERE true",
        FITTING,
        " ORDER BY m.score, s.id DESC",
    );
    bind_fitting(found.bind(text), filter).fetch_all(conn).await
}

/// Read where the services of an agent stand, or else those of a guild, at most `limit`.
pub async fn of_agent_or_guild(conn: &mut Connection, filter: &ServiceFilter, limit: i64) -> Result<Vec<ServicePlace>> {
    let found = match &filter.agent_id {
        Some(agent) => sql!(
            "SELECT ",
            ServicePlace::COLUMNS,
            " FROM am_market_services s {by am_market_services_agent} WHERE s.agent_id = $1",
            FITTING,
            " ORDER BY s.id DESC LIMIT $9",
        )
        .bind(agent),
        None => sql!(
            "SELECT ",
            ServicePlace::COLUMNS,
            " FROM am_market_services s {by am_market_services_guild} WHERE s.guild_id = $1",
            FITTING,
            " ORDER BY s.id DESC LIMIT $9",
        )
        .bind(&filter.guild_id),
    };
    bind_fitting(found, filter).bind(limit).fetch_all(conn).await
}
