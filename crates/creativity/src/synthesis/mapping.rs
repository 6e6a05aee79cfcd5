//! The structure that two domains share.

use super::{
    domain::{DomainRelation, DomainSchema},
    model::{ConceptPair, MatchedRelation},
};

/// Relations that match, with the concepts that stand for each other.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StructureMapping {
    pub(super) matched: Vec<MatchedRelation>,
    pub(super) pairs: Vec<ConceptPair>,
}

impl StructureMapping {
    /// The concept of the primary domain that plays the part of one of the secondary domain.
    pub(super) fn primary_of(&self, secondary: &str) -> Option<&str> {
        self.pairs.iter().find(|pair| pair.secondary == secondary).map(|pair| pair.primary.as_str())
    }

    /// Whether two concepts may stand for each other: both are free, or they do already.
    fn admits(&self, primary: &str, secondary: &str) -> bool {
        self.pairs.iter().all(|pair| (pair.primary == primary) == (pair.secondary == secondary))
    }

    fn admits_relation(&self, primary: &DomainRelation, secondary: &DomainRelation) -> bool {
        // A concept that relates to itself needs one that does so too.
        (primary.first == primary.second) == (secondary.first == secondary.second)
            && self.admits(&primary.first, &secondary.first)
            && self.admits(&primary.second, &secondary.second)
    }

    fn add(&mut self, primary: &DomainRelation, secondary: &DomainRelation) {
        for (primary, secondary) in [(&primary.first, &secondary.first), (&primary.second, &secondary.second)] {
            let pair = ConceptPair { primary: primary.clone(), secondary: secondary.clone() };
            if !self.pairs.contains(&pair) {
                self.pairs.push(pair);
            }
        }
        self.matched.push(MatchedRelation {
            relation: primary.predicate.clone(),
            primary: [primary.first.clone(), primary.second.clone()],
            secondary: [secondary.first.clone(), secondary.second.clone()],
        });
    }

    /// Add each match that agrees with those before, those first that extend concepts already paired (systematicity).
    fn extend(&mut self, primary: &DomainSchema, secondary: &DomainSchema) {
        loop {
            let is_open = |relation: &DomainRelation| {
                let ends = [relation.first.as_str(), relation.second.as_str()];
                self.matched.iter().all(|matched| matched.relation != relation.predicate || matched.primary != ends)
            };
            let is_free = |relation: &DomainRelation| {
                let ends = [relation.first.as_str(), relation.second.as_str()];
                self.matched.iter().all(|matched| matched.relation != relation.predicate || matched.secondary != ends)
            };
            let anchors = |relation: &DomainRelation| {
                let ends = [&relation.first, &relation.second];
                ends.into_iter().filter(|concept| self.pairs.iter().any(|pair| pair.primary == **concept)).count()
            };
            let candidates = primary.relations.iter().filter(|relation| is_open(relation)).flat_map(|one| {
                let same = move |other: &&DomainRelation| other.predicate == one.predicate && is_free(other);
                secondary.relations.iter().filter(same).map(move |other| (one, other))
            });
            let fitting = candidates.filter(|(one, other)| self.admits_relation(one, other));
            // The first of equals, so that the order of the tables decides.
            let best = fitting.fold(None, |best: Option<(usize, _, _)>, (one, other)| {
                let anchors = anchors(one);
                if best.as_ref().is_some_and(|(most, _, _)| *most >= anchors) {
                    best
                } else {
                    Some((anchors, one, other))
                }
            });
            let Some((_, one, other)) = best else { break };
            self.add(one, other);
        }
    }
}

/// The largest mapping that grows from one pair of relations: each concept stands for one other only, and each pair of
/// relations with the same predicate is tried as the first.
pub(super) fn shared_structure(primary: &DomainSchema, secondary: &DomainSchema) -> StructureMapping {
    let mut best = StructureMapping::default();
    for one in &primary.relations {
        for other in secondary.relations.iter().filter(|other| other.predicate == one.predicate) {
            let mut mapping = StructureMapping::default();
            if !mapping.admits_relation(one, other) {
                continue;
            }
            mapping.add(one, other);
            mapping.extend(primary, secondary);
            if mapping.matched.len() > best.matched.len() {
                best = mapping;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::synthesis::{domain::domain_schema, model::DomainBasis};

    fn schema(relations: &[(&str, &str, &str)]) -> DomainSchema {
        let relation = |(predicate, first, second): &(&str, &str, &str)| DomainRelation {
            predicate: (*predicate).to_owned(),
            first: (*first).to_owned(),
            second: (*second).to_owned(),
        };
        DomainSchema { basis: DomainBasis::Table, relations: relations.iter().map(relation).collect() }
    }

    #[test]
    fn the_atom_is_like_the_solar_system() {
        let solar = schema(&[("attracts", "sun", "planet"), ("circles", "planet", "sun"), ("warms", "sun", "planet")]);
        let atom = schema(&[("attracts", "nucleus", "electron"), ("circles", "electron", "nucleus")]);
        let found = shared_structure(&atom, &solar);
        assert_eq!(found.matched.len(), 2);
        assert_eq!((found.primary_of("sun"), found.primary_of("planet")), (Some("nucleus"), Some("electron")));
    }

    #[test]
    fn a_concept_stands_for_one_other_only() {
        let one = schema(&[("feeds", "a", "b"), ("feeds", "a", "c")]);
        let other = schema(&[("feeds", "x", "y"), ("feeds", "z", "y")]);
        assert_eq!(shared_structure(&one, &other).matched.len(), 1);
        let itself = schema(&[("feeds", "x", "x")]);
        assert!(shared_structure(&one, &itself).matched.is_empty());
        for name in ["biology", "finance", "computing"] {
            let found = shared_structure(&domain_schema(name, ""), &domain_schema("ecology", ""));
            let primary: BTreeSet<&str> = found.pairs.iter().map(|pair| pair.primary.as_str()).collect();
            let secondary: BTreeSet<&str> = found.pairs.iter().map(|pair| pair.secondary.as_str()).collect();
            assert!(found.matched.len() >= 5, "{name}: {found:?}");
            assert_eq!((primary.len(), secondary.len()), (found.pairs.len(), found.pairs.len()), "{name}");
        }
    }
}
