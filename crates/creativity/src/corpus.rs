//! The corpus of a capability: works of the agent's own, and works of others that originality is measured against.

use am_audit::EventType;
use am_core::{
    boxed,
    crypto::sha256_hex,
    ids::{CreativeCapabilityId, CreativeWorkId},
    validation::{FieldPath, Violations, has_length},
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    CreativityService,
    caller::CreativeCaller,
    capabilities::{own_capability, visible_capability},
    error::{CreativityError, Result},
    measures::cluster_count,
    model::{WorkDocument, WorkRole},
    store,
};

/// Texts that a corpus may have.
pub(crate) const MAX_TEXTS: i64 = 200;
/// Bytes of a text.
pub(crate) const MAX_TEXT_BYTES: usize = 64 << 10;
/// Bytes of all texts of a corpus together.
pub(crate) const MAX_CORPUS_BYTES: i64 = 256 << 10;
/// Characters of a title.
const MAX_TITLE_LEN: usize = 200;

/// A text for a corpus: either `text` or `content_base64`.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CorpusText {
    /// The text itself. Default: `content_base64` has it.
    pub text: Option<String>,
    /// Bytes of a file with the text, in base64; they must be UTF-8. Default: `text` has it.
    pub content_base64: Option<String>,
    /// Title, at most 200 characters. Default: none.
    pub title: Option<String>,
    /// `own` (default) for a work of the agent's, `reference` for one that originality is measured against.
    #[serde(default)]
    pub role: CorpusRole,
}

/// What a text of a corpus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CorpusRole {
    /// A work of the agent's own.
    #[default]
    Own,
    /// A work of others.
    Reference,
}

/// Texts to add to a corpus, all or none.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct CorpusBatch {
    /// The texts: 1 to 100, each at most 64 KiB.
    pub texts: Vec<CorpusText>,
}

/// What became of texts that were sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CorpusReport {
    /// Capability of the corpus.
    pub capability_id: CreativeCapabilityId,
    /// Ids of the texts that are new, in their order.
    pub added: Vec<CreativeWorkId>,
    /// Number of texts that the corpus had already.
    pub known: u64,
    /// Number of texts that the corpus has now.
    pub texts: i64,
    /// Bytes of them together.
    pub bytes: i64,
}

/// The bytes that one request may add.
const MAX_BATCH: usize = 100;

/// A text of a request, checked.
struct CheckedText {
    title: Option<String>,
    text: String,
    role: WorkRole,
}

/// Read what was sent as text. The error says what is wrong, and where in the bytes.
fn read_text(sent: &CorpusText) -> std::result::Result<String, (&'static str, String)> {
    match (&sent.text, &sent.content_base64) {
        (Some(_), Some(_)) => Err(("content_base64", "is not sent together with `text`".to_owned())),
        (None, None) => Err(("text", "is missing: send it, or `content_base64`".to_owned())),
        (Some(text), None) => Ok(text.clone()),
        (None, Some(encoded)) => {
            let place = "content_base64";
            let bytes = STANDARD.decode(encoded).map_err(|error| (place, format!("is no base64: {error}")))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                (place, format!("is not UTF-8 from byte {at} on: a text must be sent in this encoding"))
            })?;
            // A mark that some programs write at the begin of a file.
            Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
        }
    }
}

