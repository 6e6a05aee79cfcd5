//! The integration group. All of it takes an admin key.

mod alerts;
mod proofs;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(alerts::list_alerts))
        .routes(routes!(proofs::create_proof, proofs::get_proof))
        .routes(routes!(proofs::export_proof))
        .routes(routes!(proofs::get_proof_circuit))
        .routes(routes!(proofs::verify_proof))
}
