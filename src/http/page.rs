//! Lists that page: by keyset (`cursor`), which stays right while rows come and go, or by `limit` and `offset`, as the
//! monolith's clients do. The list itself stays a JSON array; `X-Total-Count` and `Link` (RFC 8288) tell the rest.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, HeaderValue, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::value::StrDeserializer};
use utoipa::IntoParams;

use am_db::{codec::Timestamp, owner::Owner, page::Page};

use super::{
    caller::Caller,
    context::{Asked, RequestContext},
    error::ApiError,
    extract::{Json, Query},
};

/// The header that carries the number of all matching rows.
pub const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

/// Rows a page holds at most.
pub const MOST: u32 = 500;

/// The parameters of every list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Rows a page.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Rows to leave out; not together with `cursor`.
    pub offset: Option<u32>,
    /// Where the page begins: taken from the `Link` header of the page before.
    pub cursor: Option<String>,
}

/// The last row of a page, after which the next one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    /// When the row was made.
    at: Timestamp,
    /// The row's id, which decides between rows of one moment.
    id: String,
}

impl Cursor {
    /// The opaque text that clients carry.
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}\n{}", self.at, self.id))
    }

    /// Reads a text made by [`encode`](Self::encode).
    fn decode(text: &str) -> Option<Self> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = plain.split_once('\n')?;
        let at = Timestamp::deserialize(StrDeserializer::<serde::de::value::Error>::new(at)).ok()?;
        let sound = !id.is_empty() && !id.contains(['\0', '\n']);
        sound.then(|| Self { at, id: id.to_owned() })
    }
}

/// The page that a request asks for; answers it with the headers that lead to the others.
#[derive(Clone, Debug)]
pub struct Paging {
    query: PageQuery,
    asked: Uri,
    /// Who asks, if anybody is known.
    caller: Option<Caller>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paging {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(query) = Query::from_request_parts(parts, state).await?;
        let Ok(Asked(asked)) = Asked::from_request_parts(parts, state).await;
        let caller = RequestContext::of(parts)?.identity.caller().cloned();
        Ok(Self { query, asked, caller })
    }
}

/// How many rows a client wants, `default` unless it says.
///
/// # Errors
/// 422 for none, or more than [`MOST`].
pub fn rows(asked: Option<u32>, default: u32) -> Result<u32, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=MOST).contains(&limit) {
        return Ok(limit);
    }
    let loc = vec!["query".into(), "limit".into()];
    Err(ApiError::field(loc, format!("Input should be from 1 to {MOST}"), "value_error"))
}

