//! A statement's text with parameters, lists and optional sections, and what it is for the values that are bound.

use std::fmt::Write as _;

/// A text, read. See [`crate::statement`] for its form.
pub(super) struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    /// Its number, from 1.
    Parameter(usize),
    /// Left out where one of `wants` is missing.
    Section {
        wants: Vec<usize>,
        parts: Vec<Self>,
    },
}

/// What is bound to a parameter.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    Missing,
    /// It only decides on sections.
    Flag,
    /// This argument, from 1, and how many follow each other.
    Values(usize, usize),
}

impl Part {
    /// About how many bytes its text has.
    fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Parameter(_) => 4,
            Self::Section { parts, .. } => parts.iter().map(Self::length).sum(),
        }
    }
}

impl Template {
    /// Read `text`, whose fragments a dialect has written.
    pub(super) fn read(text: &str) -> Self {
        Self(parse(text))
    }

    /// The text for what is bound; a parameter beyond `bound` has one value, the argument of its own number.
    pub(super) fn render(&self, bound: &[Bound]) -> String {
        let mut out = String::with_capacity(self.0.iter().map(Part::length).sum());
        write_parts(&self.0, bound, &mut out);
        out
    }

    /// The texts with all sections and, if there are any, with none; each parameter has one value.
    pub(super) fn samples(&self) -> Vec<String> {
        let mut samples = vec![self.render(&self.sample(true))];
        if self.0.iter().any(|part| matches!(part, Part::Section { .. })) {
            samples.push(self.render(&self.sample(false)));
        }
        samples
    }

    fn sample(&self, with_sections: bool) -> Vec<Bound> {
        let (mut valued, mut last) = (Vec::new(), 0);
        for part in &self.0 {
            match part {
                Part::Parameter(number) => valued.push(*number),
                Part::Section { wants, parts } => {
                    last = last.max(wants.iter().copied().max().unwrap_or(0));
                    if with_sections {
                        valued.extend(parameters(parts));
                    }
                }
                Part::Text(_) => {}
            }
        }
        last = last.max(valued.iter().copied().max().unwrap_or(0));
        let mut argument = 0;
        let bound = (1..=last).map(|number| match (valued.contains(&number), with_sections) {
            (true, _) => {
                argument += 1;
                Bound::Values(argument, 1)
            }
            (false, true) => Bound::Flag,
            (false, false) => Bound::Missing,
        });
        bound.collect()
    }
}

fn parameters(parts: &[Part]) -> impl Iterator<Item = usize> + '_ {
    parts.iter().filter_map(|part| if let Part::Parameter(number) = part { Some(*number) } else { None })
}

fn parse(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut plain, mut rest, mut quoted) = (String::new(), text, false);
    while let Some(c) = rest.chars().next() {
        let number: String = rest[1.min(rest.len())..].chars().take_while(char::is_ascii_digit).collect();
        if let (false, '$', Ok(parameter)) = (quoted, c, number.parse()) {
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(Part::Parameter(parameter));
            rest = &rest[1 + number.len()..];
        } else if let (false, '[', Some(end)) = (quoted, c, rest.find(']')) {
            parts.push(Part::Text(std::mem::take(&mut plain)));
            parts.push(section(&rest[1..end]));
            rest = &rest[end + 1..];
        } else {
            quoted ^= c == '\'';
            plain.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    parts.push(Part::Text(plain));
    parts
}

fn section(text: &str) -> Part {
    let guard = text.strip_prefix('?').and_then(|text| {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        Some((text[..digits].parse().ok()?, &text[digits..]))
    });
    let (mut wants, text): (Vec<usize>, &str) = guard.map_or((Vec::new(), text), |(guard, rest)| (vec![guard], rest));
    let parts = parse(text);
    wants.extend(parameters(&parts));
    Part::Section { wants, parts }
}

fn push_argument(out: &mut String, number: usize) {
    // Writing to a string does not fail.
    let _ = write!(out, "${number}");
}

fn write_parts(parts: &[Part], bound: &[Bound], out: &mut String) {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Parameter(number) => match bound.get(number - 1) {
                None => push_argument(out, *number),
                Some(Bound::Values(first, count)) if *count > 0 => {
                    push_argument(out, *first);
                    for argument in first + 1..first + count {
                        out.push_str(", ");
                        push_argument(out, argument);
                    }
                }
                Some(_) => out.push_str("NULL"),
            },
            Part::Section { wants, parts } => {
                let missing = |number: &usize| matches!(bound.get(number - 1), Some(Bound::Missing));
                if !wants.iter().any(missing) {
                    write_parts(parts, bound, out);
                }
            }
        }
    }
}
