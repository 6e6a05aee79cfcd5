//! State of writing messages within one transaction: what is written at the end.

use std::collections::{HashMap, HashSet};

use serde_json::json;

use super::{
    MessageWriter, OutgoingMessage, PushedCopy,
    address_book::{AddressBook, ResolvedRecipients, sender_key},
    batch_costs::BatchCosts,
    known_message::KnownMessage,
    prepared_batch::{PreparedBatch, SealedCopy},
};
use crate::{
    channels,
    error::{CommunicationError, Result},
    message_log::{self, MessageView, StoredMessage},
    messages::{
        model::{MessageDestination, SendReceipt},
        store,
    },
    model::{MessageStatus, PaymentStatus},
    price::message_price,
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::{BroadcastId, ChannelId, ContentId, MessageId};
use am_db::{Tx, bulk_insert::RowBatch, codec::Timestamp, statement_batch::StatementBatch};

/// Maximum number of left-out recipients in a receipt.
const MAX_REPORTED_REJECTIONS: usize = 100;

/// State of writing within one transaction. A message is refused before any of its copies changes the state, so that
/// a refused one leaves nothing: all copies are encrypted first, and only then numbered and added.
pub(super) struct WriteBatch<'a> {
    post: &'a MessageWriter,
    book: AddressBook<'a>,
    /// Number of the last message of all before.
    pub(super) before: i64,
    /// Number of the last message written.
    pub(super) last: i64,
    /// Last message number of each channel written into.
    reached: HashMap<ChannelId, i64>,
    /// Channels whose data keys, which the written messages are encrypted by, are not stored yet.
    drawn: HashSet<ChannelId>,
    /// Shared content that is among the rows already.
    shared: HashSet<ContentId>,
    channels: RowBatch,
    members: RowBatch,
    contents: RowBatch,
    messages: RowBatch,
    broadcasts: RowBatch,
    entries: Vec<AuditEntry>,
    costs: BatchCosts,
    /// Copies for connections, in order.
    pub(super) pushed: Vec<PushedCopy>,
}

impl<'a> WriteBatch<'a> {
    /// Read what the messages need.
    pub(super) async fn begin(
        post: &'a MessageWriter,
        tx: &mut Tx,
        letters: &[OutgoingMessage],
        prepared: PreparedBatch,
    ) -> Result<Self> {
        let before = message_log::last_id(tx.conn().await?).await?;
        Ok(Self {
            post,
            book: AddressBook::begin(post, tx.conn().await?, letters, prepared).await?,
            before,
            last: before,
            reached: HashMap::new(),
            drawn: HashSet::new(),
            shared: HashSet::new(),
            channels: RowBatch::default(),
            members: RowBatch::default(),
            contents: RowBatch::default(),
            messages: RowBatch::default(),
            broadcasts: RowBatch::default(),
            entries: Vec::new(),
            costs: BatchCosts::default(),
            pushed: Vec::new(),
        })
    }

    /// Add one message to the batch; `at` is its place among those of the batch.
    pub(super) async fn letter(&mut self, tx: &mut Tx, at: usize, letter: &OutgoingMessage) -> Result<SendReceipt> {
        let key = sender_key(letter);
        if let Some(known) = key.as_ref().and_then(|key| self.book.known.get(key)) {
            if !known.is(letter) {
                return Err(CommunicationError::Conflict(format!(
                    "message_id '{}' is that of another message of this sender",
                    known.receipt.message_id
                )));
            }
            return Ok(SendReceipt { repeated: true, ..known.receipt.clone() });
        }
        let (id, draft_hash) = self.book.name(at, letter);
        let conn = tx.conn().await?;
        let mut addressed = self.book.resolve(conn, at, letter).await?;
        let planned = self.book.plan(conn, letter, &addressed).await?;
        let copies = self.book.seal(at, letter, &addressed.spot.id, planned)?;
        let price = message_price(letter.draft.kind.priced_as(), letter.bytes).scaled(copies.len() as f64);
        self.costs.check(&self.post.ledger, tx, letter, price).await?;
        self.open_channel(&mut addressed);
        let receipt = match &letter.draft.to {
            MessageDestination::Agent(_) => {
                let add = |copy| self.add_copy((at, letter), copy, (None, draft_hash.clone()), &addressed);
                let stored = copies.into_iter().map(add).next_back();
                SendReceipt::of(&stored.ok_or(CommunicationError::NotFound("Recipient"))?)
            }
            _ => self.add_copies((at, letter), copies, (&id, draft_hash.as_ref()), addressed),
        };
        self.entries.push(self.told(letter, &receipt));
        self.costs.add(letter, &receipt.message_id, price);
        if let Some(key) = key {
            let known = KnownMessage { receipt: receipt.clone(), draft_hash, bytes: None };
            self.book.known.insert(key, known);
        }
        Ok(receipt)
    }

