//! Creating, joining, leaving and closing channels.

use serde_json::json;

use super::{
    CLOSE_BATCH, ChannelService, IDLE_CLOSE_DAYS, MAX_CHANNEL_MEMBERS,
    model::{ChannelKey, MessageChannel, NewChannel},
    store,
};
use crate::{
    error::{CommunicationError, Result},
    model::{ChannelKind, ChannelStatus},
};
use am_audit::{AuditEntry, EventType};
use am_core::{
    boxed,
    ids::{AgentId, ChannelId},
    validation::Violations,
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner,
    principal::Principal,
};

/// Bytes of a channel's name.
const MAX_NAME_BYTES: usize = 200;

impl NewChannel {
    /// Validate the request, and remove `maker` and duplicates from the members.
    fn checked(mut self, maker: &AgentId) -> Result<Self> {
        self.members.retain(|member| member != maker);
        self.members.sort_unstable();
        self.members.dedup();
        let mut violations = Violations::default();
        let message = format!("a channel has at most {MAX_CHANNEL_MEMBERS} members");
        violations.require(self.members.len() < MAX_CHANNEL_MEMBERS, "members", message);
        let has_other = self.kind != ChannelKind::Direct || self.members.len() == 1;
        violations.require(has_other, "members", "a direct channel has one other member");
        let name_bytes = self.name.as_ref().map_or(0, String::len);
        let message = format!("must have at most {MAX_NAME_BYTES} bytes");
        violations.require(name_bytes <= MAX_NAME_BYTES, "name", message);
        Ok(violations.finish_with(Some(self))?)
    }
}

/// Audit entry of a change.
fn audit_entry(action: &str, by: &Principal, channel: &ChannelId, actor: &AgentId, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("channel", action).by(by);
    entry.data("channel_id", json!(channel)).data("agent_id", json!(actor))
}

