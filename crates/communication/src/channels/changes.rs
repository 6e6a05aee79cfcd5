//! Channels made, joined, left and closed.

use serde_json::json;

use super::{
    AT_ONCE, Channels, IDLE_DAYS, MOST_MEMBERS,
    model::{Channel, NewChannel, Place},
    store,
};
use crate::{
    error::{Error, Result},
    model::{ChannelKind, ChannelStatus},
};
use am_audit::{Entry, EventType};
use am_db::{
    Tx,
    codec::Timestamp,
    once::{Done, Once},
    owner,
    principal::Principal,
    rows::Rows,
};

/// The longest name of a channel.
const LONGEST: usize = 200;

impl NewChannel {
    /// Complete and in bounds, with `maker` in it.
    fn checked(mut self, maker: &str) -> Result<Self> {
        self.members.retain(|member| member != maker);
        self.members.sort_unstable();
        self.members.dedup();
        if self.members.len() >= MOST_MEMBERS {
            return Err(Error::invalid("members", format!("a channel has at most {MOST_MEMBERS} members")));
        }
        if self.kind == ChannelKind::Direct && self.members.len() != 1 {
            return Err(Error::invalid("members", "a direct channel has one other member"));
        }
        if self.name.as_ref().is_some_and(|name| name.len() > LONGEST) {
            return Err(Error::invalid("name", format!("must have at most {LONGEST} bytes")));
        }
        Ok(self)
    }
}

/// What the audit log gets to know.
fn told(action: &str, by: &Principal, channel: &str, actor: &str, now: Timestamp) -> Entry {
    let entry = Entry::new(EventType::WorkflowUpdated, now).of("channel", action).by(by);
    entry.data("channel_id", json!(channel)).data("agent_id", json!(actor))
}

impl Channels {
    /// Make a channel in `maker`'s name. The open one of two agents is answered where there is one.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Refused`] for a member that the maker may not write to.
    pub async fn create(
        &self,
        by: &Principal,
        maker: &str,
        new: NewChannel,
        once: Option<Once>,
    ) -> Result<Done<Channel>> {
        let (new, maker, now, by) = (new.checked(maker)?, maker.to_owned(), self.now(), by.clone());
        let (audit, id) = (self.0.audit.clone(), self.0.ids.next("channel_", 12));
        let relations = self.0.relations.clone();
        let work = async move |tx: &mut Tx| {
            let place = match (new.kind, new.members.as_slice()) {
                (ChannelKind::Direct, [other]) => Some(Place::of_pair(&maker, other)),
                _ => None,
            };
            if let Some(place) = &place
                && let Some(found) = store::at(tx.conn().await?, place).await?
            {
                return Ok(found);
            }
            for member in &new.members {
                relations.permit(tx.conn().await?, &maker, member).await??;
            }
            let channel = Channel {
                channel_id: id,
                kind: new.kind,
                name: new.name,
                members: std::iter::once(maker.clone()).chain(new.members).collect(),
                owner: maker,
                status: ChannelStatus::Open,
                last_seq: 0,
                created_at: now,
                last_activity: now,
                closed_at: None,
                closed_reason: None,
            };
            let (mut rows, mut members) = (Rows::default(), Rows::default());
            store::insert_rows((&mut rows, &mut members), &channel, place.as_ref());
            rows.append(members);
            let entry = told("created", &by, &channel.channel_id, &channel.owner, now);
            audit.add_to(&mut rows, [entry.change(None, Some(json!(channel)))]);
            rows.execute(tx).await?;
            Ok(channel)
        };
        self.0.db.write_once(&self.0.clock, once, work).await
    }

    /// Bring `agent` into a channel, in the name of `actor`, who is in it.
    ///
    /// # Errors
    /// [`Error::Forbidden`] where the maker alone may; [`Error::Refused`]; [`Error::State`] for a direct or a closed one.
    pub async fn add(
        &self,
        by: &Principal,
        (actor, id): (&str, &str),
        agent: &str,
        once: Option<Once>,
    ) -> Result<Done<Channel>> {
        let (agent, relations) = (agent.to_owned(), self.0.relations.clone());
        self.change(by, (actor, id), once, async move |tx: &mut Tx, channel: &Channel, actor: &str, now: Timestamp| {
            match channel.kind {
                ChannelKind::Direct => return Err(Error::State("a direct channel has two members".into())),
                ChannelKind::Private | ChannelKind::Broadcast if channel.owner != actor => {
                    return Err(Error::Forbidden("its maker alone brings members into this channel".into()));
                }
                _ => {}
            }
            if channel.members.len() >= MOST_MEMBERS {
                return Err(Error::State(format!("a channel has at most {MOST_MEMBERS} members")));
            }
            // Whoever may write to it may bring it.
            relations.permit(tx.conn().await?, actor, &agent).await??;
            let mut rows = Rows::default();
            store::member_rows(&mut rows, &channel.channel_id, &agent, now);
            rows.execute(tx).await?;
            Ok(("joined", json!(agent)))
        })
        .await
    }

