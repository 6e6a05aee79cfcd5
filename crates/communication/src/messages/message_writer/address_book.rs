//! Who gets a message, in which channel, and how each copy is encrypted: what is read for a batch of messages. Nothing
//! is written here, so that it can be done before the transaction and again in it.

use std::collections::HashMap;

use super::{
    MessageWriter, OutgoingMessage,
    known_message::{self, KnownMessage},
    prepared_batch::{PlannedCopy, PreparedBatch, PreparedCopy, PreparedLetter, SealedCopy},
};
use crate::{
    channels::{self, ChannelKey, ChannelRef, MessageChannel, NewChannel},
    delivery,
    encryption::{CiphertextBinding, EncryptionRequest},
    error::{CommunicationError, Result},
    messages::{
        draft_hash::hash_draft,
        model::{COPY_ID_PREFIX, MessageDestination, MessageDraft, RejectedRecipient},
    },
    model::{ChannelKind, ChannelStatus, PermissionRefusal},
};
use am_core::ids::{AgentId, ChannelId, MessageId};
use am_db::{Connection, codec::Timestamp};

/// Maximum number of recipients of one message.
const MAX_RECIPIENTS: usize = 10_000;
/// Agents beyond that number that the receipt of a message to all names.
const MAX_NAMED_BEYOND: usize = 100;

/// Resolved recipients of a message, and its channel.
pub(super) struct ResolvedRecipients {
    pub(super) spot: ChannelRef,
    /// Channel to create with the message; `None` when it exists.
    pub(super) opening: Option<(ChannelKey, MessageChannel)>,
    /// Copies to write: the id and the recipient of each.
    pub(super) copies: Vec<(MessageId, AgentId)>,
    /// Agents that are left out.
    pub(super) refused: Vec<RejectedRecipient>,
    pub(super) topic: Option<String>,
}

/// Recipients before permissions are applied.
struct AddressedRecipients {
    spot: ChannelRef,
    opening: Option<(ChannelKey, MessageChannel)>,
    recipients: Vec<AgentId>,
    /// Whether they are members or subscribers, who need not know the sender.
    agreed: bool,
    topic: Option<String>,
}

/// What was read for a batch of messages.
pub(super) struct AddressBook<'a> {
    pub(super) post: &'a MessageWriter,
    pub(super) now: Timestamp,
    /// Messages sent earlier under ids that senders chose.
    pub(super) known: HashMap<(AgentId, MessageId), KnownMessage>,
    by_place: HashMap<ChannelKey, ChannelRef>,
    by_id: HashMap<ChannelId, ChannelRef>,
    permits: HashMap<(AgentId, AgentId), Option<PermissionRefusal>>,
    pub(super) prepared: PreparedBatch,
}

impl<'a> AddressBook<'a> {
    /// Read what the messages need: earlier receipts, their channels, and permissions.
    pub(super) async fn begin(
        post: &'a MessageWriter,
        conn: &mut Connection,
        letters: &[OutgoingMessage],
        mut prepared: PreparedBatch,
    ) -> Result<Self> {
        prepared.letters.resize_with(letters.len(), PreparedLetter::default);
        let known = known_message::find_known(&mut *conn, letters).await?;
        let places: Vec<ChannelKey> = letters.iter().filter_map(|letter| channel_key(&letter.draft)).collect();
        let places: Vec<&str> = places.iter().map(|place| place.0.as_str()).collect();
        let by_place = channels::channel_refs_by_key(&mut *conn, &places).await?;
        let wanted = letters.iter().filter_map(|letter| match &letter.draft.to {
            MessageDestination::Channel(id) => Some(id),
            _ => None,
        });
        let by_id = channels::channel_refs_by_id(&mut *conn, &wanted.collect::<Vec<_>>()).await?;
        let direct: Vec<(&AgentId, &AgentId)> = letters.iter().filter_map(direct_pair).collect();
        let recipients: Vec<&AgentId> = direct.iter().map(|(_, recipient)| *recipient).collect();
        let ids: Vec<&ChannelId> = by_place.values().chain(by_id.values()).map(|spot| &spot.id).collect();
        prepared.keys = prepared.keys.with_drawn_keys_only();
        post.sealing.learn(&mut *conn, &mut prepared.keys, &ids, &recipients).await?;
        let now = Timestamp(post.clock.now());
        let mut book = Self { post, now, known, by_place, by_id, permits: HashMap::new(), prepared };
        book.ask(conn, direct.into_iter()).await?;
        Ok(book)
    }

