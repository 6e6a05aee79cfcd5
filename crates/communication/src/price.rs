//! What a message costs.

am_db::stored_enum! {
    /// What a message is about, which decides its price.
    pub enum MessageType {
        /// Nothing that its sender names; priced as words.
        Direct = "DIRECT" / "direct",
        /// Words.
        Text = "TEXT" / "text",
        /// Anything else that is content.
        Data = "DATA" / "data",
        /// Work that is asked for.
        TaskRequest = "TASK_REQUEST" / "task_request",
        /// What came of it.
        TaskResponse = "TASK_RESPONSE" / "task_response",
        /// Work that is to be done together.
        Collaboration = "COLLABORATION" / "collaboration",
        /// Something to know.
        Notification = "NOTIFICATION" / "notification",
        /// What the machinery says.
        System = "SYSTEM" / "system",
        /// What can't wait.
        Urgent = "URGENT" / "urgent",
        /// Much at once.
        Bulk = "BULK" / "bulk",
    }
}

/// The largest content of a message, in bytes of its JSON.
pub const MOST_BYTES: usize = 100_000;

/// The price of a message of up to 1000 bytes whose type counts once.
const BASE: f64 = 0.001;

impl MessageType {
    fn factor(self) -> f64 {
        match self {
            Self::Direct | Self::Text => 1.0,
            Self::Data => 1.5,
            Self::TaskRequest | Self::TaskResponse => 2.0,
            Self::Collaboration => 3.0,
            Self::Notification => 0.5,
            Self::System => 0.1,
            Self::Urgent => 5.0,
            Self::Bulk => 10.0,
        }
    }
}

/// The price of a message: 0.001 for each 1000 bytes of content, a thousand at least, times the type's factor.
pub fn price(kind: MessageType, bytes: usize) -> f64 {
    BASE * (bytes as f64 / 1000.0).max(1.0) * kind.factor()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_are_the_contracts() {
        let table = [
            (MessageType::Text, 1, 0.001),
            (MessageType::Text, 1000, 0.001),
            (MessageType::Text, 2500, 0.0025),
            (MessageType::Data, 10, 0.0015),
            (MessageType::TaskRequest, 2000, 0.004),
            (MessageType::TaskResponse, 0, 0.002),
            (MessageType::Collaboration, 0, 0.003),
            (MessageType::Notification, 0, 0.0005),
            (MessageType::System, 0, 0.0001),
            (MessageType::Urgent, 100_000, 0.5),
            (MessageType::Bulk, 1500, 0.015),
        ];
        for (kind, bytes, expected) in table {
            assert!((price(kind, bytes) - expected).abs() < 1e-12, "{kind} {bytes}: {}", price(kind, bytes));
        }
    }

    proptest! {
        #[test]
        fn more_never_costs_less(kind in proptest::sample::select(MessageType::ALL), bytes in 0usize..100_000, more in 0usize..1000) {
            prop_assert!(price(kind, bytes) <= price(kind, bytes + more));
            prop_assert!(price(kind, bytes) > 0.0);
        }
    }
}
