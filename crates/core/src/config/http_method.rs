//! Methods of HTTP by which steps call endpoints.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Method of a request to a configured endpoint.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Read, without a body.
    Get,
    /// Send a body to be processed.
    Post,
    /// Store a body under the address.
    Put,
    /// Change what is stored under the address.
    Patch,
    /// Remove what is stored under the address.
    Delete,
}

impl HttpMethod {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The method of this name, in capital letters.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Its name in requests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a step that gives no body sends its input.
    pub fn sends_input(self) -> bool {
        matches!(self, Self::Post | Self::Put | Self::Patch)
    }
}
