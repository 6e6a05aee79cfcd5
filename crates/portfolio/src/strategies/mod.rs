//! Strategies: what portfolios aim at.

mod store;

use std::collections::{BTreeMap, BTreeSet};

use am_core::{
    boxed,
    money::Money,
    validation::{FieldPath, Violation, Violations},
};
use am_db::{
    Connection, Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    PortfolioCaller, PortfolioService,
    error::{PortfolioError, Result},
    model::{MAX_TOKENS, SYMBOL_RULE, SignalKind, SignalRule, StrategyDocument, StrategyType, is_symbol},
};

/// Percent that allocations may sum to more or less than the whole.
const SUM_TOLERANCE: f64 = 0.01;
/// Characters of a name.
const MAX_NAME_LEN: usize = 100;
/// Characters of a sector's name.
const MAX_SECTOR_LEN: usize = 50;
/// Seconds between two rebalances, a minute to ten years.
const FREQUENCY_RANGE: std::ops::RangeInclusive<i64> = 60..=315_360_000;

/// Days of prices that a rule of signals looks at.
const RULE_DAYS: std::ops::RangeInclusive<i64> = 5..=365;
/// Days after which signals expire.
const EXPIRY_DAYS: std::ops::RangeInclusive<i64> = 1..=30;

/// A strategy to make, or to put in another's place.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioStrategyDraft)]
pub struct StrategyDraft {
    /// Name, 1 to 100 characters.
    pub name: String,
    /// Kind of the strategy. Default `balanced`.
    pub strategy_type: Option<StrategyType>,
    /// Percent of the whole for each token, as `{"AIT": 20, "ETH": 80}`, which sum to 100, plus or minus 0.01; at most 50 tokens.
    pub target_allocations: BTreeMap<String, f64>,
    /// Percent below the peak that raises the alert `drawdown`, above 0 to 100. Default 20.
    pub max_drawdown: Option<f64>,
    /// Seconds after which a rebalance is due, 60 to 315360000. Default 86400.
    pub rebalance_frequency: Option<i64>,
    /// Percent lost in 24 hours that raises the alert `loss`, above 0 to 100. Default 15.
    pub volatility_threshold: Option<f64>,
    /// Sector of each token. Default: none is named.
    pub sectors: Option<BTreeMap<String, String>>,
    /// Lot of each token: a rebalance sells multiples of it, and buys no less than it. Default: any amount.
    pub lot_sizes: Option<BTreeMap<String, f64>>,
    /// Percent of the whole that one rebalance sells at most, above 0 to 100. Default: no limit.
    pub max_turnover: Option<f64>,
    /// Rules by which it signals, each kind once at most. Default: none.
    pub signal_rules: Option<Vec<SignalRule>>,
    /// Whether portfolios may be made with it. Default true.
    pub is_active: Option<bool>,
}

/// A checked strategy without a number.
struct CheckedStrategy {
    draft: StrategyDraft,
    name: String,
}

fn check_rules(rules: &[SignalRule], violations: &mut Violations) {
    violations.require(rules.len() <= SignalKind::ALL.len(), "signal_rules", "has each rule once at most");
    let mut known = BTreeSet::new();
    for (at, rule) in rules.iter().take(SignalKind::ALL.len()).enumerate() {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["signal_rules"]);
        violations.require(known.insert(rule.rule), place("rule"), "each rule is declared once at most");
        let most = match rule.rule {
            SignalKind::Drift => 100.0,
            SignalKind::Momentum => 1000.0,
            SignalKind::Reversion => 10.0,
        };
        for (value, most, member) in [(rule.threshold, most, "threshold"), (rule.tilt, 100.0, "tilt")] {
            let sound = value.is_none_or(|value| value > 0.0 && value <= most);
            violations.require(sound, place(member), format!("must be above 0 and at most {most}"));
        }
        violations.require_within(rule.days, &RULE_DAYS, place("days"));
        violations.require_within(rule.expires_days, &EXPIRY_DAYS, place("expires_days"));
        if rule.rule == SignalKind::Drift {
            violations.require(rule.days.is_none(), place("days"), "is none of rule drift");
            violations.require(rule.tilt.is_none(), place("tilt"), "is none of rule drift");
        }
    }
}

