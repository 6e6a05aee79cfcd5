//! Entity tags (`ETag`) and conditional requests (`If-Match`, `If-None-Match`), RFC 9110 sections 8.8 and 13.

use std::{convert::Infallible, fmt};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use axum_extra::headers::{self, Header, HeaderMapExt as _};
use sha2::{Digest, Sha256};

use super::error::ApiError;

/// A strong entity tag, including its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// Compute the tag of a list of texts: 32 hex digits of their SHA-256. The texts' lengths are hashed too, so that
    /// different lists have different tags.
    pub fn from_parts(parts: &[&str]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(format!("\"{}\"", hex::encode(&hash.finalize()[..16])))
    }

    /// Return the tag as sent in headers.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn typed(&self) -> Option<headers::ETag> {
        self.0.parse().ok()
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A response with its tag; 304 without a body if the client has that version.
#[derive(Debug)]
pub struct WithEtag<T>(pub EntityTag, pub IfNoneMatch, pub T);

impl<T: IntoResponse> IntoResponse for WithEtag<T> {
    fn into_response(self) -> Response {
        let Self(tag, known, answer) = self;
        let mut response =
            if known.matches(&tag) { StatusCode::NOT_MODIFIED.into_response() } else { answer.into_response() };
        if let Some(tag) = tag.typed() {
            response.headers_mut().typed_insert(tag);
        }
        response
    }
}

/// `If-Match`: the versions to which a change may be applied; any version without the header.
#[derive(Clone, Debug)]
pub struct IfMatch(TagCondition<headers::IfMatch>);

impl IfMatch {
    /// Return whether the client requires a certain version.
    pub fn is_given(&self) -> bool {
        !matches!(self.0, TagCondition::Absent)
    }

    /// Return whether a change may be applied to this version. A weak tag never matches.
    pub fn allows(&self, current: &EntityTag) -> bool {
        match &self.0 {
            TagCondition::Absent => true,
            TagCondition::Given(condition) => current.typed().is_some_and(|tag| condition.precondition_passes(&tag)),
            TagCondition::Unreadable => false,
        }
    }

    /// Return 412 unless the version is allowed.
    pub fn check(&self, current: &EntityTag) -> Result<(), ApiError> {
        if self.allows(current) {
            return Ok(());
        }
        Err(ApiError::precondition_failed(format!("If-Match names another version than the present {current}")))
    }
}

/// `If-None-Match`: the versions that the client has.
#[derive(Clone, Debug, Default)]
pub struct IfNoneMatch(TagCondition<headers::IfNoneMatch>);

impl IfNoneMatch {
    /// Return whether the client has this version.
    pub fn matches(&self, current: &EntityTag) -> bool {
        let TagCondition::Given(condition) = &self.0 else { return false };
        current.typed().is_some_and(|tag| !condition.precondition_passes(&tag))
    }
}

/// A header that names versions.
#[derive(Clone, Debug, Default)]
enum TagCondition<H> {
    #[default]
    Absent,
    Given(H),
    /// Names no version.
    Unreadable,
}

impl<H: Header> TagCondition<H> {
    fn from_headers(headers: &HeaderMap) -> Self {
        match headers.typed_try_get() {
            Ok(Some(given)) => Self::Given(given),
            Ok(None) => Self::Absent,
            Err(_) => Self::Unreadable,
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(TagCondition::from_headers(&parts.headers)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(TagCondition::from_headers(&parts.headers)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn condition<H: Header>(values: &[&str]) -> TagCondition<H> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(H::name(), HeaderValue::from_str(value).unwrap());
        }
        TagCondition::from_headers(&headers)
    }

    #[test]
    fn a_tag_is_quoted_and_tells_versions_apart() {
        let tag = EntityTag::from_parts(&["w1", "2026-05-12 14:29:30.123456"]);
        assert_eq!(tag.as_str().len(), 34);
        assert!(tag.as_str().starts_with('"') && tag.as_str().ends_with('"'));
        assert_eq!(tag, EntityTag::from_parts(&["w1", "2026-05-12 14:29:30.123456"]));
        assert_ne!(tag, EntityTag::from_parts(&["w1", "2026-05-12 14:29:30.123457"]));
        assert_ne!(EntityTag::from_parts(&["ab", "c"]), EntityTag::from_parts(&["a", "bc"]));
    }

    #[test]
    fn if_match_wants_the_same_strong_tag() {
        let tag = EntityTag::from_parts(&["x"]);
        let allows = |values: &[&str]| IfMatch(condition(values)).allows(&tag);
        assert!(allows(&[]));
        assert!(allows(&["*"]));
        assert!(allows(&[tag.as_str()]));
        assert!(allows(&[&format!("\"other\", {tag}")]));
        assert!(allows(&["\"other\"", tag.as_str()]));
        assert!(!allows(&["\"other\""]));
        assert!(!allows(&[&format!("W/{tag}")]));
        assert!(!allows(&[""]));
        assert!(allows(&["\"a,b\"", tag.as_str()]), "a comma inside a tag");
        assert_eq!(IfMatch(condition(&["\"other\""])).check(&tag).unwrap_err().status, 412);
    }

    #[test]
    fn if_none_match_compares_weakly_and_answers_304() {
        let tag = EntityTag::from_parts(&["x"]);
        let known = IfNoneMatch(condition(&[&format!("W/{tag}")]));
        assert!(known.matches(&tag) && !known.matches(&EntityTag::from_parts(&["y"])));
        assert!(!IfNoneMatch::default().matches(&tag));
        let same = WithEtag(tag.clone(), known.clone(), "body").into_response();
        assert_eq!((same.status().as_u16(), &same.headers()["etag"]), (304, &tag.as_str().parse().unwrap()));
        assert_eq!(WithEtag(EntityTag::from_parts(&["y"]), known, "body").into_response().status(), 200);
    }
}
