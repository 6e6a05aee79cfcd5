//! Rules of budgets, without I/O.

use am_core::{
    money::Money,
    validation::{Violation, Violations},
};
use am_db::codec::Timestamp;

use super::model::{BudgetDraft, BudgetPeriod, BudgetScope, ExceedAction};
use crate::statement::PeriodLength;

/// Maximum length of a name, in characters.
const MAX_NAME_LEN: usize = 100;
/// Maximum length of an agent's or a workflow's id, in bytes.
const MAX_SUBJECT_LEN: usize = 128;

impl BudgetPeriod {
    fn length(self) -> Option<PeriodLength> {
        match self {
            Self::Hour => Some(PeriodLength::Hour),
            Self::Day => Some(PeriodLength::Day),
            Self::Week => Some(PeriodLength::Week),
            Self::Month => Some(PeriodLength::Month),
            Self::Total => None,
        }
    }

    /// Begin and end of the period that `now` is in; `None`: it has none.
    pub(crate) fn bounds(self, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let length = self.length()?;
        let begin = length.begin(now.0);
        Some((Timestamp(begin), Timestamp(length.next(begin))))
    }
}

/// Check a budget that is to be made. Returns its limit.
pub(super) fn check_draft(draft: &BudgetDraft) -> Result<Money, Vec<Violation>> {
    let mut violations = Violations::default();
    violations.take(check_name(&draft.name));
    let limit = draft.limit.amount("limit", &mut violations);
    let subject = draft.subject.as_deref();
    match draft.scope {
        BudgetScope::Principal => violations.require(subject.is_none(), "subject", "must be left out with this scope"),
        BudgetScope::Agent | BudgetScope::Workflow => violations.require(
            subject.is_some_and(|subject| (1..=MAX_SUBJECT_LEN).contains(&subject.len())),
            "subject",
            format!("must be the id of the {}, 1 to {MAX_SUBJECT_LEN} bytes", draft.scope),
        ),
    }
    violations.finish_with(limit)
}

pub(super) fn check_name(name: &str) -> Result<(), Violation> {
    let fits = (1..=MAX_NAME_LEN).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits && name.trim() == name {
        return Ok(());
    }
    Err(Violation::new("name", format!("must be 1 to {MAX_NAME_LEN} characters without blanks around them")))
}

/// What a budget has, for a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BudgetRoom {
    pub(super) limit: Money,
    pub(super) spent: Money,
    pub(super) reserved: Money,
    pub(super) on_exceed: ExceedAction,
}

impl BudgetRoom {
    /// The limit without what was spent and what is reserved.
    pub(super) fn remaining(&self) -> Money {
        self.limit - self.spent - self.reserved
    }
}

/// What is decided for an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BudgetDecision {
    /// It may begin, and reserves this much of each budget. The numbers are the places of budgets that are exceeded all the same.
    Begin { reserve: Money, ceiling: Option<Money>, exceeded: Vec<usize> },
    /// It waits for the budget at this place.
    Wait(usize),
    /// The budget at this place refuses it.
    Refuse { place: usize, asked: Money },
}

/// Decide whether an execution that can cost `bound` at most may begin. Where nobody knows that before, what is left of the budgets
/// is what it may cost.
pub(super) fn decide(rooms: &[BudgetRoom], bound: Option<Money>) -> BudgetDecision {
    let binding = || rooms.iter().enumerate().filter(|(_, room)| room.on_exceed != ExceedAction::Notify);
    let left = binding().map(|(_, room)| room.remaining()).min();
    // Without a bound it needs at least the smallest unit.
    let asked = bound.or(left).unwrap_or(Money::ZERO);
    let needed = if bound.is_none() { asked.max(Money::from_units(1)) } else { asked };
    let lacks = |room: &BudgetRoom| needed.is_positive() && room.remaining() < needed;
    let refusing = |(_, room): &(usize, &BudgetRoom)| {
        // What is more than the whole limit would wait for ever.
        lacks(room) && (room.on_exceed == ExceedAction::Refuse || room.limit < needed)
    };
    if let Some((place, _)) = binding().find(refusing) {
        return BudgetDecision::Refuse { place, asked: needed };
    }
    if let Some((place, _)) = binding().find(|(_, room)| lacks(room)) {
        return BudgetDecision::Wait(place);
    }
    let told = |(_, room): &(usize, &BudgetRoom)| {
        let over = if bound.is_some() { lacks(room) } else { !room.remaining().is_positive() };
        room.on_exceed == ExceedAction::Notify && over
    };
    let exceeded = rooms.iter().enumerate().filter(told).map(|(place, _)| place).collect();
    BudgetDecision::Begin { reserve: asked, ceiling: left.map(|_| asked), exceeded }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(limit: i64, spent: i64, reserved: i64, on_exceed: ExceedAction) -> BudgetRoom {
        let of = Money::from_units;
        BudgetRoom { limit: of(limit), spent: of(spent), reserved: of(reserved), on_exceed }
    }

    fn begin(reserve: i64, ceiling: Option<i64>, exceeded: &[usize]) -> BudgetDecision {
        let ceiling = ceiling.map(Money::from_units);
        BudgetDecision::Begin { reserve: Money::from_units(reserve), ceiling, exceeded: exceeded.to_vec() }
    }

    #[test]
    fn what_fits_to_the_last_unit_begins() {
        use ExceedAction::{Notify, Pause, Refuse};
        let bound = |units| Some(Money::from_units(units));
        assert_eq!(decide(&[room(10, 3, 2, Refuse)], bound(5)), begin(5, Some(5), &[]));
        let refused = BudgetDecision::Refuse { place: 0, asked: Money::from_units(6) };
        assert_eq!(decide(&[room(10, 3, 2, Refuse)], bound(6)), refused);
        assert_eq!(decide(&[room(10, 3, 2, Pause)], bound(6)), BudgetDecision::Wait(0));
        let refused = BudgetDecision::Refuse { place: 0, asked: Money::from_units(11) };
        assert_eq!(decide(&[room(10, 0, 0, Pause)], bound(11)), refused, "it would wait for ever");
        assert_eq!(decide(&[room(10, 10, 0, Refuse)], bound(0)), begin(0, Some(0), &[]), "what costs nothing");
        assert_eq!(decide(&[room(10, 11, 0, Notify)], bound(5)), begin(5, None, &[0]));
        let both = [room(10, 0, 8, Pause), room(4, 0, 4, Refuse)];
        let refused = BudgetDecision::Refuse { place: 1, asked: Money::from_units(3) };
        assert_eq!(decide(&both, bound(3)), refused, "a refusal goes before a wait");
    }

    #[test]
    fn without_a_bound_all_that_is_left_is_reserved() {
        use ExceedAction::{Notify, Pause, Refuse};
        assert_eq!(decide(&[room(10, 3, 0, Refuse), room(5, 0, 1, Pause)], None), begin(4, Some(4), &[]));
        let refused = BudgetDecision::Refuse { place: 0, asked: Money::from_units(1) };
        assert_eq!(decide(&[room(10, 3, 7, Refuse)], None), refused);
        assert_eq!(decide(&[room(10, 3, 7, Pause)], None), BudgetDecision::Wait(0));
        assert_eq!(decide(&[room(10, 3, 7, Notify)], None), begin(0, None, &[0]));
        assert_eq!(decide(&[room(10, 3, 1, Notify)], None), begin(0, None, &[]));
    }
}
