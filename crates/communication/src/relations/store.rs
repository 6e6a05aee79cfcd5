//! SQL of tables `am_agent_contacts`, `am_agent_blocks` and `am_agent_authorizations`.

use super::{
    RelationFacts,
    model::{AgentAuthorization, AgentBlock, AgentContact},
};
use am_core::ids::{AgentId, PrincipalId};
use am_db::{Connection, FromRow as _, Result, Tx, codec::Timestamp, insert, page::PageRequest, row, sql};

row! {
    AgentContact { agent_id, contact_id, note, created_at }
}

row! {
    AgentBlock { agent_id, blocked_id, reason, created_at }
}

row! {
    RelationFacts {
        sender = "(SELECT state FROM am_agent_authorizations WHERE agent_id = p.sender)",
        recipient = "(SELECT state FROM am_agent_authorizations WHERE agent_id = p.recipient)",
        blocked_by_recipient =
            "EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = p.recipient AND blocked_id = p.sender)",
        blocked_by_sender =
            "EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = p.sender AND blocked_id = p.recipient)",
        contacts = "EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = p.sender AND contact_id = p.recipient)
                 OR EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = p.recipient AND contact_id = p.sender)",
    }
}

/// Relation of each pair of sender and recipient, in their order and in one query.
pub(super) async fn read_relations(
    conn: &mut Connection,
    pairs: &[(&AgentId, &AgentId)],
) -> Result<Vec<RelationFacts>> {
    let rows = sql!(
        "WITH p AS MATERIALIZED (SELECT place, sender, recipient FROM {placed $1 sender recipient} AS pair) SELECT ",
        RelationFacts::COLUMNS,
        " FROM p ORDER BY p.place",
    );
    rows.bind(serde_json::json!(pairs).to_string()).fetch_all(conn).await
}

/// A page of an agent's contacts, and their total number.
pub(super) async fn list_contacts(
    conn: &mut Connection,
    agent: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<AgentContact>, i64)> {
    let total = sql!("SELECT count(*) FROM am_agent_contacts WHERE agent_id = $1 {span $2}");
    let total = total.bind(agent).bind_span(page.created).fetch_value(&mut *conn).await?;
    let contacts = sql!(
        "SELECT ",
        AgentContact::COLUMNS,
        " FROM (SELECT *, contact_id AS id FROM am_agent_contacts WHERE agent_id = $1) AS pair WHERE true {page $2}",
    );
    Ok((contacts.bind(agent).bind_page(page).fetch_all(conn).await?, total))
}

/// Number of an agent's contacts.
pub(super) async fn count_contacts(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    sql!("SELECT count(*) FROM am_agent_contacts WHERE agent_id = $1").bind(agent).fetch_value(conn).await
}

/// A contact of an agent.
pub(super) async fn get_contact(
    conn: &mut Connection,
    agent: &AgentId,
    other: &AgentId,
) -> Result<Option<AgentContact>> {
    let contact =
        sql!("SELECT ", AgentContact::COLUMNS, " FROM am_agent_contacts WHERE agent_id = $1 AND contact_id = $2");
    contact.bind(agent).bind(other).fetch_optional(conn).await
}

/// Insert a contact, or change its note.
pub(super) async fn upsert_contact(tx: &mut Tx, new: &AgentContact) -> Result<()> {
    insert!("am_agent_contacts" {
        agent_id: &new.agent_id,
        contact_id: &new.contact_id,
        note: &new.note,
        created_at: new.created_at,
    } update on (agent_id, contact_id) except (created_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete a block.
pub(super) async fn delete_contact(tx: &mut Tx, agent: &AgentId, other: &AgentId) -> Result<()> {
    let removed = sql!("DELETE FROM am_agent_contacts WHERE agent_id = $1 AND contact_id = $2");
    removed.bind(agent).bind(other).execute(tx.conn().await?).await?;
    Ok(())
}

/// A page of an agent's blocks, and their total number.
pub(super) async fn list_blocks(
    conn: &mut Connection,
    agent: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<AgentBlock>, i64)> {
    let total = sql!("SELECT count(*) FROM am_agent_blocks WHERE agent_id = $1 {span $2}");
    let total = total.bind(agent).bind_span(page.created).fetch_value(&mut *conn).await?;
    let blocks = sql!(
        "SELECT ",
        AgentBlock::COLUMNS,
        " FROM (SELECT *, blocked_id AS id FROM am_agent_blocks WHERE agent_id = $1) AS pair WHERE true {page $2}",
    );
    Ok((blocks.bind(agent).bind_page(page).fetch_all(conn).await?, total))
}

/// Number of an agent's blocks.
pub(super) async fn count_blocks(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    sql!("SELECT count(*) FROM am_agent_blocks WHERE agent_id = $1").bind(agent).fetch_value(conn).await
}

/// A block of an agent.
pub(super) async fn get_block(conn: &mut Connection, agent: &AgentId, other: &AgentId) -> Result<Option<AgentBlock>> {
    let block = sql!("SELECT ", AgentBlock::COLUMNS, " FROM am_agent_blocks WHERE agent_id = $1 AND blocked_id = $2");
    block.bind(agent).bind(other).fetch_optional(conn).await
}

/// Insert a block, or change its reason.
pub(super) async fn upsert_block(tx: &mut Tx, new: &AgentBlock) -> Result<()> {
    insert!("am_agent_blocks" {
        agent_id: &new.agent_id,
        blocked_id: &new.blocked_id,
        reason: &new.reason,
        created_at: new.created_at,
    } update on (agent_id, blocked_id) except (created_at))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete a contact.
pub(super) async fn delete_block(tx: &mut Tx, agent: &AgentId, other: &AgentId) -> Result<()> {
    let removed = sql!("DELETE FROM am_agent_blocks WHERE agent_id = $1 AND blocked_id = $2");
    removed.bind(agent).bind(other).execute(tx.conn().await?).await?;
    Ok(())
}

row! {
    /// What was said of an agent's taking part.
    #[derive(Clone, Debug)]
    pub(super) struct AuthorizationRow {
        pub state: AgentAuthorization,
        pub reason: Option<String>,
        pub by: PrincipalId = "by_id",
        pub updated_at: Timestamp,
    }
}

/// Current authorization of an agent.
pub(super) async fn get_authorization(conn: &mut Connection, agent: &AgentId) -> Result<Option<AuthorizationRow>> {
    let said = sql!("SELECT ", AuthorizationRow::COLUMNS, " FROM am_agent_authorizations WHERE agent_id = $1");
    said.bind(agent).fetch_optional(conn).await
}

/// Insert or change an authorization.
pub(super) async fn upsert_authorization(tx: &mut Tx, agent: &AgentId, said: &AuthorizationRow) -> Result<()> {
    insert!("am_agent_authorizations" {
        agent_id: agent,
        state: said.state,
        reason: &said.reason,
        by_id: &said.by,
        updated_at: said.updated_at,
    } update on (agent_id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
