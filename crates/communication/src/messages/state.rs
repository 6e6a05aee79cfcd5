//! What may become of a message: pending → delivered → read, pending → read (which says that it came), pending → expired,
//! pending → failed. Nothing else.

use crate::model::MessageStatus;

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its recipient says that it came, or fetches it.
    Delivered,
    /// Its recipient says that it was read.
    Read,
    /// Its time is up.
    Expired,
    /// It can't be opened for delivery.
    Failed,
}

impl Event {
    /// The state that it leads to.
    pub fn to(self) -> MessageStatus {
        match self {
            Self::Delivered => MessageStatus::Delivered,
            Self::Read => MessageStatus::Read,
            Self::Expired => MessageStatus::Expired,
            Self::Failed => MessageStatus::Failed,
        }
    }

    /// The states in which it changes anything. Stores ask for these, so that no row goes another way.
    pub fn from(self) -> &'static [MessageStatus] {
        match self {
            Self::Read => &[MessageStatus::Pending, MessageStatus::Delivered],
            Self::Delivered | Self::Expired | Self::Failed => &[MessageStatus::Pending],
        }
    }

    /// [`Event::to`] as an assignment in SQL.
    pub fn set_sql(self) -> String {
        format!("status = '{}'", self.to().stored())
    }

    /// [`Event::from`] as a list in SQL.
    pub fn states_sql(self) -> String {
        let names: Vec<String> = self.from().iter().map(|status| format!("'{}'", status.stored())).collect();
        format!("({})", names.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Event; 4] = [Event::Delivered, Event::Read, Event::Expired, Event::Failed];

    /// What a message in `status` is after `event`.
    fn after(status: MessageStatus, event: Event) -> MessageStatus {
        if event.from().contains(&status) { event.to() } else { status }
    }

    #[test]
    fn an_event_asks_for_its_states_by_their_names() {
        assert_eq!(Event::Read.states_sql(), "('PENDING', 'DELIVERED')");
        assert_eq!(Event::Expired.states_sql(), "('PENDING')");
        assert_eq!(Event::Read.set_sql(), "status = 'READ'");
    }

    proptest! {
        #[test]
        fn whatever_happens_a_message_goes_forward_only(events in proptest::collection::vec(proptest::sample::select(&ALL[..]), 0..12)) {
            let rank = |status| match status {
                MessageStatus::Pending => 0,
                MessageStatus::Delivered => 1,
                MessageStatus::Read | MessageStatus::Expired | MessageStatus::Failed => 2,
            };
            let (mut status, mut came) = (MessageStatus::Pending, false);
            for event in events {
                let next = after(status, event);
                prop_assert!(rank(next) >= rank(status), "{status} went back to {next}");
                prop_assert!(rank(status) < 2 || next == status, "{status} was an end, and became {next}");
                // What came is never said to have expired or failed.
                came |= matches!(next, MessageStatus::Delivered | MessageStatus::Read);
                prop_assert!(!(came && matches!(next, MessageStatus::Expired | MessageStatus::Failed)));
                // The same again changes nothing.
                prop_assert_eq!(after(next, event), next);
                status = next;
            }
        }
    }
}
