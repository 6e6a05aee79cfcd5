//! What a query's text says of what it looks at. The JSONPath crate keeps its syntax tree to itself, so this reads the
//! text again, with the few rules that are needed: names, indices and quotes.

use std::collections::BTreeSet;

/// Longer queries are refused.
const MAX_BYTES: usize = 1024;
/// The JSONPath parser is recursive, and takes longer with each level.
const MAX_BRACKETS: usize = 8;

/// What a query looks at.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    /// It finds one value at most.
    pub singular: bool,
    /// Steps it names.
    pub steps: BTreeSet<String>,
    /// It looks at steps without naming them.
    pub all_steps: bool,
    /// It looks at the output.
    pub output: bool,
}

/// [`Shape`], and where the text's leading names end.
pub(super) struct Scanned<'t> {
    pub shape: Shape,
    /// The first three names after `$`, as far as they are names, and the offset after each.
    pub names: Vec<(&'t str, usize)>,
    /// It has a `$` inside of a filter.
    pub looks_back: bool,
}

impl Scanned<'_> {
    pub fn into_owned(self) -> Shape {
        self.shape
    }
}

/// Refuses what could take the parser or a later evaluation too long.
pub(super) fn bounded(text: &str) -> Result<(), String> {
    if text.len() > MAX_BYTES {
        return Err(format!("a query has at most {MAX_BYTES} bytes"));
    }
    let (mut open, mut descents, mut last) = (0usize, 0, ' ');
    for (_, c) in unquoted(text) {
        match c {
            '[' | '(' => open += 1,
            ']' | ')' => open = open.saturating_sub(1),
            '.' if last == '.' => descents += 1,
            _ => {}
        }
        if open > MAX_BRACKETS {
            return Err(format!("a query's brackets are at most {MAX_BRACKETS} deep"));
        }
        last = c;
    }
    if descents > 1 {
        return Err("a query has at most one `..`".into());
    }
    let bare: String = unquoted(text).map(|(_, c)| c).collect();
    if bare.contains("match(") || bare.contains("search(") {
        return Err("a query has no regular expressions; a jq step can".into());
    }
    Ok(())
}

/// Reads a text that is known to be a JSONPath.
pub(super) fn shape(text: &str) -> Result<Scanned<'_>, String> {
    let mut roots = unquoted(text).filter(|(_, c)| *c == '$').map(|(at, _)| at + 1).map(|at| Root::read(text, at));
    let first = roots.next().ok_or("a query begins with `$`")?;
    let mut shape = Shape { singular: first.ends_at == text.len(), ..Shape::default() };
    first.note(&mut shape)?;
    let mut looks_back = false;
    for inner in roots {
        if text[inner.ends_at..].starts_with(['.', '[']) {
            return Err("`$` inside a filter may only name a single value".into());
        }
        inner.note(&mut shape)?;
        looks_back = true;
    }
    Ok(Scanned { shape, names: first.names, looks_back })
}

/// A `$` and the singular segments after it.
struct Root<'t> {
    /// The first three names, as far as they are names without escapes, and the offset after each.
    names: Vec<(&'t str, usize)>,
    /// Where the singular segments end, and the white space after them.
    ends_at: usize,
    /// A name came before `names` ended that this reader can't read.
    opaque: bool,
}

impl<'t> Root<'t> {
    fn read(text: &'t str, start: usize) -> Self {
        let mut root = Self { names: Vec::new(), ends_at: start, opaque: false };
        let mut leading = true;
        loop {
            let at = skip_spaces(text, root.ends_at);
            let Some((segment, end)) = segment(text, at) else {
                root.ends_at = at;
                return root;
            };
            root.ends_at = end;
            leading &= root.names.len() < 3;
            match segment {
                Segment::Name(name) if leading => root.names.push((name, end)),
                Segment::Name(_) => {}
                Segment::Escaped => {
                    root.opaque |= leading;
                    leading = false;
                }
                Segment::Index => leading = false,
            }
        }
    }

    fn note(&self, shape: &mut Shape) -> Result<(), String> {
        let names: Vec<_> = self.names.iter().map(|(name, _)| *name).collect();
        match names[..] {
            ["inputs", ..] => {}
            ["output", ..] => shape.output = true,
            ["steps", key, ..] => drop(shape.steps.insert(key.to_owned())),
            ["steps"] => shape.all_steps = true,
            [other, ..] => {
                return Err(format!("there is no `{other}`: a query begins with $.inputs, $.steps or $.output"));
            }
            [] if self.opaque => return Err("a query begins with $.inputs, $.steps or $.output".into()),
            [] => (shape.all_steps, shape.output) = (true, true),
        }
        Ok(())
    }
}

enum Segment<'t> {
    Name(&'t str),
    /// A quoted name with escapes in it.
    Escaped,
    Index,
}

/// The singular segment at `at`, if there is one, and where it ends.
fn segment(text: &str, at: usize) -> Option<(Segment<'_>, usize)> {
    let rest = &text[at..];
    if let Some(name) = rest.strip_prefix('.') {
        let length =
            name.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii())).unwrap_or(name.len());
        return (length > 0).then(|| (Segment::Name(&name[..length]), at + 1 + length));
    }
    let start = skip_spaces(text, at + rest.strip_prefix('[').map(|_| 1)?);
    let quote = text[start..].chars().next()?;
    let (segment, end) = if matches!(quote, '\'' | '"') {
        let mut escaped = false;
        let closing = text[start + 1..].find(|c| {
            let closes = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        let end = start + 1 + closing?;
        let name = &text[start + 1..end];
        (if name.contains('\\') { Segment::Escaped } else { Segment::Name(name) }, end + 1)
    } else {
        let length = text[start..].find(|c: char| !(c.is_ascii_digit() || c == '-'))?;
        (Segment::Index, (length > 0).then_some(start + length)?)
    };
    let end = skip_spaces(text, end);
    text[end..].starts_with(']').then_some((segment, end + 1))
}

fn skip_spaces(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start_matches([' ', '\t', '\n', '\r']).len()
}

/// The characters outside of quotes, with their offsets.
fn unquoted(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut quote, mut escaped) = (None, false);
    text.char_indices().filter(move |(_, c)| match quote {
        Some(open) => {
            if *c == open && !escaped {
                quote = None;
            }
            escaped = *c == '\\' && !escaped;
            false
        }
        None if matches!(c, '\'' | '"') => {
            (quote, escaped) = (Some(*c), false);
            false
        }
        None => true,
    })
}
