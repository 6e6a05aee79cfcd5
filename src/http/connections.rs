//! How many connections are open, and which of them have a place.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio_util::sync::CancellationToken;

use super::rate_limit::address_group;
use am_core::config::{AddressBlock, Config};

/// Connections without a place that are answered at the same time: of this machine, and of others. When one more comes,
/// the oldest is closed.
const OVERFLOW_CONNECTIONS: usize = 16;
/// Open files that are kept for everything else: the database, workers, outgoing calls.
const FILES_OF_THE_SERVICE: u64 = 96;
/// Fewest connections, however low the limit of open files is.
const MIN_CONNECTIONS: usize = 16;

/// Limits of connections.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Time for the head of a request, and for which a connection may be idle.
    pub header_timeout: Duration,
    /// Connections with a place.
    pub total: usize,
    /// Connections with a place of one address.
    pub per_address: usize,
    /// Addresses of proxies, each of which stands for many clients.
    pub proxies: Vec<AddressBlock>,
}

impl ConnectionLimits {
    /// Read the limits from the settings. There are never more connections than the limit of open files allows.
    pub fn from_config(config: &Config) -> Self {
        let open_files = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| {
            usize::try_from(files.saturating_sub(FILES_OF_THE_SERVICE)).unwrap_or(usize::MAX)
        });
        let allowed = open_files.saturating_sub(2 * OVERFLOW_CONNECTIONS).max(MIN_CONNECTIONS);
        let connections = &config.connections;
        if connections.total > allowed {
            tracing::info!(allowed, "MAX_CONNECTIONS is lowered to what the limit of open files allows");
        }
        Self {
            header_timeout: connections.header_timeout,
            total: connections.total.min(allowed),
            per_address: connections.per_address,
            proxies: connections.trusted_proxies.clone(),
        }
    }
}

/// The open connections.
#[derive(Clone)]
pub struct ConnectionTable(Arc<TableParts>);

struct TableParts {
    limits: ConnectionLimits,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    /// Connections without a place, the oldest first: those of this machine, those of others.
    overflow: [VecDeque<(u64, CancellationToken)>; 2],
    next: u64,
}

/// What a new connection gets.
pub enum ConnectionAdmission {
    /// A place among the others.
    Placed(ConnectionPlace),
    /// No place: only a probe is answered, once.
    Overflow(OverflowConnection),
}

/// The place of a connection, until it is dropped.
pub struct ConnectionPlace {
    table: ConnectionTable,
    /// Address under which it is counted; `None`: a proxy's.
    group: Option<IpAddr>,
}

/// A connection without a place, until it is dropped.
pub struct OverflowConnection {
    table: ConnectionTable,
    lane: usize,
    number: u64,
    /// Cancelled when a newer connection takes its turn.
    pub displaced: CancellationToken,
}

impl ConnectionTable {
    /// Create a table without connections.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(TableParts { limits, open: Mutex::default() }))
    }

    /// Return the limits.
    pub fn limits(&self) -> &ConnectionLimits {
        &self.0.limits
    }

    /// Count a connection from `peer`.
    pub fn admit(&self, peer: IpAddr) -> ConnectionAdmission {
        let peer = peer.to_canonical();
        let limits = &self.0.limits;
        let group = (!limits.proxies.iter().any(|proxy| proxy.contains(peer))).then(|| address_group(peer));
        let mut open = self.0.open.lock();
        let held = group.and_then(|group| open.by_address.get(&group).copied()).unwrap_or(0);
        if open.total < limits.total && held < limits.per_address {
            open.total += 1;
            if let Some(group) = group {
                open.by_address.insert(group, held + 1);
            }
            return ConnectionAdmission::Placed(ConnectionPlace { table: self.clone(), group });
        }
        let (lane, number, displaced) = (usize::from(!peer.is_loopback()), open.next, CancellationToken::new());
        open.next += 1;
        if open.overflow[lane].len() >= OVERFLOW_CONNECTIONS
            && let Some((_, oldest)) = open.overflow[lane].pop_front()
        {
            oldest.cancel();
        }
        open.overflow[lane].push_back((number, displaced.clone()));
        ConnectionAdmission::Overflow(OverflowConnection { table: self.clone(), lane, number, displaced })
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let mut open = self.table.0.open.lock();
        open.total -= 1;
        let Some(group) = self.group else { return };
        if let Entry::Occupied(mut held) = open.by_address.entry(group) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

impl Drop for OverflowConnection {
    fn drop(&mut self) {
        self.table.0.open.lock().overflow[self.lane].retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(total: usize, per_address: usize) -> ConnectionTable {
        let proxies = vec![AddressBlock::parse("10.9.9.9").unwrap()];
        ConnectionTable::new(ConnectionLimits { header_timeout: Duration::from_secs(1), total, per_address, proxies })
    }

    fn placed(table: &ConnectionTable, peer: &str) -> Option<ConnectionPlace> {
        match table.admit(peer.parse().unwrap()) {
            ConnectionAdmission::Placed(place) => Some(place),
            ConnectionAdmission::Overflow(_) => None,
        }
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let table = table(4, 2);
        let held = [placed(&table, "8.8.8.8"), placed(&table, "::ffff:8.8.8.8")].map(Option::unwrap);
        assert!(placed(&table, "8.8.8.8").is_none(), "as many as one address may have");
        let proxy = [placed(&table, "10.9.9.9"), placed(&table, "10.9.9.9")].map(Option::unwrap);
        assert!(placed(&table, "10.9.9.9").is_none() && placed(&table, "9.9.9.9").is_none(), "as many as there may be");
        drop(held);
        let net = ["2001:db8::1", "2001:db8::2"].map(|peer| placed(&table, peer).unwrap());
        drop(proxy);
        assert!(placed(&table, "2001:db8::3").is_none(), "one household");
        drop(net);
        let open = table.0.open.lock();
        assert_eq!((open.total, open.by_address.len()), (0, 0), "nothing is left");
    }

    #[test]
    fn the_newest_without_a_place_displaces_the_oldest_of_its_kind() {
        let table = table(0, 1);
        let overflow = |peer: &str| match table.admit(peer.parse().unwrap()) {
            ConnectionAdmission::Overflow(waiting) => waiting,
            ConnectionAdmission::Placed(_) => panic!("a place"),
        };
        let far: Vec<_> = (0..=OVERFLOW_CONNECTIONS).map(|_| overflow("8.8.8.8")).collect();
        let near: Vec<_> = (0..OVERFLOW_CONNECTIONS).map(|_| overflow("127.0.0.1")).collect();
        let displaced = |all: &[OverflowConnection]| all.iter().filter(|one| one.displaced.is_cancelled()).count();
        assert!(far[0].displaced.is_cancelled());
        assert_eq!((displaced(&far), displaced(&near)), (1, 0));
        drop((far, near));
        assert!(table.0.open.lock().overflow.iter().all(VecDeque::is_empty));
    }
}
