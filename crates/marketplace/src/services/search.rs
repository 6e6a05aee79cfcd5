//! The search for services: by an index of their order, or by the index of their texts.

use std::{cmp::Ordering, collections::HashSet};

use super::{
    model::{self, MarketService, ServiceFilter, ServiceOrder, ServiceState},
    store::{self, ServicePlace, TextMatches},
};
use crate::{
    Marketplace,
    error::{MarketError, Result, corrupt},
};
use am_core::{boxed, ids::MarketServiceId};
use am_db::{Connection, dialect::RANKED_ROWS, page::PageRequest};

/// How many times a page is read at first where some matches of a text may not fit the other filters, and how many times more each time
/// after that.
const BATCH_FACTOR: usize = 2;

/// A page of services.
#[derive(Clone, Debug)]
pub struct ServicePage {
    /// The services, in their order.
    pub rows: Vec<MarketService>,
    /// How many match in all; `None`: they were not counted.
    pub total: Option<u64>,
}

impl Marketplace {
    /// Return a page of services. With a text or tags it is of the newest thousand that match.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] for a filter that can't be searched by.
    #[boxed]
    pub async fn search_services(&self, filter: &ServiceFilter, page: &PageRequest) -> Result<ServicePage> {
        let text = model::text_query(filter).map_err(|fault| MarketError::Invalid(vec![fault]))?;
        let is_narrow = filter.agent_id.is_some() || filter.guild_id.is_some();
        if !is_narrow && !matches!(filter.state, None | Some(ServiceState::Active)) {
            return Err(MarketError::field("state", "only an agent's or a guild's services are searched by state"));
        }
        let mut conn = self.0.db.read_list().await?;
        let after = page.after.as_ref().map(|(_, id)| MarketServiceId::from(id.as_str()));
        if let Some(text) = text {
            return search_text(&mut conn, &text, filter, after.as_ref(), page).await;
        }
        let order = filter.order.unwrap_or(ServiceOrder::Rating);
        if !is_narrow {
            let place = match &after {
                Some(id) => Some(store::find_place(&mut conn, id).await?.ok_or_else(unknown_cursor)?),
                None => None,
            };
            let span = (i64::from(page.limit), i64::from(page.offset));
            let rows = store::browse(&mut conn, filter, order, place.as_ref(), span).await?;
            return Ok(ServicePage { rows, total: None });
        }
        let mut places = store::of_agent_or_guild(&mut conn, filter, RANKED_ROWS as i64).await?;
        places.sort_by(|one, other| compare(order, one, other));
        let begin = match &after {
            Some(id) => places.iter().position(|place| place.id == *id).map(|at| at + 1).ok_or_else(unknown_cursor)?,
            None => page.offset as usize,
        };
        let ids: Vec<MarketServiceId> =
            places.iter().skip(begin).take(page.limit as usize).map(|place| place.id.clone()).collect();
        let mut rows = if ids.is_empty() { Vec::new() } else { store::find_all(&mut conn, &ids).await? };
        rows.sort_by_key(|service| ids.iter().position(|id| *id == service.id));
        let total = (places.len() < RANKED_ROWS).then_some(places.len() as u64);
        Ok(ServicePage { rows, total })
    }
}

