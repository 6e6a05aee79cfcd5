//! Writing of messages: those that wait at the same time are written in one transaction, with a few statements for all
//! of them.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;

use super::{
    model::{Draft, LeftOut, Message, Receipt, To},
    store::{self, Stored},
};
use crate::{
    channels::{self, Channel, Place, Spot},
    delivery::{self, Hub, Pushed},
    error::{Error, Result},
    model::{ChannelKind, ChannelStatus, MessageStatus, PaymentStatus},
    price::price,
    relations::{Refusal, Relations},
    sealing::{Bound, Scope, SealFor, Sealing},
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::{Clock, Ids};
use am_db::{Tx, batch::Batch, codec::Timestamp, principal::Principal, rows::Rows};

/// Maximum number of left-out recipients in a receipt.
const TOLD: usize = 100;
/// Maximum number of recipients of one message.
const MOST_RECIPIENTS: usize = 10_000;

/// Services that writing depends on. Cheap to clone.
#[derive(Clone)]
pub struct Post {
    pub clock: Clock,
    pub ids: Ids,
    pub audit: Audit,
    pub sealing: Sealing,
    pub relations: Relations,
    pub hub: Hub,
}

/// A validated draft with its sender.
#[derive(Clone, Debug)]
pub struct Letter {
    pub draft: Draft,
    /// Size of the content in bytes of JSON.
    pub bytes: usize,
    pub by: Principal,
}

/// Result of writing messages.
pub struct Written {
    /// Number of the last message before.
    pub before: i64,
    /// Number of the last message written.
    pub last: i64,
    /// Result for each message.
    pub answers: Vec<Result<Receipt>>,
    /// Entries for connections, in order.
    pub pushed: Vec<Pushed>,
}

impl Post {
    /// Write messages. A fault of one is returned as its result, and the others are written.
    ///
    /// # Errors
    /// Returns an error of the database; all of them must be rolled back then.
    pub async fn write(&self, tx: &mut Tx, letters: &[Letter]) -> Result<Written> {
        let mut work = Work::begin(self, tx, letters).await?;
        let mut answers = Vec::with_capacity(letters.len());
        for letter in letters {
            let answer = match work.letter(tx, letter).await {
                Err(Error::Db(error)) => return Err(error.into()),
                answer => answer,
            };
            answers.push(answer);
        }
        let (before, last, pushed) = (work.before, work.last, std::mem::take(&mut work.pushed));
        work.end(tx).await?;
        Ok(Written { before, last, answers, pushed })
    }
}

/// State of writing within one transaction.
struct Work<'a> {
    post: &'a Post,
    now: Timestamp,
    before: i64,
    last: i64,
    /// Receipts of messages sent earlier under ids that senders chose.
    known: HashMap<String, Receipt>,
    by_place: HashMap<Place, Spot>,
    by_id: HashMap<String, Spot>,
    /// Last message number of each channel written into.
    reached: HashMap<String, i64>,
    permits: HashMap<(String, String), Option<Refusal>>,
    channels: Rows,
    members: Rows,
    messages: Rows,
    broadcasts: Rows,
    entries: Vec<Entry>,
    pushed: Vec<Pushed>,
}

/// Resolved recipients of a message, and its channel.
struct Addressed {
    spot: Spot,
    recipients: Vec<String>,
    /// Whether they are members or subscribers, who need not know the sender.
    agreed: bool,
    topic: Option<String>,
}

