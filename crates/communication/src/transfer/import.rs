//! Import of messages: all lines are checked before anything is written, and existing messages are kept.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::{
    EXPORT_FORMAT_ID, ExportHeader, ExportTrailer, ImportError, ImportReport, MAX_IMPORT_MESSAGES, TRANSFER_BATCH,
    TransferService,
    export_record::{ExportRecord, RecordFault},
};
use crate::{
    channels::{self, ChannelKey, ChannelRef, MessageChannel},
    encryption::{
        CiphertextBinding, ContentEnvelope, EncryptedContent, EncryptionRequest, EncryptionScope, MessageEncryption,
    },
    error::{CommunicationError, Result},
    message_log::{StoredMessage, add_message_row, find_messages, last_id},
    model::{ChannelKind, ChannelStatus},
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::{AgentId, ChannelId, MessageId};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
    statement_batch::StatementBatch,
};

fn line_error(line: usize, (member, message): RecordFault) -> ImportError {
    ImportError::Line { line, member, message }
}

/// Parse the messages of an export of `agent`, with their line numbers. `is_key` tells whether a name looks like an API
/// key and must not be stored.
fn parse_export(
    text: &str,
    agent: &AgentId,
    is_key: impl Fn(&str) -> bool,
) -> std::result::Result<Vec<(usize, ExportRecord)>, ImportError> {
    let lines = text.lines().enumerate().map(|(at, text)| (at + 1, text)).filter(|(_, text)| !text.trim().is_empty());
    let lines: Vec<(usize, &str)> = lines.collect();
    let [(first, head), between @ .., (last, end)] = lines.as_slice() else {
        return Err(line_error(1, ("", "an export has a header line and a trailer line".to_owned())));
    };
    match serde_json::from_str::<ExportHeader>(head) {
        Ok(head) if head.format != EXPORT_FORMAT_ID => {
            return Err(line_error(*first, ("format", format!("should be '{EXPORT_FORMAT_ID}'"))));
        }
        Ok(head) if head.agent_id != *agent => {
            return Err(line_error(*first, ("agent_id", "the export belongs to another agent".to_owned())));
        }
        Ok(_) => {}
        Err(error) => return Err(line_error(*first, ("", format!("should be the header of an export: {error}")))),
    }
    match serde_json::from_str::<ExportTrailer>(end) {
        Ok(ExportTrailer { end: true, messages }) if messages == between.len() as u64 => {}
        Ok(_) => {
            let message = format!("there are {} messages before it", between.len());
            return Err(line_error(*last, ("messages", message)));
        }
        Err(error) => {
            return Err(line_error(
                *last,
                ("", format!("should be the trailer with the number of messages; was the file truncated? {error}")),
            ));
        }
    }
    if between.len() > MAX_IMPORT_MESSAGES {
        return Err(line_error(
            between[MAX_IMPORT_MESSAGES].0,
            ("", format!("at most {MAX_IMPORT_MESSAGES} messages can be imported at once")),
        ));
    }
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(between.len());
    for (at, text) in between {
        let line = ExportRecord::parse(text, agent).map_err(|wrong| line_error(*at, wrong))?;
        for (member, name) in [("sender", &line.sender), ("recipient", &line.recipient)] {
            if is_key(name) {
                return Err(line_error(*at, (member, "is an API key, which is never stored".to_owned())));
            }
        }
        if !seen.insert(line.message_id.clone()) {
            return Err(line_error(*at, ("message_id", "comes twice".to_owned())));
        }
        found.push((*at, line));
    }
    Ok(found)
}

impl TransferService {
    /// Import an export of the messages of `agent`. Messages are identified by their ids and existing ones are not
    /// changed, so that an interrupted import can be repeated. Nothing is delivered: pending messages become expired.
    ///
    /// # Errors
    /// Returns [`ImportError::Line`] for the first invalid line; nothing is stored then.
    pub async fn import(
        &self,
        by: &Principal,
        agent: &AgentId,
        text: &str,
        is_key: impl Fn(&str) -> bool,
        once: Option<IdempotencyKey>,
    ) -> std::result::Result<IdempotentResult<ImportReport>, ImportError> {
        let lines = parse_export(text, agent, is_key)?;
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        for piece in lines.chunks(TRANSFER_BATCH) {
            let ids: Vec<&MessageId> = piece.iter().map(|(_, line)| &line.message_id).collect();
            let known = find_messages(&mut *self.db.read().await?, &ids).await?;
            let other = |line: &ExportRecord| {
                known.iter().any(|stored| {
                    let there = &stored.message;
                    there.message_id == line.message_id
                        && (there.sender != line.sender || there.recipient != line.recipient)
                })
            };
            if let Some((at, _)) = piece.iter().find(|(_, line)| other(line)) {
                return Err(line_error(*at, ("message_id", "another line has this id".to_owned())));
            }
        }
        let mut total = ImportReport { imported: 0, skipped: 0 };
        let pieces: Vec<Vec<ExportRecord>> =
            lines.chunks(TRANSFER_BATCH).map(|piece| piece.iter().map(|(_, line)| line.clone()).collect()).collect();
        for piece in pieces {
            let count = piece.len() as u64;
            let imported = self.write(by, agent, piece).await?;
            total.imported += imported;
            total.skipped += count - imported;
        }
        let (entry, audit) = (self.told(by, agent).data("imported", json!(total.imported)), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            audit.append(tx, vec![entry.data("skipped", json!(total.skipped))]).await?;
            Ok::<_, CommunicationError>(total)
        };
        Ok(self.db.write_idempotent(&self.clock, once, work).await?)
    }

