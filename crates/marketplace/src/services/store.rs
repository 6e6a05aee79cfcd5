//! SQL of table `am_market_services`.

use super::model::{MarketService, ServiceFilter, ServiceOrder, ServiceState};
use am_core::{
    ids::{AgentId, MarketServiceId},
    money::Money,
};
use am_db::{
    Connection, FromRow, Result,
    bulk_insert::RowBatch,
    codec::{Json, JsonText, Timestamp},
    push_change, push_row, row,
    row::Columns,
    sql,
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

/// Add the change that counts a paid request of a service to `rows`.
pub fn add_job(rows: &mut RowBatch, service: &MarketServiceId) {
    push_change!(
        rows,
        (service),
        "UPDATE am_market_services SET jobs = jobs + (SELECT count(*) FROM {records $1 id:text} AS r WHERE r.id = am_market_services.id)
         WHERE id IN (SELECT r.id FROM {records $1 id:text} AS r)"
    );
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

const MATCHING: &str = " FROM {matches am_market_text am_market_services $1 name tags description} AS m
     {then} am_market_services s ON s.number = m.number WHERE true";

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

row! {
    /// Numbers of the services whose texts match, as JSON lists.
    pub struct TextMatches {
        /// The newest that match.
        pub all: String,
        /// Those among them with all words in the name.
        pub in_name: String,
        /// Those among them with all words in the name and the tags.
        pub in_tags: String,
    }
}

/// Read which services match a text, the newest, and in which columns.
pub async fn match_text(conn: &mut Connection, text: &str) -> Result<TextMatches> {
    let found = sql!(
        "WITH newest AS MATERIALIZED
             (SELECT m.number FROM {matches am_market_text am_market_services $1 name tags description} AS m)
         SELECT CAST((SELECT {arrays n.number} FROM newest n) AS TEXT),
             CAST((SELECT {arrays m.number} FROM {matches_in am_market_text am_market_services $1 newest name} AS m) AS TEXT),
             CAST((SELECT {arrays m.number} FROM {matches_in am_market_text am_market_services $1 newest name tags} AS m) AS TEXT)",
    );
    found.bind(text).fetch_one(conn).await
}

/// Read which services match a text and the other filters, of the newest that match, in an order that is not that of relevance: their
/// numbers as a JSON list.
pub async fn match_text_by(
    conn: &mut Connection,
    text: &str,
    filter: &ServiceFilter,
    order: ServiceOrder,
) -> Result<String> {
    let found = match order {
        ServiceOrder::Rating | ServiceOrder::Relevance => sql!(
            "SELECT CAST({arrays f.number} AS TEXT) FROM (SELECT s.number",
            MATCHING,
            FITTING,
            " ORDER BY s.rating DESC, s.id DESC) AS f",
        ),
        ServiceOrder::Price => sql!(
            "SELECT CAST({arrays f.number} AS TEXT) FROM (SELECT s.number",
            MATCHING,
            FITTING,
            " ORDER BY s.base_price, s.id) AS f",
        ),
        ServiceOrder::Jobs => sql!(
            "SELECT CAST({arrays f.number} AS TEXT) FROM (SELECT s.number",
            MATCHING,
            FITTING,
            " ORDER BY s.jobs DESC, s.id DESC) AS f",
        ),
        ServiceOrder::Newest => sql!(
            "SELECT CAST({arrays f.number} AS TEXT) FROM (SELECT s.number",
            MATCHING,
            FITTING,
            " ORDER BY s.created_at DESC, s.id DESC) AS f",
        ),
    };
    bind_fitting(found.bind(text), filter).fetch_value(conn).await
}

/// Read the number of a service.
pub async fn find_number(conn: &mut Connection, id: &MarketServiceId) -> Result<Option<i64>> {
    sql!("SELECT number FROM am_market_services WHERE id = $1").bind(id).fetch_optional_value(conn).await
}

/// Read the services with these numbers that fit the filter, in no order, each with its number.
pub async fn find_numbers(
    conn: &mut Connection,
    numbers: &[i64],
    filter: &ServiceFilter,
) -> Result<Vec<(i64, MarketService)>> {
    let found = sql!(
        "SELECT s.number, ",
        MarketService::COLUMNS,
        " FROM {integers $1} AS n {then} am_market_services s ON s.number = n.value WHERE true",
        FITTING,
    );
    let found = bind_fitting(found.bind(serde_json::json!(numbers).to_string()), filter);
    let rows: Vec<NumberedService> = found.fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.number, row.service)).collect())
}

/// A service with its number.
struct NumberedService {
    number: i64,
    service: MarketService,
}

impl FromRow for NumberedService {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self { number: columns.next_value()?, service: MarketService::from_row(columns)? })
    }
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
