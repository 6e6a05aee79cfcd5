//! Pagination of lists: by keyset (`cursor`), which stays correct while rows are added and removed, or by `limit` and
//! `offset`, as in the monolith. The body stays a JSON array; the headers `X-Total-Count` and `Link` (RFC 8288) contain
//! the rest.

use std::{borrow::Cow, sync::Arc};

use axum::{
    extract::{FromRef, FromRequestParts},
    http::{HeaderName, HeaderValue, Uri, header, request::Parts},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, de::value::StrDeserializer};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{AllOfBuilder, ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema},
};

use am_db::{
    codec::Timestamp,
    kept_list::ListPage,
    moment::QueryMoment,
    owner::PrincipalName,
    page::PageRequest,
    principal::Principal,
    row::{ListedRow, OmittedMembers},
};

use super::{
    HttpState,
    context::{OriginalUri, RequestContext},
    error::ApiError,
    extract::{QueryParams, RawJson},
    list_rows::SentRows,
    time_query::time_span,
};

/// Header with the total number of matching rows.
pub const TOTAL_COUNT_HEADER: HeaderName = HeaderName::from_static("x-total-count");

/// Maximum number of rows per page.
pub const MAX_PAGE_ROWS: u32 = 500;

/// Query parameters of every list.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Number of rows of a page, 1 to 500. The default depends on the list.
    #[param(minimum = 1, maximum = 500)]
    pub limit: Option<u32>,
    /// Number of rows to skip; not together with `cursor`. Default 0.
    pub offset: Option<u32>,
    /// Where the page begins: an opaque text from the `Link` header of the page before. Default: the first row.
    #[serde(default, deserialize_with = "kept_if_empty")]
    pub cursor: Option<String>,
    /// Only what was made later than this: a time, or how long ago (`90s`, `30m`, `12h`, `7d`, `4w`). Default: of any time.
    #[param(value_type = Option<String>, example = "7d")]
    pub created_after: Option<QueryMoment>,
    /// Only what was made earlier than this, in the same forms. Default: of any time.
    #[param(value_type = Option<String>, example = "2026-05-12T14:29:30Z")]
    pub created_before: Option<QueryMoment>,
    /// Whether the newest (`desc`) or the oldest (`asc`) comes first. Default `desc`.
    #[param(inline)]
    pub order: Option<ListOrder>,
}

/// What comes first in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ListOrder {
    /// The oldest row comes first.
    Asc,
    /// The newest row comes first.
    Desc,
}

/// A row of a list.
#[derive(Serialize)]
pub struct ListedDocument<T> {
    #[serde(flatten)]
    row: T,
    /// Name of the key of the row's principal; none: it has no stored key, or the list shows no names.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_name: Option<Arc<str>>,
    /// What is left out.
    #[serde(skip_serializing_if = "OmittedMembers::is_empty")]
    omitted: OmittedMembers,
}

impl<T: ToSchema> PartialSchema for ListedDocument<T> {
    fn schema() -> RefOr<Schema> {
        let about = "Names of members that are empty here because they have more than 8192 bytes; the document itself has \
                     them. Default: nothing is left out.";
        let names = ArrayBuilder::new().items(String::schema()).description(Some(about));
        let omitted = ObjectBuilder::new().property("omitted", names);
        AllOfBuilder::new().item(Ref::from_schema_name(T::name())).item(omitted).into()
    }
}

impl<T: ToSchema> ToSchema for ListedDocument<T> {
    fn name() -> Cow<'static, str> {
        format!("ListedRow{}", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(schemas);
    }
}

/// Read a text that is none of its kind when it is empty: whoever lost a cursor is not to begin anew without noticing.
fn kept_if_empty<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    String::deserialize(from).map(Some)
}

/// Last row of a page, after which the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PageCursor {
    /// Creation time of the row.
    at: Timestamp,
    /// Id of the row, which orders rows of the same time.
    id: String,
}

impl PageCursor {
    /// Encode as the opaque text that clients send back.
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{}\n{}", self.at, self.id))
    }

    /// Decode a text made by [`encode`](Self::encode).
    fn decode(text: &str) -> Option<Self> {
        let plain = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let (at, id) = plain.split_once('\n')?;
        let at = Timestamp::deserialize(StrDeserializer::<serde::de::value::Error>::new(at)).ok()?;
        let sound = !id.is_empty() && !id.contains(['\0', '\n']);
        sound.then(|| Self { at, id: id.to_owned() })
    }
}

/// The page that a request asks for, of `DEFAULT` rows unless it says how many; answers it with the headers that lead to
/// the others.
#[derive(Clone, Debug)]
pub struct Paginator<const DEFAULT: u32> {
    /// Part of the list that is asked for.
    pub page: PageRequest,
    asked: Uri,
    /// Whether the client goes by offsets.
    by_offset: bool,
    /// Caller, if authenticated.
    caller: Option<Principal>,
}

