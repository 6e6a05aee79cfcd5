//! The life of a request as a state machine without I/O: which events a state allows, and where the money in escrow goes.
//! docs/ECONOMY.md draws it.

use am_core::money::Money;

am_db::stored_enum! {
    /// State of a request.
    pub enum RequestState {
        /// Nobody has accepted it; its budget is in escrow.
        Open = "OPEN" / "open",
        /// An agent has accepted it; its price is in escrow, what the budget had beyond it was returned.
        Accepted = "ACCEPTED" / "accepted",
        /// The agent has completed it; the client may confirm or dispute it until `due_at`, when it is paid.
        Completed = "COMPLETED" / "completed",
        /// The client disputes it; an arbiter decides until `due_at`.
        Disputed = "DISPUTED" / "disputed",
        /// The price was paid.
        Settled = "SETTLED" / "settled",
        /// A dispute was decided; what the provider was not given was returned.
        Resolved = "RESOLVED" / "resolved",
        /// The provider refused it or gave it up; the client has its money back.
        Rejected = "REJECTED" / "rejected",
        /// The client withdrew it before it was accepted, and has its money back.
        Cancelled = "CANCELLED" / "cancelled",
        /// Its deadline passed before it was completed; the client has its money back.
        Expired = "EXPIRED" / "expired",
    }
}

impl RequestState {
    /// Whether nothing can follow: nothing is in escrow any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Open | Self::Accepted | Self::Completed | Self::Disputed)
    }
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestEvent {
    /// An agent accepts it for this price, at most what is in escrow.
    Accept {
        /// What the agent gets before fees.
        price: Money,
    },
    /// The agent has done it.
    Complete,
    /// The client confirms it, or did not dispute it in time.
    Settle,
    /// The provider refuses it or gives it up.
    Reject,
    /// The client withdraws it.
    Cancel,
    /// Its deadline has passed.
    Expire,
    /// The client disputes it.
    Dispute,
    /// An arbiter, or the rule for disputes that nobody decided, gives the provider this much of what is in escrow.
    Decide {
        /// Share of the provider, before fees.
        provider: Money,
    },
}

impl RequestEvent {
    /// The event's word in histories and in the audit log.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept { .. } => "accepted",
            Self::Complete => "completed",
            Self::Settle => "settled",
            Self::Reject => "rejected",
            Self::Cancel => "cancelled",
            Self::Expire => "expired",
            Self::Dispute => "disputed",
            Self::Decide { .. } => "resolved",
        }
    }
}

impl RequestEvent {
    /// The event as what somebody does, in refusals.
    pub fn action(self) -> &'static str {
        match self {
            Self::Accept { .. } => "accept",
            Self::Complete => "complete",
            Self::Settle => "settle",
            Self::Reject => "reject",
            Self::Cancel => "cancel",
            Self::Expire => "expire",
            Self::Dispute => "dispute",
            Self::Decide { .. } => "decide",
        }
    }

    /// The event's word in metrics.
    pub fn counted(self) -> &'static str {
        match self {
            Self::Accept { .. } => "request_accepted",
            Self::Complete => "request_completed",
            Self::Settle => "request_settled",
            Self::Reject => "request_rejected",
            Self::Cancel => "request_cancelled",
            Self::Expire => "request_expired",
            Self::Dispute => "request_disputed",
            Self::Decide { .. } => "request_resolved",
        }
    }
}

/// What follows from an event: the next state, and what leaves the escrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestStep {
    /// State after the event.
    pub state: RequestState,
    /// What goes back to the client.
    pub refund: Money,
    /// What is paid, before it is divided.
    pub payment: Money,
}

/// Why an event can't happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The state does not allow the event.
    #[error("a request that is {0} can't be {1}")]
    NotAllowed(RequestState, &'static str),
    /// More would leave the escrow than is in it.
    #[error("{0} is more than the {1} in escrow")]
    BeyondEscrow(Money, Money),
}

/// Apply `event` to a request in `state` with `escrow`.
///
/// # Errors
/// [`TransitionError`]; nothing follows then.
pub fn apply(state: RequestState, escrow: Money, event: RequestEvent) -> Result<RequestStep, TransitionError> {
    use RequestState::{Accepted, Cancelled, Completed, Disputed, Expired, Open, Rejected, Resolved, Settled};
    let step = |state, refund, payment| Ok(RequestStep { state, refund, payment });
    match (state, event) {
        (Open, RequestEvent::Accept { price }) => step(Accepted, left_of(escrow, price)?, Money::ZERO),
        (Open, RequestEvent::Cancel) => step(Cancelled, escrow, Money::ZERO),
        (Open | Accepted, RequestEvent::Reject) => step(Rejected, escrow, Money::ZERO),
        (Open | Accepted, RequestEvent::Expire) => step(Expired, escrow, Money::ZERO),
        (Accepted, RequestEvent::Complete) => step(Completed, Money::ZERO, Money::ZERO),
        (Completed, RequestEvent::Settle) => step(Settled, Money::ZERO, escrow),
        (Accepted | Completed, RequestEvent::Dispute) => step(Disputed, Money::ZERO, Money::ZERO),
        (Disputed, RequestEvent::Decide { provider }) => step(Resolved, left_of(escrow, provider)?, provider),
        (state, event) => Err(TransitionError::NotAllowed(state, event.word())),
    }
}