fn checked(draft: StrategyDraft) -> std::result::Result<CheckedStrategy, Vec<Violation>> {
    let mut violations = Violations::default();
    let name = draft.name.trim().to_owned();
    let letters = name.chars().count();
    let sound = (1..=MAX_NAME_LEN).contains(&letters) && !name.chars().any(char::is_control);
    violations.require(sound, "name", format!("has 1 to {MAX_NAME_LEN} characters, no control characters"));
    let targets = &draft.target_allocations;
    violations.require(targets.len() <= MAX_TOKENS, "target_allocations", format!("at most {MAX_TOKENS} tokens"));
    for (token, percent) in targets {
        let place = || FieldPath::from([token]).within(["target_allocations"]);
        violations.require(is_symbol(token), place(), SYMBOL_RULE);
        violations.require((0.0..=100.0).contains(percent), place(), "must be from 0 to 100");
    }
    let sum: f64 = targets.values().sum();
    // A sum of decimals may be off by a last digit.
    let whole = (sum - 100.0).abs() <= SUM_TOLERANCE + 1e-9;
    violations.require(
        whole,
        "target_allocations",
        format!("must sum to 100, plus or minus {SUM_TOLERANCE}; they sum to {sum}"),
    );
    for (value, member) in [
        (draft.max_drawdown, "max_drawdown"),
        (draft.volatility_threshold, "volatility_threshold"),
        (draft.max_turnover, "max_turnover"),
    ] {
        let sound = value.is_none_or(|value| value > 0.0 && value <= 100.0);
        violations.require(sound, member, "must be above 0 and at most 100");
    }
    violations.require_within(draft.rebalance_frequency, &FREQUENCY_RANGE, "rebalance_frequency");
    let sectors = draft.sectors.iter().flatten();
    violations.require(
        draft.sectors.as_ref().is_none_or(|all| all.len() <= MAX_TOKENS),
        "sectors",
        format!("at most {MAX_TOKENS} tokens"),
    );
    for (token, sector) in sectors.take(MAX_TOKENS) {
        let place = || FieldPath::from([token]).within(["sectors"]);
        violations.require(is_symbol(token), place(), SYMBOL_RULE);
        let sound = (1..=MAX_SECTOR_LEN).contains(&sector.chars().count()) && !sector.chars().any(char::is_control);
        violations.require(sound, place(), format!("has 1 to {MAX_SECTOR_LEN} characters, no control characters"));
    }
    let lots = draft.lot_sizes.iter().flatten();
    violations.require(
        draft.lot_sizes.as_ref().is_none_or(|all| all.len() <= MAX_TOKENS),
        "lot_sizes",
        format!("at most {MAX_TOKENS} tokens"),
    );
    for (token, lot) in lots.take(MAX_TOKENS) {
        let place = || FieldPath::from([token]).within(["lot_sizes"]);
        violations.require(is_symbol(token), place(), SYMBOL_RULE);
        let amount = Money::try_from_f64(*lot).filter(|amount| amount.is_positive());
        violations.require(amount.is_some(), place(), "must be an amount above 0 with at most eight decimal places");
    }
    check_rules(draft.signal_rules.as_deref().unwrap_or_default(), &mut violations);
    violations.finish_with(Some(CheckedStrategy { draft, name }))
}

impl CheckedStrategy {
    fn document(
        self,
        id: i64,
        now: am_db::codec::Timestamp,
        owner: Option<am_core::ids::PrincipalId>,
    ) -> StrategyDocument {
        let Self { draft, name } = self;
        StrategyDocument {
            id,
            name,
            strategy_type: draft.strategy_type.unwrap_or(StrategyType::Balanced),
            target_allocations: draft.target_allocations,
            max_drawdown: draft.max_drawdown.unwrap_or(20.0),
            rebalance_frequency: draft.rebalance_frequency.unwrap_or(86_400),
            volatility_threshold: draft.volatility_threshold.unwrap_or(15.0),
            sectors: draft.sectors.unwrap_or_default(),
            lot_sizes: draft.lot_sizes.unwrap_or_default(),
            max_turnover: draft.max_turnover,
            signal_rules: draft.signal_rules.unwrap_or_default().iter().map(SignalRule::filled).collect(),
            is_active: draft.is_active.unwrap_or(true),
            owner_id: owner,
            created_at: now,
            updated_at: now,
        }
    }
}

fn no_strategy(id: i64) -> PortfolioError {
    PortfolioError::NotFound(format!("No strategy {id}"))
}

/// A strategy that `caller` may see.
pub(crate) async fn visible_strategy(
    conn: &mut Connection,
    caller: &PortfolioCaller,
    id: i64,
) -> Result<StrategyDocument> {
    let found = store::get(conn, id).await?;
    let visible = found.filter(|found| found.owner_id.as_ref().is_none_or(|owner| caller.may_use(owner.as_str())));
    visible.ok_or_else(|| no_strategy(id))
}

/// A strategy, whoever asks.
pub(crate) async fn stored_strategy(conn: &mut Connection, id: i64) -> Result<StrategyDocument> {
    store::get(conn, id).await?.ok_or_else(|| no_strategy(id))
}