impl ChannelService {
    /// Create a channel in the name of `maker`. For two agents that have an open direct channel, that one is returned.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`]; [`CommunicationError::Refused`] for a member that the creator may not write to.
    #[boxed]
    pub async fn create(
        &self,
        by: &Principal,
        maker: &AgentId,
        new: NewChannel,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageChannel>> {
        let (new, maker) = (new.checked(maker)?, maker.clone());
        let (now, by) = (self.now(), by.clone());
        let (audit, id) = (self.0.audit.clone(), self.0.ids.next("channel_", 12).into());
        let relations = self.0.relations.clone();
        let work = async move |tx: &mut Tx| {
            let place = match (new.kind, new.members.as_slice()) {
                (ChannelKind::Direct, [other]) => Some(ChannelKey::for_pair(&maker, other)),
                _ => None,
            };
            if let Some(place) = &place
                && let Some(found) = store::find_open_channel(tx.conn().await?, place).await?
            {
                return Ok(found);
            }
            for member in &new.members {
                relations.permit(tx.conn().await?, &maker, member).await??;
            }
            let channel = MessageChannel::opened(id, maker, new, now);
            let (mut rows, mut members) = (RowBatch::default(), RowBatch::default());
            store::add_channel_rows((&mut rows, &mut members), &channel, place.as_ref());
            rows.append(members);
            let entry = audit_entry("created", &by, &channel.channel_id, &channel.owner, now);
            audit.add_entry_rows(&mut rows, [entry.change(None, Some(json!(channel)))]);
            rows.execute(tx).await?;
            Ok(channel)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Add `agent` to a channel, in the name of the member `actor`.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Forbidden`] when only the creator may add members; [`CommunicationError::Refused`]; [`CommunicationError::InvalidState`] for a
    /// direct or closed channel.
    #[boxed]
    pub async fn add(
        &self,
        by: &Principal,
        (actor, id): (&AgentId, &ChannelId),
        agent: &AgentId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageChannel>> {
        let (agent, relations) = (agent.clone(), self.0.relations.clone());
        self.change(
            by,
            (actor, id),
            once,
            async move |tx: &mut Tx, channel: &MessageChannel, actor: &AgentId, now: Timestamp| {
                match channel.kind {
                    ChannelKind::Direct => {
                        return Err(CommunicationError::InvalidState("a direct channel has two members".into()));
                    }
                    ChannelKind::Private | ChannelKind::Broadcast if channel.owner != *actor => {
                        return Err(CommunicationError::Forbidden(
                            "only its creator adds members to this channel".into(),
                        ));
                    }
                    _ => {}
                }
                if channel.members.len() >= MAX_CHANNEL_MEMBERS {
                    return Err(CommunicationError::InvalidState(format!(
                        "a channel has at most {MAX_CHANNEL_MEMBERS} members"
                    )));
                }
                // Permission to write to an agent implies permission to add it.
                relations.permit(tx.conn().await?, actor, &agent).await??;
                let mut rows = RowBatch::default();
                store::add_member_row(&mut rows, channel, &agent, now);
                rows.execute(tx).await?;
                Ok(("joined", json!(agent)))
            },
        )
        .await
    }

    /// Remove `agent` from a channel: the creator may remove anybody, others only themselves.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Forbidden`]; [`CommunicationError::InvalidState`] for the creator, who closes the channel instead.
    #[boxed]
    pub async fn remove(
        &self,
        by: &Principal,
        (actor, id): (&AgentId, &ChannelId),
        agent: &AgentId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageChannel>> {
        let agent = agent.clone();
        self.change(
            by,
            (actor, id),
            once,
            async move |tx: &mut Tx, channel: &MessageChannel, actor: &AgentId, _: Timestamp| {
                if channel.kind == ChannelKind::Direct || agent == channel.owner {
                    return Err(CommunicationError::InvalidState(
                        "this member can't leave an open channel; close the channel instead".into(),
                    ));
                }
                if *actor != agent && *actor != channel.owner {
                    return Err(CommunicationError::Forbidden(
                        "only its creator removes other members from this channel".into(),
                    ));
                }
                if !channel.has(&agent) {
                    return Err(CommunicationError::NotFound("Member"));
                }
                store::remove_member(tx, &channel.channel_id, &agent).await?;
                Ok(("left", json!(agent)))
            },
        )
        .await
    }

    /// Close a channel: its creator may, and either agent of a direct one. Existing messages are kept.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Forbidden`]; [`CommunicationError::InvalidState`] when it is closed already.
    #[boxed]
    pub async fn close(
        &self,
        by: &Principal,
        (actor, id): (&AgentId, &ChannelId),
        reason: Option<String>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageChannel>> {
        self.change(
            by,
            (actor, id),
            once,
            async move |tx: &mut Tx, channel: &MessageChannel, actor: &AgentId, now: Timestamp| {
                if channel.kind != ChannelKind::Direct && channel.owner != *actor {
                    return Err(CommunicationError::Forbidden("only its creator closes this channel".into()));
                }
                let reason = reason.unwrap_or_else(|| format!("closed by {actor}"));
                store::close_channel(tx, &channel.channel_id, &reason, now).await?;
                Ok(("closed", json!(reason)))
            },
        )
        .await
    }

    /// Change an open channel in the name of one of its members, and append the audit entry.
    async fn change<F>(
        &self,
        by: &Principal,
        (actor, id): (&AgentId, &ChannelId),
        once: Option<IdempotencyKey>,
        change: F,
    ) -> Result<IdempotentResult<MessageChannel>>
    where
        F: AsyncFnOnce(&mut Tx, &MessageChannel, &AgentId, Timestamp) -> Result<(&'static str, serde_json::Value)>
            + Send
            + 'static,
    {
        let (actor, id) = (actor.clone(), id.clone());
        let (by, now) = (by.clone(), self.now());
        let audit = self.0.audit.clone();
        let work = async move |tx: &mut Tx| {
            let found = store::get_channel(tx.conn().await?, &id).await?.filter(|channel| channel.has(&actor));
            let channel = found.ok_or(CommunicationError::NotFound("Channel"))?;
            if channel.status == ChannelStatus::Closed {
                return Err(CommunicationError::InvalidState("the channel is closed".into()));
            }
            let (action, what) = change(tx, &channel, &actor, now).await?;
            audit.append(tx, vec![audit_entry(action, &by, &id, &actor, now).data("what", what)]).await?;
            store::get_channel(tx.conn().await?, &id).await?.ok_or(CommunicationError::NotFound("Channel"))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Close channels that were idle for too long. Returns their number, and whether there may be more.
    pub(crate) async fn close_idle(&self) -> Result<(usize, bool)> {
        let now = self.now();
        let before = Timestamp(now.0 - chrono::Duration::days(IDLE_CLOSE_DAYS));
        let idle = store::idle_channels(&mut *self.0.db.read().await?, before, CLOSE_BATCH).await?;
        if idle.is_empty() {
            return Ok((0, false));
        }
        let (audit, count) = (self.0.audit.clone(), idle.len());
        let close = async move |tx: &mut Tx| {
            // A message may have been written since the channel was looked up.
            let idle = store::idle_channels(tx.conn().await?, before, CLOSE_BATCH).await?;
            let mut entries = Vec::with_capacity(idle.len());
            for id in &idle {
                store::close_channel(tx, id, "no message for 30 days", now).await?;
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("channel", "closed");
                entries.push(entry.on_behalf_of(owner::SYSTEM_PRINCIPAL).data("channel_id", json!(id)));
            }
            audit.append(tx, entries).await?;
            Ok::<_, CommunicationError>(())
        };
        self.0.db.write(close).await?;
        Ok((count, count as i64 == CLOSE_BATCH))
    }
}
