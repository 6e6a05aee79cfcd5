//! Message templates: three built-in ones, and those that agents create.

mod model;
mod store;
mod template_parser;

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

pub use model::{FilledTemplate, MessageTemplate, NewTemplate};
pub use template_parser::FillError;

use super::{
    error::{CommunicationError, Result},
    price::{MAX_CONTENT_BYTES, message_price},
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{AgentId, TemplateId},
    money::Money,
    validation::{Violations, has_length},
    value_budget::ByteLimit,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Maximum number of templates of one agent.
const MAX_TEMPLATES: i64 = 1_000;
/// Maximum price of a template in the marketplace's currency.
const MAX_TEMPLATE_PRICE: f64 = 1_000.0;

/// The message templates. Cheap to clone.
#[derive(Clone)]
pub struct TemplateService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
}

impl TemplateService {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog) -> Self {
        Self { db, clock, ids, audit }
    }

    /// Create a template of an agent.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`], which names the member; [`CommunicationError::Conflict`] for a name in use; [`CommunicationError::InvalidState`]
    /// beyond 1000 templates.
    #[boxed]
    pub async fn create(
        &self,
        by: &Principal,
        agent: &AgentId,
        new: NewTemplate,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageTemplate>> {
        let bytes = validate_template(&new)?;
        let now = Timestamp(self.clock.now());
        let template = MessageTemplate {
            template_id: self.ids.next("template_", 12).into(),
            agent_id: Some(agent.clone()),
            name: new.name,
            description: new.description,
            message_type: new.message_type,
            variables: template_parser::placeholder_names(&new.content),
            price: new.price.unwrap_or_else(|| message_price(new.message_type, bytes)),
            content: new.content,
            created_at: Some(now),
        };
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(by).of("message_template", "created");
        let entry = entry.data("agent_id", json!(agent)).data("template_id", json!(template.template_id));
        let (audit, agent) = (self.audit.clone(), agent.clone());
        let work = async move |tx: &mut Tx| {
            if store::name_exists(tx.conn().await?, &agent, &template.name).await? {
                return Err(CommunicationError::Conflict(format!(
                    "the agent has a template '{}' already",
                    template.name
                )));
            }
            if store::count_templates(tx.conn().await?, &agent).await? >= MAX_TEMPLATES {
                return Err(CommunicationError::InvalidState(format!("the agent has {MAX_TEMPLATES} templates")));
            }
            store::insert_template(tx, &agent, &template).await?;
            let told = json!({"name": template.name, "variables": template.variables, "price": template.price});
            audit.append(tx, vec![entry.change(None, Some(told))]).await?;
            Ok(template)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }

    /// A page of an agent's own templates, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn own(&self, agent: &AgentId, page: &PageRequest) -> Result<(Vec<MessageTemplate>, i64)> {
        Ok(store::list_templates(&mut *self.db.read_list().await?, agent, page).await?)
    }

    /// The built-in templates.
    pub fn built_in() -> Vec<MessageTemplate> {
        model::built_in_templates()
    }

    /// A template of an agent, or a built-in one.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] when it does not exist.
    #[boxed]
    pub async fn get(&self, agent: &AgentId, id: &TemplateId) -> Result<MessageTemplate> {
        if let Some(default) = model::built_in_templates().into_iter().find(|template| template.template_id == *id) {
            return Ok(default);
        }
        store::get_template(&mut *self.db.read().await?, agent, id)
            .await?
            .ok_or(CommunicationError::NotFound("Template"))
    }

    /// Delete a template of an agent.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`]; [`CommunicationError::InvalidState`] for a built-in one.
    #[boxed]
    pub async fn delete(&self, by: &Principal, agent: &AgentId, id: &TemplateId) -> Result<MessageTemplate> {
        if model::built_in_templates().iter().any(|template| template.template_id == *id) {
            return Err(CommunicationError::InvalidState(format!("template '{id}' is built in and can't be deleted")));
        }
        let now = Timestamp(self.clock.now());
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(by).of("message_template", "deleted");
        let entry = entry.data("agent_id", json!(agent)).data("template_id", json!(id));
        let (agent, id) = (agent.clone(), id.clone());
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let found = store::get_template(tx.conn().await?, &agent, &id)
                .await?
                .ok_or(CommunicationError::NotFound("Template"))?;
            store::delete_template(tx, &agent, &id).await?;
            audit.append(tx, vec![entry.change(Some(json!({"name": found.name})), None)]).await?;
            Ok(found)
        };
        self.db.write(work).await
    }
}

impl MessageTemplate {
    /// Fill the template with values.
    ///
    /// # Errors
    /// Returns the variables without a value, or how the content would exceed the limit of messages.
    pub fn fill(&self, values: &Map<String, Value>) -> std::result::Result<FilledTemplate, FillError> {
        let content = template_parser::fill_placeholders(&self.content, values, MESSAGE_CONTENT)?;
        let size_bytes = serde_json::to_vec(&content).map_or(0, |json| json.len());
        Ok(FilledTemplate {
            template_id: self.template_id.clone(),
            message_type: self.message_type,
            message_price: message_price(self.message_type, size_bytes),
            price: self.price,
            fits: size_bytes <= MAX_CONTENT_BYTES,
            size_bytes,
            content,
        })
    }
}

/// What may be filled in before the size of the whole is looked at. More than the limit of messages, so that its memory
/// suffices for any content that can be sent, also for one of short numbers only.
const MESSAGE_CONTENT: ByteLimit = ByteLimit { name: "the limit of messages", bytes: 8 * MAX_CONTENT_BYTES };
/// Characters of a template's name.
const NAME_LENGTH: RangeInclusive<usize> = 1..=100;
/// Characters of a template's description.
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=1000;

/// Validate a new template. Returns the size of its content in bytes of JSON.
fn validate_template(new: &NewTemplate) -> Result<usize> {
    let mut violations = Violations::default();
    let named = has_length(&new.name, &NAME_LENGTH) && !new.name.chars().any(char::is_control);
    violations.require(named, "name", "must have 1 to 100 characters, no control characters");
    let is_default = model::built_in_templates().iter().any(|template| template.name == new.name);
    violations.require(!is_default, "name", "is the name of a built-in template");
    violations.require(has_length(&new.description, &DESCRIPTION_LENGTH), "description", "has over 1000 characters");
    let prices = Money::ZERO..=Money::from_f64(MAX_TEMPLATE_PRICE);
    violations.require_within(new.price, &prices, "price");
    violations.require(new.content.is_object(), "content", "must be an object");
    let bytes = serde_json::to_vec(&new.content).map_or(usize::MAX, |json| json.len());
    violations.require(
        bytes <= MAX_CONTENT_BYTES,
        "content",
        format!("has {bytes} bytes as JSON, over {MAX_CONTENT_BYTES}"),
    );
    Ok(violations.finish_with(Some(bytes))?)
}
