//! State of writing messages within one transaction: what was read for all of them, and what is written at the end.

use std::collections::HashMap;

use serde_json::json;

use super::{
    MessageWriter, OutgoingMessage,
    known_message::{self, KnownMessage},
};
use crate::{
    channels::{self, ChannelKey, ChannelRef, MessageChannel},
    delivery::{self, OutgoingEntry},
    encryption::{CiphertextBinding, DrawnDataKey, EncryptedContent, EncryptionRequest, EncryptionScope},
    error::{CommunicationError, Result},
    message_log::{self, MessageView, StoredMessage},
    messages::{
        draft_hash::hash_draft,
        model::{COPY_ID_PREFIX, MessageDestination, MessageDraft, RejectedRecipient, SendReceipt},
        store,
    },
    model::{ChannelKind, ChannelStatus, MessageStatus, PaymentStatus, PermissionRefusal},
    price::message_price,
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::{AgentId, BroadcastId, ChannelId, MessageId};
use am_db::{Tx, bulk_insert::RowBatch, codec::Timestamp, statement_batch::StatementBatch};

/// Maximum number of left-out recipients in a receipt.
const MAX_REPORTED_REJECTIONS: usize = 100;
/// Maximum number of recipients of one message.
const MAX_RECIPIENTS: usize = 10_000;

/// A recipient's copy, encrypted and not written yet.
struct SealedCopy<'a> {
    message_id: MessageId,
    recipient: &'a AgentId,
    sealed: EncryptedContent,
}

/// State of writing within one transaction. A message is refused before any of its copies changes the state, so that
/// a refused one leaves nothing: all copies are encrypted first, and only then numbered and added.
pub(super) struct WriteBatch<'a> {
    post: &'a MessageWriter,
    now: Timestamp,
    /// Number of the last message of all before.
    pub(super) before: i64,
    /// Number of the last message written.
    pub(super) last: i64,
    /// Messages sent earlier under ids that senders chose.
    known: HashMap<(AgentId, MessageId), KnownMessage>,
    by_place: HashMap<ChannelKey, ChannelRef>,
    by_id: HashMap<ChannelId, ChannelRef>,
    /// Last message number of each channel written into.
    reached: HashMap<ChannelId, i64>,
    permits: HashMap<(AgentId, AgentId), Option<PermissionRefusal>>,
    /// Data keys that the written messages are encrypted by and that are not stored yet.
    drawn: HashMap<ChannelId, DrawnDataKey>,
    channels: RowBatch,
    members: RowBatch,
    messages: RowBatch,
    broadcasts: RowBatch,
    entries: Vec<AuditEntry>,
    /// Entries for connections, in order.
    pub(super) pushed: Vec<OutgoingEntry>,
}

/// Resolved recipients of a message, and its channel.
struct ResolvedRecipients {
    spot: ChannelRef,
    /// Channel to create with the message; `None` when it exists.
    opening: Option<(ChannelKey, MessageChannel)>,
    recipients: Vec<AgentId>,
    /// Whether they are members or subscribers, who need not know the sender.
    agreed: bool,
    topic: Option<String>,
}

