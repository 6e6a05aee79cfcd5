//! What is wrong with a value that was sent: where it stands, what is wrong, and a stable word for it. Every module
//! reports its violations in these types, all of one request at once.

use std::{fmt, ops::RangeInclusive};

/// One segment of a [`FieldPath`]. An object may have a member `1`, which is no item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// A member of an object.
    Member(String),
    /// An item of a list, counted from 0.
    Item(usize),
}

impl From<&str> for PathSegment {
    fn from(member: &str) -> Self {
        Self::Member(member.to_owned())
    }
}

impl From<&String> for PathSegment {
    fn from(member: &String) -> Self {
        Self::Member(member.clone())
    }
}

impl From<String> for PathSegment {
    fn from(member: String) -> Self {
        Self::Member(member)
    }
}

impl From<usize> for PathSegment {
    fn from(item: usize) -> Self {
        Self::Item(item)
    }
}

impl PartialEq<str> for PathSegment {
    fn eq(&self, other: &str) -> bool {
        matches!(self, Self::Member(member) if member == other)
    }
}

impl fmt::Display for PathSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(member) => f.write_str(member),
            Self::Item(item) => write!(f, "{item}"),
        }
    }
}

/// The path from a request's body to a value, such as `steps`, `score`, `depends_on`, 0. An empty path is the body itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<PathSegment>);

impl FieldPath {
    /// The segments, outermost first.
    pub fn segments(&self) -> &[PathSegment] {
        &self.0
    }

    /// Append a segment.
    pub fn push(&mut self, segment: impl Into<PathSegment>) {
        self.0.push(segment.into());
    }

    /// Remove the last segment.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// The same path, seen from further out.
    #[must_use]
    pub fn within<S: Into<PathSegment>>(self, outer: impl IntoIterator<Item = S>) -> Self {
        outer.into_iter().map(Into::into).chain(self.0).collect()
    }
}

impl<S: Into<PathSegment>> FromIterator<S> for FieldPath {
    fn from_iter<I: IntoIterator<Item = S>>(segments: I) -> Self {
        Self(segments.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<PathSegment>, const N: usize> From<[S; N]> for FieldPath {
    fn from(segments: [S; N]) -> Self {
        segments.into_iter().collect()
    }
}

impl From<&str> for FieldPath {
    fn from(member: &str) -> Self {
        [member].into()
    }
}

/// The path that a deserializer stopped at.
impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment::{Enum, Map, Seq, Unknown};
        let segment = |segment: &_| match segment {
            Seq { index } => Some(PathSegment::from(*index)),
            Map { key: name } | Enum { variant: name } => Some(name.into()),
            Unknown => None,
        };
        path.iter().filter_map(segment).collect()
    }
}

impl IntoIterator for FieldPath {
    type Item = PathSegment;
    type IntoIter = std::vec::IntoIter<PathSegment>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Segments joined by dots: `steps.score.depends_on.0`.
impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            write!(f, "{}{segment}", if at == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

/// One value that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where it stands.
    pub path: FieldPath,
    /// What is wrong with it, for a person.
    pub message: String,
    /// A stable word for programs: `value_error`, `missing`, `string_type`, ...
    pub kind: &'static str,
}

impl Violation {
    /// A value of the right type that is wrong all the same: kind `value_error`.
    pub fn new(path: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), kind: "value_error" }
    }

    /// A value that serde could not read, at the path where it stopped.
    pub fn unreadable<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> Self {
        Self::new(error.path(), error.inner().to_string())
    }

    /// The same violation, with its path seen from further out.
    #[must_use]
    pub fn within<S: Into<PathSegment>>(self, outer: impl IntoIterator<Item = S>) -> Self {
        Self { path: self.path.within(outer), ..self }
    }
}

