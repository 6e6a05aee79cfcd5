//! Rate limits: a number of requests per window for each caller, or for each address without a caller.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{extract::ConnectInfo, http::HeaderMap};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::NoOpMiddleware,
    state::keyed::DashMapStateStore,
};

use am_core::config::{Config, ConnectionConfig};

/// Maximum number of buckets; beyond it unknown addresses share one.
const MAX_BUCKETS: usize = 65_536;
/// Number of requests between two checks of the number of buckets.
const PRUNE_INTERVAL_REQUESTS: u32 = 4096;

/// Bucket in which a request is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RateBucket {
    /// Caller, by principal.
    Principal(Arc<str>),
    /// Address without a valid key.
    Address(IpAddr),
    /// All unknown addresses while there are too many buckets.
    Overflow,
}

impl RateBucket {
    /// Return the bucket of a request without a valid key.
    pub fn of_address(client: Option<IpAddr>) -> Self {
        client.map_or(Self::Overflow, |ip| Self::Address(address_group(ip)))
    }
}

/// Return the address under which a client is counted: its own, or that of its /64, which a household usually has whole.
pub fn address_group(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(u128::from(ip) >> 64 << 64)),
        ip => ip,
    }
}

/// Return the client's address. `X-Forwarded-For` is believed only from trusted proxies: the last of its addresses that is
/// no trusted proxy's is the client's.
pub fn client_address(
    peer: Option<&ConnectInfo<SocketAddr>>,
    headers: &HeaderMap,
    proxies: &ConnectionConfig,
) -> Option<IpAddr> {
    let ConnectInfo(peer) = peer?;
    let mut address = peer.ip().to_canonical();
    // A proxy appends the address that it saw; earlier entries are the client's claims.
    let lists = headers.get_all("x-forwarded-for").iter().rev();
    let mut seen = lists.flat_map(|list| list.to_str().unwrap_or_default().rsplit(',')).map(str::trim);
    while proxies.is_trusted_proxy(address) {
        let Some(next) = seen.next().and_then(|text| text.parse::<IpAddr>().ok()) else { break };
        address = next.to_canonical();
    }
    Some(address)
}

/// Rate limiter. Its memory is bounded: buckets that are full again are removed.
pub struct CallerRateLimiter<C: Clock = DefaultClock> {
    buckets: RateLimiter<RateBucket, DashMapStateStore<RateBucket>, C, NoOpMiddleware<C::Instant>>,
    most: usize,
    crowded: AtomicBool,
    since_pruned: AtomicU32,
}

impl CallerRateLimiter {
    /// Create the limiter from `RATE_LIMIT_REQUESTS` and `RATE_LIMIT_WINDOW_SECONDS`; `None` when switched off.
    pub fn from_config(config: &Config) -> Option<Self> {
        Self::new(config.rate_limit_requests, config.rate_limit_window, MAX_BUCKETS, DefaultClock::default())
    }
}

impl<C: Clock> CallerRateLimiter<C> {
    /// Allow `requests` per `window`, at once or spread; `None` if that is no limit.
    pub fn new(requests: u32, window: Duration, most: usize, clock: C) -> Option<Self> {
        let requests = NonZeroU32::new(requests)?;
        let quota = Quota::with_period(window / requests.get())?.allow_burst(requests);
        let buckets = RateLimiter::new(quota, DashMapStateStore::default(), clock);
        Some(Self { buckets, most, crowded: AtomicBool::new(false), since_pruned: AtomicU32::new(0) })
    }

    /// Count a request, or return the time to wait.
    pub fn check(&self, bucket: RateBucket) -> Result<(), Duration> {
        if self.since_pruned.fetch_add(1, Ordering::Relaxed) >= PRUNE_INTERVAL_REQUESTS {
            self.prune();
        }
        let crowded = self.crowded.load(Ordering::Relaxed) && matches!(bucket, RateBucket::Address(_));
        let bucket = if crowded { RateBucket::Overflow } else { bucket };
        self.buckets.check_key(&bucket).map_err(|refused| refused.wait_time_from(self.buckets.clock().now()))
    }

