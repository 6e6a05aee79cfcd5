//! The names that a schema knows, as a tree, and the walk through a body along it.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize as _,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::http::error::LocationSegment;

/// Begins a sentence of a description that lists further names of a member.
const ALSO_TAKEN: &str = "Also taken as ";
/// Most unknown names that are remembered of a body.
const MAX_FOUND: usize = 20;

/// The names that are known at a place of a document.
#[derive(Debug, Default)]
pub struct NameTree {
    /// Any name is a value of the client's own.
    any: bool,
    /// Whether an object has its place here.
    is_object: bool,
    members: BTreeMap<String, NameTree>,
    /// Members under names of the client's own.
    rest: Option<Box<NameTree>>,
    items: Option<Box<NameTree>>,
    /// A member whose value says which names are known.
    tagged: Option<(String, BTreeMap<String, NameTree>)>,
}

/// A name that nobody knows.
#[derive(Debug)]
pub struct UnknownName<'t> {
    /// Path of the member, its name included.
    pub path: Vec<LocationSegment>,
    /// The member's own name, as the client sent it.
    pub name: String,
    /// Names that are known at this place.
    pub known: Vec<&'t str>,
    /// Whether it is inside an object that only this service has.
    pub is_own: bool,
}

impl NameTree {
    /// The names of a schema of `document`.
    pub fn of_schema(schema: &Value, document: &Value) -> Self {
        Self::read(schema, document, &mut Vec::new())
    }

    /// Whether no name is known here, so that any would be unknown.
    pub fn is_bare(&self) -> bool {
        !self.any && self.members.is_empty() && self.rest.is_none() && self.tagged.is_none()
    }

    /// The names of its members.
    pub fn names(&self) -> Vec<&str> {
        self.members.keys().map(String::as_str).collect()
    }

    fn anything() -> Self {
        Self { any: true, ..Self::default() }
    }

    fn read<'d>(schema: &'d Value, document: &'d Value, inside: &mut Vec<&'d str>) -> Self {
        let Some(members) = schema.as_object().filter(|members| !members.is_empty()) else { return Self::anything() };
        if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
            let target = document.pointer(reference.trim_start_matches('#'));
            // What refers to itself has no bottom; nothing does at present.
            let Some(target) = target.filter(|_| !inside.contains(&reference)) else { return Self::anything() };
            inside.push(reference);
            let tree = Self::read(target, document, inside);
            inside.pop();
            return tree;
        }
        let mut tree = Self::default();
        for list in ["oneOf", "anyOf", "allOf"] {
            let variants = members.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let tag = (list == "oneOf").then(|| common_tag(variants, document)).flatten();
            for variant in variants {
                let read = Self::read(variant, document, inside);
                match tag.as_deref().and_then(|tag| Some((tag, tag_value(variant, document, tag)?))) {
                    Some((tag, value)) => {
                        tree.is_object = true;
                        tree.tagged.get_or_insert_with(|| (tag.to_owned(), BTreeMap::new())).1.insert(value, read);
                    }
                    None => tree.merge(read),
                }
            }
        }
        let composed = ["oneOf", "anyOf", "allOf"].iter().any(|list| members.contains_key(*list));
        tree.read_object(members, document, inside, composed);
        if let Some(items) = members.get("items") {
            tree.items = Some(Box::new(Self::read(items, document, inside)));
        }
        tree
    }

    fn read_object<'d>(
        &mut self,
        members: &'d Map<String, Value>,
        document: &'d Value,
        inside: &mut Vec<&'d str>,
        composed: bool,
    ) {
        let properties = members.get("properties").and_then(Value::as_object);
        for (name, property) in properties.into_iter().flatten() {
            let other = property.get("description").and_then(Value::as_str).map(other_names).unwrap_or_default();
            for name in other.into_iter().chain([name.clone()]) {
                self.members.insert(name, Self::read(property, document, inside));
            }
        }
        match members.get("additionalProperties") {
            None | Some(Value::Bool(false)) => {}
            Some(schema) => self.rest = Some(Box::new(Self::read(schema, document, inside))),
        }
        let kind = members.get("type");
        let says_object = kind
            .is_some_and(|kind| kind == "object" || kind.as_array().is_some_and(|all| all.contains(&"object".into())));
        self.is_object |= properties.is_some() || self.rest.is_some();
        // An object of which nothing is said, or a place of which nothing at all is said.
        let says_nothing =
            kind.is_none() && !composed && !["enum", "const"].iter().any(|word| members.contains_key(*word));
        self.any |= !self.is_object && (says_object || says_nothing);
    }

    fn merge(&mut self, other: Self) {
        self.any |= other.any;
        self.is_object |= other.is_object;
        for (name, tree) in other.members {
            self.members.entry(name).or_default().merge(tree);
        }
        for (mine, theirs) in [(&mut self.rest, other.rest), (&mut self.items, other.items)] {
            match (mine.as_mut(), theirs) {
                (Some(mine), Some(theirs)) => mine.merge(*theirs),
                (None, theirs) => *mine = theirs,
                _ => {}
            }
        }
        if self.tagged.is_none() {
            self.tagged = other.tagged;
        }
    }

    /// The unknown names of a JSON document, at most 20. `None`: it is not JSON.
    pub fn find_unknown(&self, body: &[u8]) -> Option<Vec<UnknownName<'_>>> {
        let mut found = Vec::new();
        let mut reader = serde_json::Deserializer::from_slice(body);
        let walk = NameWalk { tree: self, found: &mut found, path: &mut Vec::new(), is_own: false };
        walk.deserialize(&mut reader).ok()?;
        Some(found)
    }
}

