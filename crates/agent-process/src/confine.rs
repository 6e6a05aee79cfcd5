//! What an instance gives up once it is set up: new privileges, and all files. It keeps its sockets, and needs nothing else.

use landlock::{ABI, Access as _, AccessFs, Ruleset, RulesetAttr as _, RulesetStatus};

/// Take from this process what it does not need. Returns how far the system could: `full`, `partial` (an older kernel knows fewer
/// kinds of access) or `none`. Threads that run already keep what they have: call it before the runtime starts.
pub(crate) fn give_up_files() -> &'static str {
    if rustix::thread::set_no_new_privs(true).is_err() {
        return "none";
    }
    let ruled = Ruleset::default().handle_access(AccessFs::from_all(ABI::V4)).and_then(|ruleset| ruleset.create());
    let Ok(status) = ruled.and_then(|ruleset| ruleset.restrict_self()) else { return "none" };
    match status.ruleset {
        RulesetStatus::FullyEnforced => "full",
        RulesetStatus::PartiallyEnforced => "partial",
        RulesetStatus::NotEnforced => "none",
    }
}