    fn prune(&self) {
        self.since_pruned.store(0, Ordering::Relaxed);
        self.buckets.retain_recent();
        self.crowded.store(self.buckets.len() >= self.most, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use am_core::config::AddressBlock;

    fn limiter(requests: u32, most: usize) -> (CallerRateLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (CallerRateLimiter::new(requests, Duration::from_secs(60), most, clock.clone()).unwrap(), clock)
    }

    fn caller(name: &str) -> RateBucket {
        RateBucket::Principal(name.into())
    }

    #[test]
    fn each_caller_has_a_window_of_its_own() {
        let (limiter, clock) = limiter(3, 10);
        for _ in 0..3 {
            assert!(limiter.check(caller("a")).is_ok());
        }
        let wait = limiter.check(caller("a")).unwrap_err();
        assert!(wait > Duration::from_secs(19) && wait <= Duration::from_secs(20), "{wait:?}");
        assert!(limiter.check(caller("b")).is_ok());
        clock.advance(wait);
        assert!(limiter.check(caller("a")).is_ok());
        assert!(limiter.check(caller("a")).is_err());
    }

    #[test]
    fn zero_is_off() {
        assert!(CallerRateLimiter::new(0, Duration::from_secs(60), 10, FakeRelativeClock::default()).is_none());
        assert!(CallerRateLimiter::new(5, Duration::ZERO, 10, FakeRelativeClock::default()).is_none());
    }

    #[test]
    fn memory_is_bounded_and_given_back() {
        let (limiter, clock) = limiter(1, 100);
        let address = |n: u32| RateBucket::Address(IpAddr::from(n.to_be_bytes()));
        for n in 0..20_000 {
            let _ = limiter.check(address(n));
        }
        assert!(limiter.buckets.len() <= PRUNE_INTERVAL_REQUESTS as usize + 2, "{}", limiter.buckets.len());
        assert!(limiter.check(address(4_000_000)).is_err(), "the crowd shares one bucket");
        assert!(limiter.check(caller("a")).is_ok(), "a caller does not");
        clock.advance(Duration::from_secs(120));
        limiter.prune();
        assert_eq!(limiter.buckets.len(), 0);
        assert!(limiter.check(address(4_000_000)).is_ok());
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let peer = |text: &str| ConnectInfo(text.parse::<SocketAddr>().unwrap());
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.0.0.7".parse().unwrap());
        let trusted_proxies = ["127.0.0.1", "10.0.0.0/8"].map(|text| AddressBlock::parse(text).unwrap()).to_vec();
        let proxies = ConnectionConfig { trusted_proxies, ..ConnectionConfig::default() };
        let bucket = |at: &str| RateBucket::of_address(client_address(Some(&peer(at)), &headers, &proxies));
        assert_eq!(bucket("127.0.0.1:5"), RateBucket::Address([9, 9, 9, 9].into()));
        assert_eq!(bucket("8.8.8.8:5"), RateBucket::Address([8, 8, 8, 8].into()));
        assert_eq!(bucket("[::ffff:8.8.8.8]:5"), RateBucket::Address([8, 8, 8, 8].into()));
        assert_eq!(bucket("[2001:db8:1:2::7]:5"), bucket("[2001:db8:1:2:ffff::9]:6"));
        assert_ne!(bucket("[2001:db8:1:2::7]:5"), bucket("[2001:db8:1:3::7]:5"));
        assert_eq!(RateBucket::of_address(client_address(None, &headers, &proxies)), RateBucket::Overflow);
        let nobody = client_address(Some(&peer("127.0.0.1:5")), &headers, &ConnectionConfig::default());
        assert_eq!(nobody, Some([127, 0, 0, 1].into()), "no proxy is configured");
    }
}
