//! SQL of tables `portfolio_strategy` and `am_portfolio_strategies`.

use crate::{error::Result, model::StrategyDocument};
use am_core::ids::PrincipalId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    bulk_insert::RowBatch,
    codec::{JsonOr, JsonText},
    page::PageRequest,
    push_row, row, sql,
};

row! {
    StrategyDocument {
        id = "s.id",
        name = "s.name",
        strategy_type = "s.strategy_type",
        target_allocations = "s.target_allocations" => JsonOr::into_inner,
        max_drawdown = "s.max_drawdown",
        rebalance_frequency = "s.rebalance_frequency",
        volatility_threshold = "s.volatility_threshold",
        sectors = "a.sectors" => JsonOr::into_inner,
        lot_sizes = "a.lot_sizes" => JsonOr::into_inner,
        max_turnover = "a.max_turnover",
        signal_rules = "a.signal_rules" => JsonOr::into_inner,
        is_active = "s.is_active",
        owner_id = "a.owner_id",
        created_at = "s.created_at",
        updated_at = "s.updated_at",
    }
}

/// The number of the next strategy: above all that there are.
pub(super) async fn next_id(conn: &mut Connection) -> Result<i64> {
    let next = sql!(
        "SELECT 1 + coalesce((SELECT max(id) FROM portfolio_strategy), 0) AS one,
             1 + coalesce((SELECT max(id) FROM am_portfolio_strategies), 0) AS other",
    );
    let (one, other): (i64, i64) = next.fetch_one(conn).await?;
    Ok(one.max(other))
}

pub(super) async fn get(conn: &mut Connection, id: i64) -> Result<Option<StrategyDocument>> {
    let found = sql!(
        "SELECT ",
        StrategyDocument::COLUMNS,
        " FROM portfolio_strategy s LEFT JOIN am_portfolio_strategies a ON a.id = s.id WHERE s.id = $1",
    );
    Ok(found.bind(id).fetch_optional(conn).await?)
}

pub(super) async fn list(
    conn: &mut Connection,
    owner: Option<PrincipalId>,
    page: &PageRequest,
) -> Result<(Vec<StrategyDocument>, Option<i64>)> {
    let rows = sql!(
        "SELECT ",
        StrategyDocument::COLUMNS,
        " FROM am_portfolio_strategies a {then} portfolio_strategy s ON s.id = a.id WHERE true [AND a.owner_id = $1] {page a. $2}",
    );
    let rows = rows.bind_some(owner.clone()).bind_page(page).fetch_all(conn).await?;
    let Some(owner) = owner else { return Ok((rows, None)) };
    let total = sql!("SELECT count(*) FROM am_portfolio_strategies WHERE owner_id = $1 {span $2}");
    Ok((rows, Some(total.bind(owner).bind_span(page.created).fetch_value(conn).await?)))
}

fn json<T: serde::Serialize>(value: &T) -> Result<JsonText> {
    Ok(JsonText::from_value(value).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?)
}

/// Store a strategy, or put it in the place of the one with its number.
async fn write(tx: &mut Tx, document: &StrategyDocument) -> Result<()> {
    let mut rows = RowBatch::default();
    push_row!(rows, "portfolio_strategy" {
        id: document.id,
        name: &document.name,
        strategy_type: document.strategy_type,
        target_allocations: json(&document.target_allocations)?,
        max_drawdown: document.max_drawdown,
        rebalance_frequency: document.rebalance_frequency,
        volatility_threshold: document.volatility_threshold,
        is_active: document.is_active,
        created_at: document.created_at,
        updated_at: document.updated_at,
    } update on (id) except (created_at));
    push_row!(rows, "am_portfolio_strategies" {
        id: document.id,
        owner_id: document.owner_id.clone().unwrap_or_default(),
        sectors: json(&document.sectors)?,
        lot_sizes: json(&document.lot_sizes)?,
        max_turnover: document.max_turnover,
        signal_rules: json(&document.signal_rules)?,
        created_at: document.created_at,
    } update on (id) except (owner_id, created_at));
    rows.execute(tx).await?;
    Ok(())
}

pub(super) async fn insert(tx: &mut Tx, document: &StrategyDocument) -> Result<()> {
    write(tx, document).await
}

pub(super) async fn update(tx: &mut Tx, document: &StrategyDocument) -> Result<()> {
    write(tx, document).await
}
