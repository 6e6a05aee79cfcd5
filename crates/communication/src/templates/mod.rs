//! Message templates: three built-in ones, and those that agents create.

mod form;
mod model;
mod store;

use std::ops::RangeInclusive;

use serde_json::{Map, Value, json};

pub use model::{Filled, NewTemplate, Template};

use super::{
    error::{Error, Result},
    price::{MOST_BYTES, price},
};
use am_audit::{Audit, Entry, EventType};
use am_core::{
    ambient::{Clock, Ids},
    validation::{Violations, has_length},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// Maximum number of templates of one agent.
const MOST: i64 = 1_000;
/// Maximum price of a template in the marketplace's currency.
const DEAREST: f64 = 1_000.0;

/// The message templates. Cheap to clone.
#[derive(Clone)]
pub struct Templates {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
}

impl Templates {
    /// Create the service on `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit) -> Self {
        Self { db, clock, ids, audit }
    }

    /// Create a template of an agent.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`], which names the member; [`Error::Conflict`] for a name in use; [`Error::State`]
    /// beyond 1000 templates.
    pub async fn create(
        &self,
        by: &Principal,
        agent: &str,
        new: NewTemplate,
        once: Option<Once>,
    ) -> Result<Done<Template>> {
        let bytes = checked(&new)?;
        let now = Timestamp(self.clock.now());
        let template = Template {
            template_id: self.ids.next("template_", 12),
            agent_id: Some(agent.to_owned()),
            name: new.name,
            description: new.description,
            message_type: new.message_type,
            variables: form::variables(&new.content),
            price: new.price.unwrap_or_else(|| price(new.message_type, bytes)),
            content: new.content,
            created_at: Some(now),
        };
        let entry = Entry::new(EventType::WorkflowUpdated, now).by(by).of("message_template", "created");
        let entry = entry.data("agent_id", json!(agent)).data("template_id", json!(template.template_id));
        let (audit, agent) = (self.audit.clone(), agent.to_owned());
        let work = async move |tx: &mut Tx| {
            if store::named(tx.conn().await?, &agent, &template.name).await? {
                return Err(Error::Conflict(format!("the agent has a template '{}' already", template.name)));
            }
            if store::count(tx.conn().await?, &agent).await? >= MOST {
                return Err(Error::State(format!("the agent has {MOST} templates")));
            }
            store::insert(tx, &agent, &template).await?;
            let told = json!({"name": template.name, "variables": template.variables, "price": template.price});
            audit.append(tx, vec![entry.change(None, Some(told))]).await?;
            Ok(template)
        };
        self.db.write_once(&self.clock, once, work).await
    }

    /// A page of an agent's own templates, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn own(&self, agent: &str, page: &Page) -> Result<(Vec<Template>, i64)> {
        Ok(store::page(&mut *self.db.read().await?, agent, page).await?)
    }

    /// The built-in templates.
    pub fn defaults() -> Vec<Template> {
        model::defaults()
    }

    /// A template of an agent, or a built-in one.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when it does not exist.
    pub async fn get(&self, agent: &str, id: &str) -> Result<Template> {
        if let Some(default) = model::defaults().into_iter().find(|template| template.template_id == id) {
            return Ok(default);
        }
        store::get(&mut *self.db.read().await?, agent, id).await?.ok_or(Error::NotFound("Template"))
    }

    /// Delete a template of an agent.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`]; [`Error::State`] for a built-in one.
    pub async fn delete(&self, by: &Principal, agent: &str, id: &str) -> Result<Template> {
        if model::defaults().iter().any(|template| template.template_id == id) {
            return Err(Error::State(format!("template '{id}' is built in and can't be deleted")));
        }
        let now = Timestamp(self.clock.now());
        let entry = Entry::new(EventType::WorkflowUpdated, now).by(by).of("message_template", "deleted");
        let entry = entry.data("agent_id", json!(agent)).data("template_id", json!(id));
        let (audit, agent, id) = (self.audit.clone(), agent.to_owned(), id.to_owned());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &agent, &id).await?.ok_or(Error::NotFound("Template"))?;
            store::delete(tx, &agent, &id).await?;
            audit.append(tx, vec![entry.change(Some(json!({"name": found.name})), None)]).await?;
            Ok(found)
        };
        self.db.write(work).await
    }
}

impl Template {
    /// Fill the template with values.
    ///
    /// # Errors
    /// Returns the variables without a value.
    pub fn fill(&self, values: &Map<String, Value>) -> std::result::Result<Filled, Vec<String>> {
        let content = form::fill(&self.content, values)?;
        let size_bytes = serde_json::to_vec(&content).map_or(0, |json| json.len());
        Ok(Filled {
            template_id: self.template_id.clone(),
            message_type: self.message_type,
            message_price: price(self.message_type, size_bytes),
            price: self.price,
            fits: size_bytes <= MOST_BYTES,
            size_bytes,
            content,
        })
    }
}

/// Characters of a template's name.
const NAME_LENGTH: RangeInclusive<usize> = 1..=100;
/// Characters of a template's description.
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=1000;

/// Validate a new template. Returns the size of its content in bytes of JSON.
fn checked(new: &NewTemplate) -> Result<usize> {
    let mut violations = Violations::default();
    let named = has_length(&new.name, &NAME_LENGTH) && !new.name.chars().any(char::is_control);
    violations.require(named, "name", "must have 1 to 100 characters, no control characters");
    let is_default = model::defaults().iter().any(|template| template.name == new.name);
    violations.require(!is_default, "name", "is the name of a built-in template");
    violations.require(has_length(&new.description, &DESCRIPTION_LENGTH), "description", "has over 1000 characters");
    violations.require_within(new.price, &(0.0..=DEAREST), "price");
    violations.require(new.content.is_object(), "content", "must be an object");
    let bytes = serde_json::to_vec(&new.content).map_or(usize::MAX, |json| json.len());
    violations.require(bytes <= MOST_BYTES, "content", format!("has {bytes} bytes as JSON, over {MOST_BYTES}"));
    Ok(violations.finish_with(Some(bytes))?)
}