/// The member by whose value several variants are told apart.
fn common_tag(variants: &[Value], document: &Value) -> Option<String> {
    let [first, second, ..] = variants else { return None };
    let names = property_names(first, document);
    names.into_iter().find(|tag| {
        let value = |variant| tag_value(variant, document, tag);
        value(first) != value(second) && variants.iter().all(|variant| value(variant).is_some())
    })
}

fn property_names(schema: &Value, document: &Value) -> Vec<String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let target = document.pointer(reference.trim_start_matches('#'));
        return target.map(|target| property_names(target, document)).unwrap_or_default();
    }
    let own = schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned();
    let parts = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    own.chain(parts.flat_map(|part| property_names(part, document))).collect()
}

/// The value of `tag` in a variant of a tagged schema.
fn tag_value(variant: &Value, document: &Value, tag: &str) -> Option<String> {
    if let Some(reference) = variant.get("$ref").and_then(Value::as_str) {
        return tag_value(document.pointer(reference.trim_start_matches('#'))?, document, tag);
    }
    let parts = variant.get("allOf").and_then(Value::as_array).into_iter().flatten();
    let found = variant.get("properties").and_then(|members| {
        let tag = members.get(tag)?;
        let only = tag.get("enum").and_then(Value::as_array).filter(|words| words.len() == 1).map(|words| &words[0]);
        tag.get("const").or(only)?.as_str().map(str::to_owned)
    });
    found.or_else(|| parts.filter_map(|part| tag_value(part, document, tag)).next())
}

/// Names in a sentence "Also taken as `a` and `b`." of a description.
fn other_names(description: &str) -> Vec<String> {
    let Some((_, rest)) = description.split_once(ALSO_TAKEN) else { return Vec::new() };
    let sentence = rest.split('.').next().unwrap_or_default();
    sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A walk through the part of a document that a tree is of.
struct NameWalk<'w, 't> {
    tree: &'t NameTree,
    found: &'w mut Vec<UnknownName<'t>>,
    path: &'w mut Vec<LocationSegment>,
    is_own: bool,
}

impl<'t> NameWalk<'_, 't> {
    fn below<'v>(&'v mut self, tree: &'t NameTree, is_own: bool) -> NameWalk<'v, 't> {
        NameWalk { tree, found: self.found, path: self.path, is_own: self.is_own || is_own }
    }
}

impl<'de> DeserializeSeed<'de> for NameWalk<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, reader: D) -> Result<(), D::Error> {
        if self.tree.any {
            return IgnoredAny::deserialize(reader).map(drop);
        }
        let tree = self.tree;
        let Some((tag, variants)) = &tree.tagged else { return reader.deserialize_any(self) };
        // The tag may come last.
        let value = Value::deserialize(reader)?;
        let variant = value.get(tag).and_then(Value::as_str).and_then(|word| variants.get(word));
        if let Some(variant) = variant {
            // No more than what was read from the body can fail here.
            let _ = self.below(variant, true).deserialize(&value);
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for NameWalk<'_, '_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        let Some(items) = self.tree.items.as_deref() else {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        };
        for index in 0.. {
            self.path.push(index.into());
            let next = list.next_element_seed(self.below(items, false))?;
            self.path.pop();
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut object: A) -> Result<(), A::Error> {
        let tree = self.tree;
        while let Some(name) = object.next_key::<String>()? {
            let Some(below) = tree.members.get(&name).or(tree.rest.as_deref()) else {
                object.next_value::<IgnoredAny>()?;
                if tree.is_object && self.found.len() < MAX_FOUND {
                    let mut path = self.path.clone();
                    path.push(name.clone().into());
                    self.found.push(UnknownName { path, name, known: tree.names(), is_own: self.is_own });
                }
                continue;
            };
            self.path.push(name.into());
            object.next_value_seed(self.below(below, false))?;
            self.path.pop();
        }
        Ok(())
    }
}
