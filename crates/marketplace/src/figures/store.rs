//! SQL of the kept figures: tables `am_market_agents`, `am_market_days` and `am_market_categories`.

use super::model::{AgentCounts, CategoryCounts, DayFigures, TopAgent};
use crate::category::ServiceCategory;
use am_core::{ids::AgentId, money::Money};
use am_db::{Connection, FromRow as _, Result, bulk_insert::RowBatch, codec::Timestamp, push_row, row, sql};

row! {
    AgentCounts { jobs, failed, earned => Money::from_units, rating_count, rating_sum }
}

row! {
    CategoryCounts { category, services, open_requests, settled, volume => Money::from_units }
}

row! {
    DayFigures {
        day,
        requests,
        settled,
        volume => Money::from_units,
        fees => Money::from_units,
    }
}

row! {
    TopAgent {
        agent_id,
        jobs,
        failed,
        earned => Money::from_units,
        rating = "CASE WHEN rating_count > 0 THEN CAST(rating_sum AS REAL) / rating_count END",
        rating_count,
    }
}

/// Add to the figures of a category.
pub fn add_category(rows: &mut RowBatch, category: ServiceCategory, services: i64, open: i64, paid: Option<Money>) {
    push_row!(rows, "am_market_categories" {
        category: category,
        services: services,
        open_requests: open,
        settled: i64::from(paid.is_some()),
        volume: paid.unwrap_or_default().units(),
    } add on (category));
}

/// Add to the figures of a day.
pub fn add_day(rows: &mut RowBatch, category: ServiceCategory, new: &DayFigures) {
    push_row!(rows, "am_market_days" {
        day: &new.day,
        category: category,
        requests: new.requests,
        settled: new.settled,
        volume: new.volume.units(),
        fees: new.fees.units(),
    } add on (day, category));
}

/// Add to the figures of an agent.
pub fn add_agent(rows: &mut RowBatch, agent: &AgentId, new: &AgentCounts, now: Timestamp) {
    push_row!(rows, "am_market_agents" {
        agent_id: agent,
        jobs: new.jobs,
        failed: new.failed,
        earned: new.earned.units(),
        rating_count: new.rating_count,
        rating_sum: new.rating_sum,
        updated_at: now,
    } add on (agent_id) latest (updated_at));
}

/// Read the figures of an agent.
pub async fn agent(conn: &mut Connection, agent: &AgentId) -> Result<Option<AgentCounts>> {
    let found = sql!("SELECT ", AgentCounts::COLUMNS, " FROM am_market_agents WHERE agent_id = $1");
    found.bind(agent).fetch_optional(conn).await
}

/// Read the agents that earned most.
pub async fn top_agents(conn: &mut Connection, limit: i64) -> Result<Vec<TopAgent>> {
    let top =
        sql!("SELECT ", TopAgent::COLUMNS, " FROM am_market_agents ORDER BY earned DESC, agent_id DESC LIMIT $1",);
    top.bind(limit).fetch_all(conn).await
}

/// Read the figures of all categories that have some.
pub async fn categories(conn: &mut Connection) -> Result<Vec<CategoryCounts>> {
    sql!("SELECT ", CategoryCounts::COLUMNS, " FROM am_market_categories").fetch_all(conn).await
}

/// Read the sums of each category over the days from `first` to `last`.
pub async fn category_days(
    conn: &mut Connection,
    first: &str,
    last: &str,
) -> Result<Vec<(ServiceCategory, String, i64, i64, i64)>> {
    let days = sql!(
        "SELECT category, day, requests, settled, volume FROM am_market_days WHERE day >= $1 AND day <= $2 ORDER BY day, category"
    );
    days.bind(first).bind(last).fetch_all(conn).await
}

/// Read the sums of each day from `first` to `last` over all categories, or over one.
pub async fn days(
    conn: &mut Connection,
    first: &str,
    last: &str,
    category: Option<ServiceCategory>,
) -> Result<Vec<DayFigures>> {
    // A sum of PostgreSQL's is a decimal.
    let days = sql!(
        "SELECT day, CAST(sum(requests) AS BIGINT), CAST(sum(settled) AS BIGINT), CAST(sum(volume) AS BIGINT), CAST(sum(fees) AS BIGINT)
         FROM am_market_days WHERE day >= $1 AND day <= $2 [AND category = $3] GROUP BY day ORDER BY day"
    );
    days.bind(first).bind(last).bind_some(category).fetch_all(conn).await
}
