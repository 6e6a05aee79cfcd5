//! Snapshots of portfolios and their alerts: by a worker at intervals, and by request.

mod conditions;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use am_core::{boxed, money::Money};
use am_db::{
    Connection, Tx,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use self::conditions::{AlertCondition, AlertFigures, AlertKind, measured_conditions};
use crate::{
    PortfolioCaller, PortfolioService,
    book::{PortfolioBook, ValueCause, unit_at},
    error::{PortfolioError, Result},
    model::is_cash,
    portfolios::visible_portfolio,
    rebalances::drift_of,
    reports::{KeptPeriod, KeptRisk, RiskHistory, held_rating, kept_periods, kept_risk, read_history},
    signals::{read_signal_prices, update_signals},
};
use am_audit::{AuditEntry, EventType};

/// Time between two looks for portfolios that are due.
const REVIEW_POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Portfolios that are reviewed one after the other before the worker looks again.
const REVIEW_BATCH: usize = 50;
/// Largest holdings that a snapshot names.
const TOP_HOLDINGS: usize = 10;
/// Sector of tokens that the strategy gives none.
const OTHER_SECTOR: &str = "other";
/// Time over which a loss is measured.
const LOSS_SPAN: TimeDelta = TimeDelta::hours(24);

/// A snapshot of a portfolio.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioSnapshot)]
pub struct SnapshotRecord {
    /// Number of the snapshot.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// Time of the snapshot.
    pub snapshot_date: Timestamp,
    /// What the portfolio was worth in AIT.
    pub total_value: f64,
    /// AIT that it held.
    pub cash_balance: f64,
    /// Number of tokens that it held.
    pub asset_count: i64,
    /// Value in AIT of the ten largest holdings, by token.
    #[schema(value_type = Object)]
    pub top_holdings: JsonText,
    /// Percent of the whole, by sector.
    #[schema(value_type = Object)]
    pub sector_allocation: JsonText,
    /// Percent of the whole, by region: none is known of tokens.
    #[schema(value_type = Object)]
    pub geographic_allocation: JsonText,
    /// `score` and `level` of what was held, by the prices of the 90 days before; empty: there were too few.
    #[schema(value_type = Object)]
    pub risk_metrics: JsonText,
    /// `unit_value`, the time-weighted worth of a unit, 1 at the first deposit; `peak`, its highest; `costs`, fees and slippage so far in
    /// AIT.
    #[schema(value_type = Object)]
    pub performance_metrics: JsonText,
    /// When it was written.
    pub created_at: Timestamp,
}

/// An alert of a portfolio.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioAlert)]
pub struct AlertRecord {
    /// Number of the alert.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// `drawdown`, `drift`, `loss` or `price_age`.
    pub alert_type: String,
    /// `critical` or `warning`.
    pub severity: String,
    /// What is wrong, for people.
    pub message: String,
    /// What is wrong, for programs.
    #[schema(value_type = Object)]
    pub meta_data: JsonText,
    /// Whether somebody has acknowledged it.
    pub is_acknowledged: bool,
    /// When it was acknowledged; null: it was not.
    #[serde(default)]
    pub acknowledged_at: Option<Timestamp>,
    /// When it was raised.
    pub created_at: Timestamp,
    /// When its condition was over; null: it still holds.
    #[serde(default)]
    pub resolved_at: Option<Timestamp>,
}

/// What a review needs that is read outside its transaction.
struct ReviewInput {
    history: RiskHistory,
    unit_before: Option<f64>,
    risk: Option<KeptRisk>,
    periods: Vec<KeptPeriod>,
    /// Prices that the strategy's rules look at.
    signal_prices: RiskHistory,
}

impl PortfolioService {
    /// Review portfolios that are due, until `stop`.
    #[boxed]
    pub async fn review_loop(self, stop: CancellationToken) {
        loop {
            let full = self.review_due().await.unwrap_or_else(|error| {
                self.0.metrics.review_failures.inc();
                tracing::warn!(%error, "portfolios that are due could not be read");
                false
            });
            let pause = if full { Duration::ZERO } else { REVIEW_POLL_INTERVAL };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Review some portfolios that are due; whether there may be more.
    async fn review_due(&self) -> Result<bool> {
        let due = store::due(&mut *self.0.db.read().await?, self.now(), REVIEW_BATCH).await?;
        let full = due.len() == REVIEW_BATCH;
        for (id, due_at) in due {
            if let Err(error) = self.review(id, due_at).await {
                self.0.metrics.review_failures.inc();
                tracing::warn!(portfolio = id, %error, "a portfolio could not be reviewed");
                // It is not tried again and again.
                let next = self.next_review(self.now());
                self.0.db.write(async move |tx: &mut Tx| store::claim(tx, id, due_at, next).await.map(drop)).await?;
            }
        }
        Ok(full)
    }

    async fn review_input(&self, conn: &mut Connection, book: &PortfolioBook) -> Result<ReviewInput> {
        let tokens: Vec<String> = book.positions.held().map(|(token, _)| token.clone()).collect();
        let history = read_history(conn, &tokens, book.now).await?;
        let before = Timestamp(book.now.0.checked_sub_signed(LOSS_SPAN).unwrap_or_default());
        let unit_before = unit_at(conn, book.id(), before).await?;
        let risk = kept_risk(conn, book.id(), book.now).await?;
        let periods = kept_periods(conn, book).await?;
        let signal_prices = read_signal_prices(conn, book).await?;
        Ok(ReviewInput { history, unit_before, risk, periods, signal_prices })
    }

    async fn review(&self, id: i64, due_at: Timestamp) -> Result<()> {
        let now = self.now();
        let mut conn = self.0.db.read().await?;
        let book = self.reviewed_book(&mut conn, id, now).await?;
        let input = self.review_input(&mut conn, &book).await?;
        drop(conn);
        let (me, next) = (self.clone(), self.next_review(now));
        let work = async move |tx: &mut Tx| {
            // Another process may have been first.
            if !store::claim(tx, id, due_at, next).await? {
                return Ok(());
            }
            let mut book = me.reviewed_book(tx.conn().await?, id, now).await?;
            let is_empty = book.positions.held().next().is_none() && !book.state.last_value.is_positive();
            if is_empty {
                return Ok(());
            }
            let measured = match me.snapshot_in(tx, &mut book, &input).await {
                Ok(_) => true,
                // Without prices there is no value, and an alert says so.
                Err(PortfolioError::Conflict(..)) => false,
                Err(error) => return Err(error),
            };
            let raised = me.update_alerts(tx, &book, &input, measured).await?;
            if measured {
                me.0.metrics.signals.inc_by(update_signals(tx, &book, &input.signal_prices).await?);
            }
            let entry = |kind: &&str| {
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("portfolio", "alerted");
                entry.data("portfolio", json!(id)).data("alert", json!(kind))
            };
            me.0.audit.append(tx, raised.iter().map(entry).collect()).await?;
            Ok::<_, PortfolioError>(())
        };
        self.0.db.write(work).await
    }

    /// Write a snapshot now, and raise and resolve alerts.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Conflict`] where a price is missing or too old.
    #[boxed]
    pub async fn snapshot(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SnapshotRecord>> {
        let now = self.now();
        let mut conn = self.0.db.read().await?;
        let book = self.open_book(&mut conn, caller, id, &[], now).await?;
        let input = self.review_input(&mut conn, &book).await?;
        drop(conn);
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let mut book = me.open_book(tx.conn().await?, &by, id, &[], now).await?;
            let snapshot = me.snapshot_in(tx, &mut book, &input).await?;
            me.update_alerts(tx, &book, &input, true).await?;
            me.0.metrics.signals.inc_by(update_signals(tx, &book, &input.signal_prices).await?);
            let entry = me.entry(&by.principal, "portfolio", "snapshot", now).data("portfolio", json!(id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(snapshot)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    async fn snapshot_in(&self, tx: &mut Tx, book: &mut PortfolioBook, input: &ReviewInput) -> Result<SnapshotRecord> {
        let value = book.record_value(tx, ValueCause::Snapshot, Money::ZERO).await?;
        let rating = held_rating(book, &input.history)?;
        if let Some(rating) = rating {
            book.portfolio.risk_score = rating.score;
        }
        book.save(tx).await?;
        let risk = rating.map_or(json!({}), |rating| json!({"score": rating.score, "level": rating.level.as_str()}));
        let growth = json!({
            "unit_value": book.state.unit_value, "peak": book.state.peak_unit, "costs": book.state.costs.to_f64(),
        });
        let mut sectors: BTreeMap<&str, f64> = BTreeMap::new();
        for (token, percent) in book.positions.percents(value) {
            let sector = book.strategy.sectors.get(token).map_or(OTHER_SECTOR, String::as_str);
            *sectors.entry(sector).or_default() += percent;
        }
        let mut holdings: Vec<(&String, f64)> =
            book.positions.held().map(|(token, held)| (token, held.value().unwrap_or_default().to_f64())).collect();
        holdings.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(other.0)));
        let count = holdings.len();
        let top: BTreeMap<&String, f64> = holdings.into_iter().take(TOP_HOLDINGS).collect();
        let cash =
            book.positions.held().find(|(token, _)| is_cash(token)).map_or(0.0, |(_, held)| held.amount.to_f64());
        let json = |value: &serde_json::Value| {
            JsonText::from_value(value).map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))
        };
        let snapshot = SnapshotRecord {
            id: store::next_snapshot_id(tx.conn().await?).await?,
            portfolio_id: book.id(),
            snapshot_date: book.now,
            total_value: value.to_f64(),
            cash_balance: cash,
            asset_count: count as i64,
            top_holdings: json(&json!(top))?,
            sector_allocation: json(&json!(sectors))?,
            geographic_allocation: json(&json!({}))?,
            risk_metrics: json(&risk)?,
            performance_metrics: json(&growth)?,
            created_at: book.now,
        };
        store::insert_snapshot(tx, &snapshot).await?;
        if let Some(risk) = &input.risk {
            store::keep_risk(tx, book.id(), risk, book.now).await?;
        }
        for period in &input.periods {
            store::keep_period(tx, book.id(), period, book.now).await?;
            if input.risk.is_some() && period.is_year() {
                store::keep_comparison(tx, book.id(), period).await?;
            }
        }
        self.0.metrics.snapshots.inc();
        Ok(snapshot)
    }

    /// Raise alerts whose condition holds newly, and resolve those whose condition is over. Answers the kinds of those raised.
    async fn update_alerts(
        &self,
        tx: &mut Tx,
        book: &PortfolioBook,
        input: &ReviewInput,
        measured: bool,
    ) -> Result<Vec<&'static str>> {
        let mut holding = price_conditions(book);
        let mut checked: BTreeSet<&str> = BTreeSet::from([AlertKind::PriceAge.word()]);
        if measured {
            checked.extend(AlertKind::MEASURED.map(AlertKind::word));
            let figures = AlertFigures {
                unit_value: book.state.unit_value,
                peak_unit: book.state.peak_unit,
                unit_before: input.unit_before,
                drift: if book.state.last_value.is_positive() { drift_of(book, book.total()?) } else { 0.0 },
                max_drawdown: book.strategy.max_drawdown,
                max_loss: book.strategy.volatility_threshold,
            };
            holding.extend(measured_conditions(&figures));
        }
        let open = store::open_alerts(tx.conn().await?, book.id()).await?;
        let holds = |kind: &str, token: &str| holding.iter().any(|one| one.kind.word() == kind && one.token == token);
        for alert in open.iter().filter(|alert| checked.contains(alert.alert_type.as_str())) {
            if !holds(&alert.alert_type, &alert.token) {
                store::resolve(tx, book.id(), alert, book.now).await?;
            }
        }
        let mut raised = Vec::new();
        for condition in &holding {
            let is_open =
                |alert: &store::OpenAlert| alert.alert_type == condition.kind.word() && alert.token == condition.token;
            if !open.iter().any(is_open) {
                store::raise(tx, book.id(), condition, book.now).await?;
                self.0.metrics.alerts.inc();
                raised.push(condition.kind.word());
            }
        }
        Ok(raised)
    }

    /// A page of a portfolio's snapshots, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_snapshots(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        page: &PageRequest,
    ) -> Result<(Vec<SnapshotRecord>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        store::list_snapshots(&mut conn, id, page).await
    }

    /// A page of a portfolio's alerts, the newest first, and how many there are; with `open`, those whose condition holds, or is over.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_alerts(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        open: Option<bool>,
        page: &PageRequest,
    ) -> Result<(Vec<AlertRecord>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        store::list_alerts(&mut conn, id, open, page).await
    }

    /// Acknowledge an alert; one that is acknowledged stays as it is.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn acknowledge_alert(
        &self,
        caller: &PortfolioCaller,
        (id, alert): (i64, i64),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AlertRecord>> {
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            visible_portfolio(tx.conn().await?, &by, id).await?;
            let missing = || PortfolioError::NotFound(format!("No alert {alert}"));
            let found = store::alert(tx.conn().await?, id, alert).await?.ok_or_else(missing)?;
            if found.is_acknowledged {
                return Ok(found);
            }
            store::acknowledge(tx, alert, now).await?;
            let entry = me.entry(&by.principal, "portfolio", "alert_acknowledged", now).data("portfolio", json!(id));
            me.0.audit.append(tx, vec![entry.data("alert", json!(alert))]).await?;
            store::alert(tx.conn().await?, id, alert).await?.ok_or_else(missing)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}

/// An alert for each token held without a price that is young enough.
fn price_conditions(book: &PortfolioBook) -> Vec<AlertCondition> {
    let condition = |token: &String| {
        let message = book.price(token).err()?.to_string();
        let data = json!({"token": token});
        Some(AlertCondition { kind: AlertKind::PriceAge, token: token.clone(), message, data })
    };
    book.positions.held().filter_map(|(token, _)| condition(token)).collect()
}