    /// Add the copies of a message to several. Returns its receipt.
    fn add_copies(
        &mut self,
        (at, letter): (usize, &OutgoingMessage),
        copies: Vec<SealedCopy>,
        (id, draft_hash): (&MessageId, Option<&String>),
        mut addressed: ResolvedRecipients,
    ) -> SendReceipt {
        let mut refused = std::mem::take(&mut addressed.refused);
        let add = |copy| {
            let stored = self.add_copy((at, letter), copy, (Some(id.as_str().into()), None), &addressed);
            (stored.pushed, stored.message.encrypted)
        };
        let copies: Vec<(bool, bool)> = copies.into_iter().map(add).collect();
        refused.truncate(MAX_REPORTED_REJECTIONS);
        let pushed = copies.iter().filter(|(pushed, _)| *pushed).count();
        let receipt = SendReceipt {
            status: "success".to_owned(),
            message_id: id.clone(),
            sender: letter.draft.sender.clone(),
            recipient: None,
            seq: self.reached.get(&addressed.spot.id).copied().unwrap_or(addressed.spot.last_seq),
            channel_id: addressed.spot.id,
            encrypted: copies.iter().all(|(_, encrypted)| *encrypted),
            encryption: None,
            scope: None,
            key_id: None,
            ws_delivered: pushed > 0,
            message_status: MessageStatus::Pending,
            sent_at: self.book.now,
            expires_at: Some(self.expiry(letter)),
            price: message_price(letter.draft.kind.priced_as(), letter.bytes).scaled(copies.len() as f64),
            payment_status: PaymentStatus::Unpaid,
            recipients: Some(copies.len() as i64),
            pushed: Some(pushed as i64),
            refused,
            repeated: false,
        };
        let topic = addressed.topic.as_deref();
        store::add_broadcast_row(&mut self.broadcasts, &receipt, topic, draft_hash.map(String::as_str));
        receipt
    }

    /// Create the channel of a message that nothing refuses any more.
    fn open_channel(&mut self, addressed: &mut ResolvedRecipients) {
        if let Some((place, channel)) = addressed.opening.take() {
            channels::add_channel_rows((&mut self.channels, &mut self.members), &channel, Some(&place));
            self.book.opened(place, addressed.spot.clone());
        }
    }

    fn expiry(&self, letter: &OutgoingMessage) -> Timestamp {
        let ttl = chrono::Duration::from_std(letter.draft.ttl).unwrap_or_default();
        Timestamp(self.book.now.0 + ttl)
    }

    /// Number a copy and add it to what is written.
    fn add_copy(
        &mut self,
        (at, letter): (usize, &OutgoingMessage),
        SealedCopy { message_id, recipient, sealed }: SealedCopy,
        (broadcast_id, draft_hash): (Option<BroadcastId>, Option<String>),
        addressed: &ResolvedRecipients,
    ) -> StoredMessage {
        let (draft, spot) = (&letter.draft, &addressed.spot);
        // Only written messages take numbers.
        let seq = self.reached.get(&spot.id).copied().unwrap_or(spot.last_seq) + 1;
        self.reached.insert(spot.id.clone(), seq);
        self.last += 1;
        if self.book.prepared.keys.drawn_key(&spot.id, &sealed).is_some() {
            self.drawn.insert(spot.id.clone());
        }
        if let Some(shared) = &sealed.shared
            && self.shared.insert(shared.id.clone())
        {
            message_log::add_content_row(&mut self.contents, shared, self.book.now);
        }
        let message = MessageView {
            id: self.last,
            message_id,
            channel_id: spot.id.clone(),
            seq,
            sender: draft.sender.clone(),
            sender_id: draft.sender.clone(),
            recipient_id: recipient.clone(),
            recipient,
            message_type: draft.kind.clone(),
            priority: draft.priority,
            content: serde_json::Value::Null,
            encrypted: sealed.is_encrypted(),
            encryption: sealed.encryption,
            scope: sealed.scope,
            key_id: sealed.key_id.clone(),
            size_bytes: letter.bytes as i64,
            price: message_price(draft.kind.priced_as(), letter.bytes),
            payment_status: PaymentStatus::Unpaid,
            status: MessageStatus::Pending,
            failure: None,
            topic: addressed.topic.clone(),
            reply_to: draft.reply_to.clone(),
            broadcast_id,
            signature: draft.signature.clone().map(Into::into),
            imported: None,
            sent_at: self.book.now,
            expires_at: self.expiry(letter),
            delivered_at: None,
            read_at: None,
        };
        let stored = StoredMessage { pushed: self.post.hub.has(&message.recipient), message, sealed, draft_hash };
        message_log::add_message_row(&mut self.messages, &stored);
        if stored.pushed {
            let (message, sealed) = (stored.message.clone(), stored.sealed.clone());
            self.pushed.push(PushedCopy { letter: at, message, sealed });
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
        let entry = AuditEntry::new(EventType::WorkflowUpdated, self.book.now).of("message", "sent").by(&letter.by);
        let entry = entry.data("message_id", json!(receipt.message_id)).data("sender", json!(receipt.sender));
        let entry = entry.data(to.0, to.1).data("channel_id", json!(receipt.channel_id));
        entry.data("message_type", json!(letter.draft.kind)).data("bytes", json!(letter.bytes))
    }

    /// Write everything that was added.
    pub(super) async fn end(self, tx: &mut Tx) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let (now, keys) = (self.book.now, &self.book.prepared.keys);
        let mut rows = self.channels;
        keys.drawn_keys(&self.drawn).for_each(|key| key.add_row(&mut rows, now));
        rows.append(self.members).append(self.contents).append(self.messages).append(self.broadcasts);
        self.post.audit.add_entry_rows(&mut rows, self.entries);
        self.costs.add_rows(&self.post.ledger, &mut rows)?;
        let mut batch = StatementBatch::default();
        batch.rows(rows);
        if !self.reached.is_empty() {
            let reached = self.reached.iter().map(|(id, seq)| (id, *seq));
            channels::update_last_seq(&mut batch, reached, now);
        }
        Ok(batch.execute(tx).await?)
    }
}
