//! `/api/v1/agents/performance/analytics` and `/health`: what became of one agent, and of all.

use axum::extract::State;
use serde::{Deserialize, Serialize, de::value::StrDeserializer};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use super::profiles::{bad_query, forward_span, profile_caller};
use crate::{
    app::App,
    http::{AnyCaller, ApiError, JsonBody, PathParams, QueryParams, openapi::routes, pagination::row_limit, several},
    routes::agents::{check_agent_id, check_agent_path},
};
use am_core::ids::AgentId;
use am_db::{codec::Timestamp, moment::QueryMoment};
use am_performance::profiles::{PerformanceSummary, ProfileAnalytics, SummaryOrder};

/// Agents that one summary may name.
const MAX_AGENTS: usize = 100;
/// Top performers that a summary can leave out.
pub(in crate::routes) const MAX_SUMMARY_OFFSET: u32 = 1000;
/// Days of a summary at most.
const MAX_SUMMARY_DAYS: i64 = 366;

/// The routes of analytics.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(get_performance_summary))
        .routes(routes!(get_agent_analytics))
        .routes(routes!(get_performance_health))
}

/// What is summarised.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SummaryQuery {
    /// Only these agents, at most 100, with commas between them or as a repeated parameter. Default: all that the caller may see.
    #[serde(default, deserialize_with = "several")]
    #[param(value_type = Vec<String>)]
    agent_ids: Vec<AgentId>,
    /// Name of the metric: `overall_score`, one that agents report, or a measured one. Default `overall_score`.
    metric: Option<String>,
    /// How far back: `90s`, `30m`, `24h`, `7d`, `4w`, at most 366 days. Default `7d`.
    period: Option<String>,
    /// Begin instead of a period: a time, or how long ago.
    #[param(value_type = Option<String>)]
    from: Option<QueryMoment>,
    /// End, in the same forms. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<QueryMoment>,
    /// Top performers to answer, 1 to 500. Default 10.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Top performers to leave out before, at most 1000. Default 0.
    #[param(maximum = 1000)]
    offset: Option<u32>,
}

/// Summarise a metric over agents
///
/// Agents whose last value was reported within the time, in whole hours; for an admin all, else the caller's own.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/analytics/performance-summary", operation_id = "profiles_summarize",
    tag = "profiles", security(("ApiKey" = ["admin", "client", "miner"])),
    params(SummaryQuery),
    responses((status = 200, body = PerformanceSummary, description = "The summary"))
)]
pub async fn get_performance_summary(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<SummaryQuery>,
) -> Result<JsonBody<PerformanceSummary>, ApiError> {
    let (limit, offset) = (row_limit(query.limit, 10)?, query.offset.unwrap_or(0));
    if offset > MAX_SUMMARY_OFFSET {
        return Err(bad_query("offset", format!("Input should be at most {MAX_SUMMARY_OFFSET}")));
    }
    if query.agent_ids.len() > MAX_AGENTS {
        return Err(bad_query("agent_ids", format!("Names at most {MAX_AGENTS} agents")));
    }
    let named = query.agent_ids.iter().map(|agent| check_agent_id(&app, ("query", "agent_ids"), agent));
    let agents = named.collect::<Result<Vec<_>, _>>()?;
    let period = query.period.unwrap_or_else(|| "7d".to_owned());
    let read = QueryMoment::deserialize(StrDeserializer::<serde::de::value::Error>::new(period.trim()));
    let Ok(QueryMoment::SecondsAgo(1..)) = read else {
        return Err(bad_query("period", "Input should be how long ago it begins: 90s, 30m, 24h, 7d, 4w"));
    };
    let begin = query.from.or(read.ok());
    let (from, to) = forward_span(&app, (begin, query.to), (7, MAX_SUMMARY_DAYS))?;
    let metric = query.metric.unwrap_or_else(|| "overall_score".to_owned());
    let order = SummaryOrder { agents, metric, period, from, to, page: (limit, offset) };
    Ok(JsonBody(app.performance.profiles.summary(&profile_caller(caller), order).await?))
}

/// Which metric of an agent, and when.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AnalyticsQuery {
    /// Name of the metric. Default: the first 20 by name.
    metric: Option<String>,
    /// Begin: a time, or how long ago (`12h`, `7d`). Default: seven days before `to`.
    #[param(value_type = Option<String>, example = "7d")]
    from: Option<QueryMoment>,
    /// End, in the same forms. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<QueryMoment>,
}

/// Get what became of an agent's metrics
///
/// Of each metric its values' count, mean and percentiles over a time, its trend with an interval, and changes of its mean.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/analytics/{agent_id}", operation_id = "profiles_get_analytics", tag = "profiles",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), AnalyticsQuery),
    responses(
        (status = 200, body = ProfileAnalytics, description = "The figures"),
        (status = 404, description = "The agent has no profile, or is another's"),
    )
)]
pub async fn get_agent_analytics(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<AnalyticsQuery>,
) -> Result<JsonBody<ProfileAnalytics>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let span = forward_span(&app, (query.from, query.to), (7, MAX_SUMMARY_DAYS))?;
    Ok(JsonBody(app.performance.profiles.analytics(&profile_caller(caller), &agent, query.metric, span).await?))
}

/// Whether the performance routes answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct PerformanceHealth {
    /// `healthy`: the database answers; `unhealthy`: it does not.
    status: &'static str,
    /// Name of the service.
    service: &'static str,
    /// Version of the service.
    version: &'static str,
    /// Time of the answer.
    timestamp: Timestamp,
}

/// Check that the performance routes answer
///
/// Takes no key, as in the monolith.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/health", operation_id = "profiles_check_health", tag = "profiles", security(()),
    responses((status = 200, body = PerformanceHealth, description = "Whether they answer"))
)]
pub async fn get_performance_health(State(app): State<App>) -> JsonBody<PerformanceHealth> {
    let status = if app.performance.profiles.count().await.is_ok() { "healthy" } else { "unhealthy" };
    JsonBody(PerformanceHealth {
        status,
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: Timestamp(app.clock.now()),
    })
}
