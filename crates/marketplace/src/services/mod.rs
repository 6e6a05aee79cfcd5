//! Services: listed by agents' owners, searched by everybody.

mod model;
mod search;
mod store;

use serde_json::json;

pub use model::{MarketService, ServiceChange, ServiceDraft, ServiceFilter, ServiceOrder, ServiceState};
pub use search::ServicePage;
pub(crate) use store::{add_job, find, find_all, save};

use am_audit::EventType;
use am_core::{
    boxed,
    ids::MarketServiceId,
    money::{Money, StatedAmount},
    validation::Violations,
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_security::reputation::get_reputation;

use crate::{
    Marketplace,
    agents::{MarketCaller, own_agent},
    error::{MarketError, Result},
    figures, guilds,
    rules::MIN_LISTING_REPUTATION,
};

/// Services that one agent may offer or pause.
const MAX_AGENT_SERVICES: i64 = 200;

impl Marketplace {
    /// List a service of an agent that the caller acts for.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] with all faults; [`MarketError::Conflict`] when the agent has as many as it may have.
    #[boxed]
    pub async fn create_service(
        &self,
        caller: &MarketCaller,
        draft: ServiceDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketService>> {
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let violations = model::check_texts(Some(&draft.name), Some(&draft.description), Some(&draft.tags));
        let price = self.checked_price(caller, "list", Some(draft.base_price), violations).await?;
        if let Some(workflow) = &draft.workflow_id {
            let known = self.0.runner.check_workflow(&caller.principal, workflow).await;
            known.map_err(|message| MarketError::field("workflow_id", message))?;
        }
        let (this, caller, now) = (self.clone(), caller.clone(), self.now());
        let id: MarketServiceId = self.0.ids.next("msvc_", 12).into();
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let owner_id = own_agent(conn, &caller, &draft.agent_id, "agent_id").await?;
            let reputation = get_reputation(conn, &draft.agent_id).await?.reputation;
            let mut faults = Violations::default();
            let needed = format!("the agent's reputation is {reputation}; to list a service it must be at least 500");
            faults.require(reputation >= MIN_LISTING_REPUTATION, "agent_id", needed);
            if let Some(guild) = &draft.guild_id {
                let member = guilds::guild_of(conn, &draft.agent_id).await?;
                let holds = member.as_ref() == Some(guild);
                faults.require(holds, "guild_id", "is no guild that the agent is a member of");
            }
            faults.finish().map_err(MarketError::Invalid)?;
            if store::count_of_agent(conn, &draft.agent_id).await? >= MAX_AGENT_SERVICES {
                let message = format!("the agent has {MAX_AGENT_SERVICES} services; retire one to list another");
                return Err(MarketError::Conflict(message));
            }
            let service = MarketService {
                id,
                agent_id: draft.agent_id,
                owner_id,
                guild_id: draft.guild_id,
                name: draft.name.trim().to_owned(),
                description: draft.description,
                category: draft.category,
                tags: draft.tags.iter().map(|tag| tag.trim().to_owned()).collect(),
                base_price: price.unwrap_or_default(),
                workflow_id: draft.workflow_id,
                state: ServiceState::Active,
                jobs: 0,
                rating_count: 0,
                rating_sum: 0,
                rating: None,
                created_at: now,
                updated_at: now,
            };
            let mut rows = RowBatch::default();
            store::save(&mut rows, &service)?;
            figures::count_services(&mut rows, service.category, 1);
            let entry = this.entry(EventType::WorkflowUpdated, "market_service", "listed").by(&caller.principal);
            let entry = entry.data("service_id", json!(service.id)).change(None, Some(json!(service)));
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            Ok(service)
        };
        let made = self.0.db.write_idempotent(&self.0.clock, once, work).await?;
        self.count_event("service_listed", made.replayed);
        Ok(made)
    }

    /// The price that a service is to have, if the request has no fault. One that can't be asked for is told of in the audit log.
    async fn checked_price(
        &self,
        caller: &MarketCaller,
        action: &'static str,
        price: Option<StatedAmount>,
        mut violations: Violations,
    ) -> Result<Option<Money>> {
        let checked = price.map(model::check_price).transpose();
        let is_told = checked.is_err();
        let price = violations.take(checked).flatten();
        let checked = violations.finish().map(|()| price).map_err(MarketError::Invalid);
        if !is_told {
            return checked;
        }
        self.with_refusal(caller, ("market_service", ""), action, checked).await
    }

    /// Return a service, in whichever state.
    ///
    /// # Errors
    /// [`MarketError::NotFound`].
    #[boxed]
    pub async fn service(&self, id: &MarketServiceId) -> Result<MarketService> {
        find(&mut *self.0.db.read().await?, id).await?.ok_or(MarketError::NotFound("Service"))
    }

    /// Change a service of an agent that the caller acts for. Requests that were accepted keep their price.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Forbidden`] for another's; [`MarketError::Invalid`] with all faults;
    /// [`MarketError::InvalidState`] for one that was retired.
    #[boxed]
    pub async fn update_service(
        &self,
        caller: &MarketCaller,
        id: &MarketServiceId,
        change: ServiceChange,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketService>> {
        let ServiceChange { name, description, tags, base_price, state } = change;
        let violations = model::check_texts(name.as_deref(), description.as_deref(), tags.as_deref());
        let base_price = self.checked_price(caller, "change", base_price, violations).await?;
        let (this, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let before = find(tx.conn().await?, &id).await?.ok_or(MarketError::NotFound("Service"))?;
            if !caller.acts_for(&before.agent_id, &before.owner_id) {
                return Err(MarketError::Forbidden("The service is another owner's"));
            }
            if before.state == ServiceState::Retired {
                return Err(MarketError::InvalidState("the service was retired".to_owned()));
            }
            let service = MarketService {
                name: name.map_or_else(|| before.name.clone(), |name| name.trim().to_owned()),
                description: description.unwrap_or_else(|| before.description.clone()),
                tags: tags
                    .map_or_else(|| before.tags.clone(), |tags| tags.iter().map(|tag| tag.trim().to_owned()).collect()),
                base_price: base_price.unwrap_or(before.base_price),
                state: state.unwrap_or(before.state),
                updated_at: now,
                ..before.clone()
            };
            let mut rows = RowBatch::default();
            store::save(&mut rows, &service)?;
            let is_active = |service: &MarketService| i64::from(service.state == ServiceState::Active);
            figures::count_services(&mut rows, service.category, is_active(&service) - is_active(&before));
            let entry = this.entry(EventType::WorkflowUpdated, "market_service", "changed").by(&caller.principal);
            let entry = entry.data("service_id", json!(service.id)).change(Some(json!(before)), Some(json!(service)));
            this.0.audit.add_entry_rows(&mut rows, [entry]);
            rows.execute(tx).await?;
            Ok(service)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }
}

/// Note that a service was rated.
pub(crate) fn note_rating(service: &mut MarketService, rating: i64) {
    service.rating_count += 1;
    service.rating_sum += rating;
    service.rating = Some(service.rating_sum as f64 / service.rating_count as f64);
}

/// Whether a service may be asked for at this budget.
pub(crate) fn check_offer(service: &MarketService, budget: Money) -> Violations {
    let mut violations = Violations::default();
    violations.require(service.state == ServiceState::Active, "service_id", "is not offered at present");
    let least = format!("must be at least the service's base price, {} AIT", service.base_price);
    violations.require(budget >= service.base_price, "budget", least);
    violations
}