    /// Decide how a message is encrypted, without any effect, for [`PreparedBatch::seal`].
    pub(super) async fn prepare(&mut self, conn: &mut Connection, at: usize, letter: &OutgoingMessage) -> Result<()> {
        if sender_key(letter).is_some_and(|key| self.known.contains_key(&key)) {
            return Ok(());
        }
        self.name(at, letter);
        let mut addressed = self.resolve(conn, at, letter).await?;
        let planned = self.plan(conn, letter, &addressed).await?;
        let channel = addressed.spot.id.clone();
        if let Some((place, _)) = addressed.opening.take() {
            self.by_place.insert(place, addressed.spot);
        }
        let copies = planned.into_iter().map(|PlannedCopy { message_id, recipient, plan }| {
            (recipient, PreparedCopy { message_id, channel: channel.clone(), plan, sealed: None })
        });
        if let Some(prepared) = self.prepared.letters.get_mut(at) {
            prepared.copies = copies.collect();
        }
        Ok(())
    }

    /// Id of a message and the hash of its draft.
    pub(super) fn name(&mut self, at: usize, letter: &OutgoingMessage) -> (MessageId, Option<String>) {
        let (post, draft) = (self.post, &letter.draft);
        let Some(prepared) = self.prepared.letters.get_mut(at) else { return (MessageId::default(), None) };
        if draft.message_id.is_some() && prepared.draft_hash.is_none() {
            prepared.draft_hash = Some(hash_draft(draft, &post.ids.hex(16)));
        }
        let chosen = || draft.message_id.clone().unwrap_or_else(|| post.ids.next("msg_", 12).into());
        (prepared.id.get_or_insert_with(chosen).clone(), prepared.draft_hash.clone())
    }

    /// Resolve the recipients of a message, who may be left out, and its channel.
    pub(super) async fn resolve(
        &mut self,
        conn: &mut Connection,
        at: usize,
        letter: &OutgoingMessage,
    ) -> Result<ResolvedRecipients> {
        let sender = &letter.draft.sender;
        if let MessageDestination::Agent(recipient) = &letter.draft.to {
            if let Some(refusal) = self.refusal(sender, recipient, false) {
                return Err(refusal.into());
            }
            let place = ChannelKey::for_pair(sender, recipient);
            let (spot, opening) = self.spot(place, ChannelKind::Direct, None, letter, Some(recipient));
            let copies = vec![(self.name(at, letter).0, recipient.clone())];
            return Ok(ResolvedRecipients { spot, opening, copies, refused: Vec::new(), topic: None });
        }
        let mut addressed = self.address(conn, letter).await?;
        addressed.recipients.retain(|agent| agent != sender);
        let mut refused = Vec::new();
        if letter.draft.to == MessageDestination::AllAgents && addressed.recipients.len() > MAX_RECIPIENTS {
            // They are ordered, last seen first.
            let reason = format!("{MAX_RECIPIENTS} agents were seen later, and a message goes to no more");
            let beyond = addressed.recipients.split_off(MAX_RECIPIENTS).into_iter();
            refused.extend(beyond.map(|agent_id| RejectedRecipient { agent_id, reason: reason.clone() }));
        }
        if addressed.recipients.len() > MAX_RECIPIENTS {
            let count = addressed.recipients.len();
            return Err(CommunicationError::InvalidState(format!(
                "{count} agents would receive it, over {MAX_RECIPIENTS}"
            )));
        }
        self.ask(conn, addressed.recipients.iter().map(|recipient| (sender, recipient))).await?;
        let mut copies = Vec::new();
        let prepared = self.prepared.letters.get(at).map(|letter| &letter.copies);
        for recipient in addressed.recipients {
            match self.refusal(sender, &recipient, addressed.agreed) {
                Some(refusal) => refused.push(RejectedRecipient { agent_id: recipient, reason: refusal.to_string() }),
                None => {
                    let id = prepared.and_then(|copies| copies.get(&recipient)).map(|copy| copy.message_id.clone());
                    let new = || self.post.ids.random_id(COPY_ID_PREFIX, 24).into();
                    copies.push((id.unwrap_or_else(new), recipient));
                }
            }
        }
        let AddressedRecipients { spot, opening, topic, .. } = addressed;
        Ok(ResolvedRecipients { spot, opening, copies, refused, topic })
    }

