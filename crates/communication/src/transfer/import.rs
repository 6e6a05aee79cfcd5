//! Import of messages: all lines are checked before anything is written, and existing messages are kept.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::{
    EXPORT_FORMAT_ID, ExportHeader, ExportTrailer, ImportError, ImportReport, MAX_IMPORT_MESSAGES, TRANSFER_BATCH,
    TransferService,
    export_record::{ExportRecord, RecordFault},
};
use crate::{
    channels::{self, ChannelKey, ChannelRef, MessageChannel, NewChannel},
    encryption::{
        CiphertextBinding, EncryptedContent, EncryptionRequest, EncryptionScope, MessageEncryption, envelope_key,
        prepare_randomness,
    },
    error::{CommunicationError, Result},
    message_log::{ImportOrigin, StoredMessage, add_message_row, find_imported, find_messages, last_id},
    messages::IMPORT_ID_PREFIX,
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

/// Size of content, in bytes of JSON, that is encrypted and written in one transaction.
const MAX_PIECE_BYTES: i64 = 4 << 20;

/// A file that was read.
#[derive(Debug)]
struct ImportedFile {
    /// Agent of the export, and when it was made, as it says.
    source: String,
    /// Messages with the numbers of their lines.
    lines: Vec<(usize, ExportRecord)>,
}

fn line_error(line: usize, (member, message): RecordFault) -> ImportError {
    ImportError::Line { line, member, message }
}

/// Parse the messages of an export of `agent`, with their line numbers. `is_key` tells whether a name looks like an API
/// key and must not be stored.
fn parse_export(
    text: &str,
    agent: &AgentId,
    is_key: impl Fn(&str) -> bool,
) -> std::result::Result<ImportedFile, ImportError> {
    let lines = text.lines().enumerate().map(|(at, text)| (at + 1, text)).filter(|(_, text)| !text.trim().is_empty());
    let lines: Vec<(usize, &str)> = lines.collect();
    let [(first, head), between @ .., (last, end)] = lines.as_slice() else {
        return Err(line_error(1, ("", "an export has a header line and a trailer line".to_owned())));
    };
    let source = match serde_json::from_str::<ExportHeader>(head) {
        Ok(head) if head.format != EXPORT_FORMAT_ID => {
            return Err(line_error(*first, ("format", format!("should be '{EXPORT_FORMAT_ID}'"))));
        }
        Ok(head) if head.agent_id != *agent => {
            return Err(line_error(*first, ("agent_id", "the export belongs to another agent".to_owned())));
        }
        Ok(head) => format!("export of {} at {}", head.agent_id, head.exported_at),
        Err(error) => return Err(line_error(*first, ("", format!("should be the header of an export: {error}")))),
    };
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
        if !seen.insert((line.message_id.clone(), line.sender.clone(), line.recipient.clone())) {
            return Err(line_error(*at, ("message_id", "comes twice".to_owned())));
        }
        found.push((*at, line));
    }
    Ok(ImportedFile { source, lines: found })
}

