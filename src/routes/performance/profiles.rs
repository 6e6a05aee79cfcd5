//! `/api/v1/agents/performance/profiles`: profiles of agents, their metrics and series.

use std::ops::RangeInclusive;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::routes,
        pagination::{PageQuery, Paginator},
    },
    routes::agents::{check_agent_id, check_agent_path},
};
use am_core::{blocking::in_place, ids::AgentId};
use am_db::{codec::Timestamp, moment::QueryMoment};
use am_performance::{
    PerformanceCaller,
    profiles::{
        MetricSeries, MetricsReceipt, MetricsReport, ProfileDocument, ProfileDraft, ProfileFilter, RankedProfile,
        SeriesOrder, SeriesResolution, draw_series,
    },
};

/// The routes of profiles.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_profiles, create_profile))
        .routes(routes!(get_profile))
        .routes(routes!(report_metrics))
        .routes(routes!(get_profile_series))
}

/// The caller as performance knows it.
pub(super) fn profile_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// The refusal of a query parameter.
pub(super) fn bad_query(name: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::invalid_field(vec!["query".into(), name.into()], message.into(), "value_error")
}

/// Begin and end of a time, which must run forwards and have at most `days` days.
pub(super) fn forward_span(
    app: &App,
    (from, to): (Option<QueryMoment>, Option<QueryMoment>),
    (default_days, most_days): (i64, i64),
) -> Result<(Timestamp, Timestamp), ApiError> {
    let now = Timestamp(app.clock.now());
    let to = to.map_or(now, |to| to.seen_from(now));
    let from = match from {
        Some(from) => from.seen_from(now),
        None => Timestamp(to.0 - chrono::Duration::days(default_days)),
    };
    if from >= to {
        return Err(bad_query("from", "The time runs backwards: `from` must be before `to`"));
    }
    if to.0 - from.0 > chrono::Duration::days(most_days) {
        return Err(bad_query("from", format!("The time has at most {most_days} days")));
    }
    Ok((from, to))
}

/// Create a profile
///
/// An agent has one. One that nobody has registered belongs to the principal that uses it first. Agents that work for this service get
/// a profile by themselves when their first work ends.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/profiles", operation_id = "profiles_create", tag = "profiles",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = ProfileDraft,
    responses(
        (status = 200, body = ProfileDocument, description = "The profile"),
        (status = 404, description = "The agent is another's"),
        (status = 409, description = "The agent has a profile (`profile_exists`)"),
    )
)]
pub async fn create_profile(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<ProfileDraft>,
) -> Result<IdempotentOk<ProfileDocument>, ApiError> {
    let mut draft = request.body;
    draft.agent_id = check_agent_id(&app, ("body", "agent_id"), &draft.agent_id)?;
    Ok(IdempotentOk(app.performance.profiles.create(&profile_caller(caller), draft, request.once).await?))
}

/// Filter of profiles.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProfilesQuery {
    /// Only profiles of this type. Default: of all types.
    agent_type: Option<String>,
}

/// List profiles
///
/// Those with a score, the best first, 50 on a page: all for an admin, else the caller's own. The number of all is told to admins.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/profiles", operation_id = "profiles_list", tag = "profiles",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(ProfilesQuery, PageQuery),
    responses((status = 200, body = Vec<RankedProfile>, description = "A page of the ranking"))
)]
pub async fn list_profiles(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<ProfilesQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = ProfileFilter { agent_type: query.agent_type, page: paging.page.clone() };
    let (rows, total) = app.performance.profiles.ranking(&profile_caller(caller), &filter).await?;
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.agent_id.as_str()));
    Ok(paging.respond_partial(&rows, total.map(i64::cast_unsigned), next))
}

/// Get the profile of an agent
#[utoipa::path(
    get, path = "/api/v1/agents/performance/profiles/{agent_id}", operation_id = "profiles_get", tag = "profiles",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent")),
    responses(
        (status = 200, body = ProfileDocument, description = "The profile"),
        (status = 404, description = "The agent has no profile, or is another's"),
    )
)]
pub async fn get_profile(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<ProfileDocument>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    Ok(JsonBody(app.performance.profiles.get(&profile_caller(caller), &agent).await?))
}