impl<'a> WriteBatch<'a> {
    /// Read what the messages need: earlier receipts, their channels, and permissions.
    pub(super) async fn begin(post: &'a MessageWriter, tx: &mut Tx, letters: &[OutgoingMessage]) -> Result<Self> {
        let before = message_log::last_id(tx.conn().await?).await?;
        let known = known_message::find_known(tx.conn().await?, letters).await?;
        let places: Vec<ChannelKey> = letters.iter().filter_map(|letter| channel_key(&letter.draft)).collect();
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        let by_place = channels::channel_refs_by_key(tx.conn().await?, &places).await?;
        let wanted = letters.iter().filter_map(|letter| match &letter.draft.to {
            MessageDestination::Channel(id) => Some(id),
            _ => None,
        });
        let by_id = channels::channel_refs_by_id(tx.conn().await?, &wanted.collect::<Vec<_>>()).await?;
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
            drawn: HashMap::new(),
            channels: RowBatch::default(),
            members: RowBatch::default(),
            messages: RowBatch::default(),
            broadcasts: RowBatch::default(),
            entries: Vec::new(),
            pushed: Vec::new(),
        };
        let direct = letters.iter().filter_map(|letter| match &letter.draft.to {
            MessageDestination::Agent(recipient) => Some((&letter.draft.sender, recipient)),
            _ => None,
        });
        work.ask(tx, direct).await?;
        Ok(work)
    }

    /// Add one message to the batch.
    pub(super) async fn letter(&mut self, tx: &mut Tx, letter: &OutgoingMessage) -> Result<SendReceipt> {
        let draft = &letter.draft;
        let key = draft.message_id.as_ref().map(|id| (draft.sender.clone(), id.clone()));
        if let Some(known) = key.as_ref().and_then(|key| self.known.get(key)) {
            if !known.is(letter) {
                return Err(CommunicationError::Conflict(format!(
                    "message_id '{}' is that of another message of this sender",
                    known.receipt.message_id
                )));
            }
            return Ok(SendReceipt { repeated: true, ..known.receipt.clone() });
        }
        let draft_hash = key.as_ref().map(|_| hash_draft(draft, &self.post.ids.hex(16)));
        let id = draft.message_id.clone().unwrap_or_else(|| self.post.ids.next("msg_", 12).into());
        let receipt = match &draft.to {
            MessageDestination::Agent(recipient) => {
                self.write_single(tx, letter, (&id, draft_hash.as_ref()), recipient).await?
            }
            _ => self.fan_out(tx, letter, (&id, draft_hash.as_ref())).await?,
        };
        self.entries.push(self.told(letter, &receipt));
        if let Some(key) = key {
            let known = KnownMessage { receipt: receipt.clone(), draft_hash, bytes: None };
            self.known.insert(key, known);
        }
        Ok(receipt)
    }

    async fn write_single(
        &mut self,
        tx: &mut Tx,
        letter: &OutgoingMessage,
        (id, draft_hash): (&MessageId, Option<&String>),
        recipient: &AgentId,
    ) -> Result<SendReceipt> {
        let sender = &letter.draft.sender;
        if let Some(refusal) = self.refusal(sender, recipient, false) {
            return Err(refusal.into());
        }
        let place = ChannelKey::for_pair(sender, recipient);
        let (spot, opening) = self.spot(place, ChannelKind::Direct, None, letter, Some(recipient));
        let mut addressed = ResolvedRecipients { spot, opening, recipients: Vec::new(), agreed: false, topic: None };
        let copies = vec![(id.clone(), recipient)];
        let mut copies = self.seal_all(tx, letter, &addressed, copies).await?;
        self.open_channel(&mut addressed);
        let stored = copies.pop().map(|copy| self.add_copy(letter, copy, (None, draft_hash.cloned()), &addressed));
        let stored = stored.ok_or(CommunicationError::NotFound("Recipient"))?;
        Ok(SendReceipt::of(&stored))
    }

    async fn fan_out(
        &mut self,
        tx: &mut Tx,
        letter: &OutgoingMessage,
        (id, draft_hash): (&MessageId, Option<&String>),
    ) -> Result<SendReceipt> {
        let mut addressed = self.address(tx, letter).await?;
        let sender = &letter.draft.sender;
        addressed.recipients.retain(|agent| agent != sender);
        if addressed.recipients.len() > MAX_RECIPIENTS {
            let count = addressed.recipients.len();
            return Err(CommunicationError::InvalidState(format!(
                "{count} agents would receive it, over {MAX_RECIPIENTS}"
            )));
        }
        self.ask(tx, addressed.recipients.iter().map(|recipient| (sender, recipient))).await?;
        let (mut refused, mut copies) = (Vec::new(), Vec::new());
        let recipients = std::mem::take(&mut addressed.recipients);
        for recipient in &recipients {
            match self.refusal(sender, recipient, addressed.agreed) {
                Some(refusal) => {
                    refused.push(RejectedRecipient { agent_id: recipient.clone(), reason: refusal.to_string() });
                }
                None => copies.push((self.post.ids.random_id(COPY_ID_PREFIX, 24).into(), recipient)),
            }
        }
        let copies = self.seal_all(tx, letter, &addressed, copies).await?;
        self.open_channel(&mut addressed);
        let add = |copy| {
            let stored = self.add_copy(letter, copy, (Some(id.as_str().into()), None), &addressed);
            (stored.pushed, stored.message.encrypted)
        };
        let copies: Vec<(bool, bool)> = copies.into_iter().map(add).collect();
        refused.truncate(MAX_REPORTED_REJECTIONS);
        let pushed = copies.iter().filter(|(pushed, _)| *pushed).count();
        let receipt = SendReceipt {
            status: "success".to_owned(),
            message_id: id.clone(),
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
            expires_at: Some(self.expiry(letter)),
            price: message_price(letter.draft.kind, letter.bytes).scaled(copies.len() as f64),
            payment_status: PaymentStatus::Unpaid,
            recipients: Some(copies.len() as i64),
            pushed: Some(pushed as i64),
            refused,
            repeated: false,
        };
        store::add_broadcast_row(
            &mut self.broadcasts,
            &receipt,
            addressed.topic.as_deref(),
            draft_hash.map(String::as_str),
        );
        Ok(receipt)
    }

    /// Resolve the recipients of a message to several.
    async fn address(&mut self, tx: &mut Tx, letter: &OutgoingMessage) -> Result<ResolvedRecipients> {
        let draft = &letter.draft;
        match &draft.to {
            MessageDestination::Channel(id) => {
                let spot = self.by_id.get(id).cloned().ok_or(CommunicationError::NotFound("Channel"))?;
                let recipients = channels::members_of(tx.conn().await?, id).await?;
                if !recipients.contains(&draft.sender) {
                    return Err(CommunicationError::NotFound("Channel"));
                }
                if spot.status == ChannelStatus::Closed {
                    return Err(CommunicationError::InvalidState("the channel is closed".into()));
                }
                if spot.kind == ChannelKind::Broadcast && spot.owner != draft.sender {
                    return Err(CommunicationError::Forbidden("only its creator writes to this channel".into()));
                }
                // The two members of a direct channel may have blocked each other since, so permission is checked
                // nevertheless.
                let agreed = spot.kind != ChannelKind::Direct;
                Ok(ResolvedRecipients { agreed, spot, opening: None, recipients, topic: None })
            }
            MessageDestination::Topic(topic) => {
                let recipients = delivery::matching_subscribers(tx.conn().await?, topic, &draft.content).await?;
                let place = ChannelKey::for_topic(topic);
                let (spot, opening) = self.spot(place, ChannelKind::Broadcast, Some(topic), letter, None);
                Ok(ResolvedRecipients { spot, opening, recipients, agreed: true, topic: Some(topic.clone()) })
            }
            MessageDestination::AllAgents | MessageDestination::Agent(_) => {
                let recipients = delivery::known_agents(tx.conn().await?, MAX_RECIPIENTS + 2).await?;
                let place = ChannelKey::for_broadcast(&draft.sender);
                let (spot, opening) = self.spot(place, ChannelKind::Broadcast, None, letter, None);
                Ok(ResolvedRecipients { spot, opening, recipients, agreed: false, topic: None })
            }
        }
    }

    /// Query the permissions of these pairs together, except those known in this transaction.
    async fn ask(&mut self, tx: &mut Tx, pairs: impl Iterator<Item = (&AgentId, &AgentId)>) -> Result<()> {
        let mut asked: Vec<(&AgentId, &AgentId)> = pairs.collect();
        asked.sort_unstable();
        asked.dedup();
        let verdicts = self.post.relations.permits(tx.conn().await?, &asked).await?;
        for ((sender, recipient), verdict) in asked.into_iter().zip(verdicts) {
            self.permits.insert((sender.clone(), recipient.clone()), verdict.err());
        }
        Ok(())
    }

    /// Reason why `sender` may not write to `recipient`, from the permissions queried before.
    fn refusal(&self, sender: &AgentId, recipient: &AgentId, agreed: bool) -> Option<PermissionRefusal> {
        let found = self.permits.get(&(sender.clone(), recipient.clone())).cloned().flatten();
        found.filter(|refusal| !(agreed && matches!(refusal, PermissionRefusal::Reputation { .. })))
    }

    /// The open channel with a key; with the channel to create if there is none.
    fn spot(
        &self,
        place: ChannelKey,
        kind: ChannelKind,
        name: Option<&String>,
        letter: &OutgoingMessage,
        other: Option<&AgentId>,
    ) -> (ChannelRef, Option<(ChannelKey, MessageChannel)>) {
        if let Some(spot) = self.by_place.get(&place) {
            return (spot.clone(), None);
        }
        let owner = letter.draft.sender.clone();
        let channel = MessageChannel {
            channel_id: self.post.ids.next("channel_", 12).into(),
            kind,
            name: name.cloned(),
            members: std::iter::once(owner.clone()).chain(other.cloned()).collect(),
            owner: owner.clone(),
            status: ChannelStatus::Open,
            last_seq: 0,
            created_at: self.now,
            last_activity: self.now,
            closed_at: None,
            closed_reason: None,
        };
        let id = channel.channel_id.clone();
        (ChannelRef { id, kind, owner, status: ChannelStatus::Open, last_seq: 0 }, Some((place, channel)))
    }

    /// Create the channel of a message that nothing refuses any more.
    fn open_channel(&mut self, addressed: &mut ResolvedRecipients) {
        if let Some((place, channel)) = addressed.opening.take() {
            channels::add_channel_rows((&mut self.channels, &mut self.members), &channel, Some(&place));
            self.by_place.insert(place, addressed.spot.clone());
        }
    }

    fn expiry(&self, letter: &OutgoingMessage) -> Timestamp {
        let ttl = chrono::Duration::from_std(letter.draft.ttl).unwrap_or_default();
        Timestamp(self.now.0 + ttl)
    }

    /// Encrypt all copies of a message, each for its recipient.
    async fn seal_all<'r>(
        &mut self,
        tx: &mut Tx,
        letter: &OutgoingMessage,
        addressed: &ResolvedRecipients,
        copies: Vec<(MessageId, &'r AgentId)>,
    ) -> Result<Vec<SealedCopy<'r>>> {
        let (draft, channel) = (&letter.draft, &addressed.spot.id);
        let mut drawn = self.drawn.remove(channel);
        let used = drawn.is_some();
        let mut sealed = Vec::with_capacity(copies.len());
        let mut refusal = None;
        for (message_id, recipient) in copies {
            let bound = CiphertextBinding {
                message_id: &message_id,
                channel,
                sender: &draft.sender,
                recipient: Some(recipient),
            };
            let to = EncryptionRequest { bound, encryption: draft.encryption, encrypt: draft.encrypt };
            match self.post.sealing.encrypt(tx.conn().await?, &to, &draft.content, &mut drawn).await {
                Ok(content) => sealed.push(SealedCopy { message_id, recipient, sealed: content }),
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            }
        }
        // A key that only the refused message would have used is forgotten with it.
        if let Some(key) = drawn.filter(|_| used || refusal.is_none()) {
            self.drawn.insert(channel.clone(), key);
        }
        refusal.map_or(Ok(sealed), |error| Err(error.into()))
    }

    /// Number a copy and add it to what is written.
    fn add_copy(
        &mut self,
        letter: &OutgoingMessage,
        SealedCopy { message_id, recipient, sealed }: SealedCopy<'_>,
        (broadcast_id, draft_hash): (Option<BroadcastId>, Option<String>),
        addressed: &ResolvedRecipients,
    ) -> StoredMessage {
        let (draft, spot) = (&letter.draft, &addressed.spot);
        // Only written messages take numbers.
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        let message = MessageView {
            id: self.last,
            message_id,
            channel_id: spot.id.clone(),
            seq,
            sender: draft.sender.clone(),
            recipient: recipient.clone(),
            message_type: draft.kind,
            priority: draft.priority,
            content: serde_json::Value::Null,
            encrypted: sealed.is_encrypted(),
            encryption: sealed.encryption,
            scope: sealed.scope,
            key_id: sealed.key_id.clone(),
            size_bytes: letter.bytes as i64,
            price: message_price(draft.kind, letter.bytes),
            payment_status: PaymentStatus::Unpaid,
            status: MessageStatus::Pending,
            failure: None,
            topic: addressed.topic.clone(),
            reply_to: draft.reply_to.clone(),
            broadcast_id,
            sent_at: self.now,
            expires_at: self.expiry(letter),
            delivered_at: None,
            read_at: None,
        };
        let mut stored = StoredMessage { pushed: self.post.hub.has(recipient), message, sealed, draft_hash };
        message_log::add_message_row(&mut self.messages, &stored);
        if stored.pushed {
            // Content that this service can decrypt is sent decrypted; it is available here.
            let envelope = matches!(stored.sealed.scope, EncryptionScope::EndToEnd | EncryptionScope::SealedOnArrival);
            stored.message.content = match envelope {
                false => draft.content.clone(),
                true => stored.sealed.stored.parse().ok().flatten().unwrap_or_default(),
            };
            let frame = delivery::message_frame(&stored.message);
            self.pushed.push(OutgoingEntry { id: self.last, recipient: recipient.clone(), frame });
        }
        stored
    }

    /// Audit entry: the fact and the sender of a message, not its content.
    fn told(&self, letter: &OutgoingMessage, receipt: &SendReceipt) -> AuditEntry {
        let to = match &letter.draft.to {
            MessageDestination::Agent(recipient) => ("recipient", json!(recipient)),
            MessageDestination::Channel(_) => ("recipients", json!(receipt.recipients)),
            MessageDestination::Topic(topic) => ("topic", json!(topic)),
            MessageDestination::AllAgents => ("recipients", json!(receipt.recipients)),
        };
        let entry = AuditEntry::new(EventType::WorkflowUpdated, self.now).of("message", "sent").by(&letter.by);
        let entry = entry.data("message_id", json!(receipt.message_id)).data("sender", json!(receipt.sender));
        let entry = entry.data(to.0, to.1).data("channel_id", json!(receipt.channel_id));
        entry.data("message_type", json!(letter.draft.kind)).data("bytes", json!(letter.bytes))
    }

    /// Write everything that was added.
    pub(super) async fn end(self, tx: &mut Tx) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let mut rows = self.channels;
        self.drawn.values().for_each(|key| key.add_row(&mut rows, self.now));
        rows.append(self.members).append(self.messages).append(self.broadcasts);
        self.post.audit.add_entry_rows(&mut rows, self.entries);
        let mut batch = StatementBatch::default();
        batch.rows(rows);
        if !self.reached.is_empty() {
            let reached = self.reached.iter().map(|(id, seq)| (id, *seq));
            channels::update_last_seq(&mut batch, reached, self.now);
        }
        Ok(batch.execute(tx).await?)
    }
}

/// Key of the channel of a draft that names none.
fn channel_key(draft: &MessageDraft) -> Option<ChannelKey> {
    match &draft.to {
        MessageDestination::Agent(recipient) => Some(ChannelKey::for_pair(&draft.sender, recipient)),
        MessageDestination::Topic(topic) => Some(ChannelKey::for_topic(topic)),
        MessageDestination::AllAgents => Some(ChannelKey::for_broadcast(&draft.sender)),
        MessageDestination::Channel(_) => None,
    }
}