impl<'a> Work<'a> {
    async fn begin(post: &'a Post, tx: &mut Tx, letters: &[Letter]) -> Result<Self> {
        let before = store::last_id(tx.conn().await?).await?;
        let ids: Vec<&str> = letters.iter().filter_map(|letter| letter.draft.message_id.as_deref()).collect();
        let mut known = HashMap::new();
        if !ids.is_empty() {
            for found in store::by_message_ids(tx.conn().await?, &ids).await? {
                known.insert(found.message.message_id.clone(), found.receipt());
            }
            for found in store::broadcasts(tx.conn().await?, &ids).await? {
                known.insert(found.message_id.clone(), found);
            }
        }
        let places: Vec<Place> = letters.iter().filter_map(|letter| place(&letter.draft)).collect();
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        let by_place = channels::spots_by_place(tx.conn().await?, &places).await?;
        let wanted = letters.iter().filter_map(|letter| match &letter.draft.to {
            To::Channel(id) => Some(id.as_str()),
            _ => None,
        });
        let by_id = channels::spots_by_id(tx.conn().await?, &wanted.collect::<Vec<_>>()).await?;
        let mut work = Self {
            post,
            now: Timestamp(post.clock.now()),
            before,
            last: before,
            known,
            by_place,
            by_id,
            reached: HashMap::new(),
            permits: HashMap::new(),
            channels: Rows::default(),
            members: Rows::default(),
            messages: Rows::default(),
            broadcasts: Rows::default(),
            entries: Vec::new(),
            pushed: Vec::new(),
        };
        let direct = letters.iter().filter_map(|letter| match &letter.draft.to {
            To::Agent(recipient) => Some((letter.draft.sender.as_str(), recipient.as_str())),
            _ => None,
        });
        work.ask(tx, direct).await?;
        Ok(work)
    }

    async fn letter(&mut self, tx: &mut Tx, letter: &Letter) -> Result<Receipt> {
        let draft = &letter.draft;
        if let Some(known) = draft.message_id.as_ref().and_then(|id| self.known.get(id)) {
            if known.sender != draft.sender {
                return Err(Error::Conflict(format!("message_id '{}' was used by another sender", known.message_id)));
            }
            return Ok(Receipt { repeated: true, ..known.clone() });
        }
        let id = draft.message_id.clone().unwrap_or_else(|| self.post.ids.next("msg_", 12));
        let receipt = match &draft.to {
            To::Agent(recipient) => self.one_copy(tx, letter, &id, recipient).await?,
            _ => self.several_copies(tx, letter, &id).await?,
        };
        self.entries.push(self.told(letter, &receipt));
        self.known.insert(id, receipt.clone());
        Ok(receipt)
    }

    async fn one_copy(&mut self, tx: &mut Tx, letter: &Letter, id: &str, recipient: &str) -> Result<Receipt> {
        let sender = &letter.draft.sender;
        if let Some(refusal) = self.refusal(sender, recipient, false) {
            return Err(refusal.into());
        }
        let spot = self.spot(Place::of_pair(sender, recipient), ChannelKind::Direct, None, letter, Some(recipient));
        let addressed = Addressed { spot, recipients: Vec::new(), agreed: false, topic: None };
        let stored = self.copy(tx, letter, (id, None), &addressed, recipient).await?;
        Ok(stored.receipt())
    }

    async fn several_copies(&mut self, tx: &mut Tx, letter: &Letter, id: &str) -> Result<Receipt> {
        let mut addressed = self.address(tx, letter).await?;
        let sender = &letter.draft.sender;
        addressed.recipients.retain(|agent| agent != sender);
        if addressed.recipients.len() > MOST_RECIPIENTS {
            let count = addressed.recipients.len();
            return Err(Error::State(format!("{count} agents would receive it, over {MOST_RECIPIENTS}")));
        }
        self.ask(tx, addressed.recipients.iter().map(|recipient| (sender.as_str(), recipient.as_str()))).await?;
        let (mut refused, mut copies) = (Vec::new(), Vec::<(bool, bool)>::new());
        for recipient in &addressed.recipients {
            if let Some(refusal) = self.refusal(sender, recipient, addressed.agreed) {
                refused.push(LeftOut { agent_id: recipient.clone(), reason: refusal.to_string() });
                continue;
            }
            let copy_id = format!("{id}.{}", copies.len() + 1);
            let stored = self.copy(tx, letter, (&copy_id, Some(id)), &addressed, recipient).await?;
            copies.push((stored.pushed, stored.message.encrypted));
        }
        refused.truncate(TOLD);
        let pushed = copies.iter().filter(|(pushed, _)| *pushed).count();
        let receipt = Receipt {
            status: "success".to_owned(),
            message_id: id.to_owned(),
            sender: sender.clone(),
            recipient: None,
            seq: self.reached.get(&addressed.spot.id).copied().unwrap_or(addressed.spot.last_seq),
            channel_id: addressed.spot.id,
            encrypted: copies.iter().all(|(_, encrypted)| *encrypted),
            encryption: None,
            scope: None,
            key_id: None,
            ws_delivered: pushed > 0,
            message_status: MessageStatus::Pending,
            sent_at: self.now,
            expires_at: Some(self.expires(letter)),
            price: price(letter.draft.kind, letter.bytes) * copies.len() as f64,
            payment_status: PaymentStatus::Unpaid,
            recipients: Some(copies.len() as i64),
            pushed: Some(pushed as i64),
            refused,
            repeated: false,
        };
        store::push_broadcast(&mut self.broadcasts, &receipt, addressed.topic.as_deref());
        Ok(receipt)
    }

