//! State machine of a message: pending → delivered → read, pending → read (which implies delivery), pending → expired,
//! pending → failed. There are no other transitions.

use crate::model::MessageStatus;

/// Event that changes the status of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageEvent {
    /// The recipient acknowledged or fetched the message.
    Delivered,
    /// The recipient marked the message as read.
    Read,
    /// The message expired.
    Expired,
    /// The message can't be decrypted for delivery.
    Failed,
}

impl MessageEvent {
    /// Status after the event.
    pub fn to(self) -> MessageStatus {
        match self {
            Self::Delivered => MessageStatus::Delivered,
            Self::Read => MessageStatus::Read,
            Self::Expired => MessageStatus::Expired,
            Self::Failed => MessageStatus::Failed,
        }
    }

    /// Statuses in which the event has an effect. Updates are restricted to these, so that no row takes another
    /// transition.
    pub fn from(self) -> &'static [MessageStatus] {
        match self {
            Self::Read => &[MessageStatus::Pending, MessageStatus::Delivered],
            Self::Delivered | Self::Expired | Self::Failed => &[MessageStatus::Pending],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [MessageEvent; 4] =
        [MessageEvent::Delivered, MessageEvent::Read, MessageEvent::Expired, MessageEvent::Failed];

    /// What a message in `status` is after `event`.
    fn after(status: MessageStatus, event: MessageEvent) -> MessageStatus {
        if event.from().contains(&status) { event.to() } else { status }
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