    fn told(&self, by: &Principal, agent: &AgentId) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, self.now()).by(by).of("message", "imported");
        entry.data("agent_id", json!(agent))
    }

    /// Write messages that do not exist yet. Returns their number.
    async fn write(&self, by: &Principal, agent: &AgentId, lines: Vec<ExportRecord>) -> Result<u64> {
        let (transfer, entry) = (self.clone(), self.told(by, agent));
        let work = async move |tx: &mut Tx| {
            let ids: Vec<&MessageId> = lines.iter().map(|line| &line.message_id).collect();
            let known = find_messages(tx.conn().await?, &ids).await?;
            let known: HashSet<&MessageId> = known.iter().map(|stored| &stored.message.message_id).collect();
            let mut writing = ImportBatch::begin(&transfer, tx, &lines).await?;
            for line in lines.iter().filter(|line| !known.contains(&line.message_id)) {
                writing.add(tx, line).await?;
            }
            let count = writing.count;
            let entry = entry.data("messages", json!(count));
            transfer.audit.add_entry_rows(&mut writing.rows, [entry]);
            writing.end(tx).await?;
            Ok(count)
        };
        self.db.write(work).await
    }
}

/// State of writing imported messages.
struct ImportBatch<'a> {
    transfer: &'a TransferService,
    now: Timestamp,
    last: i64,
    spots: HashMap<ChannelKey, ChannelRef>,
    reached: HashMap<ChannelId, i64>,
    channels: RowBatch,
    members: RowBatch,
    rows: RowBatch,
    count: u64,
}

impl<'a> ImportBatch<'a> {
    async fn begin(transfer: &'a TransferService, tx: &mut Tx, lines: &[ExportRecord]) -> Result<Self> {
        let places: HashSet<ChannelKey> =
            lines.iter().map(|line| ChannelKey::for_pair(&line.sender, &line.recipient)).collect();
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        Ok(Self {
            transfer,
            now: transfer.now(),
            last: last_id(tx.conn().await?).await?,
            spots: channels::channel_refs_by_key(tx.conn().await?, &places).await?,
            reached: HashMap::new(),
            channels: RowBatch::default(),
            members: RowBatch::default(),
            rows: RowBatch::default(),
            count: 0,
        })
    }

    /// Append a message to the direct channel of its two agents.
    async fn add(&mut self, tx: &mut Tx, line: &ExportRecord) -> Result<()> {
        let spot = self.spot(line);
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        let mut message = line.message(self.last, (&spot.id, seq));
        let sealed = self.sealed(tx, line, &spot.id).await?;
        (message.encryption, message.scope) = (sealed.encryption, sealed.scope);
        (message.key_id, message.encrypted) = (sealed.key_id.clone(), sealed.is_encrypted());
        add_message_row(&mut self.rows, &StoredMessage { message, sealed, pushed: false, draft_hash: None });
        self.count += 1;
        Ok(())
    }

    /// An envelope is kept, whatever keys its recipient has now; other content is encrypted at rest.
    async fn sealed(&self, tx: &mut Tx, line: &ExportRecord, channel: &ChannelId) -> Result<EncryptedContent> {
        if let (EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival, Some(envelope)) =
            (line.scope, ContentEnvelope::from_content(&line.content)?)
        {
            let stored = JsonText::from_value(&line.content)
                .map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
            let (encryption, key_id) = (envelope.encryption(), Some(envelope.key_id().as_str().into()));
            return Ok(EncryptedContent { encryption, scope: line.scope, key_id, stored });
        }
        let bound = CiphertextBinding {
            message_id: &line.message_id,
            channel,
            sender: &line.sender,
            recipient: Some(&line.recipient),
        };
        let to = EncryptionRequest { bound, encryption: Some(MessageEncryption::Aes256), encrypt: true };
        Ok(self.transfer.sealing.seal(tx, &to, &line.content, self.now).await?)
    }

