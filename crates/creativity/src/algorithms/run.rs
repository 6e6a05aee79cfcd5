//! An enhancement as a state machine: a cycle makes texts by recombination and keeps those that raise the score.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    algorithm::EnhancementAlgorithm,
    model::{CreationLineage, EnhancedCreation, EnhancementOutcome},
    recombination::{StepMaterial, recombine},
    text_parts::parts,
};
use crate::{
    error::{CreativityError, Result},
    judge::{CreationScore, Judge, ReferenceSet, cosine},
    measures::words::words,
    seeded_choice::SeededChoice,
};

/// Texts that are made and scored in one cycle.
const CANDIDATES_PER_CYCLE: usize = 6;
/// Best texts that are kept.
const MAX_KEPT: usize = 10;
/// Texts of a corpus at least: three to work with, so that a text of two has one to be compared with, and one that is held out.
const MIN_TEXTS: usize = 4;
/// Texts of a corpus at most, and cycles.
const MAX_TEXTS: usize = 200;
const MAX_CYCLES: u32 = 1_000;
/// One text of so many is held out.
const HELD_OUT_SHARE: usize = 3;

/// A text among the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct KeptText {
    text: String,
    /// Its score against the texts that are worked with and that it was not made of.
    score: f64,
    /// Which parts of the score are known. Texts are compared only where the same parts are: a mean of others would rise or fall by
    /// what is left out, such as coherence by having one sentence.
    known: [bool; 3],
    /// Indexes among the texts that are worked with.
    sources: Vec<usize>,
    /// `None` for one of the agent's own texts.
    lineage: Option<CreationLineage>,
}

/// Vectors of the texts that are worked with. They are computed from the texts, so a checkpoint has none.
#[derive(Clone, Debug)]
struct WorkingVectors(Vec<Vec<f32>>);

/// An enhancement under way: the whole state, so that it goes on from a stored copy as it would have gone on. Two thirds of the
/// agent's texts are worked with; a third is held out, and only [`EnhancementRun::outcome`] looks at it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnhancementRun {
    algorithm: EnhancementAlgorithm,
    seed: u64,
    choice: SeededChoice,
    cycles: u32,
    cycles_done: u32,
    /// The agent's texts that are worked with, with their places in the corpus.
    working: Vec<(u32, String)>,
    held_out: Vec<String>,
    /// The agent's own best texts, chosen as the new ones are.
    own_best: Vec<String>,
    kept: Vec<KeptText>,
    best_scores: Vec<f64>,
    candidates: u64,
    accepted: u64,
    #[serde(skip)]
    vectors: Option<WorkingVectors>,
}

impl EnhancementRun {
    /// Begin an enhancement of an agent's texts.
    ///
    /// # Errors
    /// `Conflict` if there are fewer than four texts with words; `Invalid` for a number of cycles outside 1
    /// to 1000 or more than 200 texts; a failed encoder.
    pub fn start(
        algorithm: EnhancementAlgorithm,
        corpus: Vec<String>,
        cycles: u32,
        seed: u64,
        judge: &dyn Judge,
    ) -> Result<Self> {
        if !(1..=MAX_CYCLES).contains(&cycles) {
            return Err(CreativityError::field("training_cycles", format!("must be from 1 to {MAX_CYCLES}")));
        }
        if corpus.len() > MAX_TEXTS {
            return Err(CreativityError::field("corpus", format!("may have {MAX_TEXTS} texts at most")));
        }
        let mut texts: Vec<(u32, String)> = (0..).zip(corpus).filter(|(_, text)| !parts(text).is_empty()).collect();
        if texts.len() < MIN_TEXTS {
            return Err(CreativityError::Conflict(format!(
                "The corpus has {} texts with words, and enhancement needs {MIN_TEXTS}: some to work with and some to measure the \
                 gain on",
                texts.len()
            )));
        }
        let mut choice = SeededChoice::new(seed);
        choice.shuffle(&mut texts);
        let held_out = texts.split_off(texts.len() - (texts.len() / HELD_OUT_SHARE).max(1));
        // In the corpus's order, so that the order of chance decides only what is held out.
        texts.sort_by_key(|(place, _)| *place);
        let mut run = Self {
            algorithm,
            seed,
            choice,
            cycles,
            cycles_done: 0,
            working: texts,
            held_out: held_out.into_iter().map(|(_, text)| text).collect(),
            own_best: Vec::new(),
            kept: Vec::new(),
            best_scores: Vec::new(),
            candidates: 0,
            accepted: 0,
            vectors: None,
        };
        run.keep_own_texts(judge)?;
        Ok(run)
    }