    /// Resolve the recipients of a message to several.
    async fn address(&mut self, tx: &mut Tx, letter: &Letter) -> Result<Addressed> {
        let draft = &letter.draft;
        match &draft.to {
            To::Channel(id) => {
                let spot = self.by_id.get(id).cloned().ok_or(Error::NotFound("Channel"))?;
                let recipients = channels::members_of(tx.conn().await?, id).await?;
                if !recipients.contains(&draft.sender) {
                    return Err(Error::NotFound("Channel"));
                }
                if spot.status == ChannelStatus::Closed {
                    return Err(Error::State("the channel is closed".into()));
                }
                if spot.kind == ChannelKind::Broadcast && spot.owner != draft.sender {
                    return Err(Error::Forbidden("only its creator writes to this channel".into()));
                }
                // The two members of a direct channel may have blocked each other since, so permission is checked
                // nevertheless.
                Ok(Addressed { agreed: spot.kind != ChannelKind::Direct, spot, recipients, topic: None })
            }
            To::Topic(topic) => {
                let recipients = delivery::subscribers(tx.conn().await?, topic, &draft.content).await?;
                let spot = self.spot(Place::of_topic(topic), ChannelKind::Broadcast, Some(topic), letter, None);
                Ok(Addressed { spot, recipients, agreed: true, topic: Some(topic.clone()) })
            }
            To::Everybody | To::Agent(_) => {
                let recipients = delivery::everybody(tx.conn().await?, MOST_RECIPIENTS + 2).await?;
                let spot = self.spot(Place::of_all(&draft.sender), ChannelKind::Broadcast, None, letter, None);
                Ok(Addressed { spot, recipients, agreed: false, topic: None })
            }
        }
    }

    /// Query the permissions of these pairs together, except those known in this transaction.
    async fn ask(&mut self, tx: &mut Tx, pairs: impl Iterator<Item = (&str, &str)>) -> Result<()> {
        let mut asked: Vec<(&str, &str)> = pairs.collect();
        asked.sort_unstable();
        asked.dedup();
        let verdicts = self.post.relations.permits(tx.conn().await?, &asked).await?;
        for ((sender, recipient), verdict) in asked.into_iter().zip(verdicts) {
            self.permits.insert((sender.to_owned(), recipient.to_owned()), verdict.err());
        }
        Ok(())
    }

    /// Reason why `sender` may not write to `recipient`, from the permissions queried before.
    fn refusal(&self, sender: &str, recipient: &str, agreed: bool) -> Option<Refusal> {
        let found = self.permits.get(&(sender.to_owned(), recipient.to_owned())).cloned().flatten();
        found.filter(|refusal| !(agreed && matches!(refusal, Refusal::Reputation { .. })))
    }

    /// The open channel with a key, created if there is none.
    fn spot(
        &mut self,
        place: Place,
        kind: ChannelKind,
        name: Option<&String>,
        letter: &Letter,
        other: Option<&str>,
    ) -> Spot {
        if let Some(spot) = self.by_place.get(&place) {
            return spot.clone();
        }
        let owner = letter.draft.sender.clone();
        let channel = Channel {
            channel_id: self.post.ids.next("channel_", 12),
            kind,
            name: name.cloned(),
            members: std::iter::once(owner.clone()).chain(other.map(str::to_owned)).collect(),
            owner: owner.clone(),
            status: ChannelStatus::Open,
            last_seq: 0,
            created_at: self.now,
            last_activity: self.now,
            closed_at: None,
            closed_reason: None,
        };
        channels::insert_rows((&mut self.channels, &mut self.members), &channel, Some(&place));
        let spot = Spot { id: channel.channel_id, kind, owner, status: ChannelStatus::Open, last_seq: 0 };
        self.by_place.insert(place, spot.clone());
        spot
    }

