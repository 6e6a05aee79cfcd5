//! What one rater's payments and ratings say of one agent, kept as three numbers per pair.

use am_core::money::Money;
use chrono::{DateTime, TimeDelta, Utc};

const SECONDS_PER_DAY: f64 = 86_400.0;
/// Amount up to which local trust grows nearly in proportion to what was paid, in AIT.
const AMOUNT_SCALE: f64 = 1.0;
/// Decayed payments below this, in AIT, are no evidence any more: the smallest amount that can be paid.
const MIN_PAID: f64 = 1e-8;

/// A paid, completed request with its rating.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatedPayment {
    /// Price that was paid.
    pub paid: Money,
    /// Rating, from 1 to 5.
    pub rating: f64,
    /// Moment of the rating.
    pub at: DateTime<Utc>,
}

/// All rated payments of one rater to one agent, decayed to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PairEvidence {
    /// Sum of the payments in AIT.
    pub paid: f64,
    /// Sum of the payments in AIT, each times the opinion of its rating from -1 to 1.
    pub satisfaction: f64,
    /// Moment to which both are decayed.
    pub as_of: DateTime<Utc>,
}

/// Evidence that counts now: what one rater thinks of one agent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CurrentEvidence {
    /// Decayed payments in AIT.
    pub(super) paid: f64,
    /// Local trust, not normalised; 0 for a rater who is not satisfied.
    pub(super) local_trust: f64,
}

/// Share that is left of what happened `age` ago; what is yet to happen counts in full.
fn decay(age: TimeDelta, half_life_days: f64) -> f64 {
    let days = age.num_milliseconds().max(0) as f64 / 1000.0 / SECONDS_PER_DAY;
    (-days / half_life_days).exp2()
}

/// From -1 for a rating of 1 to 1 for a rating of 5; what is not a number is no opinion.
fn opinion(rating: f64) -> f64 {
    if rating.is_finite() { (rating.clamp(1.0, 5.0) - 3.0) / 2.0 } else { 0.0 }
}

impl PairEvidence {
    /// Count another rated payment. The order in which payments are counted makes no difference but for rounding.
    pub fn add(&mut self, payment: RatedPayment, half_life_days: f64) {
        if !payment.paid.is_positive() {
            return;
        }
        if payment.at > self.as_of {
            let left = decay(payment.at - self.as_of, half_life_days);
            self.paid *= left;
            self.satisfaction *= left;
            self.as_of = payment.at;
        }
        let paid = payment.paid.to_f64() * decay(self.as_of - payment.at, half_life_days);
        self.paid += paid;
        self.satisfaction += paid * opinion(payment.rating);
    }

    /// What counts of it at `now`; `None` when too little is left.
    pub(super) fn current(&self, now: DateTime<Utc>, half_life_days: f64) -> Option<CurrentEvidence> {
        let paid = self.paid * decay(now - self.as_of, half_life_days);
        if !paid.is_finite() || paid < MIN_PAID {
            return None;
        }
        // Both sums decay alike, so their quotient does not.
        let satisfied = (self.satisfaction / self.paid).clamp(0.0, 1.0);
        Some(CurrentEvidence { paid, local_trust: (paid / AMOUNT_SCALE).ln_1p() * satisfied })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_LIFE: f64 = 10.0;

    fn on_day(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day)
    }

    fn payment(paid: f64, rating: f64, day: i64) -> RatedPayment {
        RatedPayment { paid: Money::from_f64(paid), rating, at: on_day(day) }
    }

    fn evidence(payments: &[RatedPayment]) -> PairEvidence {
        let mut pair = PairEvidence::default();
        payments.iter().for_each(|payment| pair.add(*payment, HALF_LIFE));
        pair
    }

    #[track_caller]
    fn assert_near(value: f64, expected: f64) {
        assert!((value - expected).abs() <= 1e-12 * expected.abs().max(1.0), "{value}, not {expected}");
    }

    #[test]
    fn evidence_halves_with_each_half_life() {
        let pair = evidence(&[payment(8.0, 5.0, 0)]);
        assert_near(pair.current(on_day(0), HALF_LIFE).unwrap().paid, 8.0);
        assert_near(pair.current(on_day(20), HALF_LIFE).unwrap().paid, 2.0);
        assert_near(pair.current(on_day(20), HALF_LIFE).unwrap().local_trust, 3f64.ln());
        // 2^-40 of 8 AIT is below the smallest amount.
        assert_eq!(pair.current(on_day(400), HALF_LIFE), None);
    }

    #[test]
    fn order_of_payments_makes_no_difference() {
        let payments = [payment(1.0, 5.0, 0), payment(2.0, 1.0, 7), payment(4.0, 4.0, 31)];
        let forth = evidence(&payments);
        let [a, b, c] = payments;
        let back = evidence(&[c, a, b]);
        assert_near(back.paid, forth.paid);
        assert_near(back.satisfaction, forth.satisfaction);
        assert_eq!(back.as_of, forth.as_of);
        assert_near(forth.paid, 4.0 + 2.0 * (-2.4f64).exp2() + (-3.1f64).exp2());
    }

    #[test]
    fn bad_ratings_take_trust_but_never_below_nothing() {
        let local = |payments: &[RatedPayment]| evidence(payments).current(on_day(0), HALF_LIFE).unwrap().local_trust;
        assert_near(local(&[payment(1.0, 5.0, 0)]), 2f64.ln());
        assert_near(local(&[payment(1.0, 4.0, 0)]), 2f64.ln() / 2.0);
        assert_eq!(local(&[payment(1.0, 3.0, 0)]), 0.0);
        assert_eq!(local(&[payment(1.0, 5.0, 0), payment(3.0, 1.0, 0)]), 0.0);
        // Half of what was paid was paid for bad work.
        assert_near(local(&[payment(2.0, 5.0, 0), payment(1.0, 1.0, 0)]), 4f64.ln() / 3.0);
    }

    #[test]
    fn trust_grows_ever_less_with_the_amount() {
        let local = |paid: f64| evidence(&[payment(paid, 5.0, 0)]).current(on_day(0), HALF_LIFE).unwrap().local_trust;
        assert!(local(1000.0) < 10.0 * local(1.0));
        assert!(local(1000.0) > local(100.0));
    }

    #[test]
    fn nothing_paid_is_no_evidence() {
        assert_eq!(evidence(&[payment(0.0, 5.0, 0), payment(-1.0, 5.0, 0)]), PairEvidence::default());
        assert_eq!(PairEvidence::default().current(on_day(0), HALF_LIFE), None);
        let mut pair = PairEvidence::default();
        pair.add(payment(1.0, f64::NAN, 0), HALF_LIFE);
        assert_eq!((pair.paid, pair.satisfaction), (1.0, 0.0));
    }
}