impl PortfolioService {
    /// Make a strategy.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] with all faults.
    #[boxed]
    pub async fn create_strategy(
        &self,
        caller: &PortfolioCaller,
        draft: StrategyDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<StrategyDocument>> {
        let checked = checked(draft).map_err(PortfolioError::Invalid)?;
        let (me, by, now) = (self.clone(), caller.principal.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let id = store::next_id(tx.conn().await?).await?;
            let document = checked.document(id, now, Some(by.id()));
            store::insert(tx, &document).await?;
            let entry = me.entry(&by, "portfolio_strategy", "created", now).data("strategy", json!(id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(document)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Put another strategy in the place of one. What is not named gets its default.
    ///
    /// # Errors
    /// [`PortfolioError::Invalid`] with all faults; [`PortfolioError::NotFound`]; [`PortfolioError::Conflict`] for one that another
    /// service made.
    #[boxed]
    pub async fn update_strategy(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        draft: StrategyDraft,
    ) -> Result<StrategyDocument> {
        let checked = checked(draft).map_err(PortfolioError::Invalid)?;
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let before = visible_strategy(tx.conn().await?, &caller, id).await?;
            let Some(owner) = before.owner_id.clone() else {
                return Err(PortfolioError::Conflict("conflict", format!("Strategy {id} was made by another service")));
            };
            let document = StrategyDocument { created_at: before.created_at, ..checked.document(id, now, Some(owner)) };
            store::update(tx, &document).await?;
            let entry = me.entry(&caller.principal, "portfolio_strategy", "updated", now);
            let entry = entry
                .data("strategy", json!(id))
                .change(Some(json!(before.target_allocations)), Some(json!(document.target_allocations)));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(document)
        };
        self.0.db.write(work).await
    }

    /// A strategy that the caller may see.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn strategy(&self, caller: &PortfolioCaller, id: i64) -> Result<StrategyDocument> {
        visible_strategy(&mut *self.0.db.read().await?, caller, id).await
    }

    /// A page of the caller's strategies, for an admin of all that were made here, and how many there are; `None`: not counted.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list_strategies(
        &self,
        caller: &PortfolioCaller,
        page: &PageRequest,
    ) -> Result<(Vec<StrategyDocument>, Option<i64>)> {
        store::list(&mut *self.0.db.read_list().await?, caller.owner_filter(), page).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(body: serde_json::Value) -> Vec<String> {
        match checked(serde_json::from_value(body).unwrap()) {
            Ok(_) => Vec::new(),
            Err(violations) => violations.iter().map(|violation| violation.path.to_string()).collect(),
        }
    }

    #[test]
    fn allocations_sum_to_a_hundred() {
        let with = |targets: serde_json::Value| json!({"name": "n", "target_allocations": targets});
        assert!(faults(with(json!({"AIT": 40, "ETH": 60}))).is_empty());
        assert!(faults(with(json!({"AIT": 33.33, "ETH": 33.33, "BTC": 33.33}))).is_empty(), "99.99");
        assert!(faults(with(json!({"AIT": 40, "ETH": 60.01}))).is_empty());
        assert_eq!(faults(with(json!({"AIT": 40, "ETH": 60.02}))), ["target_allocations"]);
        assert_eq!(faults(with(json!({}))), ["target_allocations"]);
        assert_eq!(faults(with(json!({"AIT": 110, "ETH": -10}))).len(), 2);
        assert_eq!(faults(with(json!({"ait": 100}))), ["target_allocations.ait"]);
    }

    #[test]
    fn members_have_bounds() {
        let body = json!({
            "name": " ", "target_allocations": {"AIT": 100}, "max_drawdown": 0, "rebalance_frequency": 1,
            "sectors": {"ETH": ""}, "lot_sizes": {"ETH": 0}, "max_turnover": 101,
        });
        let places = ["name", "max_drawdown", "max_turnover", "rebalance_frequency", "sectors.ETH", "lot_sizes.ETH"];
        assert_eq!(faults(body), places);
    }

    #[test]
    fn rules_are_declared_once_and_have_bounds() {
        let with =
            |rules: serde_json::Value| json!({"name": "n", "target_allocations": {"AIT": 100}, "signal_rules": rules});
        let sound =
            json!([{"rule": "drift"}, {"rule": "momentum", "days": 5, "threshold": 1000}, {"rule": "reversion"}]);
        assert!(faults(with(sound)).is_empty());
        let bad = json!([
            {"rule": "drift", "days": 30, "tilt": 1}, {"rule": "drift", "threshold": 0},
            {"rule": "momentum", "days": 4, "expires_days": 31, "tilt": 100.5}, {"rule": "reversion"},
        ]);
        let places = [
            "signal_rules",
            "signal_rules.0.days",
            "signal_rules.0.tilt",
            "signal_rules.1.rule",
            "signal_rules.1.threshold",
            "signal_rules.2.tilt",
            "signal_rules.2.days",
            "signal_rules.2.expires_days",
        ];
        assert_eq!(faults(with(bad)), places);
    }
}