    /// Score the agent's own texts, each against the others, and keep the best.
    fn keep_own_texts(&mut self, judge: &dyn Judge) -> Result<()> {
        let vectors = self.working_vectors(judge)?;
        let mut own = Vec::with_capacity(self.working.len());
        for (at, (_, text)) in self.working.iter().enumerate() {
            let references = other_texts(&vectors.0, &[at]);
            let score = judge.scores(&[text], &references)?.first().copied();
            let (known, score) = score.map_or(([false; 3], 0.0), |score| (known_parts(&score), score.total));
            own.push(KeptText { text: text.clone(), score, known, sources: vec![at], lineage: None });
        }
        self.vectors = Some(vectors);
        sort_best_first(&mut own);
        own.truncate(MAX_KEPT);
        self.own_best = own.iter().map(|kept| kept.text.clone()).collect();
        self.kept = own;
        Ok(())
    }

    fn working_vectors(&mut self, judge: &dyn Judge) -> Result<WorkingVectors> {
        match self.vectors.take() {
            Some(vectors) => Ok(vectors),
            None => {
                let texts: Vec<&str> = self.working.iter().map(|(_, text)| text.as_str()).collect();
                Ok(WorkingVectors(judge.vectors(&texts)?))
            }
        }
    }

    /// Do one cycle; nothing if all are done. On an error the state is as it was.
    ///
    /// # Errors
    /// A failed encoder.
    pub fn advance(&mut self, judge: &dyn Judge) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let vectors = self.working_vectors(judge)?;
        let mut choice = self.choice.clone();
        let made = self.make_candidates(&vectors, &mut choice);
        let mut scores = Vec::with_capacity(made.len());
        for (candidate, _) in &made {
            let references = other_texts(&vectors.0, &candidate.sources);
            scores.extend(judge.scores(&[&candidate.text], &references)?);
        }
        let texts: Vec<&str> = made.iter().map(|(candidate, _)| candidate.text.as_str()).collect();
        let made_vectors = judge.vectors(&texts)?;
        let kept_texts: Vec<&str> = self.kept.iter().map(|kept| kept.text.as_str()).collect();
        let kept_vectors = judge.vectors(&kept_texts)?;
        self.choice = choice;
        self.vectors = Some(vectors);
        self.cycles_done += 1;
        self.candidates += made.len() as u64;
        let scored = made.into_iter().zip(scores.iter().zip(made_vectors));
        self.keep_better(scored, kept_vectors, judge.embedding().same_idea());
        self.best_scores.push(self.kept.first().map_or(0.0, |best| best.score));
        Ok(())
    }

    /// New texts, each with the text that it was made of.
    fn make_candidates(&self, vectors: &WorkingVectors, choice: &mut SeededChoice) -> Vec<(KeptText, String)> {
        let texts: Vec<Vec<String>> = self.working.iter().map(|(_, text)| parts(text)).collect();
        let max_sentences = texts.iter().map(Vec::len).max().unwrap_or_default();
        let longest = texts.iter().map(|parts| word_count(&parts.join(" "))).max().unwrap_or_default();
        let mut made: Vec<(KeptText, String)> = Vec::new();
        for _ in 0..CANDIDATES_PER_CYCLE {
            let Some(parent) = choice.pick(&self.kept) else { break };
            let parent_parts = parts(&parent.text);
            let material = StepMaterial {
                texts: &texts,
                vectors: &vectors.0,
                parent: &parent_parts,
                parent_sources: &parent.sources,
                max_sentences,
            };
            let Some(new) = recombine(self.algorithm, &material, choice) else { continue };
            let is_known =
                self.kept.iter().chain(made.iter().map(|(made, _)| made)).any(|other| other.text == new.text);
            // A text of all others has nothing to be compared with, and one that is longer scores higher by its length.
            let has_others = new.sources.len() < texts.len();
            if is_known || !has_others || word_count(&new.text) * 4 > longest * 5 {
                continue;
            }
            let lineage = CreationLineage {
                cycle: self.cycles_done + 1,
                operation: new.operation.to_owned(),
                source_texts: new.sources.iter().map(|at| self.working[*at].0).collect(),
                terms: new.terms,
                parent: parent.text.clone(),
            };
            let text = KeptText {
                text: new.text,
                score: 0.0,
                known: [false; 3],
                sources: new.sources,
                lineage: Some(lineage),
            };
            made.push((text, parent.text.clone()));
        }
        made
    }

    /// Keep the candidates that are better than a kept text that says the same, or, if none does, than the worst one.
    fn keep_better<'a>(
        &mut self,
        scored: impl Iterator<Item = ((KeptText, String), (&'a CreationScore, Vec<f32>))>,
        mut kept_vectors: Vec<Vec<f32>>,
        same_idea: f64,
    ) {
        let full = self.own_best.len();
        for ((candidate, parent), (score, vector)) in scored {
            let candidate = KeptText { score: score.total, known: known_parts(score), ..candidate };
            let comparable = |at: &usize| self.kept[*at].known == candidate.known;
            let alike: Vec<usize> =
                (0..self.kept.len()).filter(|at| cosine(&kept_vectors[*at], &vector) >= same_idea).collect();
            let parent = self.kept.iter().position(|kept| kept.text == parent);
            let worst = (0..self.kept.len())
                .filter(comparable)
                .min_by(|left, right| self.kept[*left].score.total_cmp(&self.kept[*right].score).then(right.cmp(left)));
            let rival = match alike.as_slice() {
                [] => worst,
                [one] => Some(*one),
                // It says what several say: it may take the parent's place, and no other.
                several => parent.filter(|parent| several.contains(parent)),
            };
            let Some(rival) = rival.filter(comparable) else { continue };
            if candidate.score > self.kept[rival].score {
                self.accepted += 1;
                self.kept[rival] = candidate;
                kept_vectors[rival] = vector;
            }
        }
        sort_best_first(&mut self.kept);
        self.kept.truncate(full);
    }

    /// Number of cycles that were done.
    pub fn cycles_done(&self) -> u32 {
        self.cycles_done
    }

    /// Number of cycles that are wanted.
    pub fn cycles_wanted(&self) -> u32 {
        self.cycles
    }

    /// Whether all cycles were done.
    pub fn is_done(&self) -> bool {
        self.cycles_done >= self.cycles
    }

    /// The result so far, measured against the texts that were held out.
    ///
    /// # Errors
    /// A failed encoder.
    pub fn outcome(&self, judge: &dyn Judge) -> Result<EnhancementOutcome> {
        let held_out: Vec<&str> = self.held_out.iter().map(String::as_str).collect();
        let references = ReferenceSet { vectors: judge.vectors(&held_out)? };
        let own: Vec<&str> = self.own_best.iter().map(String::as_str).collect();
        let kept: Vec<&str> = self.kept.iter().map(|kept| kept.text.as_str()).collect();
        let before = judge.scores(&own, &references)?;
        let after = judge.scores(&kept, &references)?;
        let (score_before, score_after) = (mean_total(&before), mean_total(&after));
        let gain = (score_after - score_before).max(0.0);
        let new = self.kept.iter().zip(after).filter_map(|(kept, score)| {
            Some(EnhancedCreation { text: kept.text.clone(), score, lineage: kept.lineage.clone()? })
        });
        let mut creations: Vec<EnhancedCreation> = new.collect();
        creations.sort_by(|left, right| {
            right.score.total.total_cmp(&left.score.total).then_with(|| left.text.cmp(&right.text))
        });
        let mut reasons = BTreeMap::new();
        if creations.is_empty() {
            let reason = format!("none of {} new texts scored higher than the agent's own", self.candidates);
            reasons.insert("creations".to_owned(), reason);
        }
        if gain <= 0.0 {
            let reason = "against the texts that were held out the new texts score no higher than the agent's own";
            reasons.insert("gain".to_owned(), reason.to_owned());
        }
        Ok(EnhancementOutcome {
            algorithm: self.algorithm,
            cycles: self.cycles_done,
            candidates: self.candidates,
            accepted: self.accepted,
            score_before,
            score_after,
            gain,
            creations,
            best_scores: self.best_scores.clone(),
            working_texts: u32::try_from(self.working.len()).unwrap_or(u32::MAX),
            held_out_texts: u32::try_from(self.held_out.len()).unwrap_or(u32::MAX),
            embedding: judge.embedding(),
            seed: self.seed,
            reasons,
        })
    }
}

/// The vectors of the texts that a text was not made of: what it is compared with.
fn other_texts(vectors: &[Vec<f32>], sources: &[usize]) -> ReferenceSet {
    let others = vectors.iter().enumerate().filter(|(at, _)| !sources.contains(at));
    ReferenceSet { vectors: others.map(|(_, vector)| vector.clone()).collect() }
}

/// Whether originality, coherence and diversity are known.
fn known_parts(score: &CreationScore) -> [bool; 3] {
    [score.originality.is_some(), score.coherence.is_some(), score.lexical_diversity.is_some()]
}

fn word_count(text: &str) -> usize {
    words(text).len()
}

fn sort_best_first(texts: &mut [KeptText]) {
    texts.sort_by(|left, right| right.score.total_cmp(&left.score).then_with(|| left.text.cmp(&right.text)));
}

fn mean_total(scores: &[CreationScore]) -> f64 {
    scores.iter().map(|score| score.total).sum::<f64>() / scores.len().max(1) as f64
}