impl Paging {
    /// The page of rows, `default` of them unless the client says how many.
    pub fn page(&self, default: u32) -> Result<Page, ApiError> {
        let refuse = |name: &'static str, msg: String| {
            Err(ApiError::field(vec!["query".into(), name.into()], msg, "value_error"))
        };
        let limit = rows(self.query.limit, default)?;
        let after = match (&self.query.cursor, self.query.offset) {
            (Some(_), Some(_)) => return refuse("offset", "Give an offset or a cursor, not both".to_owned()),
            (Some(text), None) => match Cursor::decode(text) {
                Some(cursor) => Some((cursor.at, cursor.id)),
                None => return refuse("cursor", "Not a cursor of this service".to_owned()),
            },
            (None, _) => None,
        };
        Ok(Page { after, limit, offset: self.query.offset.unwrap_or(0) })
    }

    /// Answers a page: `total` counts all matching rows, `last` is this page's last row, by its creation time and id.
    pub fn answer<T: Serialize>(
        &self,
        page: &Page,
        rows: &[T],
        total: u64,
        last: Option<(Timestamp, &str)>,
    ) -> Response {
        // A full page may have another after it.
        self.answer_bounded(page, rows, Some(total), last.filter(|_| rows.len() == page.limit as usize))
    }

    /// Answers a page of a list that is looked through piece by piece: `total` where it is known, and `next`, after which
    /// the next page begins, where there may be one.
    pub fn answer_bounded<T: Serialize>(
        &self,
        page: &Page,
        rows: &[T],
        total: Option<u64>,
        next: Option<(Timestamp, &str)>,
    ) -> Response {
        let next = next.map(|(at, id)| Cursor { at, id: id.to_owned() });
        let mut response = Json(rows).into_response();
        let headers = response.headers_mut();
        if let Some(total) = total {
            headers.insert(TOTAL, HeaderValue::from(total));
        }
        if let Ok(links) = HeaderValue::from_str(&self.links(page.limit, rows.len(), total, next.as_ref())) {
            headers.insert(header::LINK, links);
        }
        response
    }

    /// A client that began with an offset is led on by offsets, any other by cursors.
    fn links(&self, limit: u32, rows: usize, total: Option<u64>, next: Option<&Cursor>) -> String {
        let link = |at: String, rel: &str| format!("<{}{at}>; rel=\"{rel}\"", self.base(limit));
        let mut links = vec![link(String::new(), "first")];
        match (self.query.offset, next) {
            (Some(offset), next) => {
                if offset > 0 {
                    links.push(link(format!("&offset={}", offset.saturating_sub(limit)), "prev"));
                }
                let after = u64::from(offset) + rows as u64;
                if rows > 0 && total.map_or(next.is_some(), |total| after < total) {
                    links.push(link(format!("&offset={after}"), "next"));
                }
            }
            (None, Some(cursor)) => links.push(link(format!("&cursor={}", cursor.encode()), "next")),
            (None, None) => {}
        }
        links.join(", ")
    }

    /// The list's own address, by the name the client used, with its filters as they came.
    fn base(&self, limit: u32) -> String {
        let query = self.asked.query().unwrap_or_default().split('&');
        let ours = |pair: &&str| matches!(pair.split('=').next(), Some("limit" | "offset" | "cursor" | ""));
        let mut base = format!("{}?", self.asked.path());
        for filter in query.filter(|pair| !ours(pair)) {
            match filter.split_once('=') {
                Some((name @ ("owner_id" | "user_id"), owner)) => base.push_str(&self.owner_filter(name, owner)),
                _ => base.push_str(filter),
            }
            base.push('&');
        }
        base + &format!("limit={limit}")
    }

    /// Clients of the monolith name an owner by its key, which no answer shows.
    fn owner_filter(&self, name: &str, encoded: &str) -> String {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&format!("o={encoded}")).unwrap_or_default();
        let owner = pairs.first().map_or("", |(_, owner)| owner.as_str());
        // A principal needs no encoding.
        match &self.caller {
            Some(caller) if caller.owns(owner) => format!("{name}={}", caller.principal),
            _ => format!("{name}={}", Owner::from_stored(owner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::{error::Detail, extract};

    fn paging(uri: &str) -> Paging {
        let asked: Uri = uri.parse().unwrap();
        Paging { query: extract::parse_query(asked.query().unwrap_or_default()).unwrap(), asked, caller: None }
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp_micros(micros).unwrap())
    }

    fn cursor() -> Cursor {
        Cursor { at: at(1_778_596_170_123_456), id: "wf_1".into() }
    }

    fn links(uri: &str, rows: usize, total: u64) -> Vec<(String, String)> {
        let paging = paging(uri);
        let page = paging.page(20).unwrap();
        let rows = vec![1; rows];
        let response = paging.answer(&page, &rows, total, Some((cursor().at, "wf_1")));
        assert_eq!(response.headers()[TOTAL], total.to_string());
        let links = response.headers()[header::LINK].to_str().unwrap().split(", ").map(|link| {
            let (uri, rel) = link.split_once("; rel=").unwrap();
            (rel.trim_matches('"').to_owned(), uri.trim_matches(['<', '>']).to_owned())
        });
        links.collect()
    }

    #[test]
    fn bounds_are_named() {
        for (query, name) in [
            ("limit=0", "limit"),
            ("limit=501", "limit"),
            ("cursor=x&offset=1", "offset"),
            ("cursor=!", "cursor"),
            ("cursor=", "cursor"),
        ] {
            let error = paging(&format!("/l?{query}")).page(20).unwrap_err();
            let Detail::Fields(fields) = error.detail else { panic!() };
            assert_eq!(fields[0].loc, ["query".into(), name.into()], "{query}");
        }
        assert_eq!(paging("/l").page(20).unwrap(), Page { limit: 20, ..Page::default() });
        let after = format!("/l?limit=5&cursor={}", cursor().encode());
        assert_eq!(
            paging(&after).page(20).unwrap(),
            Page { limit: 5, after: Some((cursor().at, cursor().id)), offset: 0 }
        );
    }

    #[test]
    fn cursors_lead_on_and_keep_the_filters() {
        let found = links("/v1/agents/workflows?tags=a%26b&limit=2&x", 2, 9);
        let base = "/v1/agents/workflows?tags=a%26b&x&limit=2";
        assert_eq!(found[0], ("first".into(), base.into()));
        assert_eq!(found[1], ("next".into(), format!("{base}&cursor={}", cursor().encode())));
        assert_eq!(links("/l", 2, 2).len(), 1);
    }

    #[test]
    fn an_owner_named_by_its_key_is_shown_as_its_principal() {
        let found = links("/l?owner_id=admin-key-0123456789abcdef&limit=2", 2, 9);
        assert_eq!(found[0].1, "/l?owner_id=key_8211bbf633a893df9505&limit=2");
        assert_eq!(
            links("/l?owner_id=a%26b&limit=2", 2, 9)[0].1,
            format!("/l?owner_id={}&limit=2", Owner::of_key("a&b"))
        );
    }

    #[test]
    fn offsets_lead_on_by_offsets() {
        let found = links("/l?limit=2&offset=3", 2, 9);
        let expected = [("first", "/l?limit=2"), ("prev", "/l?limit=2&offset=1"), ("next", "/l?limit=2&offset=5")];
        assert_eq!(found, expected.map(|(rel, uri)| (rel.to_owned(), uri.to_owned())));
        let last = links("/l?limit=2&offset=8", 1, 9);
        assert!(last.iter().all(|(rel, _)| rel != "next"), "{last:?}");
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_as_it_was(micros in 0i64..4_000_000_000_000_000, id in "[ -~]{1,40}") {
            let cursor = Cursor { at: at(micros), id };
            let text = cursor.encode();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
            prop_assert_eq!(Cursor::decode(&text), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in "\\PC{0,40}") {
            let _ = Cursor::decode(&text);
        }
    }
}