impl TransferService {
    /// Import an export of the messages of `agent`. Each gets an id of its own, is marked as imported by `by`, and costs
    /// nothing. Messages are known by their sender, recipient and former id, and existing ones are not changed, so that
    /// an interrupted import can be repeated. Nothing is delivered: pending messages become expired.
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
        let file = parse_export(text, agent, is_key)?;
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        prepare_randomness().await;
        let mut total = ImportReport { imported: 0, skipped: 0 };
        let ImportedFile { source, lines } = file;
        for piece in pieces(lines) {
            let count = piece.len() as u64;
            let imported = self.write(by, (agent, &source), piece).await?;
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
    async fn write(&self, by: &Principal, (agent, source): (&AgentId, &str), lines: Vec<ExportRecord>) -> Result<u64> {
        let (transfer, entry) = (self.clone(), self.told(by, agent));
        let (source, imported_by) = (source.to_owned(), by.id());
        let work = async move |tx: &mut Tx| {
            let mut known = known_messages(tx, &lines).await?;
            let mut writing = ImportBatch::begin(&transfer, tx, &lines).await?;
            for line in &lines {
                let key = |id: &MessageId| (id.clone(), line.sender.clone(), line.recipient.clone());
                if !known.contains(&key(&line.message_id)) && known.insert(key(line.original_id())) {
                    let message_id = line.original_id().clone();
                    let (source, imported_by) = (source.clone(), imported_by.clone());
                    writing.add(tx, line, ImportOrigin { source, imported_by, message_id }).await?;
                }
            }
            let count = writing.count;
            let entry = entry.data("messages", json!(count)).data("source", json!(source));
            transfer.audit.add_entry_rows(&mut writing.rows, [entry]);
            writing.end(tx).await?;
            Ok(count)
        };
        self.db.write(work).await
    }
}

/// Ids, senders and recipients of the messages of an export that exist, under their ids or the ids they had in an
/// export.
async fn known_messages(tx: &mut Tx, lines: &[ExportRecord]) -> Result<HashSet<(MessageId, AgentId, AgentId)>> {
    let ids: Vec<&MessageId> = lines.iter().flat_map(|line| [&line.message_id, line.original_id()]).collect();
    let sent = find_messages(tx.conn().await?, &ids).await?.into_iter();
    let sent = sent.map(|StoredMessage { message, .. }| (message.message_id, message.sender, message.recipient));
    let mut known: HashSet<_> = sent.collect();
    for StoredMessage { message, .. } in find_imported(tx.conn().await?, &ids).await? {
        if let Some(origin) = message.imported {
            known.insert((origin.message_id, message.sender, message.recipient));
        }
    }
    Ok(known)
}

/// Divide messages into those that are written in one transaction each.
fn pieces(lines: Vec<(usize, ExportRecord)>) -> Vec<Vec<ExportRecord>> {
    let (mut pieces, mut bytes) = (Vec::<Vec<ExportRecord>>::new(), 0);
    for (_, line) in lines {
        bytes += line.size_bytes;
        match pieces.last_mut() {
            Some(piece) if piece.len() < TRANSFER_BATCH && bytes <= MAX_PIECE_BYTES => piece.push(line),
            _ => {
                bytes = line.size_bytes;
                pieces.push(vec![line]);
            }
        }
    }
    pieces
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
    async fn add(&mut self, tx: &mut Tx, line: &ExportRecord, origin: ImportOrigin) -> Result<()> {
        let spot = self.spot(line);
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        let message_id: MessageId = self.transfer.ids.random_id(IMPORT_ID_PREFIX, 24).into();
        let sealed = self.sealed(tx, line, (&message_id, &spot.id)).await?;
        let mut message = line.message((self.last, message_id), (&spot.id, seq), origin);
        (message.encryption, message.scope) = (sealed.encryption, sealed.scope);
        (message.key_id, message.encrypted) = (sealed.key_id.clone(), sealed.is_encrypted());
        add_message_row(&mut self.rows, &StoredMessage { message, sealed, pushed: false, draft_hash: None });
        self.count += 1;
        Ok(())
    }

    /// An envelope is kept, whatever keys its recipient has now; other content is encrypted at rest.
    async fn sealed(
        &self,
        tx: &mut Tx,
        line: &ExportRecord,
        (message_id, channel): (&MessageId, &ChannelId),
    ) -> Result<EncryptedContent> {
        if let (EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival, Some((encryption, key_id))) =
            (line.scope, envelope_key(&line.content)?)
        {
            let stored = JsonText::from_value(&line.content)
                .map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
            let key_id = Some(key_id.as_str().into());
            return Ok(EncryptedContent { encryption, scope: line.scope, key_id, stored, shared: None });
        }
        let bound = CiphertextBinding { message_id, channel, sender: &line.sender, recipient: Some(&line.recipient) };
        let to = EncryptionRequest { bound, encryption: Some(MessageEncryption::Aes256), encrypt: true };
        Ok(self.transfer.sealing.seal(tx, &to, &line.content, self.now).await?)
    }

    fn spot(&mut self, line: &ExportRecord) -> ChannelRef {
        let place = ChannelKey::for_pair(&line.sender, &line.recipient);
        if let Some(spot) = self.spots.get(&place) {
            return spot.clone();
        }
        let id = self.transfer.ids.next("channel_", 12).into();
        let wanted = NewChannel { kind: ChannelKind::Direct, name: None, members: vec![line.recipient.clone()] };
        let channel = MessageChannel::opened(id, line.sender.clone(), wanted, self.now);
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
        assert_eq!(parse_export(&good, &"a".into(), |_| false).unwrap().lines.len(), 1);
        let pending = text(&[&head, &message(&[("status", json!("pending"))]), end]);
        let found = parse_export(&pending, &"a".into(), |_| false).unwrap().lines;
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
            ("imported", json!({"source": "x", "imported_by": "y", "message_id": ""}), "imported"),
            ("topic", json!("x".repeat(201)), "topic"),
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
