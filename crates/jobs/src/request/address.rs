//! Validation of addresses that a miner will fetch: http, https or ipfs, without user and password, and only hosts on
//! the public Internet. Names are not resolved: the miner resolves them elsewhere and later, so a result here would say
//! nothing about what the miner gets.

use reqwest::Url;

use am_core::{public_address, validation::Violation};

/// Domains that name hosts of private networks (RFC 6761, RFC 6762, RFC 8375, ICANN's reserved `internal`) or are
/// commonly used so.
const PRIVATE_DOMAINS: [&str; 10] =
    ["localhost", "local", "internal", "home.arpa", "lan", "intranet", "private", "corp", "home", "localdomain"];

/// Fault of the address in member `name`; `None` when it is acceptable.
pub(super) fn address_fault(name: &str, text: &str, private: bool) -> Option<Violation> {
    check_address(text, private).err().map(|message| Violation::new(name, message))
}

fn check_address(text: &str, private: bool) -> Result<(), String> {
    // The URL parser would silently remove these characters.
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("Contains a space, a control character or a backslash".to_owned());
    }
    let url: Url = text.parse().map_err(|error| format!("Is not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https" | "ipfs") {
        return Err(format!("Has the scheme {:?}; should be http, https or ipfs", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("Contains a user name or password".to_owned());
    }
    let host = url.host_str().unwrap_or_default();
    if url.scheme() == "ipfs" {
        // A content identifier, or an IPNS name that is one.
        let is_word = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric());
        return if is_word { Ok(()) } else { Err("Has no content identifier: should be ipfs://CID/path".to_owned()) };
    }
    if private {
        return Ok(());
    }
    public_address::check_literal_host(&url).map_err(|error| error.to_string())?;
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let is_literal = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    if !is_literal && (!host.contains('.') || PRIVATE_DOMAINS.iter().any(|domain| below(domain))) {
        return Err(format!("{host} names a host that is not on the Internet"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_taken_and_others_refused() {
        for (url, good) in [
            ("https://example.com/a.wav?x=1#y", true),
            ("HTTP://EXAMPLE.com:8080/a", true),
            ("https://8.8.8.8/a", true),
            ("https://[2606:4700:4700::1111]/a", true),
            ("ipfs://QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG/a.wav", true),
            ("ipfs://bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi", true),
            ("ipfs:///x", false),
            ("ipfs://a.b/x", false),
            ("ftp://example.com/a", false),
            ("file:///etc/passwd", false),
            ("data:text/plain,x", false),
            ("example.com/a", false),
            ("https://user@example.com/", false),
            ("https://:secret@example.com/", false),
            ("https://user:secret@example.com/", false),
            ("https://exa\nmple.com/", false),
            ("https://example.com\\@10.0.0.1/", false),
            ("https://localhost/", false),
            ("https://LOCALHOST.:443/", false),
            ("https://a.localhost/", false),
            ("https://printer.local/", false),
            ("https://db.internal/", false),
            ("https://coordinator/", false),
            ("https://127.1/", false),
            ("https://0x7f000001/", false),
            ("https://[::1]/", false),
            ("https://[::ffff:10.0.0.1]/", false),
            ("https://169.254.169.254/latest/meta-data", false),
            ("https://notlocal.example/", true),
            ("https://localhost.example/", true),
        ] {
            assert_eq!(check_address(url, false).is_ok(), good, "{url}: {:?}", check_address(url, false));
        }
    }

    #[test]
    fn private_hosts_are_taken_where_that_is_allowed_and_nothing_else_with_them() {
        for url in ["http://10.0.0.1/a", "http://coordinator:8000/a", "https://localhost/"] {
            assert_eq!(check_address(url, true), Ok(()), "{url}");
        }
        for url in ["file:///etc/passwd", "http://user:secret@10.0.0.1/"] {
            assert!(check_address(url, true).is_err(), "{url}");
        }
    }
}
