//! What an enhancement holds to, whatever the corpus.

use proptest::prelude::*;

use super::*;
use crate::{
    error::{CreativityError, Result},
    judge::{CreationScore, EmbeddingKind, Judge, ReferenceSet},
    measures::TextJudge,
};

const ALGORITHMS: [&str; 5] =
    ["divergent_thinking", "conceptual_blending", "morphological_analysis", "lateral_thinking", "bisociation"];
const CORPUS: [&str; 9] = [
    "The river turns the mill. The mill grinds corn for bread.",
    "A clock counts the hours. Its spring stores the force of a hand.",
    "Bees carry pollen from flower to flower. The garden pays them with sugar.",
    "The harbour sleeps at night. Cranes wait for the first ship. Gulls watch.",
    "A teacher asks a question. The class is silent. Then a girl draws the answer.",
    "Snow covers the railway. Men with shovels free the switches. The train is late.",
    "The baker rises before the sun. Flour hangs in the air like fog.",
    "A market of stalls fills the square. Coins and voices change hands.",
    "Wind leans on the sails. The ship writes its path on the water.",
];

fn corpus() -> Vec<String> {
    CORPUS.map(str::to_owned).to_vec()
}

fn run(name: &str, cycles: u32, seed: u64) -> EnhancementRun {
    EnhancementRun::start(EnhancementAlgorithm::parse(name).unwrap(), corpus(), cycles, seed, &TextJudge::hashed())
        .unwrap()
}

fn finished(mut run: EnhancementRun) -> EnhancementOutcome {
    let judge = TextJudge::hashed();
    while !run.is_done() {
        run.advance(&judge).unwrap();
    }
    run.outcome(&judge).unwrap()
}

#[test]
fn each_algorithm_raises_the_score_that_it_works_for() {
    for name in ALGORITHMS {
        let found = finished(run(name, 40, 3));
        assert_eq!((found.algorithm.as_str(), found.cycles, found.best_scores.len()), (name, 40, 40));
        assert!(found.best_scores.is_sorted(), "{name}: {:?}", found.best_scores);
        assert!(found.best_scores[39] > found.best_scores[0] || found.accepted > 0, "{name}");
        assert_eq!((found.working_texts, found.held_out_texts), (6, 3));
        assert!(found.creations.len() <= 10 && found.accepted >= found.creations.len() as u64, "{name}");
        assert!((found.gain - (found.score_after - found.score_before).max(0.0)).abs() < 1e-12);
        assert_eq!(found.reasons.contains_key("gain"), found.gain <= 0.0);
        for creation in &found.creations {
            assert!(!CORPUS.contains(&creation.text.as_str()) && !creation.lineage.operation.is_empty());
            assert!((1..=40).contains(&creation.lineage.cycle) && !creation.lineage.source_texts.is_empty());
            assert!(creation.lineage.source_texts.iter().all(|at| *at < 9));
            // A text of one sentence has no coherence, and a mean that leaves it out is no gain.
            assert!(creation.score.coherence.is_some(), "{name}: {creation:?}");
        }
    }
}

#[test]
fn it_goes_on_equal_after_an_interruption_at_any_cycle() {
    let judge = TextJudge::hashed();
    for name in ALGORITHMS {
        let whole = finished(run(name, 8, 5));
        let mut interrupted = run(name, 8, 5);
        while !interrupted.is_done() {
            let kept = serde_json::to_string(&interrupted).unwrap();
            interrupted = serde_json::from_str(&kept).unwrap();
            interrupted.advance(&judge).unwrap();
        }
        assert_eq!(interrupted.outcome(&judge).unwrap(), whole, "{name}");
        interrupted.advance(&judge).unwrap();
        assert_eq!(interrupted.cycles_done(), 8);
        assert_ne!(finished(run(name, 8, 6)).best_scores, whole.best_scores, "{name}: another seed");
    }
}

/// Scores that nothing can raise: that of each text is the same.
struct LevelJudge;

