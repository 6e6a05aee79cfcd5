//! What runs, jobs and messages cost, as entries.

use am_core::{ids::PrincipalId, money::Money};
use am_db::owner::{PrincipalName, SYSTEM_PRINCIPAL};

use super::{
    draft::NewEntry,
    model::{AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryTags},
};

/// Where a cost goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CostPayee {
    /// The service, which pays agents from it.
    Service,
    /// Somebody outside, as a miner whom the coordinator pays.
    Outside,
}

/// The principal of a stored owner, which may be a key where the coordinator wrote it.
pub fn payer_of(stored: &str) -> PrincipalId {
    PrincipalName::from_stored(stored).as_str().into()
}

/// The entry of what the tags' principal has to pay: from its tab, which may be below zero. It counts as spent by the tags. What the
/// service itself does costs nobody anything, and moves nothing.
pub fn cost_entry(tags: EntryTags, payee: CostPayee, cost: Money) -> NewEntry {
    let entry = NewEntry::new(EntryKind::Cost);
    let payer = tags.principal.clone().filter(|payer| !payer.is_empty() && payer.as_str() != SYSTEM_PRINCIPAL);
    let Some(payer) = payer else { return entry };
    let from = AccountKey::ait(AccountOwner::Principal(payer), AccountPurpose::Costs);
    let to = match payee {
        CostPayee::Service => AccountKey::ait(AccountOwner::System, AccountPurpose::Costs),
        CostPayee::Outside => AccountKey::ait(AccountOwner::System, AccountPurpose::External),
    };
    entry.moving(from, to, cost).tagged(tags).spending(cost)
}

/// The entry of what an agent is paid for its work, out of what the service was paid for the run.
pub fn pay_entry(tags: EntryTags, pay: Money) -> NewEntry {
    let entry = NewEntry::new(EntryKind::Payment);
    let Some(agent) = tags.agent.clone() else { return entry };
    let from = AccountKey::ait(AccountOwner::System, AccountPurpose::Costs);
    let to = AccountKey::ait(AccountOwner::Agent(agent), AccountPurpose::Earnings);
    entry.moving(from, to, pay).tagged(tags).spending_on_agent(pay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_pays_itself_nothing() {
        let tags = |payer: &str| EntryTags { principal: Some(payer.into()), ..EntryTags::default() };
        let cost = |payer: &str| cost_entry(tags(payer), CostPayee::Service, Money::from_units(5));
        assert!(cost(SYSTEM_PRINCIPAL).is_empty() && cost("").is_empty());
        assert_eq!((cost("key_1").is_empty(), cost("key_1").spent.units()), (false, 5));
        assert!(pay_entry(tags("key_1"), Money::from_units(5)).is_empty(), "nobody is paid");
    }
}