impl<S: Send + Sync, const DEFAULT: u32> FromRequestParts<S> for Paginator<DEFAULT>
where
    HttpState: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let QueryParams(query) = QueryParams::from_request_parts(parts, state).await?;
        let Ok(OriginalUri(asked)) = OriginalUri::from_request_parts(parts, state).await;
        let caller = RequestContext::from_parts(parts)?.identity.caller().map(|caller| caller.principal.clone());
        let now = Timestamp(HttpState::from_ref(state).clock.now());
        Self::new(query, asked, caller, now)
    }
}

/// Return the number of rows that a client wants, by default `default`.
///
/// # Errors
/// 422 for 0, or more than [`MAX_PAGE_ROWS`].
pub fn row_limit(asked: Option<u32>, default: u32) -> Result<u32, ApiError> {
    let limit = asked.unwrap_or(default);
    if (1..=MAX_PAGE_ROWS).contains(&limit) {
        return Ok(limit);
    }
    let loc = vec!["query".into(), "limit".into()];
    Err(ApiError::invalid_field(loc, format!("Input should be from 1 to {MAX_PAGE_ROWS}"), "value_error"))
}

impl<const DEFAULT: u32> Paginator<DEFAULT> {
    fn new(query: PageQuery, asked: Uri, caller: Option<Principal>, now: Timestamp) -> Result<Self, ApiError> {
        let refuse = |name: &'static str, msg: String| {
            Err(ApiError::invalid_field(vec!["query".into(), name.into()], msg, "value_error"))
        };
        let limit = row_limit(query.limit, DEFAULT)?;
        let after = match (&query.cursor, query.offset) {
            (Some(_), Some(_)) => return refuse("offset", "Give an offset or a cursor, not both".to_owned()),
            (Some(text), None) => match PageCursor::decode(text) {
                Some(cursor) => Some((cursor.at, cursor.id)),
                None => return refuse("cursor", "Not a cursor of this service".to_owned()),
            },
            (None, _) => None,
        };
        let page = PageRequest {
            after,
            limit,
            offset: query.offset.unwrap_or(0),
            oldest_first: query.order == Some(ListOrder::Asc),
            created: time_span(query.created_after, query.created_before, now),
        };
        Ok(Self { page, asked, by_offset: query.offset.is_some(), caller })
    }

    /// Answers the page: its rows and how many match in all, and where a row stands in the list, by its creation time and
    /// id.
    pub fn answer<T: Serialize>(&self, found: (Vec<T>, i64), place: impl Fn(&T) -> (Timestamp, &str)) -> Response {
        let (rows, total) = found;
        let sent = match SentRows::of_page(&rows) {
            Ok(sent) => sent,
            Err(error) => return ApiError::internal(error).into_response(),
        };
        let is_cut = sent.count < rows.len();
        let next = if is_cut { rows[..sent.count].last() } else { self.last_of(&rows) };
        self.respond(sent, Some(total.cast_unsigned()), next.map(place))
    }

    /// Answers the page as [`answer`](Self::answer) does, each row `shown` as what clients see of it.
    pub fn answer_shown<R, T: Serialize>(
        &self,
        (rows, total): (Vec<R>, i64),
        place: impl Fn(&R) -> (Timestamp, &str),
        shown: impl Fn(R) -> T,
    ) -> Response {
        let rows = rows.into_iter().map(|row| ListedRow { row, omitted: OmittedMembers::default() }).collect();
        self.answer_list(ListPage { rows, total, is_cut: false }, place, shown)
    }

    /// Answers a page that may end early as [`answer_shown`](Self::answer_shown) does.
    pub fn answer_list<R, T: Serialize>(
        &self,
        found: ListPage<R>,
        place: impl Fn(&R) -> (Timestamp, &str),
        shown: impl Fn(R) -> T,
    ) -> Response {
        self.answer_named(found, place, |_| None, shown)
    }

    /// Answers a page as [`answer_list`](Self::answer_list) does, each row with the name of its principal's key where there is one.
    pub fn answer_named<R, T: Serialize>(
        &self,
        found: ListPage<R>,
        place: impl Fn(&R) -> (Timestamp, &str),
        key_name: impl Fn(&R) -> Option<Arc<str>>,
        shown: impl Fn(R) -> T,
    ) -> Response {
        let ListPage { rows, total, is_cut } = found;
        let is_full = is_cut || self.last_of(&rows).is_some();
        let places: Vec<(Timestamp, String)> =
            rows.iter().map(|listed| place(&listed.row)).map(|(at, id)| (at, id.to_owned())).collect();
        let named = |ListedRow { row, omitted }: ListedRow<R>| {
            let key_name = key_name(&row);
            ListedDocument { row: shown(row), key_name, omitted }
        };
        let rows: Vec<ListedDocument<T>> = rows.into_iter().map(named).collect();
        let sent = match SentRows::of_page(&rows) {
            Ok(sent) => sent,
            Err(error) => return ApiError::internal(error).into_response(),
        };
        let last = places[..sent.count].last().filter(|_| is_full || sent.count < rows.len());
        self.respond(sent, Some(total.cast_unsigned()), last.map(|(at, id)| (*at, id.as_str())))
    }

    /// The last row of a full page, which may have another after it.
    pub fn last_of<'a, T>(&self, rows: &'a [T]) -> Option<&'a T> {
        rows.last().filter(|_| rows.len() == self.page.limit as usize)
    }

    /// Build the response for a list that is searched in parts: `total` where known, and `next`, after which the next
    /// page begins, if there may be one.
    pub fn respond_partial<T: Serialize>(
        &self,
        rows: &[T],
        total: Option<u64>,
        next: Option<(Timestamp, &str)>,
    ) -> Response {
        match SentRows::all(rows) {
            Ok(sent) => self.respond(sent, total, next),
            Err(error) => ApiError::internal(error).into_response(),
        }
    }

    fn respond(&self, rows: SentRows, total: Option<u64>, next: Option<(Timestamp, &str)>) -> Response {
        let next = next.map(|(at, id)| PageCursor { at, id: id.to_owned() });
        let mut response = RawJson(rows.json.into()).into_response();
        let headers = response.headers_mut();
        if let Some(total) = total {
            headers.insert(TOTAL_COUNT_HEADER, HeaderValue::from(total));
        }
        if let Ok(links) = HeaderValue::from_str(&self.links(rows.count, total, next.as_ref())) {
            headers.insert(header::LINK, links);
        }
        response
    }

    /// A client that began with an offset gets links with offsets, any other with cursors.
    fn links(&self, rows: usize, total: Option<u64>, next: Option<&PageCursor>) -> String {
        let PageRequest { limit, offset, .. } = self.page;
        let link = |at: String, rel: &str| format!("<{}{at}>; rel=\"{rel}\"", self.base(limit));
        let mut links = vec![link(String::new(), "first")];
        match (self.by_offset, next) {
            (true, next) => {
                if offset > 0 {
                    links.push(link(format!("&offset={}", offset.saturating_sub(limit)), "prev"));
                }
                let after = u64::from(offset) + rows as u64;
                if rows > 0 && total.map_or(next.is_some(), |total| after < total) {
                    links.push(link(format!("&offset={after}"), "next"));
                }
            }
            (false, Some(cursor)) => links.push(link(format!("&cursor={}", cursor.encode()), "next")),
            (false, None) => {}
        }
        links.join(", ")
    }

    /// Return the list's URL as the client used it, with its filters unchanged.
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

    /// Clients of the monolith name an owner by key, which no response may contain.
    fn owner_filter(&self, name: &str, encoded: &str) -> String {
        let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&format!("o={encoded}")).unwrap_or_default();
        let owner = pairs.first().map_or("", |(_, owner)| owner.as_str());
        // A principal needs no URL encoding.
        match &self.caller {
            Some(caller) if caller.owns(owner) => format!("{name}={}", caller.name),
            _ => format!("{name}={}", PrincipalName::from_stored(owner)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::{error::ErrorDetail, extract};

    fn paging(uri: &str) -> Result<Paginator<20>, ApiError> {
        let asked: Uri = uri.parse().unwrap();
        Paginator::new(extract::parse_query(asked.query().unwrap_or_default())?, asked, None, at(0))
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp(chrono::DateTime::from_timestamp_micros(micros).unwrap())
    }

    fn cursor() -> PageCursor {
        PageCursor { at: at(1_778_596_170_123_456), id: "wf_1".into() }
    }

    fn links(uri: &str, rows: usize, total: i64) -> Vec<(String, String)> {
        let response = paging(uri).unwrap().answer((vec![1; rows], total), |_| (cursor().at, "wf_1"));
        assert_eq!(response.headers()[TOTAL_COUNT_HEADER], total.to_string());
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
            ("created_after=yesterday", "created_after"),
            ("created_before=7y", "created_before"),
            ("order=newest", "order"),
        ] {
            let error = paging(&format!("/l?{query}")).unwrap_err();
            let ErrorDetail::Fields(fields) = error.detail else { panic!() };
            assert_eq!(fields[0].loc, ["query".into(), name.into()], "{query}");
        }
        assert_eq!(paging("/l").unwrap().page, PageRequest { limit: 20, ..PageRequest::default() });
        let after = format!("/l?limit=5&cursor={}", cursor().encode());
        assert_eq!(
            paging(&after).unwrap().page,
            PageRequest { limit: 5, after: Some((cursor().at, cursor().id)), ..PageRequest::default() }
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
            format!("/l?owner_id={}&limit=2", PrincipalName::from_api_key("a&b"))
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
            let cursor = PageCursor { at: at(micros), id };
            let text = cursor.encode();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')));
            prop_assert_eq!(PageCursor::decode(&text), Some(cursor));
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in "\\PC{0,40}") {
            let _ = PageCursor::decode(&text);
        }
    }
}
