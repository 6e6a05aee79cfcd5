//! The list of all environments: those that were sent, the newest first, then those that are built in.

use chrono::{DateTime, TimeDelta};

use super::model::{OwnEnvironment, OwnEnvironmentVersion};
use crate::environments::{Environment, list_environments};
use am_db::{codec::Timestamp, page::PageRequest};

/// An environment of the list.
pub enum ListedEnvironment {
    /// It is built in.
    BuiltIn(Box<dyn Environment>, Timestamp),
    /// It was sent as tables.
    Own(Box<OwnEnvironment>),
}

impl ListedEnvironment {
    /// Where it stands in the list.
    pub fn place(&self) -> (Timestamp, &str) {
        match self {
            Self::BuiltIn(one, at) => (*at, &one.description().name),
            Self::Own(own) => (own.created_at, &own.name),
        }
    }
}

impl OwnEnvironmentVersion {
    /// Leave out what is long, for lists.
    pub(super) fn shorten(&mut self) {
        if let Some(discounted) = &mut self.solution.discounted {
            discounted.policy.clear();
        }
    }
}

/// Which part of a page is read, and which is known.
pub(super) struct PagePlan {
    /// Page of the environments that were sent; `None`: there is none of them on this page.
    pub(super) own: Option<PageRequest>,
    /// Number of built-in environments made in the page's time.
    pub(super) built_in_total: i64,
    built_in: Vec<(Timestamp, Box<dyn Environment>)>,
    oldest_first: bool,
    limit: usize,
}

/// Built-in environments have no time. They count as made in the first minute of 1970, the first of the list as the last.
fn built_in() -> Vec<(Timestamp, Box<dyn Environment>)> {
    let all = list_environments();
    let count = i64::try_from(all.len()).unwrap_or_default();
    let at = |index: i64| Timestamp(DateTime::UNIX_EPOCH + TimeDelta::seconds(count - index));
    (0..).zip(all).map(|(index, one)| (at(index), one)).collect()
}

impl PagePlan {
    /// Plan the page `page` of a list with `own_total` environments that were sent.
    pub(super) fn new(page: &PageRequest, own_total: u64) -> Self {
        let mut built_in = built_in();
        if page.oldest_first {
            built_in.reverse();
        }
        let within = |at: Timestamp| {
            page.created.after.is_none_or(|after| at > after) && page.created.before.is_none_or(|before| at < before)
        };
        built_in.retain(|(at, _)| within(*at));
        let built_in_total = built_in.len() as i64;
        let offset = u64::from(page.offset);
        let mut own = Some(page.clone());
        if let Some((after, _)) = &page.after {
            // All that were sent are later than any that is built in.
            let is_among = *after < built_in_end();
            built_in.retain(|(at, _)| if page.oldest_first { at > after } else { !is_among || at < after });
            own = match (page.oldest_first, is_among) {
                (true, true) => Some(PageRequest { after: None, ..page.clone() }),
                (false, true) => None,
                (_, false) => own,
            };
        }
        let skipped = if page.oldest_first { offset } else { offset.saturating_sub(own_total) };
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX).min(built_in.len());
        built_in.drain(..skipped);
        let limit = page.limit as usize;
        if page.oldest_first {
            built_in.truncate(limit);
            let rest = limit - built_in.len();
            let offset = u32::try_from(offset.saturating_sub(built_in_total.unsigned_abs())).unwrap_or(u32::MAX);
            own = own.filter(|_| rest > 0).map(|own| PageRequest { limit: rest as u32, offset, ..own });
        }
        Self { own, built_in_total, built_in, oldest_first: page.oldest_first, limit }
    }

    /// The page, with the environments that were read.
    pub(super) fn merge(self, own: Vec<OwnEnvironment>) -> Vec<ListedEnvironment> {
        let own = own.into_iter().map(|mut own| {
            own.version.shorten();
            ListedEnvironment::Own(Box::new(own))
        });
        let built_in = self.built_in.into_iter().map(|(at, one)| ListedEnvironment::BuiltIn(one, at));
        match self.oldest_first {
            true => built_in.chain(own).take(self.limit).collect(),
            false => own.chain(built_in).take(self.limit).collect(),
        }
    }
}

/// The end of the first minute of 1970.
fn built_in_end() -> Timestamp {
    Timestamp(DateTime::UNIX_EPOCH + TimeDelta::minutes(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use am_db::page::TimeSpan;

    fn page(limit: u32) -> PageRequest {
        PageRequest { limit, ..PageRequest::default() }
    }

    fn names(plan: PagePlan) -> Vec<String> {
        plan.merge(Vec::new()).iter().map(|one| one.place().1.to_owned()).collect()
    }

    #[test]
    fn pages_of_what_is_built_in_follow_each_other() {
        let all: Vec<String> = list_environments().iter().map(|one| one.description().name.clone()).collect();
        assert_eq!(names(PagePlan::new(&page(100), 0)), all);
        for oldest_first in [false, true] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let asked = PageRequest { after: after.clone(), oldest_first, ..page(5) };
                let found = PagePlan::new(&asked, 0).merge(Vec::new());
                let Some(last) = found.last() else { break };
                let (at, name) = last.place();
                after = Some((at, name.to_owned()));
                seen.extend(found.iter().map(|one| one.place().1.to_owned()));
            }
            if oldest_first {
                seen.reverse();
            }
            assert_eq!(seen, all);
        }
        let third = PageRequest { offset: 10, ..page(5) };
        assert_eq!(names(PagePlan::new(&third, 0)), all[10..]);
        assert_eq!(names(PagePlan::new(&third, 4)), all[6..11], "four that were sent come before them");
        assert_eq!(names(PagePlan::new(&PageRequest { oldest_first: true, ..third }, 4)).len(), 2);
    }

    #[test]
    fn what_was_sent_comes_before_or_after() {
        let newest = PagePlan::new(&page(5), 3).own.unwrap();
        assert_eq!((newest.limit, newest.offset), (5, 0));
        let oldest = PagePlan::new(&PageRequest { oldest_first: true, offset: 11, ..page(5) }, 3);
        assert_eq!((oldest.own.as_ref().unwrap().limit, oldest.own.as_ref().unwrap().offset), (4, 0));
        let among = PageRequest { after: Some((Timestamp(DateTime::UNIX_EPOCH), "x".to_owned())), ..page(5) };
        assert!(PagePlan::new(&among, 3).own.is_none());
        let lately = TimeSpan { after: Some(built_in_end()), before: None };
        let plan = PagePlan::new(&PageRequest { created: lately, ..page(5) }, 3);
        assert_eq!((plan.built_in_total, plan.built_in.len()), (0, 0));
    }
}
