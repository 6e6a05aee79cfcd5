//! The summary of a metric over many agents: who reported it in a time, with which values. From sums that are kept by hour, so that it
//! takes as long with a thousand agents as with a hundred thousand.

mod store;

use std::collections::{BTreeMap, BTreeSet};

use am_core::{
    boxed,
    ids::{AgentId, PrincipalId},
};
use am_db::{Connection, codec::Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use self::store::{BestValue, LevelSum, LevelTotals};
use super::{ProfileService, store as profile_store};
use crate::{agents::PerformanceCaller, error::Result};

/// Values of other hours that are looked at beside those that are wanted.
const OTHERS_LOOKED_AT: usize = 100;

/// What is summarised.
#[derive(Clone, Debug)]
pub struct SummaryOrder {
    /// Only these agents; empty: all that the caller may see.
    pub agents: Vec<AgentId>,
    /// Name of the metric, or `overall_score`.
    pub metric: String,
    /// The time as it was named, for the answer.
    pub period: String,
    /// Agents whose last value was reported in the hours from here on.
    pub from: Timestamp,
    /// And not after this.
    pub to: Timestamp,
    /// Top performers to answer, and how many to leave out before.
    pub page: (u32, u32),
}

/// How many agents have a value in which range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScoreDistribution {
    /// Agents with 80 or more.
    pub excellent: i64,
    /// Agents with 60 or more, below 80.
    pub good: i64,
    /// Agents with 40 or more, below 60.
    pub average: i64,
    /// Agents with less than 40.
    pub below_average: i64,
}

/// An agent and its value.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct TopPerformer {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Type of the agent.
    pub agent_type: String,
    /// Last value of the metric.
    pub value: f64,
    /// Overall score; null: no metric was reported.
    pub overall_score: Option<f64>,
    /// When the value was reported.
    pub reported_at: Timestamp,
}

/// Summary of a metric over agents.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PerformanceSummary {
    /// The time as it was asked for.
    pub period: String,
    /// Begin of the time that was counted, a whole hour.
    pub from: Timestamp,
    /// End of the time, whose hour is counted.
    pub to: Timestamp,
    /// Name of the metric.
    pub metric: String,
    /// Agents whose last value was reported in this time.
    pub total_agents: i64,
    /// Mean of these values; null: there is none.
    pub average_score: Option<f64>,
    /// The agents with the largest values, the largest first.
    pub top_performers: Vec<TopPerformer>,
    /// How the values are distributed.
    pub performance_distribution: ScoreDistribution,
    /// Why figures are null, by their names.
    pub reasons: BTreeMap<String, String>,
}

impl ProfileService {
    /// Summarise a metric.
    ///
    /// # Errors
    /// As the database.
    #[boxed]
    pub async fn summary(&self, caller: &PerformanceCaller, order: SummaryOrder) -> Result<PerformanceSummary> {
        let mut conn = self.0.db.read_list().await?;
        let hours = (profile_store::hour_of(order.from), profile_store::hour_of(order.to));
        let (limit, offset) = (order.page.0 as usize, order.page.1 as usize);
        let owner = (!caller.is_admin).then(|| caller.principal.id());
        let owner = owner.as_ref();
        let (totals, mut best) = if order.agents.is_empty() {
            let totals = store::totals(&mut conn, owner, &order.metric, &hours).await?;
            (totals, best_within(&mut conn, owner, &order.metric, &hours, limit + offset).await?)
        } else {
            let found = store::of_agents(&mut conn, owner, &order.metric, &hours, &order.agents).await?;
            (totals_of(&found), found)
        };
        best.sort_by(|one, other| other.value.total_cmp(&one.value).then_with(|| other.agent_id.cmp(&one.agent_id)));
        let page: Vec<BestValue> = best.into_iter().skip(offset).take(limit).collect();
        let known = store::profiles_of(&mut conn, page.iter().map(|value| &value.agent_id)).await?;
        let top = |value: BestValue| {
            let (agent_type, overall_score) = known.get(&value.agent_id).cloned().unwrap_or_default();
            let BestValue { agent_id, value, reported_at, .. } = value;
            TopPerformer { agent_id, agent_type, value, overall_score, reported_at }
        };
        let top_performers = page.into_iter().map(top).collect();
        let LevelTotals { agents: total_agents, total, excellent, good, average, below_average } = totals;
        let mut reasons = BTreeMap::new();
        if total_agents == 0 {
            reasons.insert("average_score".to_owned(), "no agent reported the metric in this time".to_owned());
        }
        let from = chrono::DateTime::from_timestamp(order.from.0.timestamp().div_euclid(3600) * 3600, 0);
        Ok(PerformanceSummary {
            period: order.period,
            from: from.map_or(order.from, Timestamp),
            to: order.to,
            metric: order.metric,
            total_agents,
            average_score: (total_agents > 0).then(|| total / total_agents as f64),
            top_performers,
            performance_distribution: ScoreDistribution { excellent, good, average, below_average },
            reasons,
        })
    }
}

/// The level of a value, as sums are kept.
fn level_of(value: f64) -> i64 {
    [40.0, 60.0, 80.0].into_iter().map(|bound| i64::from(value >= bound)).sum()
}

/// The sums of these values.
fn totals_of(values: &[BestValue]) -> LevelTotals {
    let count = |level: i64| values.iter().filter(|value| level_of(value.value) == level).count() as i64;
    LevelTotals {
        agents: values.len() as i64,
        total: values.iter().map(|value| value.value).sum(),
        excellent: count(3),
        good: count(2),
        average: count(1),
        below_average: count(0),
    }
}

/// The best `count` values whose hour is among these. As a rule they are among the best of all hours; where too many of those are
/// others', each hour is asked that may have one of them.
async fn best_within(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    hours: &(String, String),
    count: usize,
) -> Result<Vec<BestValue>> {
    let looked_at = count + OTHERS_LOOKED_AT;
    let mut best = store::best(conn, owner, metric, looked_at).await?;
    let is_all = best.len() < looked_at;
    best.retain(|value| value.hour >= hours.0 && value.hour <= hours.1);
    if is_all || best.len() >= count {
        return Ok(best);
    }
    let sums = store::sums(conn, owner, metric, hours).await?;
    best.clear();
    for hour in best_hours(&sums, count) {
        best.extend(store::best_of_hour(conn, owner, metric, &hour, count).await?);
    }
    Ok(best)
}

/// The hours that have the best `count` values: those with values of the best levels that together hold so many.
fn best_hours(sums: &[LevelSum], count: usize) -> BTreeSet<String> {
    let (mut hours, mut held) = (BTreeSet::new(), 0);
    for level in (0..=3).rev() {
        let found = sums.iter().filter(|sum| sum.level == level && sum.agents > 0);
        for sum in found {
            hours.insert(sum.hour.clone());
            held += sum.agents;
        }
        if held >= count as i64 {
            break;
        }
    }
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(hour: &str, level: i64, agents: i64) -> LevelSum {
        LevelSum { hour: hour.to_owned(), level, agents, total: 0.0 }
    }

    #[test]
    fn only_hours_with_the_best_values_are_looked_at() {
        let sums = [sum("a", 3, 2), sum("b", 2, 5), sum("c", 1, 9), sum("d", 3, 0)];
        let hours = |count| best_hours(&sums, count).into_iter().collect::<Vec<_>>();
        assert_eq!(hours(2), ["a"]);
        assert_eq!(hours(3), ["a", "b"]);
        assert_eq!(hours(100), ["a", "b", "c"]);
        assert_eq!([39.9, 40.0, 60.0, 80.0].map(level_of), [0, 1, 2, 3]);
    }
}
