//! The period that a report is about.

use am_db::codec::Timestamp;

use crate::error::{PortfolioError, Result};

/// A period that a report is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportPeriod {
    /// First moment; `None`: the first record.
    pub from: Option<Timestamp>,
    /// Last moment; `None`: now.
    pub to: Option<Timestamp>,
}

impl ReportPeriod {
    pub(super) fn ends(&self, now: Timestamp) -> Result<(Timestamp, Timestamp)> {
        let (from, to) = (self.from.unwrap_or(Timestamp(chrono::DateTime::UNIX_EPOCH)), self.to.unwrap_or(now));
        if from < to { Ok((from, to)) } else { Err(PortfolioError::invalid("to", "must be later than `from`")) }
    }
}
