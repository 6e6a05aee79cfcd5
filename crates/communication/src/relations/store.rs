//! Tables `am_agent_contacts`, `am_agent_blocks` and `am_agent_authorizations`.

use sqlx::{QueryBuilder, Row as _};

use super::{
    Known,
    model::{Authorization, Block, Contact},
};
use am_db::{Connection, Db, Result, Row, Tx, codec::Timestamp, page::Page};

/// What was said of both, whether either has blocked the other, and whether they are contacts.
type Found = (Option<Authorization>, Option<Authorization>, bool, bool, bool);

/// What is known of each pair of a sender and a recipient, in their order and in one trip.
pub(super) async fn known(conn: &mut Connection, pairs: &[(&str, &str)]) -> Result<Vec<Known>> {
    let rows: Vec<Found> = sqlx::query_as::<Db, _>(
        "WITH p AS MATERIALIZED (SELECT key, value ->> 0 AS sender, value ->> 1 AS recipient FROM json_each(?1))
         SELECT (SELECT state FROM am_agent_authorizations WHERE agent_id = p.sender),
             (SELECT state FROM am_agent_authorizations WHERE agent_id = p.recipient),
             EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = p.recipient AND blocked_id = p.sender),
             EXISTS (SELECT 1 FROM am_agent_blocks WHERE agent_id = p.sender AND blocked_id = p.recipient),
             EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = p.sender AND contact_id = p.recipient)
                 OR EXISTS (SELECT 1 FROM am_agent_contacts WHERE agent_id = p.recipient AND contact_id = p.sender)
         FROM p ORDER BY p.key",
    )
    .bind(serde_json::json!(pairs).to_string())
    .fetch_all(conn)
    .await?;
    let known = |(sender, recipient, blocked_by_recipient, blocked_by_sender, contacts): Found| Known {
        sender,
        recipient,
        blocked_by_recipient,
        blocked_by_sender,
        contacts,
    };
    Ok(rows.into_iter().map(known).collect())
}

/// A table of pairs: an agent, another, and a few words.
struct Pairs {
    table: &'static str,
    other: &'static str,
    words: &'static str,
}

const CONTACTS: Pairs = Pairs { table: "am_agent_contacts", other: "contact_id", words: "note" };
const BLOCKS: Pairs = Pairs { table: "am_agent_blocks", other: "blocked_id", words: "reason" };

/// An agent, another, words, and since when.
type Pair = (String, String, Option<String>, Timestamp);

fn pair(row: &Row) -> Result<Pair> {
    Ok((row.try_get("agent_id")?, row.try_get("id")?, row.try_get("words")?, row.try_get("created_at")?))
}

impl Pairs {
    fn select(&self, agent: &str) -> QueryBuilder<Db> {
        let Self { table, other, words } = self;
        let mut query = QueryBuilder::new(format!(
            "SELECT * FROM (SELECT agent_id, {other} AS id, {words} AS words, created_at FROM {table} WHERE agent_id = "
        ));
        query.push_bind(agent.to_owned()).push(") WHERE true");
        query
    }

    async fn one(&self, conn: &mut Connection, agent: &str, other: &str) -> Result<Option<Pair>> {
        let mut query = self.select(agent);
        query.push(" AND id = ").push_bind(other.to_owned());
        query.build().fetch_optional(conn).await?.as_ref().map(pair).transpose()
    }

    async fn count(&self, conn: &mut Connection, agent: &str) -> Result<i64> {
        let sql = format!("SELECT count(*) FROM {} WHERE agent_id = ?1", self.table);
        Ok(sqlx::query_scalar::<Db, _>(sqlx::AssertSqlSafe(sql)).bind(agent).fetch_one(conn).await?)
    }

    async fn page(&self, conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<Pair>, i64)> {
        let total = self.count(conn, agent).await?;
        let mut query = self.select(agent);
        page.push(&mut query, "");
        let rows = query.build().fetch_all(conn).await?;
        Ok((rows.iter().map(pair).collect::<Result<_>>()?, total))
    }

    async fn put(&self, tx: &mut Tx, (agent, other, words, at): (&str, &str, Option<&str>, Timestamp)) -> Result<()> {
        let Self { table, other: column, words: text } = self;
        let sql = format!(
            "INSERT INTO {table} (agent_id, {column}, {text}, created_at) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (agent_id, {column}) DO UPDATE SET {text} = excluded.{text}"
        );
        let query = sqlx::query::<Db>(sqlx::AssertSqlSafe(sql)).bind(agent).bind(other).bind(words).bind(at);
        query.execute(tx.conn().await?).await?;
        Ok(())
    }