/// What is left of `escrow` after `taken`.
fn left_of(escrow: Money, taken: Money) -> Result<Money, TransitionError> {
    if taken < Money::ZERO || taken > escrow {
        return Err(TransitionError::BeyondEscrow(taken, escrow));
    }
    Ok(escrow - taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn money(units: i64) -> Money {
        Money::from_units(units)
    }

    #[test]
    fn the_price_is_fixed_on_acceptance_and_the_rest_goes_back() {
        let accepted = apply(RequestState::Open, money(100), RequestEvent::Accept { price: money(60) }).unwrap();
        assert_eq!(accepted, RequestStep { state: RequestState::Accepted, refund: money(40), payment: Money::ZERO });
        let beyond = apply(RequestState::Open, money(100), RequestEvent::Accept { price: money(101) });
        assert_eq!(beyond, Err(TransitionError::BeyondEscrow(money(101), money(100))));
        let twice = apply(RequestState::Accepted, money(60), RequestEvent::Accept { price: money(60) }).unwrap_err();
        assert_eq!(twice.to_string(), "a request that is accepted can't be accepted");
    }

    #[test]
    fn a_decision_divides_what_is_in_escrow() {
        let decided = apply(RequestState::Disputed, money(60), RequestEvent::Decide { provider: money(45) }).unwrap();
        assert_eq!(decided, RequestStep { state: RequestState::Resolved, refund: money(15), payment: money(45) });
        assert!(apply(RequestState::Disputed, money(60), RequestEvent::Decide { provider: money(-1) }).is_err());
    }

    const EVENTS: [RequestEvent; 8] = [
        RequestEvent::Accept { price: Money::from_units(1) },
        RequestEvent::Complete,
        RequestEvent::Settle,
        RequestEvent::Reject,
        RequestEvent::Cancel,
        RequestEvent::Expire,
        RequestEvent::Dispute,
        RequestEvent::Decide { provider: Money::from_units(1) },
    ];

    #[test]
    fn the_words_of_an_event_belong_together() {
        for event in EVENTS {
            assert_eq!(event.counted(), format!("request_{}", event.word()));
            // `decide` is told as what became of the dispute.
            let is_decision = matches!(event, RequestEvent::Decide { .. });
            assert!(is_decision || event.word().starts_with(event.action().trim_end_matches('e')), "{event:?}");
        }
    }

    #[test]
    fn what_has_ended_stays_as_it_is() {
        for state in RequestState::ALL.iter().filter(|state| state.is_final()) {
            assert!(EVENTS.iter().all(|event| apply(*state, money(5), *event).is_err()), "{state}");
        }
    }

    fn event() -> impl Strategy<Value = RequestEvent> {
        prop_oneof![
            (0i64..150).prop_map(|units| RequestEvent::Accept { price: money(units) }),
            Just(RequestEvent::Complete),
            Just(RequestEvent::Settle),
            Just(RequestEvent::Reject),
            Just(RequestEvent::Cancel),
            Just(RequestEvent::Expire),
            Just(RequestEvent::Dispute),
            (0i64..150).prop_map(|units| RequestEvent::Decide { provider: money(units) }),
        ]
    }

    proptest! {
        #[test]
        fn no_unit_is_lost_or_made_on_any_way(budget in 0i64..150, events in prop::collection::vec(event(), 0..40)) {
            let (mut state, mut escrow) = (RequestState::Open, money(budget));
            let (mut refunded, mut paid) = (Money::ZERO, Money::ZERO);
            for event in events {
                let was_final = state.is_final();
                let Ok(step) = apply(state, escrow, event) else { continue };
                prop_assert!(!was_final);
                refunded += step.refund;
                paid += step.payment;
                escrow = escrow - step.refund - step.payment;
                state = step.state;
                prop_assert_eq!(escrow + refunded + paid, money(budget));
                prop_assert!(escrow >= Money::ZERO);
                if state.is_final() {
                    prop_assert_eq!(escrow, Money::ZERO);
                }
            }
        }
    }
}
