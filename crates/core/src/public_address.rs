//! Classification of public Internet addresses and an HTTP client restricted to them, so that an address supplied by a
//! user can't reach this machine or its private network.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::{
    ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Reason why an address is not called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The host is not a public Internet address, or its name resolves to none; the value is the host.
    #[error("{0} is not a public address")]
    NotPublic(String),
    /// The address has no host.
    #[error("the address has no host")]
    MissingHost,
}

/// IPv4 blocks that are not globally reachable or not unicast. Sources: IANA IPv4 Special-Purpose Address Registry and
/// IPv4 Multicast Address Space Registry.
const NON_PUBLIC_IPV4_BLOCKS: [(Ipv4Addr, u32); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // this network
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // private use
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // shared address space (CGNAT)
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // loopback
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // link-local, and clouds' metadata services
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // private use
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // documentation
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, given up
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // private use
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // benchmarks
    (Ipv4Addr::new(198, 51, 100, 0), 24), // documentation
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // documentation
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // multicast
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // reserved
    (Ipv4Addr::BROADCAST, 32),
];

/// The IPv6 block that IANA allocates as global unicast; addresses outside it are not public.
const GLOBAL_UNICAST_IPV6_BLOCK: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// IPv6 blocks within global unicast that are not globally reachable. Source: IANA IPv6 Special-Purpose Address
/// Registry.
const NON_PUBLIC_IPV6_BLOCKS: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23), // IETF protocol assignments: Teredo, ORCHID, benchmarks
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32), // documentation
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20), // documentation
];

/// IPv6 blocks whose addresses embed an IPv4 address (mapped, NAT64, 6to4): block, prefix length, and the number of
/// bits by which the IPv4 address is shifted.
const IPV4_EMBEDDING_BLOCKS: [(Ipv6Addr, u32, u32); 3] = [
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, 0),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, 0),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, 80),
];

/// Whether `ip` is the address of a single public Internet host. An IPv6 address that embeds an IPv4 address is judged
/// by the embedded one.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !NON_PUBLIC_IPV4_BLOCKS.iter().any(|(block, length)| is_in_ipv4_block(ip, *block, *length)),
        IpAddr::V6(ip) => {
            let embedding =
                IPV4_EMBEDDING_BLOCKS.iter().find(|(block, length, _)| is_in_ipv6_block(ip, *block, *length));
            if let Some((.., shift)) = embedding {
                return is_public(Ipv4Addr::from_bits((ip.to_bits() >> shift) as u32).into());
            }
            is_in_ipv6_block(ip, GLOBAL_UNICAST_IPV6_BLOCK.0, GLOBAL_UNICAST_IPV6_BLOCK.1)
                && !NON_PUBLIC_IPV6_BLOCKS.iter().any(|(block, length)| is_in_ipv6_block(ip, *block, *length))
        }
    }
}

/// Whether `ip` is in `block`, with a prefix `length` of 1 to 32 bits.
fn is_in_ipv4_block(ip: Ipv4Addr, block: Ipv4Addr, length: u32) -> bool {
    (ip.to_bits() ^ block.to_bits()) >> (32 - length) == 0
}

/// Whether `ip` is in `block`, with a prefix `length` of 1 to 127 bits.
fn is_in_ipv6_block(ip: Ipv6Addr, block: Ipv6Addr, length: u32) -> bool {
    (ip.to_bits() ^ block.to_bits()) >> (128 - length) == 0
}

/// Refuse a URL whose host is a literal address that is not public. Names are checked by [`PublicAddressResolver`], which literals
/// never reach; [`Url`] has normalised forms such as `0x7f.1` already.
///
/// # Errors
/// Returns [`AddressError::NotPublic`] or [`AddressError::MissingHost`].
pub fn check_literal_host(url: &Url) -> Result<(), AddressError> {
    let host = url.host_str().ok_or(AddressError::MissingHost)?;
    match host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) if !is_public(ip) => Err(AddressError::NotPublic(ip.to_string())),
        _ => Ok(()),
    }
}

/// DNS resolver that returns public addresses only. The connection uses the addresses that were checked, so a name
/// can't resolve to another one between check and connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct PublicAddressResolver;

impl Resolve for PublicAddressResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            Ok(Box::new(filter_public(name.as_str(), found)?.into_iter()) as Addrs)
        })
    }
}