/// Report metrics of an agent
///
/// The last value of each metric counts for the overall score; all are kept in series.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/profiles/{agent_id}/metrics", operation_id = "profiles_report_metrics",
    tag = "profiles", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), IdempotencyHeader),
    request_body = MetricsReport,
    responses(
        (status = 200, body = MetricsReceipt, description = "What the report came to"),
        (status = 404, description = "The agent has no profile, or is another's"),
    )
)]
pub async fn report_metrics(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<MetricsReport>,
) -> Result<IdempotentOk<MetricsReceipt>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let caller = profile_caller(caller);
    Ok(IdempotentOk(app.performance.profiles.report(&caller, &agent, request.body, request.once).await?))
}

/// Form of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SeriesFormat {
    /// JSON, with where the next page begins.
    Json,
    /// Comma-separated values with a header line.
    Csv,
    /// A drawing as SVG.
    Svg,
}

/// Points of a series that can be asked for.
pub(in crate::routes) const SERIES_POINTS: RangeInclusive<u32> = 1..=2000;

/// Which series, and its form.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SeriesQuery {
    /// Name of the metric: a reported one, `overall_score`, `measured_latency`, `measured_success`, `measured_cost`,
    /// `measured_spending` or `measured_efficiency`.
    #[param(example = "measured_latency")]
    metric: String,
    /// Begin: a time, or how long ago (`12h`, `7d`). Default: seven days before `to`.
    #[param(value_type = Option<String>, example = "7d")]
    from: Option<QueryMoment>,
    /// End, in the same forms. Default: now.
    #[param(value_type = Option<String>)]
    to: Option<QueryMoment>,
    /// How long a point is. Default `hour`.
    #[param(inline)]
    resolution: Option<SeriesResolution>,
    /// Points at most, 1 to 2000. Default 1000.
    #[param(minimum = 1, maximum = 2000)]
    limit: Option<u32>,
    /// Form of the answer. Default: what `Accept` names of `text/csv` and `image/svg+xml`, else JSON.
    #[param(inline)]
    format: Option<SeriesFormat>,
}

/// Get the series of a metric
///
/// The values of a metric by minute, hour or day, or as they came, for plots: as JSON, as CSV, or drawn.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/profiles/{agent_id}/timeseries", operation_id = "profiles_get_series",
    tag = "profiles", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), SeriesQuery),
    responses(
        (status = 200, description = "The series", content(
            (MetricSeries = "application/json"), (String = "text/csv"), (String = "image/svg+xml"),
        )),
        (status = 404, description = "The agent is another's, or nobody has used it"),
    )
)]
pub async fn get_profile_series(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<SeriesQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let (from, to) = forward_span(&app, (query.from, query.to), (7, 3660))?;
    let limit = query.limit.unwrap_or(1000);
    if !SERIES_POINTS.contains(&limit) {
        return Err(bad_query("limit", format!("Input should be from 1 to {}", SERIES_POINTS.end())));
    }
    let resolution = query.resolution.unwrap_or(SeriesResolution::Hour);
    let order = SeriesOrder { metric: query.metric, from, to, resolution, limit };
    let series = app.performance.profiles.series(&profile_caller(caller), &agent, order).await?;
    let (text, kind) = match query.format.unwrap_or_else(|| accepted(&headers)) {
        SeriesFormat::Json => return Ok(JsonBody(series).into_response()),
        SeriesFormat::Csv => (as_csv(&series), "text/csv; charset=utf-8"),
        SeriesFormat::Svg => (in_place(series.points.len() * 200, || draw_series(&series))?, "image/svg+xml"),
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response())
}

fn accepted(headers: &HeaderMap) -> SeriesFormat {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let named = |kind: &str| accept.split(',').any(|one| one.split(';').next().is_some_and(|one| one.trim() == kind));
    match () {
        () if named("application/json") => SeriesFormat::Json,
        () if named("text/csv") => SeriesFormat::Csv,
        () if named("image/svg+xml") => SeriesFormat::Svg,
        () => SeriesFormat::Json,
    }
}

fn as_csv(series: &MetricSeries) -> String {
    let mut text = "at,count,mean,min,max,median,p95\n".to_owned();
    for point in &series.points {
        let line = format!(
            "{},{},{},{},{},{},{}\n",
            point.at, point.count, point.mean, point.min, point.max, point.median, point.p95
        );
        text.push_str(&line);
    }
    text
}
