//! What is decided and encrypted for messages before the transaction that writes them, so that nobody waits for the
//! write lock while content is encrypted. The transaction uses what still holds and does the rest itself.

use std::collections::HashMap;

use super::OutgoingMessage;
use crate::{
    channels::ChannelKey,
    encryption::{
        self, CiphertextBinding, EncryptedContent, EncryptionPlan, EncryptionService, KeyDirectory, SharedDraft,
    },
};
use am_core::ids::{AgentId, ChannelId, MessageId};

/// Size of content, in bytes of JSON, from which the copies of a message share it. Below, a copy of its own takes no
/// more room than its part of a shared one.
const MIN_SHARED_BYTES: usize = 1024;

/// Decisions and encrypted content of a batch of messages.
#[derive(Default)]
pub struct PreparedBatch {
    /// For each message, in order.
    pub(super) letters: Vec<PreparedLetter>,
    /// Ids of channels to create, by their keys.
    pub(super) channels: HashMap<ChannelKey, ChannelId>,
    /// Keys of the messages' channels and recipients.
    pub(super) keys: KeyDirectory,
}

/// Decisions and encrypted content of one message.
#[derive(Default)]
pub(super) struct PreparedLetter {
    /// Id of the message, chosen by its sender or generated.
    pub(super) id: Option<MessageId>,
    /// Salted hash of the draft; `None` when the sender chose no id.
    pub(super) draft_hash: Option<String>,
    /// Content that the copies share.
    pub(super) shared: Option<SharedDraft>,
    /// Copies by recipient.
    pub(super) copies: HashMap<AgentId, PreparedCopy>,
}

/// A copy of a message, encrypted in advance.
pub(super) struct PreparedCopy {
    pub(super) message_id: MessageId,
    pub(super) channel: ChannelId,
    pub(super) plan: EncryptionPlan,
    /// Encrypted content; `None` when that failed, which the transaction finds out again.
    pub(super) sealed: Option<EncryptedContent>,
}

/// A copy of a message and how it is encrypted.
pub(super) struct PlannedCopy {
    pub(super) message_id: MessageId,
    pub(super) recipient: AgentId,
    pub(super) plan: EncryptionPlan,
}

/// A copy of a message, encrypted and not written yet.
pub(super) struct SealedCopy {
    pub(super) message_id: MessageId,
    pub(super) recipient: AgentId,
    pub(super) sealed: EncryptedContent,
}

/// Whether copies of a message with these plans share its content.
fn is_shared<'a>(letter: &OutgoingMessage, plans: impl ExactSizeIterator<Item = &'a EncryptionPlan>) -> bool {
    let mut plans = plans;
    letter.bytes >= MIN_SHARED_BYTES && plans.len() > 1 && plans.all(EncryptionPlan::can_share)
}

fn seal_one(
    letter: &OutgoingMessage,
    channel: &ChannelId,
    (message_id, recipient): (&MessageId, &AgentId),
    plan: &EncryptionPlan,
    shared: Option<&SharedDraft>,
) -> encryption::Result<EncryptedContent> {
    let bound = CiphertextBinding { message_id, channel, sender: &letter.draft.sender, recipient: Some(recipient) };
    match shared {
        Some(shared) => plan.seal_copy(&bound, shared),
        None => plan.seal(&bound, &letter.draft.content),
    }
}

impl PreparedLetter {
    /// Encrypt all planned copies in advance.
    fn seal(&mut self, sealing: &EncryptionService, letter: &OutgoingMessage) -> encryption::Result<()> {
        if is_shared(letter, self.copies.values().map(|copy| &copy.plan)) {
            let encrypted = self.copies.values().any(|copy| copy.plan.is_encrypted());
            self.shared = Some(sealing.share(&letter.draft.content, encrypted)?);
        }
        for (recipient, copy) in &mut self.copies {
            let names = (&copy.message_id, recipient);
            copy.sealed = Some(seal_one(letter, &copy.channel, names, &copy.plan, self.shared.as_ref())?);
        }
        Ok(())
    }

    /// The encrypted copies of a message: those prepared, where they are planned in the same way now, and others.
    pub(super) fn sealed(
        &mut self,
        sealing: &EncryptionService,
        letter: &OutgoingMessage,
        channel: &ChannelId,
        planned: Vec<PlannedCopy>,
    ) -> encryption::Result<Vec<SealedCopy>> {
        let shared = is_shared(letter, planned.iter().map(|copy| &copy.plan));
        if shared && self.shared.is_none() {
            let encrypted = planned.iter().any(|copy| copy.plan.is_encrypted());
            self.shared = Some(sealing.share(&letter.draft.content, encrypted)?);
        }
        let draft = self.shared.as_ref().filter(|_| shared);
        let mut copies = Vec::with_capacity(planned.len());
        for PlannedCopy { message_id, recipient, plan } in planned {
            let ready = self
                .copies
                .remove(&recipient)
                .filter(|copy| copy.plan == plan && copy.channel == *channel && copy.message_id == message_id);
            let ready = ready.and_then(|copy| copy.sealed).filter(|sealed| sealed.shared.is_some() == shared);
            let sealed = match ready {
                Some(sealed) => sealed,
                None => seal_one(letter, channel, (&message_id, &recipient), &plan, draft)?,
            };
            copies.push(SealedCopy { message_id, recipient, sealed });
        }
        Ok(copies)
    }
}

impl PreparedBatch {
    /// Encrypt what was planned. It takes processor time, and belongs on a thread for that.
    pub(super) fn seal(&mut self, sealing: &EncryptionService, letters: &[OutgoingMessage]) {
        for (prepared, letter) in self.letters.iter_mut().zip(letters) {
            // The transaction finds the same error.
            let _ = prepared.seal(sealing, letter);
        }
    }
}