    /// Resolve the recipients of a message to several.
    async fn address(&mut self, conn: &mut Connection, letter: &OutgoingMessage) -> Result<AddressedRecipients> {
        let draft = &letter.draft;
        match &draft.to {
            MessageDestination::Channel(id) => {
                let spot = self.by_id.get(id).cloned().ok_or(CommunicationError::NotFound("Channel"))?;
                let recipients = channels::members_of(conn, id).await?;
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
                Ok(AddressedRecipients { agreed, spot, opening: None, recipients, topic: None })
            }
            MessageDestination::Topic(topic) => {
                let recipients = delivery::matching_subscribers(conn, topic, &draft.content).await?;
                let place = ChannelKey::for_topic(topic);
                let (spot, opening) = self.spot(place, ChannelKind::Broadcast, Some(topic), letter, None);
                Ok(AddressedRecipients { spot, opening, recipients, agreed: true, topic: Some(topic.clone()) })
            }
            MessageDestination::AllAgents | MessageDestination::Agent(_) => {
                let recipients = self.post.delivery.known_agents(conn, MAX_RECIPIENTS + 1 + MAX_NAMED_BEYOND).await?;
                let place = ChannelKey::for_broadcast(&draft.sender);
                let (spot, opening) = self.spot(place, ChannelKind::Broadcast, None, letter, None);
                Ok(AddressedRecipients { spot, opening, recipients, agreed: false, topic: None })
            }
        }
    }

    /// Decide how each copy of a message is encrypted.
    pub(super) async fn plan(
        &mut self,
        conn: &mut Connection,
        letter: &OutgoingMessage,
        addressed: &ResolvedRecipients,
    ) -> Result<Vec<PlannedCopy>> {
        let (draft, channel) = (&letter.draft, &addressed.spot.id);
        let (sealing, keys) = (&self.post.sealing, &mut self.prepared.keys);
        let recipients: Vec<&AgentId> = addressed.copies.iter().map(|(_, recipient)| recipient).collect();
        sealing.learn(conn, keys, &[channel], &recipients).await?;
        let plan = |(message_id, recipient): &(MessageId, AgentId)| {
            let bound = CiphertextBinding { message_id, channel, sender: &draft.sender, recipient: Some(recipient) };
            let to = EncryptionRequest { bound, encryption: draft.encryption, encrypt: draft.encrypt };
            let plan = sealing.plan(keys, &to, &draft.content)?;
            Ok(PlannedCopy { message_id: message_id.clone(), recipient: recipient.clone(), plan })
        };
        addressed.copies.iter().map(plan).collect()
    }

    /// The encrypted copies of a message, where nothing refuses any of them.
    pub(super) fn seal(
        &mut self,
        at: usize,
        letter: &OutgoingMessage,
        channel: &ChannelId,
        planned: Vec<PlannedCopy>,
    ) -> Result<Vec<SealedCopy>> {
        let Some(prepared) = self.prepared.letters.get_mut(at) else { return Ok(Vec::new()) };
        Ok(prepared.sealed(&self.post.sealing, letter, channel, planned)?)
    }

    /// Query the permissions of these pairs together, except those known already.
    async fn ask(&mut self, conn: &mut Connection, pairs: impl Iterator<Item = (&AgentId, &AgentId)>) -> Result<()> {
        let mut asked: Vec<(&AgentId, &AgentId)> = pairs.collect();
        asked.sort_unstable();
        asked.dedup();
        let verdicts = self.post.relations.permits(conn, &asked).await?;
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
        &mut self,
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
        let new = || self.post.ids.next("channel_", 12).into();
        let id = self.prepared.channels.entry(place.clone()).or_insert_with(new).clone();
        let wanted = NewChannel { kind, name: name.cloned(), members: other.cloned().into_iter().collect() };
        let channel = MessageChannel::opened(id.clone(), owner.clone(), wanted, self.now);
        (ChannelRef { id, kind, owner, status: ChannelStatus::Open, last_seq: 0 }, Some((place, channel)))
    }

    /// Remember the channel that is created with a message.
    pub(super) fn opened(&mut self, place: ChannelKey, spot: ChannelRef) {
        self.by_place.insert(place, spot);
    }
}

/// What identifies a message that has an id of its sender's choice.
pub(super) fn sender_key(letter: &OutgoingMessage) -> Option<(AgentId, MessageId)> {
    letter.draft.message_id.as_ref().map(|id| (letter.draft.sender.clone(), id.clone()))
}

fn direct_pair(letter: &OutgoingMessage) -> Option<(&AgentId, &AgentId)> {
    match &letter.draft.to {
        MessageDestination::Agent(recipient) => Some((&letter.draft.sender, recipient)),
        _ => None,
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
