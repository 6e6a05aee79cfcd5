//! The tasks that run as long as the process does.

use super::{Services, refusal_entries::tell_refusals};
use am_audit::WitnessService;
use am_db::kept_list::ListKeeper;
use am_keys::ApiKeyService;

/// Start them. Those that write and deliver messages, and those that keep jq workers, began with what they belong to.
pub(super) fn start(services: &Services, keys: &ApiKeyService, witnesses: &WitnessService) {
    let supervisor = &services.supervisor;
    services.engine.background_tasks().into_iter().for_each(|task| supervisor.adopt(task));
    supervisor.adopt(services.webhooks.background_task());
    let assignments = services.assignments.background_tasks(supervisor.stopping());
    assignments.into_iter().for_each(|task| supervisor.adopt(task));
    supervisor.start("lists", |stop| ListKeeper::new(services.db.clone(), services.clock.clone()).work(stop));
    supervisor.start("bulk", |stop| services.bulk.clone().work(stop));
    supervisor.start("absences", am_core::absence::watch);
    supervisor.adopt(services.training.background_task());
    supervisor.adopt(services.tasks.background_task());
    supervisor.start("policies", |stop| services.library.clone().watch(stop));
    supervisor.start("security_policies", |stop| services.security_policies.clone().watch(stop));
    supervisor.start("audit_webhooks", |stop| services.audit.clone().tell_webhooks(stop));
    supervisor.start("audit", |stop| services.audit.clone().work(stop));
    witnesses.background_tasks(supervisor.stopping()).into_iter().for_each(|task| supervisor.adopt(task));
    supervisor.start("sandboxes", |stop| services.sandboxes.clone().work(stop));
    supervisor.start("keys", |stop| keys.clone().watch(stop));
    let (shared, db, audit) = (services.shared.clone(), services.db.clone(), services.audit.clone());
    supervisor.start("refusals", |stop| tell_refusals(shared, db, audit, stop));
    supervisor.start("ledger.holds", |stop| services.ledger.clone().expire_loop(stop));
    supervisor.start("ledger.budgets", |stop| services.ledger.clone().watch_budgets(stop));
    supervisor.start("trust", |stop| services.trust.clone().work(stop));
    supervisor.start("market", |stop| services.market.clone().work(stop));
    services.performance.start(supervisor);
    supervisor.start("proofs", |stop| services.proofs.clone().work(stop));
    supervisor.start("deployments", |stop| services.deployments.clone().watch_fleet(stop));
    supervisor.start("portfolios", |stop| services.portfolios.clone().review_loop(stop));
    supervisor.start("prices", |stop| services.portfolios.clone().poll_prices(stop));
    supervisor.start("settlements", |stop| services.portfolios.clone().settlement_loop(stop));
    supervisor.start("retention", |stop| services.retention.clone().work(stop));
    supervisor.start("messages.housekeeping", |stop| services.messages.clone().work(stop));
}
