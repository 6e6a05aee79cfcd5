//! Forms of messages: the three that everybody has, and those that agents make for themselves.

mod form;
mod model;
mod store;

use serde_json::{Map, Value, json};

pub use model::{Filled, NewTemplate, Template};

use super::{
    error::{Error, Result},
    price::{MOST_BYTES, price},
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::{Clock, Ids};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    page::Page,
    principal::Principal,
};

/// Templates that one agent may have.
const MOST: i64 = 1_000;
/// The dearest one.
const DEAREST: f64 = 1_000.0;

/// The templates. Cheap to clone.
#[derive(Clone)]
pub struct Templates {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
}

impl Templates {
    /// Those in `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit) -> Self {
        Self { db, clock, ids, audit }
    }

    /// Make a template of an agent's own.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the member; [`Error::Conflict`] for a name that is taken; [`Error::State`] beyond 1000.
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

    /// A page of an agent's own templates, the newest first, and how many there are.
    ///
    /// # Errors
    /// As the database.
    pub async fn own(&self, agent: &str, page: &Page) -> Result<(Vec<Template>, i64)> {
        Ok(store::page(&mut *self.db.read().await?, agent, page).await?)
    }

    /// Those that everybody has.
    pub fn defaults() -> Vec<Template> {
        model::defaults()
    }

    /// A template of an agent's own, or one that everybody has.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, agent: &str, id: &str) -> Result<Template> {
        if let Some(default) = model::defaults().into_iter().find(|template| template.template_id == id) {
            return Ok(default);
        }
        store::get(&mut *self.db.read().await?, agent, id).await?.ok_or(Error::NotFound("Template"))
    }

    /// Take a template of an agent's own away.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] for one that everybody has.
    pub async fn delete(&self, by: &Principal, agent: &str, id: &str) -> Result<Template> {
        if model::defaults().iter().any(|template| template.template_id == id) {
            return Err(Error::State(format!("template '{id}' is everybody's and stays")));
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
    /// The content of a message in this form.
    ///
    /// # Errors
    /// The variables that have no value.
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

/// The size of its content.
fn checked(new: &NewTemplate) -> Result<usize> {
    let letters = new.name.chars().count();
    if !(1..=100).contains(&letters) || new.name.chars().any(char::is_control) {
        return Err(Error::invalid("name", "must have 1 to 100 characters, no control characters"));
    }
    if model::defaults().iter().any(|template| template.name == new.name) {
        return Err(Error::invalid("name", "is the name of a template that everybody has"));
    }
    if new.description.chars().count() > 1000 {
        return Err(Error::invalid("description", "has over 1000 characters"));
    }
    if new.price.is_some_and(|price| !(0.0..=DEAREST).contains(&price)) {
        return Err(Error::invalid("price", format!("must be from 0 to {DEAREST}")));
    }
    if !new.content.is_object() {
        return Err(Error::invalid("content", "must be an object"));
    }
    match serde_json::to_vec(&new.content).map_or(usize::MAX, |json| json.len()) {
        bytes if bytes > MOST_BYTES => {
            Err(Error::invalid("content", format!("has {bytes} bytes as JSON, over {MOST_BYTES}")))
        }
        bytes => Ok(bytes),
    }
}