    async fn remove(&self, tx: &mut Tx, agent: &str, other: &str) -> Result<()> {
        let sql = format!("DELETE FROM {} WHERE agent_id = ?1 AND {} = ?2", self.table, self.other);
        sqlx::query::<Db>(sqlx::AssertSqlSafe(sql)).bind(agent).bind(other).execute(tx.conn().await?).await?;
        Ok(())
    }
}

fn as_contact((agent_id, contact_id, note, created_at): Pair) -> Contact {
    Contact { agent_id, contact_id, note, created_at }
}

fn as_block((agent_id, blocked_id, reason, created_at): Pair) -> Block {
    Block { agent_id, blocked_id, reason, created_at }
}

/// A page of an agent's contacts, and how many there are.
pub(super) async fn contacts(conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<Contact>, i64)> {
    let (pairs, total) = CONTACTS.page(conn, agent, page).await?;
    Ok((pairs.into_iter().map(as_contact).collect(), total))
}

/// How many there are.
pub(super) async fn count_contacts(conn: &mut Connection, agent: &str) -> Result<i64> {
    CONTACTS.count(conn, agent).await
}

/// One contact.
pub(super) async fn contact(conn: &mut Connection, agent: &str, contact: &str) -> Result<Option<Contact>> {
    Ok(CONTACTS.one(conn, agent, contact).await?.map(as_contact))
}

/// Enter a contact, or change its note.
pub(super) async fn put_contact(tx: &mut Tx, new: &Contact) -> Result<()> {
    CONTACTS.put(tx, (&new.agent_id, &new.contact_id, new.note.as_deref(), new.created_at)).await
}

/// Take one out.
pub(super) async fn remove_contact(tx: &mut Tx, agent: &str, contact: &str) -> Result<()> {
    CONTACTS.remove(tx, agent, contact).await
}

/// A page of those whom an agent has blocked, and how many there are.
pub(super) async fn blocks(conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<Block>, i64)> {
    let (pairs, total) = BLOCKS.page(conn, agent, page).await?;
    Ok((pairs.into_iter().map(as_block).collect(), total))
}

/// How many there are.
pub(super) async fn count_blocks(conn: &mut Connection, agent: &str) -> Result<i64> {
    BLOCKS.count(conn, agent).await
}

/// One block.
pub(super) async fn block(conn: &mut Connection, agent: &str, blocked: &str) -> Result<Option<Block>> {
    Ok(BLOCKS.one(conn, agent, blocked).await?.map(as_block))
}

/// Enter a block, or change its reason.
pub(super) async fn put_block(tx: &mut Tx, new: &Block) -> Result<()> {
    BLOCKS.put(tx, (&new.agent_id, &new.blocked_id, new.reason.as_deref(), new.created_at)).await
}

/// Take one out.
pub(super) async fn remove_block(tx: &mut Tx, agent: &str, blocked: &str) -> Result<()> {
    BLOCKS.remove(tx, agent, blocked).await
}

/// What was said of an agent's taking part.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub state: Authorization,
    pub reason: Option<String>,
    pub by: String,
    pub updated_at: Timestamp,
}

/// What was said last.
pub(super) async fn authorization(conn: &mut Connection, agent: &str) -> Result<Option<Said>> {
    let sql = "SELECT state, reason, by_id, updated_at FROM am_agent_authorizations WHERE agent_id = ?1";
    let row: Option<(Authorization, Option<String>, String, Timestamp)> =
        sqlx::query_as::<Db, _>(sql).bind(agent).fetch_optional(conn).await?;
    Ok(row.map(|(state, reason, by, updated_at)| Said { state, reason, by, updated_at }))
}

/// Say it.
pub(super) async fn put_authorization(tx: &mut Tx, agent: &str, said: &Said) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_agent_authorizations (agent_id, state, reason, by_id, updated_at) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (agent_id) DO UPDATE SET state = excluded.state, reason = excluded.reason, by_id = excluded.by_id,
             updated_at = excluded.updated_at",
    )
    .bind(agent)
    .bind(said.state)
    .bind(&said.reason)
    .bind(&said.by)
    .bind(said.updated_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}
