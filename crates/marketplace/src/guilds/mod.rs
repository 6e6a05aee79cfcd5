//! Guilds: agents that share a name, a reputation and a treasury in the ledger.

mod model;
mod store;

use serde_json::json;

pub use model::{Guild, GuildChange, GuildDraft, GuildMember, GuildPayout, GuildRole, PayoutOrder};
pub(crate) use store::contribution_of;

use am_audit::EventType;
use am_core::{
    boxed,
    ids::{AgentId, MarketGuildId},
    validation::{Violations, has_length},
};
use am_db::{
    Connection, Tx,
    bulk_insert::RowBatch,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_ledger::{AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryTags, NewEntry};
use am_security::reputation::{get_reputation, get_reputations};

use crate::{
    Marketplace,
    agents::{MarketCaller, find_owner, own_agent},
    error::{MarketError, Result},
    rules::{BASIS_POINTS, CONTRIBUTION_POINTS, GUILD_NAME_LEN, may_join, mean_reputation},
};
use store::GuildRow;

/// Members that a guild may have.
const MAX_MEMBERS: i64 = 500;
/// Characters that a guild's description, or the note of a payment, may have.
const MAX_TEXT_LEN: usize = 1000;

/// The account of a guild's treasury.
pub(crate) fn treasury(guild: &MarketGuildId) -> AccountKey {
    AccountKey::ait(AccountOwner::Guild(guild.to_string()), AccountPurpose::Treasury)
}

/// The guild that an agent is in.
pub(crate) async fn guild_of(conn: &mut Connection, agent: &AgentId) -> Result<Option<MarketGuildId>> {
    Ok(store::find_member(conn, agent).await?.map(|member| member.guild_id))
}

impl Marketplace {
    /// Found a guild with an agent that the caller acts for, which leads it.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] with all faults; [`MarketError::Conflict`] for a name in use, or an agent that is in a guild.
    #[boxed]
    pub async fn create_guild(
        &self,
        caller: &MarketCaller,
        draft: GuildDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Guild>> {
        let name = draft.name.trim().to_owned();
        let mut violations = Violations::default();
        let holds = has_length(&name, &GUILD_NAME_LEN) && !name.contains('\0');
        violations.require(holds, "name", "must have 3 to 100 characters");
        check_description(&mut violations, Some(&draft.description));
        let contribution = basis_points(&mut violations, draft.contribution_percent);
        violations.finish().map_err(MarketError::Invalid)?;
        let (this, caller, now) = (self.clone(), caller.clone(), self.now());
        let id: MarketGuildId = self.0.ids.next("guild_", 12).into();
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            own_agent(conn, &caller, &draft.agent_id, "agent_id").await?;
            refuse_member(conn, &draft.agent_id).await?;
            if store::is_taken(conn, &name).await? {
                return Err(MarketError::Conflict("there is a guild of this name already".to_owned()));
            }
            let guild = GuildRow {
                id,
                name,
                description: draft.description,
                contribution,
                members: 1,
                created_at: now,
                updated_at: now,
            };
            let role = GuildRole::Leader;
            let member = GuildMember { agent_id: draft.agent_id, guild_id: guild.id.clone(), role, joined_at: now };
            let mut rows = RowBatch::default();
            store::save(&mut rows, &guild);
            store::save_member(&mut rows, &member);
            this.0.audit.add_entry_rows(&mut rows, [this.guild_entry(&caller, &guild.id, "founded", &member)]);
            rows.execute(tx).await?;
            this.shown(tx.conn().await?, guild).await
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Return a guild with its reputation and what its treasury has.
    ///
    /// # Errors
    /// [`MarketError::NotFound`].
    #[boxed]
    pub async fn guild(&self, id: &MarketGuildId) -> Result<Guild> {
        let mut conn = self.0.db.read().await?;
        let found = store::find(&mut conn, id).await?.ok_or(MarketError::NotFound("Guild"))?;
        self.shown(&mut conn, found).await
    }

    /// Return a page of guilds, newest first.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list_guilds(&self, page: &PageRequest) -> Result<Vec<Guild>> {
        let guilds = store::list(&mut *self.0.db.read_list().await?, page).await?;
        Ok(guilds.into_iter().map(GuildRow::shown).collect())
    }

    /// Return a page of a guild's members.
    ///
    /// # Errors
    /// [`MarketError::NotFound`].
    #[boxed]
    pub async fn list_guild_members(&self, id: &MarketGuildId, page: &PageRequest) -> Result<Vec<GuildMember>> {
        let mut conn = self.0.db.read_list().await?;
        store::find(&mut conn, id).await?.ok_or(MarketError::NotFound("Guild"))?;
        Ok(store::list_members(&mut conn, id, page).await?)
    }

    /// Change a guild that an agent of the caller's leads.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`]; [`MarketError::Invalid`] with all faults.
    #[boxed]
    pub async fn update_guild(&self, caller: &MarketCaller, id: &MarketGuildId, change: GuildChange) -> Result<Guild> {
        let mut violations = Violations::default();
        check_description(&mut violations, change.description.as_deref());
        let contribution = change.contribution_percent.map(|percent| basis_points(&mut violations, percent));
        violations.finish().map_err(MarketError::Invalid)?;
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let before = store::find(conn, &id).await?.ok_or(MarketError::NotFound("Guild"))?;
            require_role(conn, &caller, &id, GuildRole::Leader).await?;
            let entry = this.entry(EventType::WorkflowUpdated, "market_guild", "changed").by(&caller.principal);
            let entry = entry.data("guild_id", json!(id)).data("contribution_points", json!(contribution));
            let guild = GuildRow {
                description: change.description.unwrap_or(before.description),
                contribution: contribution.unwrap_or(before.contribution),
                updated_at: now,
                id: before.id,
                name: before.name,
                members: before.members,
                created_at: before.created_at,
            };
            let mut rows = RowBatch::default();
            store::save(&mut rows, &guild);
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            this.shown(tx.conn().await?, guild).await
        };
        self.0.db.write(work).await
    }

    /// Let an agent that the caller acts for join a guild.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Invalid`] for an agent of too little reputation; [`MarketError::Conflict`] for one
    /// that is in a guild, or a guild that is full.
    #[boxed]
    pub async fn join_guild(
        &self,
        caller: &MarketCaller,
        id: &MarketGuildId,
        agent: AgentId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<GuildMember>> {
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut guild = store::find(conn, &id).await?.ok_or(MarketError::NotFound("Guild"))?;
            own_agent(conn, &caller, &agent, "agent_id").await?;
            refuse_member(conn, &agent).await?;
            if guild.members >= MAX_MEMBERS {
                return Err(MarketError::Conflict(format!("the guild has {MAX_MEMBERS} members, and takes no more")));
            }
            let (own, shared) = (get_reputation(conn, &agent).await?.reputation, shared_reputation(conn, &id).await?);
            if !may_join(own, shared) {
                let shared = shared.unwrap_or_default();
                let message = format!("has a reputation of {own}; half the guild's {shared} is needed");
                return Err(MarketError::field("agent_id", message));
            }
            guild.members += 1;
            guild.updated_at = now;
            let member = GuildMember { agent_id: agent, guild_id: id, role: GuildRole::Member, joined_at: now };
            let mut rows = RowBatch::default();
            store::save(&mut rows, &guild);
            store::save_member(&mut rows, &member);
            this.0.audit.add_entry_rows(&mut rows, [this.guild_entry(&caller, &guild.id, "joined", &member)]);
            rows.execute(tx).await?;
            Ok(member)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Give a member another role. A new leader takes the place of the old one, which becomes an officer.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`]; [`MarketError::InvalidState`] where a guild would have no leader.
    #[boxed]
    pub async fn set_guild_role(
        &self,
        caller: &MarketCaller,
        id: &MarketGuildId,
        agent: &AgentId,
        role: GuildRole,
    ) -> Result<GuildMember> {
        let (this, caller, id, agent) = (self.clone(), caller.clone(), id.clone(), agent.clone());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut member = find_in(conn, &id, &agent).await?;
            require_role(conn, &caller, &id, GuildRole::Leader).await?;
            if member.role == GuildRole::Leader && role != GuildRole::Leader {
                return Err(MarketError::InvalidState("a guild has a leader: make another member the leader".into()));
            }
            let mut rows = RowBatch::default();
            if role == GuildRole::Leader && member.role != role {
                for mut leader in store::members(conn, &id).await? {
                    if leader.role == GuildRole::Leader {
                        leader.role = GuildRole::Officer;
                        store::save_member(&mut rows, &leader);
                    }
                }
            }
            member.role = role;
            store::save_member(&mut rows, &member);
            this.0.audit.add_entry_rows(&mut rows, [this.guild_entry(&caller, &id, "role_changed", &member)]);
            rows.execute(tx).await?;
            Ok(member)
        };
        self.0.db.write(work).await
    }

    /// Take an agent out of a guild: its own by itself, others by a leader or an officer. Its last member takes the guild's name
    /// with it only when the treasury is empty.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`]; [`MarketError::InvalidState`] for a leader of others.
    #[boxed]
    pub async fn leave_guild(&self, caller: &MarketCaller, id: &MarketGuildId, agent: &AgentId) -> Result<()> {
        let (this, caller, id, agent) = (self.clone(), caller.clone(), id.clone(), agent.clone());
        let now = self.now();
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut guild = store::find(conn, &id).await?.ok_or(MarketError::NotFound("Guild"))?;
            let member = find_in(conn, &id, &agent).await?;
            let owner = find_owner(conn, &agent).await?;
            let is_own = owner.as_ref().is_some_and(|owner| caller.acts_for(&agent, owner));
            if !is_own {
                require_role(conn, &caller, &id, GuildRole::Officer).await?;
            }
            if member.role == GuildRole::Leader && guild.members > 1 {
                return Err(MarketError::InvalidState("the leader leaves last: make another member the leader".into()));
            }
            if guild.members == 1 && this.0.ledger.balance(conn, &treasury(&id)).await?.balance.is_positive() {
                return Err(MarketError::InvalidState("pay out the treasury before the last member leaves".into()));
            }
            guild.members -= 1;
            guild.updated_at = now;
            store::delete_member(tx, &agent).await?;
            let mut rows = RowBatch::default();
            store::save(&mut rows, &guild);
            this.0.audit.add_entry_rows(&mut rows, [this.guild_entry(&caller, &id, "left", &member)]);
            rows.execute(tx).await?;
            Ok::<_, MarketError>(())
        };
        self.0.db.write(work).await
    }

    /// Pay from the treasury to a member's owner; a leader may.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`]; [`MarketError::Invalid`]; [`MarketError::Ledger`] where the treasury
    /// has less.
    #[boxed]
    pub async fn pay_out(
        &self,
        caller: &MarketCaller,
        id: &MarketGuildId,
        order: PayoutOrder,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<GuildPayout>> {
        let (this, by, guild, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let PayoutOrder { agent_id, amount, note } = order;
            let conn = tx.conn().await?;
            store::find(conn, &guild).await?.ok_or(MarketError::NotFound("Guild"))?;
            require_role(conn, &by, &guild, GuildRole::Leader).await?;
            let mut violations = Violations::default();
            let amount = amount.positive("amount", &mut violations);
            let is_long = note.as_ref().is_some_and(|note| note.chars().count() > MAX_TEXT_LEN || note.contains('\0'));
            violations.require(!is_long, "note", format!("at most {MAX_TEXT_LEN} characters"));
            let amount = violations.finish_with(amount).map_err(MarketError::Invalid)?;
            let member = store::find_member(conn, &agent_id).await?.filter(|member| member.guild_id == guild);
            let owner = find_owner(conn, &agent_id).await?.filter(|_| member.is_some());
            let owner = owner.ok_or_else(|| MarketError::field("agent_id", "is no member of the guild"))?;
            let to = AccountKey::wallet(AccountOwner::Principal(owner.clone()));
            let tags = EntryTags { principal: Some(owner), agent: Some(agent_id.clone()), ..Default::default() };
            let mut entry = NewEntry::new(EntryKind::Contribution)
                .of("market_guild", guild.as_str())
                .moving(treasury(&guild), to, amount)
                .tagged(tags);
            if let Some(note) = note {
                entry = entry.note(note);
            }
            this.0.ledger.post(tx, entry).await?;
            let left = this.0.ledger.balance(tx.conn().await?, &treasury(&guild)).await?.balance;
            let entry = this.entry(EventType::WorkflowUpdated, "market_guild", "paid_out").by(&by.principal);
            let entry = entry.data("guild_id", json!(guild)).data("agent_id", json!(agent_id));
            this.0.audit.append(tx, vec![entry.data("amount", json!(amount))]).await?;
            Ok(GuildPayout { guild_id: guild, agent_id, amount, treasury: left, paid_at: now })
        };
        let paid = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.with_refusal(caller, ("market_guild", id), "pay_out", paid).await
    }

    async fn shown(&self, conn: &mut Connection, guild: GuildRow) -> Result<Guild> {
        let treasury = self.0.ledger.balance(conn, &treasury(&guild.id)).await?.balance;
        let reputation = shared_reputation(conn, &guild.id).await?;
        Ok(Guild { reputation, treasury: Some(treasury), ..guild.shown() })
    }

    fn guild_entry(
        &self,
        caller: &MarketCaller,
        guild: &MarketGuildId,
        action: &str,
        member: &GuildMember,
    ) -> am_audit::AuditEntry {
        let entry = self.entry(EventType::WorkflowUpdated, "market_guild", action).by(&caller.principal);
        entry.data("guild_id", json!(guild)).data("agent_id", json!(member.agent_id)).data("role", json!(member.role))
    }
}

/// Reputation of a guild: the mean of its members'.
async fn shared_reputation(conn: &mut Connection, guild: &MarketGuildId) -> Result<Option<f64>> {
    let members = store::members(conn, guild).await?;
    let ids: Vec<&AgentId> = members.iter().map(|member| &member.agent_id).collect();
    let found = get_reputations(conn, &ids).await?;
    let values: Vec<f64> = ids.iter().filter_map(|id| found.get(*id)).map(|found| found.reputation).collect();
    Ok(mean_reputation(&values))
}

async fn find_in(conn: &mut Connection, guild: &MarketGuildId, agent: &AgentId) -> Result<GuildMember> {
    let found = store::find_member(conn, agent).await?.filter(|member| member.guild_id == *guild);
    found.ok_or(MarketError::NotFound("Member"))
}

/// Check that an agent is in no guild.
async fn refuse_member(conn: &mut Connection, agent: &AgentId) -> Result<()> {
    match store::find_member(conn, agent).await? {
        Some(member) => Err(MarketError::Conflict(format!("the agent is a member of {}", member.guild_id))),
        None => Ok(()),
    }
}

/// Check that the caller acts for a member with this role, or a higher one.
async fn require_role(
    conn: &mut Connection,
    caller: &MarketCaller,
    guild: &MarketGuildId,
    least: GuildRole,
) -> Result<()> {
    if caller.is_admin {
        return Ok(());
    }
    for member in store::members(conn, guild).await?.iter().filter(|member| member.role <= least) {
        let owner = find_owner(conn, &member.agent_id).await?;
        if owner.is_some_and(|owner| caller.acts_for(&member.agent_id, &owner)) {
            return Ok(());
        }
    }
    Err(MarketError::Forbidden("This needs an agent of yours that leads the guild"))
}

fn check_description(violations: &mut Violations, description: Option<&str>) {
    let holds = description.is_none_or(|text| text.chars().count() <= MAX_TEXT_LEN && !text.contains('\0'));
    violations.require(holds, "description", format!("at most {MAX_TEXT_LEN} characters"));
}

/// Basis points of a percentage.
fn basis_points(violations: &mut Violations, percent: f64) -> i64 {
    let points = (percent * (BASIS_POINTS / 100) as f64).round();
    let holds = percent.is_finite() && CONTRIBUTION_POINTS.contains(&(points as i64));
    violations.require(holds, "contribution_percent", "must be from 0 to 50");
    points as i64
}
