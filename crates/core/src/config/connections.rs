//! Settings of connections: how many, for how long, and from whom.

use std::{net::IpAddr, time::Duration};

use super::{
    group::settings,
    setting_reader::{SettingReader, number, seconds},
};

settings! {
    /// Settings of the connections that clients open.
    pub struct ConnectionConfig {
        /// Time within which a client must send the head of a request, and how long a connection may be idle between two
        /// requests, default 20 s.
        "HEADER_TIMEOUT_SECONDS" header_timeout: Duration = Duration::from_secs(20), seconds(1..=3600);
        /// Connections that are open at the same time, WebSockets included, default 16384; never more than the limit of open
        /// files allows. Further ones get 503, except for probes.
        "MAX_CONNECTIONS" total: usize = 16_384, number(1..=1_000_000);
        /// Connections of one address (IPv6: of a /64) that are open at the same time, default 4096. Trusted proxies are not
        /// counted.
        "MAX_CONNECTIONS_PER_ADDRESS" per_address: usize = 4096, number(1..=1_000_000);
        /// Addresses (10.0.0.5) and networks (10.0.0.0/8) of proxies whose `X-Forwarded-For` is believed, default none.
        "TRUSTED_PROXIES" trusted_proxies: Vec<AddressBlock> = Vec::new(), address_blocks;
        /// Names besides localhost and loopback addresses that requests may have as `Host`, without port, default none. With
        /// any, all other names are refused; without, names are checked on a development server only.
        "ALLOWED_HOSTS" allowed_hosts: Vec<String> = Vec::new(), host_names;
    }
}

impl ConnectionConfig {
    /// Whether this is the address of a trusted proxy.
    pub fn is_trusted_proxy(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|block| block.contains(address))
    }
}

/// A network of addresses, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    first: IpAddr,
    /// Number of leading bits that all its addresses share.
    prefix: u32,
}

impl AddressBlock {
    /// Parse `address` or `address/prefix`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let first: IpAddr = address.parse().ok()?;
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok().filter(|prefix| *prefix <= bits))?;
        Some(Self { first, prefix })
    }

    /// Whether `address` is one of these. An IPv4 address that is written as IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let same = |a: u128, b: u128, bits: u32| (a ^ b).checked_shr(bits - self.prefix).unwrap_or(0) == 0;
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
            _ => false,
        }
    }
}

fn address_blocks(reader: &mut SettingReader, key: &str, _: Vec<AddressBlock>) -> Vec<AddressBlock> {
    let mut blocks = Vec::new();
    for item in reader.list(key) {
        match AddressBlock::parse(&item) {
            Some(block) => blocks.push(block),
            None => reader.reject(key, format!("`{item}` is invalid: should be an address or a network (10.0.0.0/8)")),
        }
    }
    blocks
}

fn host_names(reader: &mut SettingReader, key: &str, _: Vec<String>) -> Vec<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let names = reader.list(key);
    for name in &names {
        if !name.bytes().all(plain) {
            reader.reject(key, format!("`{name}` is invalid: should be a host name without scheme and port"));
        }
    }
    names.into_iter().map(|name| name.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_holds_its_addresses_alone() {
        let holds = |block: &str, address: &str| AddressBlock::parse(block).unwrap().contains(address.parse().unwrap());
        assert!(holds("127.0.0.1", "127.0.0.1") && !holds("127.0.0.1", "127.0.0.2"));
        assert!(holds("127.0.0.1", "::ffff:127.0.0.1") && !holds("127.0.0.1", "::1"));
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.0"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "2001:db8::1") && holds("2001:db8::/32", "2001:db8:9::1"));
        assert!(!holds("2001:db8::/32", "2001:db9::1"));
        for bad in ["", "x", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(AddressBlock::parse(bad), None, "{bad}");
        }
    }
}