fn check_texts(batch: &CorpusBatch) -> Result<Vec<CheckedText>> {
    let mut faults = Violations::default();
    let count = batch.texts.len();
    faults.require((1..=MAX_BATCH).contains(&count), "texts", format!("must be 1 to {MAX_BATCH} texts"));
    let mut checked = Vec::with_capacity(count.min(MAX_BATCH));
    for (at, sent) in batch.texts.iter().enumerate().take(MAX_BATCH) {
        let place = |member: &str| FieldPath::from([member]).within([at]).within(["texts"]);
        if let Some(title) = &sent.title {
            let good = has_length(title, &(1..=MAX_TITLE_LEN));
            faults.require(good, place("title"), format!("must have 1 to {MAX_TITLE_LEN} characters"));
        }
        let member = if sent.content_base64.is_some() { "content_base64" } else { "text" };
        match read_text(sent) {
            Err((member, message)) => faults.add(place(member), message),
            Ok(text) if !text.chars().any(char::is_alphanumeric) => faults.add(place(member), "has no word"),
            Ok(text) if text.len() > MAX_TEXT_BYTES => {
                faults.add(place(member), format!("has {} bytes: at most {MAX_TEXT_BYTES}", text.len()));
            }
            Ok(text) if text.contains('\0') => faults.add(place(member), "has a NUL character, which no text has"),
            Ok(text) => {
                let role = if sent.role == CorpusRole::Own { WorkRole::Own } else { WorkRole::Reference };
                checked.push(CheckedText { title: sent.title.clone(), text, role });
            }
        }
    }
    faults.finish().map_err(CreativityError::Invalid)?;
    Ok(checked)
}

impl CreativityService {
    /// Add texts to the corpus of a capability.
    ///
    /// # Errors
    /// [`CreativityError::Invalid`] with all faults, also for a corpus that would become too large;
    /// [`CreativityError::NotFound`].
    #[boxed]
    pub async fn add_corpus(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        batch: CorpusBatch,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CorpusReport>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let checked = check_texts(&batch)?;
        let mut conn = self.0.db.read().await?;
        visible_capability(&mut conn, caller, id).await?;
        let mut own: Vec<String> = store::works(&mut conn, id, WorkRole::Own, MAX_TEXTS)
            .await?
            .into_iter()
            .rev()
            .map(|work| work.text)
            .collect();
        drop(conn);
        own.extend(checked.iter().filter(|text| text.role == WorkRole::Own).map(|text| text.text.clone()));
        let variety = self.variety_of(own).await?;
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let row = own_capability(tx, &caller, &id, now).await?;
            let conn = tx.conn().await?;
            let (mut texts, mut bytes) = store::corpus_size(conn, &id).await?;
            let mut rows = RowBatch::default();
            let (mut added, mut known) = (Vec::new(), 0);
            let mut seen = std::collections::BTreeSet::new();
            for CheckedText { title, text, role } in checked {
                let sha256 = sha256_hex(text.as_bytes());
                let is_known = store::has_work(conn, &id, role, &sha256).await?;
                if is_known || !seen.insert((role, sha256.clone())) {
                    known += 1;
                    continue;
                }
                texts += 1;
                bytes += text.len() as i64;
                let work = WorkDocument {
                    id: this.0.ids.next("work_", 12).into(),
                    capability_id: id.clone(),
                    role,
                    title,
                    text,
                    sha256,
                    created_at: now,
                };
                store::insert_work(&mut rows, &work);
                added.push(work.id);
            }
            if texts > MAX_TEXTS || bytes > MAX_CORPUS_BYTES {
                let text = format!(
                    "the corpus would have {texts} texts of {bytes} bytes: at most {MAX_TEXTS} of {MAX_CORPUS_BYTES}"
                );
                return Err(CreativityError::field("texts", text));
            }
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "creative_corpus", "extended", now);
            let entry = entry.data("capability_id", json!(id)).data("added", json!(added));
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            store::store_variety(tx, &row, variety, now).await?;
            Ok(CorpusReport { capability_id: id, added, known, texts, bytes })
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Return a page of a capability's texts, the newest first: its corpus, and the creations that were evaluated.
    ///
    /// # Errors
    /// [`CreativityError::NotFound`].
    #[boxed]
    pub async fn list_corpus(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        page: &PageRequest,
    ) -> Result<Vec<WorkDocument>> {
        let mut conn = self.0.db.read_list().await?;
        visible_capability(&mut conn, caller, id).await?;
        Ok(store::list_works(&mut conn, id, page).await?)
    }

