//! Import of messages: all lines are checked before anything is written, and existing messages are kept.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::{
    End, FORMAT, Head, ImportError, Imported, MOST, TOGETHER, Transfer,
    line::{Line, Wrong},
};
use crate::{
    channels::{self, Channel, Place, Spot},
    error::{Error, Result},
    messages::{Stored, by_message_ids, last_id, push},
    model::{ChannelKind, ChannelStatus},
    sealing::{Bound, Encryption, Envelope, Scope, SealFor, Sealed},
};
use am_audit::{Entry, EventType};
use am_db::{
    Tx,
    batch::Batch,
    codec::{Doc, Timestamp},
    once::{Done, Once},
    principal::Principal,
    rows::Rows,
};

fn refused(line: usize, (member, message): Wrong) -> ImportError {
    ImportError::Line { line, member, message }
}

/// Parse the messages of an export of `agent`, with their line numbers. `is_key` tells whether a name looks like an API
/// key and must not be stored.
fn read(
    text: &str,
    agent: &str,
    is_key: impl Fn(&str) -> bool,
) -> std::result::Result<Vec<(usize, Line)>, ImportError> {
    let lines = text.lines().enumerate().map(|(at, text)| (at + 1, text)).filter(|(_, text)| !text.trim().is_empty());
    let lines: Vec<(usize, &str)> = lines.collect();
    let [(first, head), between @ .., (last, end)] = lines.as_slice() else {
        return Err(refused(1, ("", "an export has a header line and a trailer line".to_owned())));
    };
    match serde_json::from_str::<Head>(head) {
        Ok(head) if head.format != FORMAT => return Err(refused(*first, ("format", format!("should be '{FORMAT}'")))),
        Ok(head) if head.agent_id != agent => {
            return Err(refused(*first, ("agent_id", "the export belongs to another agent".to_owned())));
        }
        Ok(_) => {}
        Err(error) => return Err(refused(*first, ("", format!("should be the header of an export: {error}")))),
    }
    match serde_json::from_str::<End>(end) {
        Ok(End { end: true, messages }) if messages == between.len() as u64 => {}
        Ok(_) => {
            let message = format!("there are {} messages before it", between.len());
            return Err(refused(*last, ("messages", message)));
        }
        Err(error) => {
            return Err(refused(
                *last,
                ("", format!("should be the trailer with the number of messages; was the file truncated? {error}")),
            ));
        }
    }
    if between.len() > MOST {
        return Err(refused(between[MOST].0, ("", format!("at most {MOST} messages can be imported at once"))));
    }
    let mut seen = HashSet::new();
    let mut found = Vec::with_capacity(between.len());
    for (at, text) in between {
        let line = Line::read(text, agent).map_err(|wrong| refused(*at, wrong))?;
        for (member, name) in [("sender", &line.sender), ("recipient", &line.recipient)] {
            if is_key(name) {
                return Err(refused(*at, (member, "is an API key, which is never stored".to_owned())));
            }
        }
        if !seen.insert(line.message_id.clone()) {
            return Err(refused(*at, ("message_id", "comes twice".to_owned())));
        }
        found.push((*at, line));
    }
    Ok(found)
}

impl Transfer {
    /// Import an export of the messages of `agent`. Messages are identified by their ids and existing ones are not
    /// changed, so that an interrupted import can be repeated. Nothing is delivered: pending messages become expired.
    ///
    /// # Errors
    /// Returns [`ImportError::Line`] for the first invalid line; nothing is stored then.
    pub async fn import(
        &self,
        by: &Principal,
        agent: &str,
        text: &str,
        is_key: impl Fn(&str) -> bool,
        once: Option<Once>,
    ) -> std::result::Result<Done<Imported>, ImportError> {
        let lines = read(text, agent, is_key)?;
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        for piece in lines.chunks(TOGETHER) {
            let ids: Vec<&str> = piece.iter().map(|(_, line)| line.message_id.as_str()).collect();
            let known = by_message_ids(&mut *self.db.read().await?, &ids).await?;
            let other = |line: &Line| {
                known.iter().any(|stored| {
                    let there = &stored.message;
                    there.message_id == line.message_id
                        && (there.sender != line.sender || there.recipient != line.recipient)
                })
            };
            if let Some((at, _)) = piece.iter().find(|(_, line)| other(line)) {
                return Err(refused(*at, ("message_id", "another line has this id".to_owned())));
            }
        }
        let mut total = Imported { imported: 0, skipped: 0 };
        let pieces: Vec<Vec<Line>> =
            lines.chunks(TOGETHER).map(|piece| piece.iter().map(|(_, line)| line.clone()).collect()).collect();
        for piece in pieces {
            let count = piece.len() as u64;
            let imported = self.write(by, agent, piece).await?;
            total.imported += imported;
            total.skipped += count - imported;
        }
        let (entry, audit) = (self.told(by, agent).data("imported", json!(total.imported)), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            audit.append(tx, vec![entry.data("skipped", json!(total.skipped))]).await?;
            Ok::<_, Error>(total)
        };
        Ok(self.db.write_once(&self.clock, once, work).await?)
    }

    fn told(&self, by: &Principal, agent: &str) -> Entry {
        let entry = Entry::new(EventType::WorkflowUpdated, self.now()).by(by).of("message", "imported");
        entry.data("agent_id", json!(agent))
    }

