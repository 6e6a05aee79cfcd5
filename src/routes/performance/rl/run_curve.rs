//! `rl/runs/{run_id}/curve` and `mlflow`: a training run as a file.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::runs::TrainingKey;
use crate::{
    app::App,
    http::{ApiError, PathParams, QueryParams, openapi::BinaryFile},
};
use am_core::ids::TrainingRunId;
use am_performance::{CurveDrawing, draw_curve};
use am_rl::runs::{curve_csv, event_file, mlflow_store};

/// Form of a curve's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CurveFileFormat {
    /// Comma-separated values with a line of names.
    Csv,
    /// A drawing of the mean return over the steps.
    Svg,
    /// An event file of TensorBoard.
    Tfevents,
}

/// Which form the curve has.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CurveFileQuery {
    /// `csv`, `svg` or `tfevents`. Default `csv`.
    #[param(inline)]
    format: Option<CurveFileFormat>,
}

/// Get a training run's curve as a file
///
/// As CSV, with all figures of each point; as SVG, with the mean return over the steps; or as an event file, which TensorBoard
/// shows once it lies in its folder: all figures and the evaluations, at the run's start, because points have no times.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}/curve", operation_id = "rl_runs_get_curve", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        CurveFileQuery,
    ),
    responses(
        (status = 200, body = String, content_type = "text/csv", description = "The points; `image/svg+xml` with `format=svg`, bytes with `format=tfevents`"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn get_training_curve(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    QueryParams(query): QueryParams<CurveFileQuery>,
) -> Result<Response, ApiError> {
    let run = app.training.get(&caller, &id).await?;
    let points = run.curve.unwrap_or_default();
    let (content_type, text) = match query.format.unwrap_or(CurveFileFormat::Csv) {
        CurveFileFormat::Csv => ("text/csv; charset=utf-8", curve_csv(&points)),
        CurveFileFormat::Svg => {
            let points: Vec<(f64, f64)> =
                points.iter().filter_map(|point| Some((point.steps as f64, point.mean_return?))).collect();
            let title = match &run.name {
                Some(name) => format!("{name}: {} ({})", run.policy, run.id),
                None => format!("{} ({})", run.policy, run.id),
            };
            let curve = CurveDrawing { title: &title, axes: ("steps", "mean return"), points: &points };
            ("image/svg+xml", draw_curve(&curve)?)
        }
        CurveFileFormat::Tfevents => {
            let file = event_file(&points, &run.evaluated, run.started_at.unwrap_or(run.created_at));
            let name = format!("attachment; filename=\"events.out.tfevents.{}\"", run.id);
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
                (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(ApiError::internal)?),
            ];
            return Ok((headers, file).into_response());
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response())
}

/// Export a training run to MLflow
///
/// A ZIP archive of a folder `mlruns` in the layout of MLflow's file store: unpacked, `MLFLOW_ALLOW_FILE_STORE=true mlflow ui
/// --backend-store-uri mlruns` shows it beside others. The policy is the experiment; settings are parameters, tags are tags, the curve
/// and the evaluations are metrics, at the run's start, because points have no times.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}/mlflow", operation_id = "rl_runs_export_mlflow", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits")),
    responses(
        (status = 200, body = BinaryFile, content_type = "application/zip", description = "The archive"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn export_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
) -> Result<Response, ApiError> {
    let run = app.training.get(&caller, &id).await?;
    let name = format!("attachment; filename=\"mlruns.{}.zip\"", run.id);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/zip")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&name).map_err(ApiError::internal)?),
    ];
    Ok((headers, mlflow_store(&[run])?).into_response())
}
