//! Hosts, which admins configure, and the capacity of all of them.

use am_core::{
    boxed,
    validation::{FieldPath, Violations},
};
use am_db::Tx;
use serde_json::json;

use super::{
    ResourceService,
    amounts::{RESOURCE_NAMES, stored_parts, to_units},
    model::{CapacityReport, HostDocument, HostDraft, HostState, ResourceCapacity},
    record::{HostRecord, NOT_CONFIGURED},
    store,
};
use crate::{
    agents::PerformanceCaller,
    error::{PerformanceError, Result},
};

/// Hosts at most: each allocation looks at all of them.
const MAX_HOSTS: i64 = 1000;
/// Characters of a host's name.
const MAX_HOST_NAME_LEN: usize = 64;

fn no_host(id: &str) -> PerformanceError {
    PerformanceError::NotFound(format!("No host {id}"))
}

/// Whether a host may have this name: 1 to 64 letters, digits, dots, hyphens and underscores.
pub fn is_host_name(id: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=MAX_HOST_NAME_LEN).contains(&id.len()) && id.chars().all(sound)
}

/// The host as a draft makes it, or all that is wrong with the draft.
fn changed(before: HostRecord, draft: &HostDraft) -> Result<HostRecord> {
    let mut violations = Violations::default();
    draft.capacity.check(&[], &mut violations);
    let capacity = stored_parts(&draft.capacity.parts());
    for (at, name) in RESOURCE_NAMES.into_iter().enumerate() {
        let used = before.used[at];
        let text = || format!("must be at least {}: so much is allocated on this host", to_units(used.unsigned_abs()));
        if draft.capacity.values()[at].is_finite() && capacity[at] < used {
            violations.add(FieldPath::from(name), text());
        }
    }
    violations.finish().map_err(PerformanceError::Invalid)?;
    Ok(HostRecord { capacity, state: draft.state.unwrap_or(HostState::Open), ..before })
}

impl ResourceService {
    /// Configure a host, or change what it has; `id` is a name that hosts may have ([`is_host_name`]).
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults, a capacity below what is allocated among them; [`PerformanceError::Conflict`]
    /// where there are too many hosts.
    #[boxed]
    pub async fn put_host(&self, caller: &PerformanceCaller, id: &str, draft: HostDraft) -> Result<HostDocument> {
        let (me, by, id, now) = (self.clone(), caller.principal.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let known = store::host(tx.conn().await?, &id).await?;
            let action = if known.is_some() { "updated" } else { "created" };
            if known.is_none() && store::count_hosts(tx.conn().await?).await? >= MAX_HOSTS {
                let text = format!("At most {MAX_HOSTS} hosts can be configured");
                return Err(PerformanceError::Conflict("too_many_hosts", text));
            }
            let before = known.as_ref().map(|host| json!(host.clone().into_document().capacity));
            let host = known.unwrap_or_else(|| HostRecord {
                id: id.clone(),
                state: HostState::Open,
                capacity: [0; 6],
                used: [0; 6],
                allocations: 0,
                created_at: now,
                updated_at: now,
            });
            let host = HostRecord { updated_at: now, ..changed(host, &draft)? };
            store::put_host(tx, &host).await?;
            let document = host.into_document();
            let entry = me.entry(&by, "resource_host", action, now).data("host", json!(id));
            me.0.audit.append(tx, vec![entry.change(before, Some(json!(document.capacity)))]).await?;
            Ok(document)
        };
        self.0.db.write(work).await
    }

    /// Remove a host of which nothing is allocated.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] where something is allocated.
    #[boxed]
    pub async fn delete_host(&self, caller: &PerformanceCaller, id: &str) -> Result<()> {
        let (me, by, id, now) = (self.clone(), caller.principal.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let host = store::host(tx.conn().await?, &id).await?.ok_or_else(|| no_host(&id))?;
            if host.allocations > 0 {
                let text = format!("{} allocations take capacity of the host {id}: close it first", host.allocations);
                return Err(PerformanceError::Conflict("host_in_use", text));
            }
            store::delete_host(tx, &id).await?;
            let entry = me.entry(&by, "resource_host", "deleted", now).data("host", json!(id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(())
        };
        self.0.db.write(work).await
    }

    /// A host.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn host(&self, id: &str) -> Result<HostDocument> {
        let found = store::host(&mut *self.0.db.read().await?, id).await?;
        found.map(HostRecord::into_document).ok_or_else(|| no_host(id))
    }

    /// All hosts, by their names.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn hosts(&self) -> Result<Vec<HostDocument>> {
        let found = store::hosts(&mut *self.0.db.read().await?).await?;
        Ok(found.into_iter().map(HostRecord::into_document).collect())
    }