    fn expires(&self, letter: &Letter) -> Timestamp {
        let ttl = chrono::Duration::from_std(letter.draft.ttl).unwrap_or_default();
        Timestamp(self.now.0 + ttl)
    }

    /// Create one recipient's copy of a message.
    async fn copy(
        &mut self,
        tx: &mut Tx,
        letter: &Letter,
        (message_id, broadcast_id): (&str, Option<&str>),
        addressed: &Addressed,
        recipient: &str,
    ) -> Result<Stored> {
        let (draft, spot) = (&letter.draft, &addressed.spot);
        let bound = Bound { message_id, channel: &spot.id, sender: &draft.sender, recipient: Some(recipient) };
        let to = SealFor { bound, encryption: draft.encryption, encrypt: draft.encrypt };
        let sealed = self.post.sealing.seal(tx, &to, &draft.content, self.now).await?;
        // Only written messages take numbers.
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        let message = Message {
            id: self.last,
            message_id: message_id.to_owned(),
            channel_id: spot.id.clone(),
            seq,
            sender: draft.sender.clone(),
            recipient: recipient.to_owned(),
            message_type: draft.kind,
            priority: draft.priority,
            content: serde_json::Value::Null,
            encrypted: sealed.is_encrypted(),
            encryption: sealed.encryption,
            scope: sealed.scope,
            key_id: sealed.key_id.clone(),
            size_bytes: letter.bytes as i64,
            price: price(draft.kind, letter.bytes),
            payment_status: PaymentStatus::Unpaid,
            status: MessageStatus::Pending,
            failure: None,
            topic: addressed.topic.clone(),
            reply_to: draft.reply_to.clone(),
            broadcast_id: broadcast_id.map(str::to_owned),
            sent_at: self.now,
            expires_at: self.expires(letter),
            delivered_at: None,
            read_at: None,
        };
        let mut stored = Stored { pushed: self.post.hub.has(recipient), message, sealed };
        store::push(&mut self.messages, &stored);
        if stored.pushed {
            // Content that this service can decrypt is sent decrypted; it is available here.
            let envelope = matches!(stored.sealed.scope, Scope::EndToEnd | Scope::SealedOnArrival);
            stored.message.content = match envelope {
                false => draft.content.clone(),
                true => stored.sealed.stored.parse().ok().flatten().unwrap_or_default(),
            };
            let frame = delivery::frame(&stored.message);
            self.pushed.push(Pushed { id: self.last, recipient: Arc::from(recipient), frame });
        }
        Ok(stored)
    }

    /// Audit entry: the fact and the sender of a message, not its content.
    fn told(&self, letter: &Letter, receipt: &Receipt) -> Entry {
        let to = match &letter.draft.to {
            To::Agent(recipient) => ("recipient", json!(recipient)),
            To::Channel(_) => ("recipients", json!(receipt.recipients)),
            To::Topic(topic) => ("topic", json!(topic)),
            To::Everybody => ("recipients", json!(receipt.recipients)),
        };
        let entry = Entry::new(EventType::WorkflowUpdated, self.now).of("message", "sent").by(&letter.by);
        let entry = entry.data("message_id", json!(receipt.message_id)).data("sender", json!(receipt.sender));
        let entry = entry.data(to.0, to.1).data("channel_id", json!(receipt.channel_id));
        entry.data("message_type", json!(letter.draft.kind)).data("bytes", json!(letter.bytes))
    }

    async fn end(self, tx: &mut Tx) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut rows = self.channels;
        rows.append(self.members).append(self.messages).append(self.broadcasts);
        self.post.audit.add_to(&mut rows, self.entries);
        let mut batch = Batch::default();
        batch.rows(rows);
        if !self.reached.is_empty() {
            let reached = self.reached.iter().map(|(id, seq)| (id.as_str(), *seq));
            channels::advance(&mut batch, reached, self.now);
        }
        Ok(batch.execute(tx).await?)
    }
}

/// Key of the channel of a draft that names none.
fn place(draft: &Draft) -> Option<Place> {
    match &draft.to {
        To::Agent(recipient) => Some(Place::of_pair(&draft.sender, recipient)),
        To::Topic(topic) => Some(Place::of_topic(topic)),
        To::Everybody => Some(Place::of_all(&draft.sender)),
        To::Channel(_) => None,
    }
}