impl Judge for LevelJudge {
    fn embedding(&self) -> EmbeddingKind {
        EmbeddingKind::HashedNgrams
    }

    fn vectors(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>> {
        TextJudge::hashed().vectors(texts)
    }

    fn scores(&self, texts: &[&str], _: &ReferenceSet) -> Result<Vec<CreationScore>> {
        let level =
            CreationScore { originality: None, coherence: None, elaboration: 0.5, lexical_diversity: None, total: 0.5 };
        Ok(vec![level; texts.len()])
    }
}

#[test]
fn where_nothing_is_better_the_gain_is_zero() {
    for name in ALGORITHMS {
        let mut run = run(name, 5, 1);
        while !run.is_done() {
            run.advance(&LevelJudge).unwrap();
        }
        // The agent's own texts scored below 0.5 at the start, so what counts is the measure at the end.
        let found = run.outcome(&LevelJudge).unwrap();
        assert_eq!((found.score_before, found.score_after, found.gain), (0.5, 0.5, 0.0), "{name}");
        assert!(found.reasons.contains_key("gain"));
    }
    let algorithm = EnhancementAlgorithm::Bisociation;
    let mut level = EnhancementRun::start(algorithm, corpus(), 5, 1, &LevelJudge).unwrap();
    while !level.is_done() {
        level.advance(&LevelJudge).unwrap();
    }
    let found = level.outcome(&LevelJudge).unwrap();
    assert!(found.creations.is_empty() && found.candidates > 0 && found.accepted == 0);
    assert_eq!(found.reasons.len(), 2);
}

#[test]
fn what_can_not_be_worked_on_is_refused() {
    let judge = TextJudge::hashed();
    let algorithm = EnhancementAlgorithm::DivergentThinking;
    let start = |texts: Vec<String>, cycles| EnhancementRun::start(algorithm, texts, cycles, 1, &judge);
    let few: Vec<String> = ["One. Two.", "?!", "Three", "Four"].map(str::to_owned).to_vec();
    let CreativityError::Conflict(reason) = start(few, 5).unwrap_err() else { panic!("a conflict") };
    assert!(reason.contains("3 texts"), "{reason}");
    for (texts, cycles, field) in [
        (corpus(), 0, "training_cycles"),
        (corpus(), 1_001, "training_cycles"),
        (vec!["One.".to_owned(); 201], 5, "corpus"),
    ] {
        assert!(start(texts, cycles).unwrap_err().to_string().contains(field));
    }
    let unknown = EnhancementAlgorithm::parse("magic").unwrap_err().to_string();
    assert!(ALGORITHMS.iter().all(|name| unknown.contains(name)), "{unknown}");
}

#[test]
fn texts_that_are_all_the_same_make_nothing_new() {
    let texts = vec!["Only this. And that.".to_owned(); 6];
    for name in ALGORITHMS {
        let algorithm = EnhancementAlgorithm::parse(name).unwrap();
        let run = EnhancementRun::start(algorithm, texts.clone(), 5, 2, &TextJudge::hashed()).unwrap();
        let found = finished(run);
        assert!(found.best_scores.is_sorted() && found.gain >= 0.0, "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_corpus_keeps_the_score_from_falling(
        texts in proptest::collection::vec("(\\PC{0,30}[.!? ]){0,4}[a-z]{1,8}", 4..9),
        algorithm in 0usize..5,
        seed: u64,
    ) {
        let judge = TextJudge::hashed();
        let algorithm = EnhancementAlgorithm::parse(ALGORITHMS[algorithm]).unwrap();
        let mut run = EnhancementRun::start(algorithm, texts, 6, seed, &judge).unwrap();
        while !run.is_done() {
            run.advance(&judge).unwrap();
        }
        let found = run.outcome(&judge).unwrap();
        prop_assert!(found.best_scores.is_sorted());
        prop_assert!(found.creations.iter().all(|creation| creation.text.chars().count() < 12 * 420));
        prop_assert!(found.gain.is_finite() && (0.0..=1.0).contains(&found.gain));
    }
}
