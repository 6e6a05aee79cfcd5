//! The page that shows the document: Swagger UI, whose files are part of the executable.

use std::sync::{Arc, LazyLock};

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use utoipa_swagger_ui::{Config, SwaggerFile};

use crate::http::ApiError;

/// The page itself. It holds no script and no style of its own, so that its policy can forbid them.
const DOCS_PAGE: &str = include_str!("page.html");

/// What the page may load and do: files of this service, requests to this service, images that its styles hold.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// Swagger UI's settings. It asks no server elsewhere whether the document is valid, and keeps no key.
static CONFIG: LazyLock<Arc<Config<'static>>> = LazyLock::new(|| {
    let config = Config::from("/openapi.json").use_base_layout();
    Arc::new(config.validator_url("none").filter(true).try_it_out_enabled(true).doc_expansion("none"))
});

/// Answer with the page that shows the document.
pub fn page() -> Response {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([kind, (header::CONTENT_SECURITY_POLICY, POLICY)], DOCS_PAGE).into_response()
}

/// A file that the page loads.
///
/// # Errors
/// 404 for a name that is none of them.
pub fn file(name: &str) -> Result<Response, ApiError> {
    let found =
        utoipa_swagger_ui::serve(name, CONFIG.clone()).map_err(|error| ApiError::internal(error.to_string()))?;
    let SwaggerFile { bytes, content_type, gzpipped: gzipped, .. } =
        found.ok_or_else(|| ApiError::not_found(format!("There is no /docs/{name}")))?;
    let mut response = bytes.into_owned().into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&content_type).map_err(ApiError::internal)?);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    if gzipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}
