//! Table `am_message_templates`.

use sqlx::{QueryBuilder, Row as _};

use super::{form, model::Template};
use am_db::{
    Connection, Db, Error, Result, Row, Tx,
    codec::{Doc, Timestamp},
    page::Page,
};

fn template(row: &Row) -> Result<Template> {
    let content: Doc = row.try_get("content")?;
    let unreadable = |error| Error::Unreadable(format!("am_message_templates.content: {error}"));
    let content = content.parse().map_err(unreadable)?.unwrap_or_default();
    let created_at: Timestamp = row.try_get("created_at")?;
    Ok(Template {
        template_id: row.try_get("id")?,
        agent_id: Some(row.try_get("agent_id")?),
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        message_type: row.try_get("message_type")?,
        variables: form::variables(&content),
        content,
        price: row.try_get("price")?,
        created_at: Some(created_at),
    })
}

/// How many templates an agent has.
pub(super) async fn count(conn: &mut Connection, agent: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM am_message_templates WHERE agent_id = ?1";
    Ok(sqlx::query_scalar::<Db, _>(sql).bind(agent).fetch_one(conn).await?)
}

/// Does an agent have one of this name?
pub(super) async fn named(conn: &mut Connection, agent: &str, name: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM am_message_templates WHERE agent_id = ?1 AND name = ?2)";
    Ok(sqlx::query_scalar::<Db, _>(sql).bind(agent).bind(name).fetch_one(conn).await?)
}

/// A page of an agent's own, and how many there are.
pub(super) async fn page(conn: &mut Connection, agent: &str, page: &Page) -> Result<(Vec<Template>, i64)> {
    let total = count(conn, agent).await?;
    let mut query = QueryBuilder::<Db>::new("SELECT * FROM am_message_templates WHERE agent_id = ");
    query.push_bind(agent.to_owned());
    page.push(&mut query, "");
    let rows = query.build().fetch_all(conn).await?;
    Ok((rows.iter().map(template).collect::<Result<_>>()?, total))
}

/// One of an agent's own.
pub(super) async fn get(conn: &mut Connection, agent: &str, id: &str) -> Result<Option<Template>> {
    let sql = "SELECT * FROM am_message_templates WHERE agent_id = ?1 AND id = ?2";
    sqlx::query(sql).bind(agent).bind(id).fetch_optional(conn).await?.as_ref().map(template).transpose()
}

/// Enter one.
pub(super) async fn insert(tx: &mut Tx, agent: &str, new: &Template) -> Result<()> {
    let content = Doc::of(&new.content).map_err(|error| Error::Unreadable(error.to_string()))?;
    sqlx::query(
        "INSERT INTO am_message_templates (id, agent_id, name, description, message_type, content, price, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(&new.template_id)
    .bind(agent)
    .bind(&new.name)
    .bind(&new.description)
    .bind(new.message_type)
    .bind(content)
    .bind(new.price)
    .bind(new.created_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Take one away.
pub(super) async fn delete(tx: &mut Tx, agent: &str, id: &str) -> Result<()> {
    let sql = "DELETE FROM am_message_templates WHERE agent_id = ?1 AND id = ?2";
    sqlx::query(sql).bind(agent).bind(id).execute(tx.conn().await?).await?;
    Ok(())
}
