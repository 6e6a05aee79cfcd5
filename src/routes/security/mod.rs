//! The security group. All of it takes an admin key.

mod audit;
mod audit_tree;
mod dashboard;
mod policies;
mod reviews;
mod sandbox;
mod trust;
mod webhooks;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(audit::list_audit_entries, audit::record_audit_entry))
        .routes(routes!(audit::export_audit_log))
        .routes(routes!(audit::get_audit_entry))
        .routes(routes!(audit_tree::get_audit_head))
        .routes(routes!(audit_tree::list_audit_heads))
        .routes(routes!(audit_tree::list_audit_keys))
        .routes(routes!(audit_tree::get_inclusion_proof))
        .routes(routes!(audit_tree::get_consistency_proof))
        .routes(routes!(policies::create_security_policy, policies::list_security_policies))
        .routes(routes!(
            policies::get_security_policy,
            policies::update_security_policy,
            policies::delete_security_policy
        ))
        .routes(routes!(reviews::validate_workflow))
        .routes(routes!(reviews::scan_workflows))
        .routes(routes!(reviews::get_workflow_bindings))
        .routes(routes!(webhooks::create_webhook_endpoint, webhooks::list_webhook_endpoints))
        .routes(routes!(webhooks::get_webhook_endpoint, webhooks::delete_webhook_endpoint))
        .routes(routes!(webhooks::list_webhook_deliveries))
        .routes(routes!(webhooks::get_webhook_delivery, webhooks::delete_webhook_delivery))
        .routes(routes!(webhooks::redeliver_webhook))
        .routes(routes!(webhooks::send_test_webhook))
        .routes(routes!(sandbox::get_sandbox_capabilities))
        .routes(routes!(sandbox::create_sandbox))
        .routes(routes!(sandbox::get_sandbox))
        .routes(routes!(sandbox::clean_up_sandbox))
        .routes(routes!(trust::list_trust_scores))
        .routes(routes!(trust::get_trust_score))
        .routes(routes!(trust::update_trust_score))
        .routes(routes!(trust::explain_trust_score))
        .routes(routes!(dashboard::get_security_dashboard))
        .routes(routes!(dashboard::get_security_statistics))
        .routes(routes!(dashboard::monitor_execution))
}
