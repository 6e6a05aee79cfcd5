//! Names of messages' types: those that have a price of their own, and any other word.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::price::MessageType;

/// Characters of the longest name.
const MAX_NAME_LEN: usize = 64;
/// Begins the stored form of a name that is no [`MessageType`], so that it can't be taken for the stored form of one.
const FREE_PREFIX: char = ':';

/// Type of a message as its sender names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageTypeName {
    /// A type with a price of its own.
    Known(MessageType),
    /// A word of the sender's, priced like text.
    Free(Arc<str>),
}

impl MessageTypeName {
    /// Parse a name: 1 to 64 letters, digits, `_`, `-`, `.` and `:`. `None`: it is none.
    pub fn from_value(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
        let good = !text.is_empty() && text.len() <= MAX_NAME_LEN && text.bytes().all(plain);
        good.then(|| MessageType::from_value(text).map_or_else(|| Self::Free(text.into()), Self::Known))
    }

    /// The name as clients see it.
    pub fn value(&self) -> &str {
        match self {
            Self::Known(kind) => kind.value(),
            Self::Free(word) => word,
        }
    }

    /// The type that it is priced as.
    pub fn priced_as(&self) -> MessageType {
        match self {
            Self::Known(kind) => *kind,
            Self::Free(_) => MessageType::Direct,
        }
    }

    /// The stored form.
    pub(crate) fn to_stored(&self) -> String {
        match self {
            Self::Known(kind) => kind.stored().to_owned(),
            Self::Free(word) => format!("{FREE_PREFIX}{word}"),
        }
    }

    /// The name of a stored form.
    pub(crate) fn from_stored(text: String) -> Self {
        match MessageType::from_stored(&text) {
            Some(kind) => Self::Known(kind),
            None => Self::Free(text.strip_prefix(FREE_PREFIX).unwrap_or(&text).into()),
        }
    }
}

impl From<MessageType> for MessageTypeName {
    fn from(kind: MessageType) -> Self {
        Self::Known(kind)
    }
}

impl Serialize for MessageTypeName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.value())
    }
}

impl<'de> Deserialize<'de> for MessageTypeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_value(&text).ok_or_else(|| {
            D::Error::custom(format!("Input should have 1 to {MAX_NAME_LEN} letters, digits, `_`, `-`, `.` and `:`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_is_a_type_and_keeps_its_name() {
        let word = |text: &str| MessageTypeName::from_value(text);
        for text in ["direct", "DIRECT", "coordination", "task_assignment", "a2a:hello.v1", ":direct"] {
            let name = word(text).unwrap();
            assert_eq!(name.value(), text);
            assert_eq!(MessageTypeName::from_stored(name.to_stored()), name, "{text}");
            assert_eq!(serde_json::from_str::<MessageTypeName>(&serde_json::to_string(&name).unwrap()).unwrap(), name);
        }
        assert_eq!(word("urgent").unwrap().priced_as(), MessageType::Urgent);
        assert_eq!(word("URGENT").unwrap().priced_as(), MessageType::Direct);
        for bad in ["", "two words", "ü", "a\n", &"x".repeat(65)] {
            assert_eq!(word(bad), None, "{bad:?}");
        }
    }
}
