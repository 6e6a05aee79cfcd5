//! What a synthesis holds to, whatever the domains.

use proptest::prelude::*;

use super::*;
use crate::measures::TextJudge;

fn order(primary: &str, secondary: &[&str], goal: &str) -> SynthesisOrder {
    SynthesisOrder {
        primary_domain: primary.to_owned(),
        secondary_domains: secondary.iter().map(|name| (*name).to_owned()).collect(),
        synthesis_goal: goal.to_owned(),
        seed: 4,
    }
}

fn made(order: &SynthesisOrder) -> SynthesisOutcome {
    synthesise(order, &TextJudge::hashed()).unwrap()
}

const GOAL: &str = "Share computing power fairly between impatient users";

#[test]
fn the_shared_structure_is_named_and_carried_over() {
    let order = order("software", &["ecology", "music"], GOAL);
    let found = made(&order);
    assert_eq!((found.primary_basis, found.mappings.len()), (DomainBasis::Table, 2));
    let ecology = &found.mappings[0];
    assert!(ecology.shared_structure.len() >= 5 && ecology.structural_similarity.unwrap() > 0.4, "{ecology:?}");
    let matched = |relation: &MatchedRelation| {
        let stands = |place: usize| {
            ecology
                .correspondences
                .iter()
                .any(|pair| pair.primary == relation.primary[place] && pair.secondary == relation.secondary[place])
        };
        stands(0) && stands(1)
    };
    assert!(ecology.shared_structure.iter().all(matched));
    // What both domains have is not carried over; a concept that stands for one of the others takes its place.
    for proposal in found.proposals.iter().filter(|proposal| proposal.from_domain == "ecology") {
        let is_matched = |relation: &MatchedRelation| {
            relation.relation == proposal.relation && relation.secondary == proposal.source_concepts
        };
        assert!(!ecology.shared_structure.iter().any(is_matched), "{proposal:?}");
        for (source, target) in proposal.source_concepts.iter().zip(&proposal.target_concepts) {
            let pair = ecology.correspondences.iter().find(|pair| pair.secondary == *source);
            assert!(pair.is_none_or(|pair| pair.primary == *target), "{proposal:?}");
        }
    }
    assert!(found.proposals.iter().any(|proposal| proposal.structural_support > 0.9), "{found:?}");
    assert!(found.proposals.windows(2).all(|pair| pair[0].score >= pair[1].score));
    assert!(found.proposals.len() <= 10 && found.reasons.is_empty());
    assert_eq!(found, made(&order));
    let kept: SynthesisOutcome = serde_json::from_str(&serde_json::to_string(&found).unwrap()).unwrap();
    assert_eq!(kept, found);
}

#[test]
fn unknown_domains_are_read_from_words_and_say_so() {
    let found = made(&order("falconry", &["heraldry", "ecology"], "The falcon protects the field from starlings"));
    assert_eq!((found.primary_basis, found.mappings[0].basis), (DomainBasis::Words, DomainBasis::Words));
    assert!(found.reasons["primary_domain"].contains("1 relations were read from words alone"), "{:?}", found.reasons);
    assert!(found.reasons.contains_key("secondary_domains.0"));
    assert_eq!((found.mappings[0].structural_similarity, found.mappings[1].shared_structure.len()), (None, 1));
    assert_eq!(found.mappings[1].shared_structure[0].relation, "protects");
    let nothing = made(&order("falconry", &["heraldry"], "Train a falcon"));
    assert!(nothing.proposals.is_empty() && nothing.synthesis_score.is_none());
    assert!(nothing.reasons.contains_key("synthesis_score"));
    let itself = made(&order("music", &["songs"], GOAL));
    assert!(itself.proposals.is_empty() && itself.reasons["secondary_domains.0"].contains("same domain"));
}

#[test]
fn faults_name_their_field() {
    let judge = TextJudge::hashed();
    let fault = |order: &SynthesisOrder| synthesise(order, &judge).unwrap_err().to_string();
    assert!(fault(&order("music", &[], GOAL)).contains("secondary_domains"));
    assert!(fault(&order("music", &["art"; 11], GOAL)).contains("secondary_domains"));
    assert!(fault(&order("music", &["art"], "?!")).contains("synthesis_goal"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_order_has_bounded_figures(
        primary in "\\PC{0,30}",
        secondary in proptest::collection::vec("(music|law|\\PC{0,20})", 1..4),
        goal in "(\\PC{0,40}[ .]){0,4}[a-z]{4,9}",
        seed: u64,
    ) {
        let order = SynthesisOrder { primary_domain: primary, secondary_domains: secondary, synthesis_goal: goal, seed };
        if let Ok(found) = synthesise(&order, &TextJudge::hashed()) {
            prop_assert_eq!(found.mappings.len(), order.secondary_domains.len());
            for proposal in &found.proposals {
                for figure in [proposal.novelty, proposal.relevance, proposal.structural_support, proposal.score] {
                    prop_assert!((0.0..=1.0 + 1e-9).contains(&figure), "{:?}", proposal);
                }
            }
        }
    }
}
