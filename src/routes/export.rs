//! Policies as files: what the routes of policies and of learning agents share.

use axum::{
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;

use crate::{app::App, http::ApiError};
use am_core::{crypto, ids::AgentId};
use am_rl::{PolicyReference, export::ExportFormat, library::VersionRecord};

/// Tells what an exported file is.
const EXPORT_INFO: HeaderName = HeaderName::from_static("x-export-info");

/// The format of an exported policy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PolicyExportQuery {
    /// `safetensors` (default), `torch` (TorchScript) or `onnx`. `pickle` is refused: reading one runs code that is
    /// in it.
    format: Option<String>,
}

impl PolicyExportQuery {
    /// The format that is asked for.
    pub fn format(&self) -> Result<ExportFormat, ApiError> {
        self.format.as_deref().unwrap_or("safetensors").parse().map_err(|error| {
            ApiError::invalid_field(vec!["query".into(), "format".into()], format!("{error}"), "value_error")
        })
    }
}

/// The version that `reference` names as a file, with JSON about it in `X-Export-Info`.
pub async fn export_response(
    app: &App,
    reference: &PolicyReference,
    format: ExportFormat,
    agent_id: Option<&AgentId>,
) -> Result<Response, ApiError> {
    let (record, bytes) = app.library.export(reference, format).await?;
    let sha256 = crypto::sha256_hex(&bytes);
    let info = export_info(&record, format, agent_id, &sha256, bytes.len());
    let mut response =
        file_response(&format!("{}-{}.{}", record.name, record.version, format.extension()), &sha256, bytes);
    // Canonical JSON is ASCII: what is not has escapes.
    if let Ok(value) = HeaderValue::from_bytes(&crypto::canonical_receipt_json(&info)) {
        response.headers_mut().insert(EXPORT_INFO, value);
    }
    Ok(response)
}

fn export_info(
    record: &VersionRecord,
    format: ExportFormat,
    agent_id: Option<&AgentId>,
    sha256: &str,
    size: usize,
) -> Value {
    json!({
        "agent_id": agent_id,
        "policy": record.reference,
        "format": format.to_string(),
        "algorithm": record.form.algorithm,
        "state_length": record.form.state_length,
        "actions": record.form.actions,
        "action_names": record.action_names,
        "state_names": record.state_names,
        "weights_sha256": record.sha256,
        "sha256": sha256,
        "size_bytes": size,
        "libtorch": record.libtorch,
        "created_at": record.created_at,
    })
}

/// A file to be kept, with its hash as its tag.
pub fn file_response(name: &str, sha256: &str, bytes: Vec<u8>) -> Response {
    let mut response = bytes.into_response();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ETAG, format!("\"{sha256}\"")),
    ];
    for (header, text) in headers {
        // Names of policies and hashes are plain ASCII.
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().insert(header, value);
        }
    }
    response
}
