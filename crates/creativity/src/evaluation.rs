//! Evaluation of creations: measured, weighed with what experts say, and kept in moving averages.

use std::collections::BTreeMap;

use am_audit::EventType;
use am_core::{
    boxed,
    ids::CreativeCapabilityId,
    validation::{FieldPath, Violations},
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    CreativityService,
    caller::CreativeCaller,
    capabilities::{own_capability, visible_capability},
    corpus::{MAX_TEXT_BYTES, MAX_TEXTS},
    error::{CreativityError, Result},
    measures::{CreationMeasures, CreationText, measure_creation},
    model::{CreationEvaluation, CreativeFigures, WorkRole},
    store,
};

/// Weight of what experts say, where something was measured too.
const EXPERT_WEIGHT: f64 = 0.7;
/// Weight of the newest value in a moving average.
const NEWEST_WEIGHT: f64 = 0.2;
/// Evaluations with experts' feedback that are kept in the coordinator's row.
const MAX_EXPERT_EVALUATIONS: usize = 50;
/// Evaluated creations that are kept.
const MAX_CREATIONS: i64 = 100;
/// Ideas and references that one request may name.
const MAX_LISTED: usize = 100;
/// Members of `creation_data` that hold text.
const TEXT_MEMBERS: [&str; 4] = ["title", "text", "content", "description"];

/// A creation to evaluate.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = EvaluateCreationRequest)]
pub struct EvaluationRequest {
    /// The creation: its text in `text`, `content`, `description` or `title` (all that are there, in the order of these names:
    /// title, text, content, description), and
    /// optionally `ideas` (a list of texts, which count as its ideas) and `references` (a list of texts that originality is
    /// measured against beside the corpus). Without any of them all texts in it are taken.
    pub creation_data: Map<String, Value>,
    /// What experts say: `originality`, `novelty`, `coherence` (from 0 to 1) and `aesthetic_quality` (from 0 to 5), also with
    /// `_score` behind the name. Default: nobody was asked.
    pub expert_feedback: Option<BTreeMap<String, f64>>,
}

/// A creation as it was sent, read.
struct ReadCreation {
    title: Option<String>,
    creation: CreationText,
    references: Vec<String>,
}

/// The texts of a list in `creation_data`.
fn read_list(data: &Map<String, Value>, name: &str, faults: &mut Violations) -> Vec<String> {
    let place = || FieldPath::from([name]).within(["creation_data"]);
    let Some(value) = data.get(name).filter(|value| !value.is_null()) else { return Vec::new() };
    let Some(items) = value.as_array() else {
        faults.add(place(), "must be a list of texts");
        return Vec::new();
    };
    faults.require(items.len() <= MAX_LISTED, place(), format!("must be at most {MAX_LISTED} texts"));
    let mut found = Vec::new();
    for (at, item) in items.iter().enumerate().take(MAX_LISTED) {
        let text = item.as_str().filter(|text| text.len() <= MAX_TEXT_BYTES && text.chars().any(char::is_alphanumeric));
        match text {
            Some(text) => found.push(text.to_owned()),
            None => {
                let path = FieldPath::from([at]).within([name]).within(["creation_data"]);
                faults.add(path, format!("must be a text with a word, of at most {MAX_TEXT_BYTES} bytes"));
            }
        }
    }
    found
}

fn read_creation(data: &Map<String, Value>, faults: &mut Violations) -> ReadCreation {
    let ideas = read_list(data, "ideas", faults);
    let references = read_list(data, "references", faults);
    let mut parts: Vec<&str> = Vec::new();
    for name in TEXT_MEMBERS {
        match data.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) => parts.push(text),
            Some(_) => faults.add(FieldPath::from([name]).within(["creation_data"]), "must be a text"),
        }
    }
    if parts.is_empty() && ideas.is_empty() {
        parts = data.values().filter_map(Value::as_str).collect();
    }
    parts.extend(ideas.iter().map(String::as_str));
    let text = parts.join("\n");
    if !text.chars().any(char::is_alphanumeric) {
        faults.add("creation_data", "holds no text with a word: send `text`, or `ideas`");
    }
    if text.len() > MAX_TEXT_BYTES {
        faults.add("creation_data", format!("holds {} bytes of text: at most {MAX_TEXT_BYTES}", text.len()));
    }
    let title = data.get("title").and_then(Value::as_str).map(|title| title.chars().take(200).collect());
    ReadCreation { title, creation: CreationText { text, ideas }, references }
}

