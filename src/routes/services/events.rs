//! `/api/v1/services/jobs/{job_id}/events`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};

use super::job_viewer;
use crate::{
    app::App,
    http::{
        ApiError, ClientKey, PathParams,
        openapi::LastEventIdHeader,
        sse::{self, LastEventId, SseEvent},
    },
};
use am_core::ids::JobId;
use am_jobs::{JobFollower, JobFrame};

/// Follow the status of a job
///
/// A stream of Server-Sent Events: `state` for each status (ids 1 queued, 2 running, 3 ended), `result` (4) with what
/// the miner delivered, and `end` (5). It resumes after `Last-Event-ID` or `?after=`, also long after the job has
/// ended.
#[utoipa::path(
    get, path = "/api/v1/services/jobs/{job_id}/events", operation_id = "jobs_list_events", tag = "jobs",
    security(("ApiKey" = ["admin", "client"])),
    params(
        ("job_id" = String, Path, description = "Id of the job: 32 hexadecimal digits"),
        ("after" = Option<u64>, Query, description = "Only events after this number; a `Last-Event-ID` header overrides it"),
        LastEventIdHeader,
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream", description = "A stream of Server-Sent Events that ends with the job"),
        (status = 204, description = "The job has ended, and the client has its last event: nothing will follow"),
        (status = 404, description = "The caller has no job of this id"),
    )
)]
pub async fn stream_job_events(
    State(app): State<App>,
    ClientKey(caller): ClientKey,
    PathParams(id): PathParams<JobId>,
    LastEventId(after): LastEventId,
) -> Result<Response, ApiError> {
    let following = app.jobs.follow(&job_viewer(&caller), &id, after).await?;
    if following.is_exhausted().await? {
        // After it a browser does not connect again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Ok(events_response(following))
}

/// The frames as they come.
pub fn events_response(following: JobFollower) -> Response {
    let batches = stream::unfold(following, async |mut following| match following.next().await {
        Ok(Some(frames)) => Some((frames, following)),
        Ok(None) => None,
        Err(error) => {
            // The client takes the stream up again where it lost it.
            tracing::warn!(%error, "a job's event stream was interrupted");
            None
        }
    });
    sse::sse_response(batches.flat_map(|frames| stream::iter(frames.into_iter().map(sse_event))))
}

fn sse_event(frame: JobFrame) -> SseEvent {
    SseEvent { seq: frame.seq, event: frame.kind.word().into(), data: frame.data.to_string() }
}
