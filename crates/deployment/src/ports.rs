//! Ports of instances: which range a client may name, and which of it are free.

use std::net::{Ipv4Addr, TcpListener};

use serde_json::Value;

/// Lowest port that is not the system's.
pub const LEAST_PORT: u16 = 1024;

/// Ports from `low` to `high`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest of them.
    pub low: u16,
    /// The highest of them.
    pub high: u16,
}

impl PortRange {
    /// How many there are.
    pub(crate) fn len(self) -> u32 {
        u32::from(self.high.saturating_sub(self.low)) + 1
    }

    fn contains(self, other: Self) -> bool {
        self.low <= other.low && other.high <= self.high
    }
}

/// Read a range: two numbers in a list, or as `low-high`.
///
/// # Errors
/// What is wrong with it, for the client.
pub(crate) fn read_range(value: &Value, allowed: PortRange) -> Result<PortRange, String> {
    let form = || format!("must be two ports, such as [{}, {}]", allowed.low, allowed.high);
    let pair: Vec<i64> = match value {
        Value::Array(items) => items.iter().filter_map(Value::as_i64).collect(),
        Value::String(text) => text.split('-').filter_map(|one| one.trim().parse().ok()).collect(),
        _ => Vec::new(),
    };
    let two = |count: usize| count == 2;
    let complete = match value {
        Value::Array(items) => two(items.len()),
        Value::String(text) => two(text.split('-').count()),
        _ => false,
    };
    let [low, high] = *pair.as_slice() else { return Err(form()) };
    if !complete {
        return Err(form());
    }
    if low < i64::from(LEAST_PORT) {
        return Err(format!("begins below {LEAST_PORT}, with ports of the system"));
    }
    let (Ok(low), Ok(high)) = (u16::try_from(low), u16::try_from(high)) else {
        return Err("ends above 65535".to_owned());
    };
    if low > high {
        return Err("ends before it begins".to_owned());
    }
    let range = PortRange { low, high };
    match allowed.contains(range) {
        true => Ok(range),
        false => {
            Err(format!("is not within {} to {}, which this server gives to instances", allowed.low, allowed.high))
        }
    }
}

/// Whether nobody listens on a port of 127.0.0.1 now.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The first `wanted` free ports of a range, without those in `taken`.
pub(crate) fn free_ports(range: PortRange, taken: &[i64], wanted: usize) -> Vec<u16> {
    let open = (range.low..=range.high).filter(|port| !taken.contains(&i64::from(*port)));
    open.filter(|port| is_free(*port)).take(wanted).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ALLOWED: PortRange = PortRange { low: 20_000, high: 20_999 };

    #[test]
    fn ranges_are_read_and_refused_with_what_is_wrong() {
        let good = PortRange { low: 20_010, high: 20_020 };
        assert_eq!(read_range(&json!([20_010, 20_020]), ALLOWED), Ok(good));
        assert_eq!(read_range(&json!("20010-20020"), ALLOWED), Ok(good));
        for (value, word) in [
            (json!([80, 90]), "below 1024"),
            (json!("1023-20000"), "below 1024"),
            (json!([20_000, 70_000]), "above 65535"),
            (json!([20_020, 20_010]), "before it begins"),
            (json!([30_000, 30_010]), "not within 20000 to 20999"),
            (json!([20_000]), "two ports"),
            (json!([20_000, 20_001, "x"]), "two ports"),
            (json!("20000-20001-x"), "two ports"),
            (json!(20_000), "two ports"),
            (json!(null), "two ports"),
        ] {
            let message = read_range(&value, ALLOWED).unwrap_err();
            assert!(message.contains(word), "{value}: {message}");
        }
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_given() {
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        assert!(!is_free(port));
        assert!(free_ports(PortRange { low: port, high: port }, &[], 1).is_empty());
        drop(held);
        assert!(free_ports(PortRange { low: port, high: port }, &[i64::from(port)], 1).is_empty(), "it is another's");
    }
}
