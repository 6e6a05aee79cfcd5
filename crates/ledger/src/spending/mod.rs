//! What was spent, by principal, agent, workflow and time: sums by the hour that are kept with each entry, so that a report
//! reads hours and not lines.

mod model;
mod store;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use am_core::{boxed, ids::PrincipalId, money::Money};
use am_db::{Connection, bulk_insert::RowBatch, codec::Timestamp};

use super::{
    LedgerService,
    draft::NewEntry,
    error::{LedgerError, Result},
    model::AIT,
};

pub(crate) use model::SpendingKey;
pub use model::{SpendingDimension, SpendingGroup};

/// Behind all hours.
const END_OF_HOURS: &str = "9999";

/// One group of a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LedgerSpending)]
pub struct SpendingSum {
    /// Principal that spent it; null in a report by day over all principals.
    #[schema(value_type = Option<String>)]
    pub principal: Option<PrincipalId>,
    /// Agent, in a report by agent; null in others.
    pub agent_id: Option<String>,
    /// Workflow, network or plan, in a report by workflow; null in others.
    pub workflow_id: Option<String>,
    /// Day in UTC, as 2026-12-01, in a report by day; null in others.
    pub day: Option<String>,
    /// What was spent, in AIT, with up to 8 decimal places. Corrections count with their opposite sign.
    pub amount: Money,
    /// Number of entries.
    pub entries: i64,
}

/// A time's hour in UTC, as sums are kept by: `2026-12-01T09`.
pub(super) fn hour_of(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H").to_string()
}

/// Add the rows of what an entry spends.
pub(super) fn add_rows(rows: &mut RowBatch, entry: &NewEntry, now: Timestamp) {
    use SpendingDimension::{Agent, All, Principal, Workflow};
    let (spent, tags) = (entry.spent.units(), &entry.tags);
    let (Some(principal), true) = (&tags.principal, spent != 0 || entry.spent_on_agent != Money::ZERO) else { return };
    let hour = hour_of(now.0);
    let mut add = |dimension, principal: &str, subject: &str, amount| {
        if amount != 0 {
            store::add_row(rows, &SpendingKey { dimension, principal, subject }, AIT, &hour, amount);
        }
    };
    add(All, "", "", spent);
    add(Principal, principal, "", spent);
    if let Some(agent) = &tags.agent {
        add(Agent, principal, agent, spent.saturating_add(entry.spent_on_agent.units()));
    }
    if let Some(workflow) = &tags.workflow {
        add(Workflow, principal, workflow, spent);
    }
}

/// Sum what was spent since the hour `from`.
pub(super) async fn spent_since(conn: &mut Connection, key: &SpendingKey<'_>, from: &str) -> Result<Money> {
    spent_between(conn, key, from, END_OF_HOURS).await
}

/// Sum what was spent from the hour `from` on and before the hour `to`.
pub(super) async fn spent_between(conn: &mut Connection, key: &SpendingKey<'_>, from: &str, to: &str) -> Result<Money> {
    Ok(Money::from_units(store::sum_spent(conn, key, AIT, (from, to)).await?))
}

impl LedgerService {
    /// What was spent from `from` on and before `to`, which are rounded down to the hour: by one principal, or by all (`None`).
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] when `to` is not behind `from`; a database error.
    #[boxed]
    pub async fn spending(
        &self,
        group: SpendingGroup,
        principal: Option<&PrincipalId>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) -> Result<Vec<SpendingSum>> {
        if from.zip(to).is_some_and(|(from, to)| to <= from) {
            return Err(LedgerError::invalid("to", "must be later than `from`"));
        }
        let dimension = match (group, principal) {
            (SpendingGroup::Day, None) => SpendingDimension::All,
            (SpendingGroup::Day, Some(_)) | (SpendingGroup::Principal, _) => SpendingDimension::Principal,
            (SpendingGroup::Agent, _) => SpendingDimension::Agent,
            (SpendingGroup::Workflow, _) => SpendingDimension::Workflow,
        };
        let from = from.map(|from| hour_of(from.0)).unwrap_or_default();
        let to = to.map_or_else(|| END_OF_HOURS.to_owned(), |to| hour_of(to.0));
        let mut conn = self.0.db.read_list().await?;
        let hours = store::read_sums(&mut conn, dimension.stored(), principal, AIT, (&from, &to)).await?;
        drop(conn);
        let mut sums: BTreeMap<(String, String, String), (Money, i64)> = BTreeMap::new();
        for hour in hours {
            let day = if group == SpendingGroup::Day {
                hour.hour[..10.min(hour.hour.len())].to_owned()
            } else {
                String::new()
            };
            let sum = sums.entry((day, hour.principal, hour.subject)).or_default();
            sum.0 += Money::from_units(hour.amount);
            sum.1 += hour.entries;
        }
        let some = |text: String| (!text.is_empty()).then_some(text);
        let shown = |((day, principal, subject), (amount, entries)): (_, _)| {
            let of = |wanted| if group == wanted { some(String::clone(&subject)) } else { None };
            SpendingSum {
                principal: some(principal).map(PrincipalId::from),
                agent_id: of(SpendingGroup::Agent),
                workflow_id: of(SpendingGroup::Workflow),
                day: some(day),
                amount,
                entries,
            }
        };
        Ok(sums.into_iter().map(shown).collect())
    }
}