    /// Write messages that do not exist yet. Returns their number.
    async fn write(&self, by: &Principal, agent: &str, lines: Vec<Line>) -> Result<u64> {
        let (transfer, entry) = (self.clone(), self.told(by, agent));
        let work = async move |tx: &mut Tx| {
            let ids: Vec<&str> = lines.iter().map(|line| line.message_id.as_str()).collect();
            let known = by_message_ids(tx.conn().await?, &ids).await?;
            let known: HashSet<&str> = known.iter().map(|stored| stored.message.message_id.as_str()).collect();
            let mut writing = Writing::begin(&transfer, tx, &lines).await?;
            for line in lines.iter().filter(|line| !known.contains(line.message_id.as_str())) {
                writing.add(tx, line).await?;
            }
            let count = writing.count;
            let entry = entry.data("messages", json!(count));
            transfer.audit.add_to(&mut writing.rows, [entry]);
            writing.end(tx).await?;
            Ok(count)
        };
        self.db.write(work).await
    }
}

/// State of writing imported messages.
struct Writing<'a> {
    transfer: &'a Transfer,
    now: Timestamp,
    last: i64,
    spots: HashMap<Place, Spot>,
    reached: HashMap<String, i64>,
    channels: Rows,
    members: Rows,
    rows: Rows,
    count: u64,
}

impl<'a> Writing<'a> {
    async fn begin(transfer: &'a Transfer, tx: &mut Tx, lines: &[Line]) -> Result<Self> {
        let places: HashSet<Place> = lines.iter().map(|line| Place::of_pair(&line.sender, &line.recipient)).collect();
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        Ok(Self {
            transfer,
            now: transfer.now(),
            last: last_id(tx.conn().await?).await?,
            spots: channels::spots_by_place(tx.conn().await?, &places).await?,
            reached: HashMap::new(),
            channels: Rows::default(),
            members: Rows::default(),
            rows: Rows::default(),
            count: 0,
        })
    }

    /// Append a message to the direct channel of its two agents.
    async fn add(&mut self, tx: &mut Tx, line: &Line) -> Result<()> {
        let spot = self.spot(line);
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        let mut message = line.message((self.last, &spot.id, seq));
        let sealed = self.sealed(tx, line, &spot.id).await?;
        (message.encryption, message.scope) = (sealed.encryption, sealed.scope);
        (message.key_id, message.encrypted) = (sealed.key_id.clone(), sealed.is_encrypted());
        push(&mut self.rows, &Stored { message, sealed, pushed: false });
        self.count += 1;
        Ok(())
    }

    /// An envelope is kept, whatever keys its recipient has now; other content is encrypted at rest.
    async fn sealed(&self, tx: &mut Tx, line: &Line, channel: &str) -> Result<Sealed> {
        if let (Scope::EndToEnd | Scope::SealedOnArrival, Some(envelope)) = (line.scope, Envelope::of(&line.content)?) {
            let stored = Doc::of(&line.content).map_err(|error| am_db::Error::Unreadable(error.to_string()))?;
            let (encryption, key_id) = (envelope.encryption(), Some(envelope.key_id().to_owned()));
            return Ok(Sealed { encryption, scope: line.scope, key_id, stored });
        }
        let bound =
            Bound { message_id: &line.message_id, channel, sender: &line.sender, recipient: Some(&line.recipient) };
        let to = SealFor { bound, encryption: Some(Encryption::Aes256), encrypt: true };
        Ok(self.transfer.sealing.seal(tx, &to, &line.content, self.now).await?)
    }

    fn spot(&mut self, line: &Line) -> Spot {
        let place = Place::of_pair(&line.sender, &line.recipient);
        if let Some(spot) = self.spots.get(&place) {
            return spot.clone();
        }
        let channel = Channel {
            channel_id: self.transfer.ids.next("channel_", 12),
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
        channels::insert_rows((&mut self.channels, &mut self.members), &channel, Some(&place));
        let (id, kind, owner) = (channel.channel_id, channel.kind, channel.owner);
        let spot = Spot { id, kind, owner, status: ChannelStatus::Open, last_seq: 0 };
        self.spots.insert(place, spot.clone());
        spot
    }

    async fn end(self, tx: &mut Tx) -> Result<()> {
        let mut rows = self.channels;
        rows.append(self.members).append(self.rows);
        let mut batch = Batch::default();
        batch.rows(rows);
        if !self.reached.is_empty() {
            channels::advance(&mut batch, self.reached.iter().map(|(id, seq)| (id.as_str(), *seq)), self.now);
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
        format!(r#"{{"format": "{FORMAT}", "agent_id": "a", "exported_at": "2027-01-01T00:00:00Z"}}"#)
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
        match read(text, "a", |name| name == "secret-key") {
            Err(ImportError::Line { line, member, .. }) => (line, member),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_malformed_is_named_by_its_line() {
        let (head, end) = (head(), r#"{"end": true, "messages": 1}"#);
        let good = text(&[&head, &message(&[]), "", end]);
        assert_eq!(read(&good, "a", |_| false).unwrap().len(), 1);
        let pending = text(&[&head, &message(&[("status", json!("pending"))]), end]);
        let found = read(&pending, "a", |_| false).unwrap();
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