/// What experts said of the figures, and the names of what is none.
fn read_feedback(feedback: Option<&BTreeMap<String, f64>>, faults: &mut Violations) -> (CreativeFigures, Vec<String>) {
    let (mut figures, mut unused) = (CreativeFigures::default(), Vec::new());
    for (name, value) in feedback.into_iter().flatten() {
        let place = match name.strip_suffix("_score").unwrap_or(name) {
            "originality" => (&mut figures.originality, 1.0),
            "novelty" => (&mut figures.novelty, 1.0),
            "coherence" => (&mut figures.coherence, 1.0),
            "aesthetic_quality" | "aesthetic" => (&mut figures.aesthetic_quality, 5.0),
            _ => {
                unused.push(name.clone());
                continue;
            }
        };
        let (figure, most) = place;
        let path = FieldPath::from([name.as_str()]).within(["expert_feedback"]);
        faults.require((0.0..=most).contains(value), path, format!("must be from 0 to {most}"));
        *figure = Some(*value);
    }
    (figures, unused)
}

/// What was measured and what experts said, weighed.
fn weigh(measured: Option<f64>, expert: Option<f64>) -> Option<f64> {
    match (measured, expert) {
        (Some(measured), Some(expert)) => Some(EXPERT_WEIGHT * expert + (1.0 - EXPERT_WEIGHT) * measured),
        (one, other) => one.or(other),
    }
}

/// An exponentially weighted moving average with one more value.
fn moved(before: Option<f64>, value: Option<f64>) -> Option<f64> {
    match (before, value) {
        (Some(before), Some(value)) => Some(before + NEWEST_WEIGHT * (value - before)),
        (before, value) => value.or(before),
    }
}

fn pairwise(
    one: &CreativeFigures,
    other: &CreativeFigures,
    join: impl Fn(Option<f64>, Option<f64>) -> Option<f64>,
) -> CreativeFigures {
    CreativeFigures {
        originality: join(one.originality, other.originality),
        novelty: join(one.novelty, other.novelty),
        aesthetic_quality: join(one.aesthetic_quality, other.aesthetic_quality),
        coherence: join(one.coherence, other.coherence),
    }
}

/// Why figures are null.
fn reasons_of(combined: &CreativeFigures, measures: &CreationMeasures) -> BTreeMap<String, String> {
    let unrated = "no expert has rated it, and nothing computes it".to_owned();
    let of = |name: &str| measures.reasons.get(name).cloned().unwrap_or_default();
    let found = [
        ("originality", combined.originality, of("originality")),
        ("novelty", combined.novelty, of("novelty")),
        ("aesthetic_quality", combined.aesthetic_quality, unrated),
        ("coherence", combined.coherence, of("coherence")),
    ];
    let missing = found.into_iter().filter(|(_, figure, _)| figure.is_none());
    missing.map(|(name, _, reason)| (name.to_owned(), reason)).collect()
}

