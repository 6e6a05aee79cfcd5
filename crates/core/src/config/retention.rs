//! Settings of retention.

use std::{path::PathBuf, time::Duration};

use super::{
    group::settings,
    setting_reader::{SettingReader, boolean, optional_path, parsed, seconds},
};

/// The longest age that may be set: a hundred years.
const MAX_AGE: Duration = Duration::from_secs(36_500 * 86_400);

settings! {
    /// Settings of retention: the age from which something is removed, by kind. An age is a duration (`90d`, `12h`) or a number of
    /// days; 0 or no value: it is kept.
    pub struct RetentionConfig {
        /// Executions that ended, with steps, events, receipts and assignments; age since their end. Default: kept.
        "RETENTION_EXECUTIONS" executions: Option<Duration> = None, age;
        /// Definitions that no execution refers to; age since the last start with them, at least two hours. Default: kept.
        "RETENTION_DEFINITIONS" definitions: Option<Duration> = None, age;
        /// Messages that are not pending; age since they were sent. Default: kept.
        "RETENTION_MESSAGES" messages: Option<Duration> = None, age;
        /// Jobs that were submitted here and ended; age since their end. Default: kept.
        "RETENTION_JOBS" jobs: Option<Duration> = None, age;
        /// Plans that have no execution any more; age since their last change. Default: kept.
        "RETENTION_PLANS" plans: Option<Duration> = None, age;
        /// Assignments that ended; age since their end. Default: kept.
        "RETENTION_ASSIGNMENTS" assignments: Option<Duration> = None, age;
        /// Versions of policies that nothing names, with their weights; age since they were made. Default: kept.
        "RETENTION_POLICY_VERSIONS" policy_versions: Option<Duration> = None, age;
        /// Training runs that ended and whose version is gone; age since their end. Default: kept.
        "RETENTION_TRAINING_RUNS" training_runs: Option<Duration> = None, age;
        /// Deliveries to webhooks that ended; age since they were made. Default: deleted by `WEBHOOK_KEEP_DAYS`, without an
        /// archive.
        "RETENTION_WEBHOOK_DELIVERIES" webhook_deliveries: Option<Duration> = None, age;
        /// Requests of the marketplace that ended, with their events; age since their end and their deadline, at least 30 days. Default:
        /// kept.
        "RETENTION_MARKET_REQUESTS" market_requests: Option<Duration> = None, age;
        /// Settlements in a contract that ended, with their transactions; age since their end. Default: kept.
        "RETENTION_SETTLEMENTS" settlements: Option<Duration> = None, age;
        /// Background tasks that ended, with their events; age since their end. Default: kept.
        "RETENTION_BACKGROUND_TASKS" background_tasks: Option<Duration> = None, age;
        /// Optimisations that ended and are not applied, and sweeps, each with what it tried; age since their end. Default: kept.
        "RETENTION_OPTIMISATIONS" optimisations: Option<Duration> = None, age;
        /// Versions of meta-learning models that nothing names, with their weights; age since they were made. Default: kept.
        "RETENTION_META_MODELS" meta_models: Option<Duration> = None, age;
        /// Executions and jobs that the coordinator wrote without this service, and jobs of steps, that ended; age since their end, of
        /// jobs since their submission. Default: kept.
        "RETENTION_COORDINATOR_ROWS" coordinator_rows: Option<Duration> = None, age;
        /// Whether what is removed is written to an archive first, default true.
        "RETENTION_ARCHIVE" archive: bool = true, boolean;
        /// Directory of the archives, default `DATA_DIR`/archive.
        "RETENTION_ARCHIVE_DIR" archive_dir: Option<PathBuf> = None, optional_path;
        /// Time between two rounds of removing, default 600 s.
        "RETENTION_INTERVAL_SECONDS" interval: Duration = Duration::from_secs(600), seconds(1..=86_400);
    }
}

/// Parse an age; the outer `None`: it is none.
fn parse_age(text: &str) -> Option<Option<Duration>> {
    let text = text.trim();
    let age = match text.parse::<u64>() {
        Ok(days) => Duration::from_secs(days.checked_mul(86_400)?),
        Err(_) => humantime::parse_duration(text).ok()?,
    };
    if age > MAX_AGE {
        return None;
    }
    Some((!age.is_zero()).then_some(age))
}

fn age(from: &mut SettingReader, key: &str, default: Option<Duration>) -> Option<Duration> {
    if from.plain_text(key).is_some_and(|text| text.is_empty()) {
        return default;
    }
    parsed("a number of days, or a duration such as 90d or 12h; 0: it is kept", parse_age)(from, key, default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_duration_or_a_number_of_days() {
        let hours = |hours: u64| Some(Some(Duration::from_secs(hours * 3600)));
        for (text, expected) in [
            ("90", hours(90 * 24)),
            ("90d", hours(90 * 24)),
            (" 12h ", hours(12)),
            ("1day 2h", hours(26)),
            ("0", Some(None)),
            ("0s", Some(None)),
            ("-1", None),
            ("soon", None),
            ("40000", None),
            ("18446744073709551615", None),
        ] {
            assert_eq!(parse_age(text), expected, "{text}");
        }
    }
}
