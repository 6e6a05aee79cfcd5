//! The level of a capability, from what shows it.

use std::collections::BTreeMap;

use am_db::codec::Timestamp;
use am_performance_math::interval::wilson_interval;
use chrono::TimeDelta;

use super::{
    model::{CapabilityDocument, CapabilityStanding},
    record::CapabilityRecord,
};

/// Seconds after which a trial counts half: 180 days.
const HALF_LIFE_SECONDS: f64 = 180.0 * 86_400.0;
/// Trials without which nothing is certified.
const LEAST_TRIALS: f64 = 3.0;
/// The highest level.
pub(super) const MAX_LEVEL: f64 = 10.0;

/// What is left of a weight after this many seconds.
fn decayed(weight: f64, seconds: f64) -> f64 {
    weight * (-seconds.max(0.0) / HALF_LIFE_SECONDS).exp2()
}

/// The sums of trials and of what was reached in them, at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct TrialSums {
    pub trials: f64,
    pub reached: f64,
}

impl TrialSums {
    /// What they are worth after some seconds.
    pub(super) fn after(self, seconds: f64) -> Self {
        Self { trials: decayed(self.trials, seconds), reached: decayed(self.reached, seconds) }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { trials: self.trials + other.trials, reached: self.reached + other.reached }
    }
}

/// A capability as clients see it at `now`.
pub(super) fn describe(record: CapabilityRecord, now: Timestamp) -> CapabilityDocument {
    let claimed_level = record.claimed_level.unwrap_or(record.skill_level);
    let noted = TrialSums { trials: record.trials.unwrap_or(0.0), reached: record.reached.unwrap_or(0.0) };
    let evidence = record.evidence.unwrap_or(0);
    let (sums, until) = match record.evidence_at {
        Some(at) => {
            let seconds = HALF_LIFE_SECONDS * (noted.trials / LEAST_TRIALS).log2();
            let until = (noted.trials >= LEAST_TRIALS).then(|| Timestamp(at.0 + TimeDelta::seconds(seconds as i64)));
            (noted.after(now.seconds_since(at)), until)
        }
        None => (TrialSums::default(), None),
    };
    let share = (sums.trials > 0.0).then(|| (sums.reached / sums.trials).clamp(0.0, 1.0));
    let interval = share.filter(|_| sums.trials >= LEAST_TRIALS).and_then(|share| wilson_interval(share, sums.trials));
    let status = match interval {
        Some(_) => CapabilityStanding::Certified,
        None if noted.trials >= LEAST_TRIALS => CapabilityStanding::Expired,
        None => CapabilityStanding::Claimed,
    };
    let mut reasons = BTreeMap::new();
    if interval.is_none() {
        let text = match status {
            CapabilityStanding::Expired => "what showed it is too old: fewer than 3 trials are left of it",
            _ if evidence == 0 => "nothing shows it: the level is what its maker says",
            _ => "fewer than 3 trials show it",
        };
        for name in ["certified_level", "certified_level_high", "certified_until"] {
            reasons.insert(name.to_owned(), text.to_owned());
        }
    }
    if share.is_none() {
        reasons.insert("proficiency_score".to_owned(), "nothing shows it: attach evidence".to_owned());
    }
    let level = |end: f64| end * MAX_LEVEL;
    let certified_level = interval.map(|found| level(found.low));
    CapabilityDocument {
        capability_id: record.capability_id,
        agent_id: record.agent_id,
        capability_name: record.capability_name,
        capability_type: record.capability_type,
        domain_area: record.domain_area,
        skill_level: certified_level.unwrap_or(claimed_level),
        claimed: certified_level.is_none(),
        claimed_level,
        certified_level,
        certified_level_high: interval.map(|found| level(found.high)),
        certified_until: until.filter(|_| interval.is_some()),
        proficiency_score: share,
        evidence,
        trials: sums.trials,
        specialization_areas: record.specializations,
        status,
        reasons,
        created_at: record.created_at,
        updated_at: record.updated_at,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(trials: f64, reached: f64) -> CapabilityRecord {
        let at: Timestamp = serde_json::from_value(json!("2026-05-12T00:00:00Z")).unwrap();
        CapabilityRecord {
            capability_id: "cap_1".into(),
            agent_id: "agent".into(),
            capability_name: "n".into(),
            capability_type: "t".into(),
            domain_area: "d".into(),
            skill_level: 9.0,
            specializations: Vec::new(),
            claimed_level: Some(9.0),
            trials: Some(trials),
            reached: Some(reached),
            evidence: Some(i64::from(trials > 0.0)),
            evidence_at: (trials > 0.0).then_some(at),
            created_at: at,
            updated_at: at,
        }
    }

    fn later(days: i64) -> Timestamp {
        Timestamp(record(0.0, 0.0).created_at.0 + TimeDelta::days(days))
    }

    #[test]
    fn a_claim_is_no_certificate() {
        let found = describe(record(0.0, 0.0), later(0));
        assert_eq!((found.skill_level, found.claimed, found.certified_level), (9.0, true, None));
        assert_eq!((found.status, found.proficiency_score), (CapabilityStanding::Claimed, None));
        assert!(found.reasons.contains_key("certified_level") && found.reasons.contains_key("proficiency_score"));
        let few = describe(record(2.0, 2.0), later(0));
        assert_eq!(
            (few.status, few.proficiency_score, few.certified_level),
            (CapabilityStanding::Claimed, Some(1.0), None)
        );
    }

    #[test]
    fn a_level_is_what_is_certain_and_goes_with_time() {
        let found = describe(record(10.0, 8.0), later(0));
        assert!((found.skill_level - 4.901_625).abs() < 1e-5, "{found:?}");
        assert_eq!((found.claimed, found.status), (false, CapabilityStanding::Certified));
        let half = describe(record(10.0, 8.0), later(180));
        assert!((half.trials - 5.0).abs() < 1e-9 && half.proficiency_score == Some(0.8), "{half:?}");
        assert!(half.certified_level < found.certified_level, "less is certain");
        let gone = describe(record(10.0, 8.0), later(400));
        assert_eq!((gone.status, gone.claimed, gone.certified_until), (CapabilityStanding::Expired, true, None));
        let until = found.certified_until.unwrap();
        assert!(until > later(300) && until < later(320), "{until:?}");
    }

    #[test]
    fn sums_that_were_noted_apart_are_those_noted_together() {
        let (old, new) = (TrialSums { trials: 4.0, reached: 1.0 }, TrialSums { trials: 2.0, reached: 2.0 });
        let (apart, together) = (old.after(1e6).plus(new).after(2e6), old.after(3e6).plus(new.after(2e6)));
        assert!((apart.trials - together.trials).abs() < 1e-12 && (apart.reached - together.reached).abs() < 1e-12);
    }
}
