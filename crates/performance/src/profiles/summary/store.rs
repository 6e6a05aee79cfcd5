//! SQL of tables `am_profile_sums` and `am_profile_metrics`.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, PrincipalId};
use am_db::{Connection, FromRow as _, Result, codec::Timestamp, row, sql};

row! {
    /// How many agents have their last value of a metric in an hour and a level.
    #[derive(Clone, Debug)]
    pub(super) struct LevelSum {
        pub hour: String,
        pub level: i64,
        pub agents: i64,
        pub total: f64,
    }
}

row! {
    /// A value of an agent.
    #[derive(Clone, Debug)]
    pub(super) struct BestValue {
        pub agent_id: AgentId,
        pub value: f64,
        pub hour: String,
        pub reported_at: Timestamp,
    }
}

row! {
    /// How many agents have their last value of a metric in some hours, and in which levels.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct LevelTotals {
        pub agents: i64 = "coalesce(sum(agents), 0)",
        pub total: f64 = "coalesce(sum(total), 0.0)",
        pub excellent: i64 = "coalesce(sum(agents) FILTER (WHERE level = 3), 0)",
        pub good: i64 = "coalesce(sum(agents) FILTER (WHERE level = 2), 0)",
        pub average: i64 = "coalesce(sum(agents) FILTER (WHERE level = 1), 0)",
        pub below_average: i64 = "coalesce(sum(agents) FILTER (WHERE level = 0), 0)",
    }
}

/// The sums of a metric over these hours, of an owner's agents or of all.
pub(super) async fn totals(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    (from, to): &(String, String),
) -> Result<LevelTotals> {
    let found = sql!(
        "SELECT ",
        LevelTotals::COLUMNS,
        " FROM am_profile_sums WHERE owner_id = $1 AND metric = $2 AND hour >= $3 AND hour <= $4",
    );
    let owner = owner.map_or("*", PrincipalId::as_str);
    found.bind(owner).bind(metric).bind(from).bind(to).fetch_one(conn).await
}

/// The best values of all hours.
pub(super) async fn best(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    limit: usize,
) -> Result<Vec<BestValue>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = match owner {
        Some(owner) => sql!(
            "SELECT ",
            BestValue::COLUMNS,
            " FROM am_profile_metrics {by am_profile_metrics_owner_values} WHERE metric = $1 AND owner_id = $3
             ORDER BY value DESC, agent_id DESC LIMIT $2",
        )
        .bind(metric)
        .bind(limit)
        .bind(owner),
        None => sql!(
            "SELECT ",
            BestValue::COLUMNS,
            " FROM am_profile_metrics {by am_profile_metrics_values} WHERE metric = $1 ORDER BY value DESC, agent_id DESC LIMIT $2",
        )
        .bind(metric)
        .bind(limit),
    };
    found.fetch_all(conn).await
}

/// The sums of a metric in each of these hours, of an owner's agents or of all.
pub(super) async fn sums(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    (from, to): &(String, String),
) -> Result<Vec<LevelSum>> {
    let found = sql!(
        "SELECT ",
        LevelSum::COLUMNS,
        " FROM am_profile_sums WHERE owner_id = $1 AND metric = $2 AND hour >= $3 AND hour <= $4 AND agents > 0",
    );
    let owner = owner.map_or("*", PrincipalId::as_str);
    found.bind(owner).bind(metric).bind(from).bind(to).fetch_all(conn).await
}

/// The best values of an hour.
pub(super) async fn best_of_hour(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    hour: &str,
    limit: usize,
) -> Result<Vec<BestValue>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = match owner {
        Some(owner) => sql!(
            "SELECT ",
            BestValue::COLUMNS,
            " FROM am_profile_metrics {by am_profile_metrics_owner} WHERE metric = $1 AND hour = $2 AND owner_id = $4
             ORDER BY value DESC, agent_id DESC LIMIT $3",
        )
        .bind(metric)
        .bind(hour)
        .bind(limit)
        .bind(owner),
        None => sql!(
            "SELECT ",
            BestValue::COLUMNS,
            " FROM am_profile_metrics {by am_profile_metrics_best} WHERE metric = $1 AND hour = $2 ORDER BY value DESC, agent_id DESC LIMIT $3",
        )
        .bind(metric)
        .bind(hour)
        .bind(limit),
    };
    found.fetch_all(conn).await
}

/// Values of these agents in these hours.
pub(super) async fn of_agents(
    conn: &mut Connection,
    owner: Option<&PrincipalId>,
    metric: &str,
    (from, to): &(String, String),
    agents: &[AgentId],
) -> Result<Vec<BestValue>> {
    let found = sql!(
        "SELECT ",
        BestValue::COLUMNS,
        " FROM am_profile_metrics WHERE agent_id IN ($1) AND metric = $2 AND hour >= $3 AND hour <= $4 [AND owner_id = $5]",
    );
    found.bind_all(agents).bind(metric).bind(from).bind(to).bind_some(owner).fetch_all(conn).await
}

/// Types and scores of these agents.
pub(super) async fn profiles_of(
    conn: &mut Connection,
    agents: impl Iterator<Item = &AgentId>,
) -> Result<BTreeMap<AgentId, (String, Option<f64>)>> {
    let found = sql!("SELECT agent_id, agent_type, score FROM am_profiles WHERE agent_id IN ($1)");
    let rows: Vec<(AgentId, String, Option<f64>)> = found.bind_all(agents).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(agent, kind, score)| (agent, (kind, score))).collect())
}
