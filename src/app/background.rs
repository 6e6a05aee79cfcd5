//! The tasks that run as long as the process does.

use super::Services;
use am_keys::ApiKeyService;

/// Start them. Those that write and deliver messages, and those that keep jq workers, began with what they belong to.
pub(super) fn start(rooms: &Services, keys: &ApiKeyService) {
    let supervisor = &rooms.supervisor;
    rooms.engine.background_tasks().into_iter().for_each(|task| supervisor.adopt(task));
    rooms.webhooks.background_task().into_iter().for_each(|task| supervisor.adopt(task));
    let assignments = rooms.assignments.background_tasks(supervisor.stopping());
    assignments.into_iter().for_each(|task| supervisor.adopt(task));
    supervisor.adopt(rooms.training.background_task());
    supervisor.start("policies", |stop| rooms.library.clone().watch(stop));
    supervisor.start("security_policies", |stop| rooms.security_policies.clone().watch(stop));
    supervisor.start("audit", |stop| rooms.audit.clone().work(stop));
    supervisor.start("sandboxes", |stop| rooms.sandboxes.clone().work(stop));
    supervisor.start("keys", |stop| keys.clone().watch(stop));
    supervisor.start("trust", |stop| rooms.trust.clone().work(stop));
    supervisor.start("messages.housekeeping", |stop| rooms.messages.clone().work(stop));
}
