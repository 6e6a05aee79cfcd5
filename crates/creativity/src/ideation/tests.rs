//! What ideas hold to, whatever the problem.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{judge::cosine, measures::TextJudge};

const TECHNIQUES: [&str; 6] = ["scamper", "triz", "six_hats", "first_principles", "biomimicry", "morphological"];
const PROBLEM: &str = "How can the city library reduce the waiting time for popular books without buying more copies?";

fn order(technique: &str, problem: &str, constraints: Value) -> IdeationOrder {
    IdeationOrder {
        problem_statement: problem.to_owned(),
        domain: "public services".to_owned(),
        technique: technique.to_owned(),
        num_ideas: 5,
        constraints: constraints.as_object().cloned().unwrap_or_default(),
        seed: 11,
    }
}

fn ideas(order: &IdeationOrder) -> IdeationOutcome {
    generate_ideas(order, &TextJudge::hashed()).unwrap()
}

fn fault(error: CreativityError) -> String {
    match error {
        CreativityError::Invalid(_) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_technique_makes_distinct_ideas_with_lineage() {
    for technique in TECHNIQUES {
        let found = ideas(&order(technique, PROBLEM, json!({})));
        assert_eq!(found.ideas.len(), 5, "{technique}: {found:?}");
        assert_eq!((found.technique.as_str(), found.seed), (technique, 11));
        assert!(found.candidates >= 32 && found.duplicates < found.candidates, "{technique}");
        let judge = TextJudge::hashed();
        let texts: Vec<&str> = found.ideas.iter().map(|idea| idea.text.as_str()).collect();
        let vectors = judge.vectors(&texts).unwrap();
        for (at, idea) in found.ideas.iter().enumerate() {
            assert!(!idea.text.contains('{') && !idea.lineage.source_terms.is_empty(), "{idea:?}");
            assert!(idea.lineage.principle.is_some() && !idea.lineage.basis.is_empty(), "{idea:?}");
            let near = vectors[..at].iter().map(|other| cosine(other, &vectors[at])).fold(0.0, f64::max);
            assert!(near < judge.embedding().same_idea(), "{technique}: {idea:?}");
        }
        assert!(found.ideas.windows(2).all(|pair| pair[0].score >= pair[1].score));
        assert_eq!(found.reasons.keys().collect::<Vec<_>>(), ["feasibility"]);
    }
}

#[test]
fn the_same_seed_has_the_same_answer_and_another_seed_another() {
    for technique in TECHNIQUES {
        let first = order(technique, PROBLEM, json!({"must_use": "volunteers"}));
        assert_eq!(ideas(&first), ideas(&first));
        assert_ne!(ideas(&first).ideas, ideas(&IdeationOrder { seed: 12, ..first.clone() }).ideas, "{technique}");
        let kept: IdeationOutcome = serde_json::from_str(&serde_json::to_string(&ideas(&first)).unwrap()).unwrap();
        assert_eq!(kept, ideas(&first));
    }
}

#[test]
fn constraints_decide_what_stands_first() {
    for technique in TECHNIQUES {
        let free = ideas(&order(technique, PROBLEM, json!({})));
        assert!(free.ideas.iter().all(|idea| !idea.text.contains("pocket lockers")), "{technique}");
        let bound = ideas(&order(technique, PROBLEM, json!({"must_use": "pocket lockers", "mood": 3})));
        assert!(bound.ideas[0].text.contains("pocket lockers"), "{technique}: {:?}", bound.ideas[0]);
        assert_eq!(bound.ideas[0].feasibility, Some(1.0));
        assert_eq!(bound.unjudged_constraints, ["mood"]);
        let forbidden = ideas(&order(technique, PROBLEM, json!({"avoid": ["copies", "city library"]})));
        assert_eq!(forbidden.ideas[0].violated_constraints, Vec::<String>::new(), "{technique}");
        assert!(!forbidden.ideas[0].text.contains("copies"), "{technique}");
    }
    // The first principles of the problem's cells demand nothing; one that demands money is never first under a budget.
    let bound = ideas(&order("triz", PROBLEM, json!({"budget": 100})));
    assert_eq!(bound.ideas[0].satisfied_constraints, ["budget"]);
}

#[test]
fn faults_name_their_field() {
    let judge = TextJudge::hashed();
    let unknown = generate_ideas(&order("tarot", PROBLEM, json!({})), &judge).unwrap_err();
    assert!(fault(unknown).contains("scamper, triz, six_hats, first_principles, biomimicry, morphological"));
    for number in [0, 21] {
        let wrong = IdeationOrder { num_ideas: number, ..order("scamper", PROBLEM, json!({})) };
        assert!(fault(generate_ideas(&wrong, &judge).unwrap_err()).contains("1 to 20"));
    }
    let empty = order("scamper", "?! the of", json!({}));
    assert!(fault(technique_prompt(&empty).unwrap_err()).contains("no word"));
}

#[test]
fn texts_of_a_language_model_are_judged_by_the_same_measures() {
    let order = order("scamper", PROBLEM, json!({"must_use": "vans"}));
    let texts =
        ["Send vans with popular books", "send VANS with popular books!", " ", "Paint the door"].map(str::to_owned);
    let found = judge_ideas(&order, texts.to_vec(), &TextJudge::hashed()).unwrap();
    assert_eq!((found.candidates, found.duplicates, found.ideas.len()), (3, 1, 2));
    assert_eq!(found.ideas[0].lineage.source, IdeaSource::LanguageModel);
    assert_eq!(found.ideas[0].lineage.source_terms, ["popular books"]);
    assert_eq!((found.ideas[0].feasibility, found.ideas[1].feasibility), (Some(1.0), Some(0.0)));
    assert!(found.reasons.contains_key("ideas"));
    let none = judge_ideas(&order, vec!["...".to_owned()], &TextJudge::hashed()).unwrap_err();
    assert!(matches!(none, CreativityError::Unavailable(_)));
    let prompt = technique_prompt(&order).unwrap();
    assert!(prompt.contains("one idea per line") && prompt.contains("must_use") && prompt.contains(PROBLEM));
}

#[test]
fn a_problem_of_ten_thousand_words_is_bounded() {
    let words: Vec<String> = (0..10_000).map(|at| format!("part{} ", at % 700)).collect();
    let started = std::time::Instant::now();
    let found = ideas(&order("triz", &words.concat(), json!({})));
    assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
    assert!(found.ideas.iter().all(|idea| idea.text.chars().count() < 600));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_problem_has_bounded_figures(
        problem in "(\\PC{0,40}[ .]){0,5}[a-z]{3,9}",
        domain in "\\PC{0,40}",
        constraint in "\\PC{0,30}",
        technique in 0usize..6,
        num_ideas in 1u32..=20,
        seed: u64,
    ) {
        let constraints = json!({constraint.clone(): constraint, "must": "glass"});
        let order = IdeationOrder { domain, num_ideas, seed, ..order(TECHNIQUES[technique], &problem, constraints) };
        if let Ok(found) = generate_ideas(&order, &TextJudge::hashed()) {
            prop_assert!(!found.ideas.is_empty() && found.ideas.len() <= num_ideas as usize);
            let texts: BTreeSet<&str> = found.ideas.iter().map(|idea| idea.text.as_str()).collect();
            prop_assert_eq!(texts.len(), found.ideas.len());
            for idea in &found.ideas {
                for figure in [Some(idea.novelty), Some(idea.relevance), idea.feasibility, Some(idea.score)].into_iter().flatten() {
                    prop_assert!((0.0..=1.0 + 1e-9).contains(&figure), "{:?}", idea);
                }
            }
        }
    }
}
