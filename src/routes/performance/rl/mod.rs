//! `/api/v1/agents/performance/rl`: environments, policies, training runs, sweeps, strategies.

mod act;
mod aliases;
mod bridge;
mod compare;
pub(in crate::routes) mod environments;
mod outcomes;
mod policies;
mod run_curve;
mod runs;
mod strategies;
mod sweeps;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of policies and their training.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(environments::list_environments, environments::publish_environment))
        .routes(routes!(environments::get_environment, environments::delete_environment))
        .routes(routes!(environments::get_environment_tables))
        .routes(routes!(environments::list_environment_versions))
        .routes(routes!(environments::get_environment_calibration))
        .routes(routes!(policies::list_policies))
        .routes(routes!(policies::get_policy))
        .routes(routes!(policies::list_policy_versions, policies::upload_policy_version))
        .routes(routes!(policies::get_policy_version, policies::delete_policy_version))
        .routes(routes!(policies::get_policy_weights))
        .routes(routes!(policies::export_policy_version))
        .routes(routes!(policies::set_split, policies::remove_split))
        .routes(routes!(outcomes::get_split_comparison))
        .routes(routes!(aliases::list_aliases))
        .routes(routes!(aliases::get_alias, aliases::set_alias, aliases::remove_alias))
        .routes(routes!(aliases::roll_back_alias))
        .routes(routes!(act::act_with_policy))
        .routes(routes!(outcomes::report_act_outcome))
        .routes(routes!(act::evaluate_policy))
        .routes(routes!(compare::compare_versions, compare::evaluate_versions))
        .routes(routes!(runs::create_training_run, runs::list_training_runs))
        .routes(routes!(runs::get_training_run, runs::update_training_run, runs::delete_training_run))
        .routes(routes!(runs::stream_training_events))
        .routes(routes!(run_curve::get_training_curve))
        .routes(routes!(run_curve::export_training_run))
        .routes(routes!(bridge::open_training_bridge))
        .routes(routes!(runs::pause_training_run))
        .routes(routes!(runs::resume_training_run))
        .routes(routes!(runs::cancel_training_run))
        .routes(routes!(sweeps::create_sweep, sweeps::list_sweeps))
        .routes(routes!(sweeps::get_sweep))
        .routes(routes!(sweeps::get_sweep_trials))
        .routes(routes!(sweeps::cancel_sweep))
        .routes(routes!(strategies::list_strategies))
        .routes(routes!(strategies::optimize_strategy))
        .routes(routes!(strategies::deploy_strategy))
        .routes(routes!(strategies::evaluate_strategy))
}