    /// The capacity of all hosts.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn capacity(&self) -> Result<CapacityReport> {
        Ok(summed(&store::hosts(&mut *self.0.db.read().await?).await?))
    }
}

/// The sums over all hosts.
fn summed(hosts: &[HostRecord]) -> CapacityReport {
    let open: Vec<&HostRecord> = hosts.iter().filter(|host| host.state == HostState::Open).collect();
    let resource = |(at, name): (usize, &'static str)| {
        let sum =
            |amount: &dyn Fn(&HostRecord) -> i64| hosts.iter().map(|host| amount(host).unsigned_abs()).sum::<u64>();
        let (capacity, allocated) = (sum(&|host| host.capacity[at]), sum(&|host| host.used[at]));
        let largest = open.iter().map(|host| host.room().free()[at]).max();
        ResourceCapacity {
            resource: name.to_owned(),
            capacity: to_units(capacity),
            allocated: to_units(allocated),
            share: (capacity > 0).then(|| allocated as f64 / capacity as f64),
            largest_free: largest.map(to_units),
        }
    };
    CapacityReport {
        admission: if hosts.is_empty() { NOT_CONFIGURED } else { "capacity" }.to_owned(),
        hosts: hosts.len() as u64,
        open_hosts: open.len() as u64,
        hosts_in_use: hosts.iter().filter(|host| host.allocations > 0).count() as u64,
        allocations: hosts.iter().map(|host| host.allocations).sum(),
        resources: RESOURCE_NAMES.into_iter().enumerate().map(resource).collect(),
    }
}

#[cfg(test)]
mod tests {
    use am_db::codec::Timestamp;

    use super::*;
    use crate::resources::amounts::ResourceAmounts;

    fn host(capacity: [i64; 6], used: [i64; 6]) -> HostRecord {
        let now = Timestamp(chrono::DateTime::UNIX_EPOCH);
        HostRecord {
            id: "a".to_owned(),
            state: HostState::Open,
            capacity,
            used,
            allocations: 1,
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn a_capacity_below_what_is_allocated_names_its_place() {
        let before = host([8000, 16_000, 0, 0, 100_000, 100_000], [4000, 8000, 0, 0, 50_000, 10_000]);
        let draft = |values: [f64; 6]| HostDraft { capacity: ResourceAmounts::from_values(values), state: None };
        let places = |values: [f64; 6]| match changed(before.clone(), &draft(values)) {
            Ok(_) => Vec::new(),
            Err(PerformanceError::Invalid(found)) => found.iter().map(|fault| fault.to_string()).collect(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(places([4.0, 8.0, 0.0, 0.0, 50.0, 10.0]), Vec::<String>::new());
        let told = places([3.999, 8.0, 0.0, 0.0, 49.0, 10.0]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("cpu_cores") && told[0].contains("at least 4"), "{told:?}");
        assert_eq!(places([f64::NAN, 8.0, -1.0, 0.0, 50.0, 10.0]).len(), 2);
        for name in ["", "a b", "x/y", &"x".repeat(65)] {
            assert!(!is_host_name(name), "{name}");
        }
        assert!(is_host_name("gpu-1.rack_2"));
    }

    #[test]
    fn sums_are_over_all_hosts_and_free_room_over_open_ones() {
        let closed = HostRecord { state: HostState::Closed, allocations: 0, ..host([16_000, 0, 0, 0, 0, 0], [0; 6]) };
        let report = summed(&[host([8000, 16_000, 0, 0, 1, 1], [2000, 0, 0, 0, 0, 0]), closed]);
        let cores = &report.resources[0];
        assert_eq!((cores.capacity, cores.allocated, cores.largest_free), (24.0, 2.0, Some(6.0)));
        assert_eq!((cores.share, report.resources[2].share), (Some(2.0 / 24.0), None));
        assert_eq!((report.hosts, report.open_hosts, report.hosts_in_use), (2, 1, 1));
        assert_eq!((summed(&[]).admission.as_str(), summed(&[]).resources[0].largest_free), ("not configured", None));
    }
}
