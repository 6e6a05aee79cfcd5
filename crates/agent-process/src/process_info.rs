//! What the system says of a process: when it started, and what it uses. Read from `/proc`.

use std::{fs, time::Duration};

/// What a process is and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// When it started, in ticks since the machine did.
    pub started_ticks: u64,
    /// Processor time that it has used, in all its threads.
    pub processor_time: Duration,
    /// Memory that it occupies, in bytes.
    pub resident_bytes: u64,
    /// Whether it has ended and only its parent has not noticed.
    pub is_defunct: bool,
}

/// Read what `pid` is; `None`: there is no such process.
pub fn read_process(pid: u32) -> Option<ProcessInfo> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
}

/// Whether `pid` is the process that started at `started_ticks`, and runs.
pub fn is_alive(pid: u32, started_ticks: u64) -> bool {
    read_process(pid).is_some_and(|found| found.started_ticks == started_ticks && !found.is_defunct)
}

/// `/proc/PID/stat`: the name in parentheses may hold blanks and parentheses, so the fields are counted from the last one.
fn parse_stat(text: &str, ticks_per_second: u64, page_bytes: u64) -> Option<ProcessInfo> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // proc(5) counts from 1, with the state as field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(ProcessInfo {
        started_ticks: field(22)?,
        processor_time: Duration::from_millis(ticks.saturating_mul(1000) / ticks_per_second.max(1)),
        resident_bytes: field(24)?.saturating_mul(page_bytes),
        is_defunct: matches!(fields.first(), Some(&"Z" | &"X")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        let text =
            "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 3 0 987654 1000000 25 18446744073709551615";
        let read = parse_stat(text, 100, 4096).unwrap();
        let wanted = ProcessInfo {
            started_ticks: 987_654,
            processor_time: Duration::from_secs(2),
            resident_bytes: 25 * 4096,
            is_defunct: false,
        };
        assert_eq!(read, wanted);
        assert_eq!(parse_stat("7 (a) S 1", 100, 4096), None);
    }

    #[test]
    fn the_own_process_is_alive_and_not_another_time() {
        let own = std::process::id();
        let read = read_process(own).unwrap();
        assert!(read.resident_bytes > 0 && is_alive(own, read.started_ticks));
        assert!(!is_alive(own, read.started_ticks + 1));
    }
}