fn filter_public(name: &str, found: impl Iterator<Item = SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    let good: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
    if good.is_empty() { Err(io::Error::other(AddressError::NotPublic(name.to_owned()))) } else { Ok(good) }
}

/// Restrict a client to public addresses. Redirects and proxies are off, since either would choose another address.
/// Literal addresses bypass the resolver: call [`check_literal_host`] before each request.
pub fn restrict_to_public(client: ClientBuilder) -> ClientBuilder {
    client.dns_resolver(PublicAddressResolver).redirect(reqwest::redirect::Policy::none()).no_proxy()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_are_known_to_their_borders() {
        for (text, expected) in [
            ("0.0.0.0", false),
            ("0.255.255.255", false),
            ("1.0.0.0", true),
            ("8.8.8.8", true),
            ("9.255.255.255", true),
            ("10.0.0.0", false),
            ("10.255.255.255", false),
            ("11.0.0.0", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("128.0.0.0", true),
            ("169.253.255.255", true),
            ("169.254.169.254", false),
            ("169.255.0.0", true),
            ("172.15.255.255", true),
            ("172.16.0.0", false),
            ("172.31.255.255", false),
            ("172.32.0.0", true),
            ("192.0.0.9", false),
            ("192.0.1.0", true),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.167.255.255", true),
            ("192.168.1.1", false),
            ("192.169.0.0", true),
            ("198.17.255.255", true),
            ("198.18.0.0", false),
            ("198.19.255.255", false),
            ("198.20.0.0", true),
            ("198.51.100.7", false),
            ("203.0.113.7", false),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("239.255.255.255", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::8.8.8.8", false),
            ("::ffff:8.8.8.8", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::ffff:0:8.8.8.8", false),
            ("64:ff9b::8.8.8.8", true),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b:1::8.8.8.8", false),
            ("100::1", false),
            ("1fff:ffff::1", false),
            ("2000::1", true),
            ("2001::1", false),
            ("2001:1ff:ffff::1", false),
            ("2001:200::1", true),
            ("2001:db7::1", true),
            ("2001:db8::1", false),
            ("2001:db9::1", true),
            ("2002:808:808::1", true),
            ("2002:7f00:1::1", false),
            ("2002:a00:1::1", false),
            ("2002:c0a8:101::1", false),
            ("2606:4700:4700::1111", true),
            ("3ffe:ffff::1", true),
            ("3fff:0fff::1", false),
            ("3fff:1000::1", true),
            ("4000::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fdff::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn literal_hosts_are_read_as_the_client_reads_them() {
        for (url, good) in [
            ("https://example.com/x", true),
            ("https://8.8.8.8/x", true),
            ("https://[2606:4700:4700::1111]:8443/", true),
            ("https://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://0x7f.1/", false),
            ("https://0177.0.0.1/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://169.254.169.254/latest/meta-data", false),
        ] {
            assert_eq!(check_literal_host(&url.parse().unwrap()).is_ok(), good, "{url}");
        }
        assert_eq!(check_literal_host(&"data:x".parse().unwrap()), Err(AddressError::MissingHost));
    }

    #[tokio::test]
    async fn names_lead_to_public_addresses_or_nowhere() {
        let found = ["127.0.0.1:0", "8.8.8.8:0", "[::1]:0", "10.0.0.1:0"].map(|text| text.parse().unwrap());
        assert_eq!(filter_public("mixed", found.into_iter()).unwrap(), ["8.8.8.8:0".parse().unwrap()]);
        let client = restrict_to_public(reqwest::Client::builder()).build().unwrap();
        let error = client.get("http://localhost:9/").send().await.unwrap_err();
        assert!(format!("{error:?}").contains("NotPublic(\"localhost\")"), "{error:?}");
    }

    proptest! {
        #[test]
        fn an_embedded_address_is_what_it_stands_for(bits in any::<u32>(), rest in any::<u64>()) {
            let ip = Ipv4Addr::from_bits(bits);
            let expected = is_public(ip.into());
            prop_assert_eq!(is_public(ip.to_ipv6_mapped().into()), expected);
            let six_to_four = 0x2002_u128 << 112 | u128::from(bits) << 80 | u128::from(rest);
            prop_assert_eq!(is_public(Ipv6Addr::from_bits(six_to_four).into()), expected);
            // What the standard library calls private is never public here.
            let private = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_multicast()
                || ip.is_unspecified() || ip.is_broadcast() || ip.is_documentation();
            prop_assert!(!(private && expected));
        }
    }
}