/// A page of the services whose texts match. Only those of the page are read as a whole, and with other filters, those before them
/// that do not fit.
async fn search_text(
    conn: &mut Connection,
    text: &str,
    filter: &ServiceFilter,
    after: Option<&MarketServiceId>,
    page: &PageRequest,
) -> Result<ServicePage> {
    let numbers = match filter.order.unwrap_or(ServiceOrder::Relevance) {
        ServiceOrder::Relevance => by_relevance(store::match_text(conn, text).await?)?,
        order => parse_numbers(&store::match_text_by(conn, text, filter, order).await?)?,
    };
    let after = match after {
        Some(id) => {
            let number = store::find_number(conn, id).await?;
            let place = number.and_then(|number| numbers.iter().position(|one| *one == number));
            Some(place.ok_or_else(unknown_cursor)?)
        }
        None => None,
    };
    // In another order than that of relevance they have been filtered.
    let is_filtered = !matches!(filter.order, None | Some(ServiceOrder::Relevance));
    let all_fit = filter.tags.is_empty() && (is_filtered || !filter.is_narrowed());
    let begin = after.map_or(0, |place| place + 1);
    let offset = if after.is_some() { 0 } else { page.offset as usize };
    let (begin, skipped) = if all_fit { (begin + offset, 0) } else { (begin, offset) };
    let wanted = skipped + page.limit as usize;
    let (mut rows, mut read): (Vec<MarketService>, usize) = (Vec::new(), begin);
    let mut count = wanted;
    while rows.len() < wanted && read < numbers.len() {
        count *= if all_fit { 1 } else { BATCH_FACTOR };
        let part = &numbers[read..numbers.len().min(read + count)];
        read += part.len();
        let mut found = store::find_numbers(conn, part, filter).await?;
        found.sort_by_key(|(number, _)| part.iter().position(|one| one == number));
        // The index of texts finds words; a tag is the whole of one.
        let has = |service: &MarketService, tag: &String| service.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        let fitting = found.into_iter().map(|(_, service)| service);
        rows.extend(fitting.filter(|service| filter.tags.iter().all(|tag| has(service, tag))));
    }
    let is_whole = numbers.len() < RANKED_ROWS;
    let total = match (all_fit, begin == 0 && read == numbers.len()) {
        (true, _) => Some(numbers.len()),
        (false, true) => Some(rows.len()),
        (false, false) => None,
    };
    let rows = rows.into_iter().skip(skipped).take(page.limit as usize).collect();
    Ok(ServicePage { rows, total: total.filter(|_| is_whole).map(|total| total as u64) })
}

/// The matches of a text, the best first: those that have all words in the name, then those that have them in the name and the tags,
/// then the others; each the newest first.
fn by_relevance(matches: TextMatches) -> Result<Vec<i64>> {
    let mut numbers = parse_numbers(&matches.all)?;
    let in_name: HashSet<i64> = parse_numbers(&matches.in_name)?.into_iter().collect();
    let in_tags: HashSet<i64> = parse_numbers(&matches.in_tags)?.into_iter().collect();
    let rank = |number: &i64| match (in_name.contains(number), in_tags.contains(number)) {
        (true, _) => 0_u8,
        (false, true) => 1,
        (false, false) => 2,
    };
    numbers.sort_by_key(|number| (rank(number), std::cmp::Reverse(*number)));
    Ok(numbers)
}

fn parse_numbers(json: &str) -> Result<Vec<i64>> {
    serde_json::from_str(json).map_err(|error| corrupt("numbers of services", error))
}

/// How two services stand to each other in an order, as the statements of [`store`] have it.
fn compare(order: ServiceOrder, one: &ServicePlace, other: &ServicePlace) -> Ordering {
    let newest = || other.id.cmp(&one.id);
    match order {
        ServiceOrder::Rating | ServiceOrder::Relevance => other.rating.total_cmp(&one.rating).then_with(newest),
        ServiceOrder::Price => one.base_price.cmp(&other.base_price).then_with(|| one.id.cmp(&other.id)),
        ServiceOrder::Jobs => other.jobs.cmp(&one.jobs).then_with(newest),
        ServiceOrder::Newest => other.created_at.cmp(&one.created_at).then_with(newest),
    }
}

fn unknown_cursor() -> MarketError {
    MarketError::field("cursor", "the service that it names does not match any more: begin anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_the_name_count_before_those_in_tags_and_elsewhere() {
        let matches = TextMatches { all: "[9,7,5,3,1]".into(), in_name: "[1,5]".into(), in_tags: "[1,5,7]".into() };
        assert_eq!(by_relevance(matches).unwrap(), [5, 1, 7, 9, 3]);
        let broken = TextMatches { all: "[1".into(), in_name: "[]".into(), in_tags: "[]".into() };
        assert!(by_relevance(broken).is_err());
    }
}