/// `path: message`, or the message alone where the path is empty.
impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.segments().is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// Collects the violations of one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// Record a violation.
    pub fn add(&mut self, path: impl Into<FieldPath>, message: impl Into<String>) {
        self.0.push(Violation::new(path, message));
    }

    /// Record a violation unless `holds`.
    pub fn require(&mut self, holds: bool, path: impl Into<FieldPath>, message: impl Into<String>) {
        if !holds {
            self.add(path, message);
        }
    }

    /// Record a violation unless `value` is within `range`; what is not given is not checked.
    pub fn require_within<T>(&mut self, value: Option<T>, range: &RangeInclusive<T>, path: impl Into<FieldPath>)
    where
        T: PartialOrd + fmt::Display,
    {
        if value.is_some_and(|value| !range.contains(&value)) {
            self.add(path, format!("must be from {} to {}", range.start(), range.end()));
        }
    }

    /// The value of `result`, or none and its violations recorded.
    pub fn take<T>(&mut self, result: Result<T, impl Into<Self>>) -> Option<T> {
        result.map_err(|error| self.0.extend(error.into().0)).ok()
    }

    /// All that were recorded.
    ///
    /// # Errors
    /// At least one.
    pub fn finish(self) -> Result<(), Vec<Violation>> {
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }

    /// `value`, if there is one and nothing was recorded.
    ///
    /// # Errors
    /// All that were recorded. There must be some where there is no value.
    pub fn finish_with<T>(self, value: Option<T>) -> Result<T, Vec<Violation>> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(self.0),
        }
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self(vec![violation])
    }
}

impl From<Vec<Violation>> for Violations {
    fn from(violations: Vec<Violation>) -> Self {
        Self(violations)
    }
}

impl Extend<Violation> for Violations {
    fn extend<I: IntoIterator<Item = Violation>>(&mut self, violations: I) {
        self.0.extend(violations);
    }
}

impl From<Violations> for Vec<Violation> {
    fn from(violations: Violations) -> Self {
        violations.0
    }
}

/// All of `violations` in one line, separated by semicolons.
pub fn join(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// `violations` of the value of `member`, seen from the object that has it.
pub fn within(member: &str, violations: Vec<Violation>) -> Vec<Violation> {
    violations.into_iter().map(|violation| violation.within([member])).collect()
}

/// Whether `text` has as many characters as `length` says.
pub fn has_length(text: &str, length: &RangeInclusive<usize>) -> bool {
    length.contains(&text.chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_tell_members_from_items() {
        let violation = Violation::new(["depends_on"], "is unknown").within(["steps", "1"]);
        assert_eq!(violation.to_string(), "steps.1.depends_on: is unknown");
        assert_ne!(FieldPath::from(["1"]), FieldPath::from([1]));
        let mut path = violation.path;
        path.push(0);
        assert_eq!(path.to_string(), "steps.1.depends_on.0");
        path.pop();
        assert!(path.segments().last().is_some_and(|last| last == "depends_on"));
        assert_eq!(Violation::new(FieldPath::default(), "is empty").to_string(), "is empty");
    }

    #[test]
    fn all_violations_are_collected() {
        let mut violations = Violations::default();
        assert_eq!(violations.clone().finish_with(Some(1)), Ok(1));
        violations.require_within(Some(5), &(1..=3), "count");
        violations.require_within(Some(f64::NAN), &(0.0..=1.0), "share");
        violations.require_within(None::<i64>, &(1..=3), "absent");
        violations.require(false, ["a", "b"], "is wrong");
        assert_eq!(violations.take(Err::<(), _>(Violation::new("c", "is worse"))), None);
        assert_eq!(violations.take(Ok::<_, Vec<Violation>>(2)), Some(2));
        let found = violations.finish_with(Some(1)).unwrap_err();
        assert_eq!(join(&found), "count: must be from 1 to 3; share: must be from 0 to 1; a.b: is wrong; c: is worse");
    }

    #[test]
    fn a_deserializer_tells_where_it_stopped() {
        let json = r#"{"a": [1, "x"]}"#;
        let read: Result<std::collections::BTreeMap<String, Vec<u8>>, _> =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(json));
        let violation = Violation::unreadable(&read.unwrap_err());
        assert_eq!(violation.path, FieldPath::from([PathSegment::from("a"), PathSegment::from(1)]));
    }
}