    /// Remove a text from the corpus of a capability.
    ///
    /// # Errors
    /// [`CreativityError::NotFound`], also for a creation that was evaluated: it stays.
    #[boxed]
    pub async fn remove_corpus_text(
        &self,
        caller: &CreativeCaller,
        id: &CreativeCapabilityId,
        work_id: &CreativeWorkId,
    ) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        visible_capability(&mut conn, caller, id).await?;
        let own = store::works(&mut conn, id, WorkRole::Own, MAX_TEXTS).await?;
        drop(conn);
        let rest = own.into_iter().rev().filter(|work| work.id != *work_id).map(|work| work.text).collect();
        let variety = self.variety_of(rest).await?;
        let (this, caller, id, work_id, now) = (self.clone(), caller.clone(), id.clone(), work_id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let row = own_capability(tx, &caller, &id, now).await?;
            if !store::delete_work(tx, &id, &work_id).await? {
                return Err(CreativityError::NotFound("Text"));
            }
            store::store_variety(tx, &row, variety, now).await?;
            let entry = this.entry(&caller, EventType::WorkflowUpdated, "creative_corpus", "reduced", now);
            let entry = entry.data("capability_id", json!(id)).data("removed", json!(work_id));
            this.0.audit.append(tx, vec![entry]).await?;
            Ok::<_, CreativityError>(())
        };
        self.0.db.write(work).await
    }

    /// Number of kinds of works, the oldest first; `None` without any.
    async fn variety_of(&self, works: Vec<String>) -> Result<Option<i64>> {
        if works.is_empty() {
            return Ok(None);
        }
        self.judged(move |judge| {
            let works: Vec<&str> = works.iter().map(String::as_str).collect();
            let vectors = judge.vectors(&works)?;
            Ok(Some(cluster_count(&vectors, judge.embedding().same_kind()) as i64))
        })
        .await
    }

    pub(crate) fn work_document(
        &self,
        id: &CreativeCapabilityId,
        role: WorkRole,
        title: Option<String>,
        text: String,
        now: Timestamp,
    ) -> WorkDocument {
        let sha256 = sha256_hex(text.as_bytes());
        let work_id = self.0.ids.next("work_", 12).into();
        WorkDocument { id: work_id, capability_id: id.clone(), role, title, text, sha256, created_at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(json: serde_json::Value) -> Result<Vec<CheckedText>> {
        check_texts(&serde_json::from_value(json!({"texts": json})).unwrap())
    }

    fn places(json: serde_json::Value) -> Vec<String> {
        match sent(json) {
            Err(CreativityError::Invalid(faults)) => faults.iter().map(|fault| fault.path.to_string()).collect(),
            _ => panic!("it was taken"),
        }
    }

    #[test]
    fn a_corpus_in_another_encoding_names_the_place() {
        let latin = STANDARD.encode(b"Br\xfccke");
        let found = sent(json!([{"text": "fine"}, {"content_base64": latin}]));
        let Err(CreativityError::Invalid(faults)) = found else { panic!("it was taken") };
        assert_eq!(faults[0].path.to_string(), "texts.1.content_base64");
        assert!(faults[0].message.contains("from byte 2"), "{}", faults[0].message);
        let utf = STANDARD.encode("\u{feff}Br\u{fc}cke");
        assert_eq!(sent(json!([{"content_base64": utf}])).unwrap()[0].text, "Br\u{fc}cke");
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        let found = places(json!([
            {}, {"text": " . "}, {"text": long}, {"content_base64": "?"}, {"text": "a", "content_base64": "YQ=="},
            {"text": "a\u{0}b"}, {"text": "fine", "title": ""},
        ]));
        let expected = [
            "texts.0.text",
            "texts.1.text",
            "texts.2.text",
            "texts.3.content_base64",
            "texts.4.content_base64",
            "texts.5.text",
            "texts.6.title",
        ];
        assert_eq!(found, expected);
        assert_eq!(places(json!([])), ["texts"]);
    }
}
