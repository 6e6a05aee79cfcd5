//! The clock of table `job`. The coordinator wrote its times in the machine's local time, and does so in UTC since August 2026;
//! everywhere else it writes UTC.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use sqlx::{Decode, Encode, Type, encode::IsNull, error::BoxDynError};

use super::{
    Connection, Db, Result,
    codec::{format_naive, parse_timestamp},
    json_cell::JsonCell,
    table_shape::read_shapes,
};

/// The clock in which times of table `job` are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobClock {
    /// The time zone of this machine.
    Local,
    /// The same everywhere, as in all other tables.
    Utc,
}

/// Whether the clock is UTC. It is one for the process, as its time zone is.
static IS_UTC: AtomicBool = AtomicBool::new(false);

impl JobClock {
    /// The clock in which times are read and written now.
    pub fn current() -> Self {
        if IS_UTC.load(Ordering::Relaxed) { Self::Utc } else { Self::Local }
    }

    /// Read and write all times in this clock from now on.
    pub fn select(self) {
        IS_UTC.store(self == Self::Utc, Ordering::Relaxed);
    }

    /// The other clock.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Local => Self::Utc,
            Self::Utc => Self::Local,
        }
    }

    /// Its name: `local` or `utc`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Utc => "utc",
        }
    }

    /// The moment that a stored time means.
    pub fn read(self, stored: NaiveDateTime) -> DateTime<Utc> {
        if self == Self::Utc {
            return stored.and_utc();
        }
        // The hour that the end of summer time repeats is read as its first occurrence, the hour that its start skips as
        // UTC.
        let found = Local.from_local_datetime(&stored);
        // chrono may call the later of two the earliest.
        let moments = [found.earliest(), found.latest()].into_iter().flatten().map(|local| local.with_timezone(&Utc));
        moments.min().unwrap_or(stored.and_utc())
    }

    /// How a moment is stored.
    pub fn stored(self, at: DateTime<Utc>) -> NaiveDateTime {
        match self {
            Self::Local => at.with_timezone(&Local).naive_local(),
            Self::Utc => at.naive_utc(),
        }
    }
}

/// The clock that the coordinator's tables suggest: amounts became decimals in its version before the one with UTC.
///
/// # Errors
/// As the database.
pub async fn suggested_clock(conn: &mut Connection) -> Result<JobClock> {
    let shapes = read_shapes(conn, &["job", "agent_executions"]).await?;
    let column = |table: &str, name: &str| shapes.get(table).and_then(|shape| shape.column(name));
    let decimal = column("agent_executions", "total_cost").is_some_and(|cost| cost.declared.starts_with("NUMERIC"));
    let later = column("job", "completed_at").is_some() && decimal;
    Ok(if later { JobClock::Utc } else { JobClock::Local })
}

/// A moment stored in the clock of table `job`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueTimestamp(pub DateTime<Utc>);

impl QueueTimestamp {
    /// Parse the stored form.
    ///
    /// # Errors
    /// Fails when the text has none of SQLAlchemy's forms.
    pub fn from_stored(text: &str) -> std::result::Result<Self, BoxDynError> {
        Ok(Self(JobClock::current().read(parse_timestamp(text)?)))
    }

    /// As it stands in the database.
    pub fn stored(self) -> String {
        format_naive(JobClock::current().stored(self.0), b' ')
    }
}

impl Type<Db> for QueueTimestamp {
    fn type_info() -> <Db as sqlx::Database>::TypeInfo {
        <String as Type<Db>>::type_info()
    }
    fn compatible(_: &<Db as sqlx::Database>::TypeInfo) -> bool {
        true
    }
}

impl<'q> Encode<'q, Db> for QueueTimestamp {
    fn encode_by_ref(
        &self,
        buffer: &mut <Db as sqlx::Database>::ArgumentBuffer,
    ) -> std::result::Result<IsNull, BoxDynError> {
        <String as Encode<Db>>::encode(self.stored(), buffer)
    }
}

impl<'r> Decode<'r, Db> for QueueTimestamp {
    fn decode(value: <Db as sqlx::Database>::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Self::from_stored(<&str as Decode<Db>>::decode(value)?)
    }
}

impl JsonCell for QueueTimestamp {
    fn write(&self, out: &mut String) {
        let _ = write!(out, "\"{}\"", self.stored());
    }
}
