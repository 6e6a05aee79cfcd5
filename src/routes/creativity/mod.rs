//! `/api/v1/agents/creativity`: creative capabilities of agents, their corpora and evaluation; ideas and synthesis. Any valid key.

mod capabilities;
mod corpus;
mod enhancements;
mod ideas;

use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        auth::{ApiCaller, KeyRole},
        openapi::routes,
    },
};
use am_creativity::CreativeCaller;

/// The routes of this group.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(capabilities::create_creative_capability))
        .routes(routes!(capabilities::list_creative_capabilities))
        .routes(routes!(capabilities::evaluate_creation))
        .routes(routes!(enhancements::enhance_creativity))
        .routes(routes!(enhancements::list_enhancements))
        .routes(routes!(enhancements::get_enhancement))
        .routes(routes!(corpus::list_corpus_texts, corpus::add_corpus_texts))
        .routes(routes!(corpus::remove_corpus_text))
        .routes(routes!(ideas::generate_ideas))
        .routes(routes!(ideas::synthesise_domains))
}

/// The caller as creativity knows it.
fn creative_caller(caller: ApiCaller) -> CreativeCaller {
    CreativeCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}
