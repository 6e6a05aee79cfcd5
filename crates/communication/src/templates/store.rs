//! SQL of table `am_message_templates`.

use serde_json::Value;

use super::{model::MessageTemplate, template_parser};
use crate::price::MessageType;
use am_core::{
    ids::{AgentId, TemplateId},
    money::Money,
};
use am_db::{
    Connection, DatabaseError, FromRow as _, Result, Tx,
    codec::{JsonOr, JsonText, Timestamp},
    insert,
    page::PageRequest,
    row, sql,
};

row! {
    /// A row of `am_message_templates`.
    struct MessageTemplateRow {
        id: TemplateId,
        agent_id: AgentId,
        name: String,
        description: String,
        message_type: MessageType,
        content: Value => JsonOr::into_inner,
        price: Money,
        created_at: Timestamp,
    }
}

impl From<MessageTemplateRow> for MessageTemplate {
    fn from(stored: MessageTemplateRow) -> Self {
        Self {
            template_id: stored.id,
            agent_id: Some(stored.agent_id),
            name: stored.name,
            description: stored.description,
            message_type: stored.message_type,
            variables: template_parser::placeholder_names(&stored.content),
            content: stored.content,
            price: stored.price,
            created_at: Some(stored.created_at),
        }
    }
}

/// Number of an agent's templates.
pub(super) async fn count_templates(conn: &mut Connection, agent: &AgentId) -> Result<i64> {
    sql!("SELECT count(*) FROM am_message_templates WHERE agent_id = $1").bind(agent).fetch_value(conn).await
}

/// Whether an agent has a template with this name.
pub(super) async fn name_exists(conn: &mut Connection, agent: &AgentId, name: &str) -> Result<bool> {
    let named = sql!("SELECT EXISTS (SELECT 1 FROM am_message_templates WHERE agent_id = $1 AND name = $2)");
    named.bind(agent).bind(name).fetch_value(conn).await
}

/// A page of an agent's templates, and their total number.
pub(super) async fn list_templates(
    conn: &mut Connection,
    agent: &AgentId,
    page: &PageRequest,
) -> Result<(Vec<MessageTemplate>, i64)> {
    let total = sql!("SELECT count(*) FROM am_message_templates WHERE agent_id = $1 {span $2}");
    let total = total.bind(agent).bind_span(page.created).fetch_value(&mut *conn).await?;
    let templates =
        sql!("SELECT ", MessageTemplateRow::COLUMNS, " FROM am_message_templates WHERE agent_id = $1 {page $2}");
    let templates: Vec<MessageTemplateRow> = templates.bind(agent).bind_page(page).fetch_all(conn).await?;
    Ok((templates.into_iter().map(MessageTemplate::from).collect(), total))
}

/// A template of an agent by its id.
pub(super) async fn get_template(
    conn: &mut Connection,
    agent: &AgentId,
    id: &TemplateId,
) -> Result<Option<MessageTemplate>> {
    let template =
        sql!("SELECT ", MessageTemplateRow::COLUMNS, " FROM am_message_templates WHERE agent_id = $1 AND id = $2");
    Ok(template.bind(agent).bind(id).fetch_optional::<MessageTemplateRow>(conn).await?.map(MessageTemplate::from))
}

/// Insert a template.
pub(super) async fn insert_template(tx: &mut Tx, agent: &AgentId, new: &MessageTemplate) -> Result<()> {
    let content = JsonText::from_value(&new.content).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    insert!("am_message_templates" {
        id: &new.template_id,
        agent_id: agent,
        name: &new.name,
        description: &new.description,
        message_type: new.message_type,
        content: content,
        price: new.price,
        created_at: new.created_at,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Delete a template.
pub(super) async fn delete_template(tx: &mut Tx, agent: &AgentId, id: &TemplateId) -> Result<()> {
    let delete = sql!("DELETE FROM am_message_templates WHERE agent_id = $1 AND id = $2");
    delete.bind(agent).bind(id).execute(tx.conn().await?).await?;
    Ok(())
}
