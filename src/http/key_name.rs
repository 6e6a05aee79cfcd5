//! Names of keys beside the principals that stand for them.

use std::sync::Arc;

use serde::Serialize;

/// A document that shows a principal, with the name of that principal's key.
#[derive(Serialize)]
pub struct NamedDocument<T> {
    #[serde(flatten)]
    document: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<Arc<str>>,
}

impl<T> NamedDocument<T> {
    /// Add the name; `None`: no stored key has the principal.
    pub fn new(document: T, key_name: Option<Arc<str>>) -> Self {
        Self { document, key_name }
    }
}