    fn spot(&mut self, line: &ExportRecord) -> ChannelRef {
        let place = ChannelKey::for_pair(&line.sender, &line.recipient);
        if let Some(spot) = self.spots.get(&place) {
            return spot.clone();
        }
        let channel = MessageChannel {
            channel_id: self.transfer.ids.next("channel_", 12).into(),
            kind: ChannelKind::Direct,
            name: None,
            owner: line.sender.clone(),
            members: vec![line.sender.clone(), line.recipient.clone()],
            status: ChannelStatus::Open,
            last_seq: 0,
            created_at: self.now,
            last_activity: self.now,
            closed_at: None,
            closed_reason: None,
        };
        channels::add_channel_rows((&mut self.channels, &mut self.members), &channel, Some(&place));
        let spot = ChannelRef {
            id: channel.channel_id,
            kind: channel.kind,
            owner: channel.owner,
            status: ChannelStatus::Open,
            last_seq: 0,
        };
        self.spots.insert(place, spot.clone());
        spot
    }

    async fn end(self, tx: &mut Tx) -> Result<()> {
        let mut rows = self.channels;
        rows.append(self.members).append(self.rows);
        let mut batch = StatementBatch::default();
        batch.rows(rows);
        if !self.reached.is_empty() {
            channels::update_last_seq(&mut batch, self.reached.iter().map(|(id, seq)| (id, *seq)), self.now);
        }
        Ok(batch.execute(tx).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str]) -> String {
        lines.join("\n")
    }

    fn head() -> String {
        format!(r#"{{"format": "{EXPORT_FORMAT_ID}", "agent_id": "a", "exported_at": "2027-01-01T00:00:00Z"}}"#)
    }

    fn message(change: &[(&str, serde_json::Value)]) -> String {
        let mut message = json!({
            "id": 1, "message_id": "m1", "channel_id": "c", "seq": 1, "sender": "a", "recipient": "b",
            "message_type": "text", "priority": "normal", "content": {"x": 1}, "encrypted": true,
            "encryption": "aes256", "scope": "at_rest", "key_id": "k", "size_bytes": 7, "price": 0.001,
            "payment_status": "unpaid", "status": "read", "sent_at": "2027-01-01T00:00:00Z",
            "expires_at": "2027-01-01T00:05:00Z", "delivered_at": null, "read_at": null,
        });
        for (name, value) in change {
            message[*name] = value.clone();
        }
        message.to_string()
    }

    fn wrong(text: &str) -> (usize, &'static str) {
        match parse_export(text, &"a".into(), |name| name == "secret-key") {
            Err(ImportError::Line { line, member, .. }) => (line, member),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_malformed_is_named_by_its_line() {
        let (head, end) = (head(), r#"{"end": true, "messages": 1}"#);
        let good = text(&[&head, &message(&[]), "", end]);
        assert_eq!(parse_export(&good, &"a".into(), |_| false).unwrap().len(), 1);
        let pending = text(&[&head, &message(&[("status", json!("pending"))]), end]);
        let found = parse_export(&pending, &"a".into(), |_| false).unwrap();
        assert_eq!(found[0].1.status.value(), "expired", "an import sends nothing");
        for bad in ["", "{}", &head] {
            assert_eq!(wrong(bad).0, 1);
        }
        assert_eq!(wrong(&text(&[&head.replace("v1", "v9"), end])), (1, "format"));
        assert_eq!(wrong(&text(&[&head.replace("\"a\"", "\"z\""), end])), (1, "agent_id"));
        assert_eq!(wrong(&text(&[&head, &message(&[])])), (2, ""), "the end was cut off");
        assert_eq!(wrong(&text(&[&head, end])), (2, "messages"));
        assert_eq!(wrong(&text(&[&head, &message(&[]), &message(&[]), &end.replace('1', "2")])), (3, "message_id"));
        for (member, value, named) in [
            ("message_id", json!(""), "message_id"),
            ("sender", json!("z"), "sender"),
            ("recipient", json!("a"), "recipient"),
            ("recipient", json!(" b"), "recipient"),
            ("recipient", json!("secret-key"), "recipient"),
            ("price", json!(-1), "price"),
            ("reply_to", json!("\n"), "reply_to"),
            ("scope", json!("end_to_end"), "content"),
            ("content", json!("x".repeat(100_001)), "content"),
            ("status", json!("lost"), ""),
            ("sent_at", json!("yesterday"), ""),
            ("message_type", json!(1), ""),
        ] {
            let bad = text(&[&head, "", &message(&[(member, value)]), end]);
            assert_eq!(wrong(&bad), (3, named), "{member}");
        }
    }
}