    /// Take `agent` out of a channel: the maker takes anybody, everybody else itself.
    ///
    /// # Errors
    /// [`Error::Forbidden`]; [`Error::State`] for the maker, who closes it instead.
    pub async fn remove(
        &self,
        by: &Principal,
        (actor, id): (&str, &str),
        agent: &str,
        once: Option<Once>,
    ) -> Result<Done<Channel>> {
        let agent = agent.to_owned();
        self.change(by, (actor, id), once, async move |tx: &mut Tx, channel: &Channel, actor: &str, _: Timestamp| {
            if channel.kind == ChannelKind::Direct || agent == channel.owner {
                return Err(Error::State("this member stays while the channel is open; close it".into()));
            }
            if actor != agent && actor != channel.owner {
                return Err(Error::Forbidden("its maker alone takes others out of this channel".into()));
            }
            if !channel.has(&agent) {
                return Err(Error::NotFound("Member"));
            }
            store::remove_member(tx, &channel.channel_id, &agent).await?;
            Ok(("left", json!(agent)))
        })
        .await
    }

    /// Close a channel: its maker may, and either of two. What was written stays.
    ///
    /// # Errors
    /// [`Error::Forbidden`]; [`Error::State`] when it is closed.
    pub async fn close(
        &self,
        by: &Principal,
        (actor, id): (&str, &str),
        reason: Option<String>,
        once: Option<Once>,
    ) -> Result<Done<Channel>> {
        self.change(by, (actor, id), once, async move |tx: &mut Tx, channel: &Channel, actor: &str, now: Timestamp| {
            if channel.kind != ChannelKind::Direct && channel.owner != actor {
                return Err(Error::Forbidden("its maker alone closes this channel".into()));
            }
            let reason = reason.unwrap_or_else(|| format!("closed by {actor}"));
            store::close(tx, &channel.channel_id, &reason, now).await?;
            Ok(("closed", json!(reason)))
        })
        .await
    }

    /// One change of an open channel by an agent that is in it, with its entry in the audit log.
    async fn change<F>(
        &self,
        by: &Principal,
        (actor, id): (&str, &str),
        once: Option<Once>,
        change: F,
    ) -> Result<Done<Channel>>
    where
        F: AsyncFnOnce(&mut Tx, &Channel, &str, Timestamp) -> Result<(&'static str, serde_json::Value)>
            + Send
            + 'static,
    {
        let (actor, id, by, now) = (actor.to_owned(), id.to_owned(), by.clone(), self.now());
        let audit = self.0.audit.clone();
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?.filter(|channel| channel.has(&actor));
            let channel = found.ok_or(Error::NotFound("Channel"))?;
            if channel.status == ChannelStatus::Closed {
                return Err(Error::State("the channel is closed".into()));
            }
            let (action, what) = change(tx, &channel, &actor, now).await?;
            audit.append(tx, vec![told(action, &by, &id, &actor, now).data("what", what)]).await?;
            store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound("Channel"))
        };
        self.0.db.write_once(&self.0.clock, once, work).await
    }

    /// Close what nobody has written into for too long; answers how many, and whether there may be more.
    pub(crate) async fn close_idle(&self) -> Result<(usize, bool)> {
        let now = self.now();
        let before = Timestamp(now.0 - chrono::Duration::days(IDLE_DAYS));
        let idle = store::idle(&mut *self.0.db.read().await?, before, AT_ONCE).await?;
        if idle.is_empty() {
            return Ok((0, false));
        }
        let (audit, count) = (self.0.audit.clone(), idle.len());
        let close = async move |tx: &mut Tx| {
            // Somebody may have written into one since it was looked for.
            let idle = store::idle(tx.conn().await?, before, AT_ONCE).await?;
            let mut entries = Vec::with_capacity(idle.len());
            for id in &idle {
                store::close(tx, id, "nobody wrote into it for 30 days", now).await?;
                let entry = Entry::new(EventType::WorkflowUpdated, now).of("channel", "closed");
                entries.push(entry.on_behalf_of(owner::SYSTEM).data("channel_id", json!(id)));
            }
            audit.append(tx, entries).await?;
            Ok::<_, Error>(())
        };
        self.0.db.write(close).await?;
        Ok((count, count as i64 == AT_ONCE))
    }
}