impl CreativityService {
    /// Evaluate a creation of a capability.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults; [`CreativityError::NotFound`]; [`CreativityError::Unavailable`] when the
    /// encoder failed.
    #[boxed]
    pub async fn evaluate_creation(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        request: EvaluationRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CreationEvaluation>> {
        // What was measured once may be measured differently now: the creation itself is an earlier work by then.
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let mut faults = Violations::default();
        let ReadCreation { title, creation, mut references } = read_creation(&request.creation_data, &mut faults);
        let (expert, unused_feedback) = read_feedback(request.expert_feedback.as_ref(), &mut faults);
        faults.finish().map_err(CreativityError::Invalid)?;
        let mut conn = self.0.db.read().await?;
        visible_capability(&mut conn, caller, id).await?;
        let texts = |works: Vec<crate::model::WorkDocument>| works.into_iter().map(|work| work.text);
        references.extend(texts(store::works(&mut conn, id, WorkRole::Reference, MAX_TEXTS).await?));
        let mut earlier: Vec<String> = texts(store::works(&mut conn, id, WorkRole::Own, MAX_TEXTS).await?).collect();
        earlier.extend(texts(store::works(&mut conn, id, WorkRole::Creation, MAX_CREATIONS).await?));
        drop(conn);
        let text = creation.text.clone();
        let measures = self.judged(move |judge| measure_creation(judge, &creation, &references, &earlier)).await?;
        let measured = CreativeFigures {
            originality: measures.originality,
            novelty: measures.novelty,
            aesthetic_quality: None,
            coherence: measures.coherence,
        };
        let combined = pairwise(&measured, &expert, weigh);
        let reasons = reasons_of(&combined, &measures);
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut row = own_capability(tx, &caller, &id, now).await?;
            let before = CreativeFigures {
                originality: row.originality,
                novelty: row.novelty,
                aesthetic_quality: row.aesthetic,
                coherence: row.coherence,
            };
            let averages = pairwise(&before, &combined, moved);
            row.creations_generated += 1;
            if row.status == "developing" {
                "ready".clone_into(&mut row.status);
            }
            if let Some(feedback) = &request.expert_feedback {
                let mut kept = row.expert_evaluations();
                kept.push(json!({"feedback": feedback, "combined": combined, "evaluated_at": now, "by": caller.principal.id()}));
                let behind = kept.len().saturating_sub(MAX_EXPERT_EVALUATIONS);
                row.expert_evaluations = store::json_text(&&kept[behind..])?;
            }
            store::store_evaluation(tx, &row, &averages, now).await?;
            let mut rows = RowBatch::default();
            store::insert_work(&mut rows, &this.work_document(&id, WorkRole::Creation, title, text, now));
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "creative_capability", "evaluated", now);
            let entry = entry.data("capability_id", json!(id)).change(Some(json!(before)), Some(json!(averages)));
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            store::trim_creations(tx, &id, MAX_CREATIONS).await?;
            Ok::<_, CreativityError>(CreationEvaluation {
                capability_id: id,
                measures,
                expert,
                combined,
                unused_feedback,
                averages,
                creations_generated: row.creations_generated,
                evaluated_at: now,
                reasons,
            })
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        if !done.replayed {
            self.0.metrics.evaluations.inc();
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn experts_weigh_seven_tenths() {
        assert!((weigh(Some(0.5), Some(1.0)).unwrap() - 0.85).abs() < 1e-12);
        assert_eq!((weigh(None, Some(0.3)), weigh(Some(0.2), None), weigh(None, None)), (Some(0.3), Some(0.2), None));
    }

    #[test]
    fn the_first_value_is_the_average_and_later_ones_move_it() {
        assert_eq!(moved(None, Some(0.4)), Some(0.4));
        assert!((moved(Some(0.4), Some(0.9)).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(moved(Some(0.4), None), Some(0.4));
    }

    #[test]
    fn faults_of_a_creation_are_named_at_once() {
        let data = json!({"text": 3, "ideas": ["fine", " "], "references": "none"});
        let mut faults = Violations::default();
        read_creation(data.as_object().unwrap(), &mut faults);
        let feedback = BTreeMap::from([("novelty".to_owned(), 1.5), ("sparkle".to_owned(), 9.0)]);
        let (_, unused) = read_feedback(Some(&feedback), &mut faults);
        let places: Vec<String> = faults.finish().unwrap_err().iter().map(|fault| fault.path.to_string()).collect();
        let expected =
            ["creation_data.ideas.1", "creation_data.references", "creation_data.text", "expert_feedback.novelty"];
        assert_eq!(places, expected);
        assert_eq!(unused, ["sparkle"]);
    }

    #[test]
    fn all_texts_are_taken_where_none_is_named() {
        let mut faults = Violations::default();
        let read = read_creation(json!({"verse": "Rain", "year": 3}).as_object().unwrap(), &mut faults);
        assert_eq!(read.creation.text, "Rain");
        read_creation(json!({"year": 3}).as_object().unwrap(), &mut faults);
        assert_eq!(faults.finish().unwrap_err().len(), 1);
    }

    proptest! {
        #[test]
        fn an_average_stays_among_its_values(values in proptest::collection::vec(0.0_f64..=1.0, 1..40)) {
            let average = values.iter().fold(None, |average, value| moved(average, Some(*value))).unwrap();
            let (least, most) = values.iter().fold((1.0_f64, 0.0_f64), |(l, m), v| (l.min(*v), m.max(*v)));
            prop_assert!((least - 1e-12..=most + 1e-12).contains(&average));
        }
    }
}
