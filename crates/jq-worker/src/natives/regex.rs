//! Regular expressions by the rules of jq: Oniguruma's syntax, characters instead of bytes, all groups in each match.

use std::{cell::RefCell, num::NonZeroUsize, ops::Range};

use fancy_regex::{Captures, Regex, RegexBuilder};
use jaq_json::Val;
use lru::LruCache;

use super::{NativeFilters, bound, one_value, pop_two};
use crate::value::{JqError, JqResult, JqValue, message::type_error};

/// Maximum number of compiled expressions that are kept.
const MAX_CACHED_EXPRESSIONS: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Maximum number of steps back of one search.
const MAX_BACKTRACKS: usize = 10_000_000;

/// Classes that are of Unicode's characters in jq.
const UNICODE_CLASSES: [(&str, &str); 6] = [
    ("[:alpha:]", r"\p{Alphabetic}"),
    ("[:alnum:]", r"\p{Alphabetic}\p{N}"),
    ("[:lower:]", r"\p{Lowercase}"),
    ("[:upper:]", r"\p{Uppercase}"),
    ("[:digit:]", r"\d"),
    ("[:space:]", r"\s"),
];

thread_local! {
    static EXPRESSIONS: RefCell<LruCache<(String, String), SearchPlan>> = RefCell::new(LruCache::new(MAX_CACHED_EXPRESSIONS));
}

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        // Gap, match, gap, match, ..., rest.
        ("_match_parts", bound(&["$re", "$flags"]), |mut cv| {
            let (re, flags) = pop_two(&mut cv.0);
            one_value(match_parts(&cv.1, &re, &flags))
        }),
        ("test", bound(&["$re", "$flags"]), |mut cv| {
            let (re, flags) = pop_two(&mut cv.0);
            one_value(matches_text(&cv.1, &re, &flags))
        }),
    ]
}

/// Expression with the flags that its compiled form does not hold.
#[derive(Clone)]
struct SearchPlan {
    regex: Regex,
    global: bool,
    skip_empty: bool,
}

impl SearchPlan {
    fn parse(re: &JqValue, flags: &JqValue) -> JqResult<Self> {
        let re = string_of(re, "is not a string")?;
        let flags = match flags.0 {
            Val::Null => String::new(),
            _ => string_of(flags, "is not a string")?,
        };
        let key = (re, flags);
        EXPRESSIONS.with_borrow_mut(|kept| {
            if let Some(plan) = kept.get(&key) {
                return Ok(plan.clone());
            }
            let plan = Self::compile(&key.0, &key.1)?;
            kept.put(key, plan.clone());
            Ok(plan)
        })
    }

    fn compile(re: &str, flags: &str) -> JqResult<Self> {
        let pattern =
            UNICODE_CLASSES.iter().fold(re.to_owned(), |pattern, (class, unicode)| pattern.replace(class, unicode));
        let mut builder = RegexBuilder::new(&pattern);
        builder.oniguruma_mode(true).backtrack_limit(MAX_BACKTRACKS);
        let (mut global, mut skip_empty) = (false, false);
        for flag in flags.chars() {
            match flag {
                'g' => global = true,
                'n' => skip_empty = true,
                'i' => {
                    builder.case_insensitive(true);
                }
                'x' => {
                    builder.ignore_whitespace(true);
                }
                'l' => return Err(JqError::str("the flag l (longest match) is not supported")),
                'p' | 'm' => {
                    builder.dot_matches_new_line(true);
                }
                // `^` and `$` are the ends of the text without it, too.
                's' => {}
                _ => return Err(JqError::str(format!("{flags} is not a valid modifier string"))),
            }
        }
        let regex = builder
            .build()
            .map_err(|error| JqError::str(format!("{re} (at offset 0) is not a valid regex: {error}")))?;
        Ok(Self { regex, global, skip_empty })
    }

    /// Call `found` for each match.
    fn each_match(&self, text: &str, found: &mut dyn FnMut(&Captures<'_, str>, Range<usize>)) -> JqResult<()> {
        let failed = |error: fancy_regex::Error| JqError::str(format!("the regular expression: {error}"));
        let mut from = 0;
        while from <= text.len() {
            let Some(captures) = self.regex.captures_from_pos(text, from).map_err(failed)? else { break };
            let Some(all) = captures.get(0).map(|all| all.range()) else { break };
            from = match all.is_empty() {
                true => all.end + text[all.end..].chars().next().map_or(1, char::len_utf8),
                false => all.end,
            };
            if all.is_empty() && self.skip_empty {
                continue;
            }
            found(&captures, all);
            if !self.global {
                break;
            }
        }
        Ok(())
    }
}

fn string_of(value: &JqValue, unfit: &str) -> JqResult<String> {
    let text = value.as_text().ok_or_else(|| type_error(value, unfit))?;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn text_of(value: &JqValue) -> JqResult<String> {
    string_of(value, "cannot be matched, as it is not a string")
}

fn matches_text(input: &JqValue, re: &JqValue, flags: &JqValue) -> JqResult {
    let text = text_of(input)?;
    let mut any = false;
    let plan = SearchPlan { global: false, ..SearchPlan::parse(re, flags)? };
    plan.each_match(&text, &mut |_, _| any = true)?;
    Ok(any.into())
}

fn match_parts(input: &JqValue, re: &JqValue, flags: &JqValue) -> JqResult {
    let text = text_of(input)?;
    let plan = SearchPlan::parse(re, flags)?;
    let names: Vec<Option<&str>> = plan.regex.capture_names().collect();
    let (mut parts, mut behind, mut place) = (Vec::new(), 0, CharPlace { byte: 0, character: 0 });
    plan.each_match(&text, &mut |captures, all| {
        parts.push(string(&text[behind..all.start]));
        behind = all.end;
        place.advance(&text, all.start);
        let groups = names.iter().enumerate().skip(1).map(|(at, name)| {
            let mut group = group_members(&text, place, captures.get(at).map(|group| group.range()));
            group.push(("name", name.map_or(Val::Null, string)));
            object(group)
        });
        let groups: Vec<Val> = groups.collect();
        let mut whole = group_members(&text, place, Some(all));
        whole.push(("captures", Val::Arr(groups.into())));
        parts.push(object(whole));
    })?;
    parts.push(string(&text[behind..]));
    Ok(JqValue::array(parts))
}

/// Position in a text, in bytes and in characters.
#[derive(Clone, Copy)]
struct CharPlace {
    byte: usize,
    character: usize,
}

impl CharPlace {
    fn advance(&mut self, text: &str, byte: usize) {
        self.character += text[self.byte..byte].chars().count();
        self.byte = byte;
    }

    fn at(self, text: &str, byte: usize) -> isize {
        let moved = match text.get(self.byte..byte) {
            Some(between) => self.character + between.chars().count(),
            // A group of a look-behind begins before its match.
            None => text[..byte].chars().count(),
        };
        moved as isize
    }
}

fn group_members(text: &str, place: CharPlace, range: Option<Range<usize>>) -> Vec<(&'static str, Val)> {
    match range {
        Some(range) => {
            let found = &text[range.clone()];
            let length = found.chars().count() as isize;
            vec![("offset", place.at(text, range.start).into()), ("length", length.into()), ("string", string(found))]
        }
        None => vec![("offset", (-1isize).into()), ("length", 0isize.into()), ("string", Val::Null)],
    }
}

fn string(text: &str) -> Val {
    Val::utf8_str(text.as_bytes().to_vec())
}

fn object(members: Vec<(&'static str, Val)>) -> Val {
    Val::obj(members.into_iter().map(|(name, value)| (string(name), value)).collect())
}
