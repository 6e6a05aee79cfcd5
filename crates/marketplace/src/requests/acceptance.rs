//! Acceptance of a request by an agent, which fixes the price: of several at once one is first.

use super::{
    AcceptOrder, MarketRequest, REFERENCE, RequestAdvance, RequestEvent, RequestState, TakenStep, acts_as_provider,
    find, is_offered, is_provider, is_public, prepared::PreparedStep, store,
};
use crate::{
    Marketplace,
    agents::{MarketCaller, find_owner},
    error::{MarketError, Result},
    figures,
    guilds::{contribution_of, guild_of},
    rules::{PriceFacts, acceptance_price},
    services::{self, MarketService},
};
use am_core::{
    boxed,
    ids::{AgentId, MarketGuildId, MarketRequestId, PrincipalId},
    validation::Violations,
};
use am_db::{
    Connection, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner::PrincipalName,
};
use am_security::reputation::get_reputation;

/// Who accepts, and as which service.
struct AcceptingAgent {
    agent_id: AgentId,
    owner: PrincipalId,
    service: MarketService,
}

/// What is found of those whom an acceptance names.
struct AcceptanceParties {
    /// Service that the work is done as; `None`: there is no such one.
    service: Option<MarketService>,
    /// Service that was asked for, or the same where none was; `None`: there is no such one.
    target: Option<MarketService>,
    /// Agent that does the work; `None`: no service names one.
    agent_id: Option<AgentId>,
    /// Owner of the agent; `None`: it is not registered, or not one that the caller acts for.
    owner: Option<PrincipalId>,
    /// Whether the caller may know of the request.
    may_know: bool,
    /// Guild of an agent that is not the service's own; `None`: it is in none.
    guild: Option<MarketGuildId>,
}

/// What else the price and the shares of an acceptance follow from.
struct AcceptanceTerms {
    reputation: f64,
    jobs: i64,
    guild: Option<(MarketGuildId, i64)>,
}

impl Marketplace {
    /// Accept a request for an agent that the caller acts for. The price is fixed, what the budget has beyond it goes back, and a
    /// service's workflow begins.
    ///
    /// # Errors
    /// [`MarketError::NotFound`]; [`MarketError::Conflict`] when another was first, or it is not open for another reason;
    /// [`MarketError::Invalid`] for an agent or a service that may not accept it, the client's own too.
    #[boxed]
    pub async fn accept_request(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        order: AcceptOrder,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let now = self.now();
        let prepared = self.prepare_acceptance(caller, id, &order, now).await;
        let accepted = match self.write_prepared(once.as_ref(), prepared).await {
            Ok(Some(accepted)) => Ok(accepted),
            Ok(None) => self.accept_locked(caller, id, order, once, now).await,
            Err(error) => Err(error),
        };
        if let Ok(accepted) = &accepted {
            self.count_event("request_accepted", accepted.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id), "accept", accepted).await
    }

    /// The same for what a reader sees: an acceptance by the agent of the service that was asked for, or of any where none was.
    async fn prepare_acceptance(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        order: &AcceptOrder,
        now: Timestamp,
    ) -> Result<Option<PreparedStep>> {
        let mut conn = self.0.db.read().await?;
        let Some(facts) = store::acceptance_facts(&mut conn, id, order.service_id.as_ref()).await? else {
            return Ok(None);
        };
        let store::AcceptanceFacts { request, service, owner, jobs, guild } = facts;
        let is_plain = request.service_id.as_ref().is_none_or(|wanted| *wanted == service.id)
            && order.agent_id.as_ref().is_none_or(|agent| *agent == service.agent_id);
        if !is_plain {
            return Ok(None);
        }
        let reputation = get_reputation(&mut conn, &service.agent_id).await?.reputation;
        drop(conn);
        let asked = request.service_id.as_ref().map(|_| &service.agent_id);
        let may_know = is_public(&request)
            || acts_as_provider(caller, &request, request.agent_id.as_ref().or(asked))
            || caller.is_or_governs(&request.client_id);
        let owner = PrincipalId::from(PrincipalName::from_stored(&owner).as_str());
        let parties = AcceptanceParties {
            target: Some(service.clone()),
            agent_id: Some(service.agent_id.clone()),
            owner: Some(owner).filter(|owner| caller.acts_for(&service.agent_id, owner)),
            may_know,
            guild: None,
            service: Some(service),
        };
        let accepting = judge(&request, order, parties)?;
        let terms = AcceptanceTerms { reputation, jobs, guild };
        let (request, taken) = self.accepted(caller, request, accepting, terms, now)?;
        am_core::crash_point!("market.before_accept");
        Ok(Some(PreparedStep { rows: self.guarded_rows(taken)?, request }))
    }

    /// The same under the write lock.
    async fn accept_locked(
        &self,
        caller: &MarketCaller,
        id: &MarketRequestId,
        order: AcceptOrder,
        once: Option<IdempotencyKey>,
        now: Timestamp,
    ) -> Result<IdempotentResult<MarketRequest>> {
        let (this, by, request_id) = (self.clone(), caller.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let request = find(conn, &request_id).await?.ok_or(MarketError::NotFound("Request"))?;
            let parties = find_parties(conn, &by, &request, &order).await?;
            let accepting = judge(&request, &order, parties)?;
            let agent = &accepting.agent_id;
            let terms = AcceptanceTerms {
                reputation: get_reputation(conn, agent).await?.reputation,
                jobs: figures::agent_counts(conn, agent).await?.map_or(0, |counts| counts.jobs),
                guild: contribution_of(conn, agent).await?,
            };
            let (request, taken) = this.accepted(&by, request, accepting, terms, now)?;
            this.carry_out(tx, taken).await?;
            if request.workflow_id.is_some() {
                let this = this.clone();
                tx.after_commit(move || this.0.wake.notify_one());
            }
            am_core::crash_point!("market.before_accept");
            Ok(request)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// The request as it is accepted, if it is open, and what that writes.
    fn accepted(
        &self,
        caller: &MarketCaller,
        mut request: MarketRequest,
        accepting: AcceptingAgent,
        terms: AcceptanceTerms,
        now: Timestamp,
    ) -> Result<(MarketRequest, TakenStep)> {
        if request.state != RequestState::Open {
            return Err(MarketError::Conflict(format!("the request is {} already", request.state)));
        }
        if request.deadline <= now {
            return Err(MarketError::Conflict("the request's deadline has passed".to_owned()));
        }
        let AcceptingAgent { agent_id, owner, service } = accepting;
        let price = acceptance_price(PriceFacts {
            base_price: service.base_price,
            budget: request.budget,
            reputation: terms.reputation,
            jobs: terms.jobs,
            rating: service.rating.unwrap_or(0.0),
        });
        let (guild, contribution) = terms.guild.unzip();
        request.agent_id = Some(agent_id);
        request.provider_id = Some(owner);
        request.service_id = Some(service.id);
        request.guild_id = guild;
        request.guild_contribution = contribution.unwrap_or(0);
        request.workflow_id = service.workflow_id;
        request.price = Some(price);
        request.accepted_at = Some(now);
        let event = RequestEvent::Accept { price };
        let next = RequestAdvance { event, actor: Some(&caller.principal), reason: None, now };
        let taken = self.take(&mut request, next)?;
        Ok((request, taken))
    }
}

/// Read whom an acceptance names.
async fn find_parties(
    conn: &mut Connection,
    caller: &MarketCaller,
    request: &MarketRequest,
    order: &AcceptOrder,
) -> Result<AcceptanceParties> {
    let wanted = if request.state == RequestState::Open { request.service_id.as_ref() } else { None };
    let named = order.service_id.as_ref().or(request.service_id.as_ref());
    let service = match named {
        Some(id) => services::find(conn, id).await?,
        None => return Err(MarketError::field("service_id", "name the service that the work is done as")),
    };
    let target = match wanted.filter(|wanted| Some(*wanted) != named) {
        Some(wanted) => services::find(conn, wanted).await?,
        None => service.clone(),
    };
    let agent_id = order.agent_id.clone().or_else(|| service.as_ref().map(|service| service.agent_id.clone()));
    let owner = match &agent_id {
        Some(agent) => find_owner(conn, agent).await?.filter(|owner| caller.acts_for(agent, owner)),
        None => None,
    };
    let may_know = is_public(request)
        || is_provider(conn, caller, request).await?
        || shares_guild(conn, target.as_ref(), owner.is_some().then_some(agent_id.as_ref()).flatten()).await?
        || caller.is_or_governs(&request.client_id);
    let others = |agent: &&AgentId| service.as_ref().is_some_and(|service| service.agent_id != **agent);
    let guild = match agent_id.as_ref().filter(others) {
        Some(agent) => guild_of(conn, agent).await?,
        None => None,
    };
    Ok(AcceptanceParties { service, target, agent_id, owner, may_know, guild })
}

/// The agent and the service by which the caller may accept a request.
fn judge(request: &MarketRequest, order: &AcceptOrder, parties: AcceptanceParties) -> Result<AcceptingAgent> {
    let AcceptanceParties { service, target, agent_id, owner, may_know, guild } = parties;
    if !may_know {
        return Err(MarketError::NotFound("Request"));
    }
    let unknown = || MarketError::field("service_id", "is no service that is offered");
    let (service, target) = (service.ok_or_else(unknown)?, target.ok_or_else(unknown)?);
    let (Some(agent_id), Some(owner)) = (agent_id, owner) else {
        let field = if order.agent_id.is_some() { "agent_id" } else { "service_id" };
        return Err(MarketError::field(field, "is no registered agent that you act for, or none's service"));
    };
    let mut violations = Violations::default();
    if request.state == RequestState::Open {
        let is_target = service.id == target.id;
        let is_guilds = service.guild_id.is_some() && service.guild_id == target.guild_id;
        let message = "is neither the service that was asked for nor one of its guild";
        violations.require(is_target || is_guilds, "service_id", message);
        violations.require(service.category == request.category, "service_id", "is of another category");
        let needs_offer = !is_target || is_public(request);
        violations.require(!needs_offer || is_offered(&service), "service_id", "is not offered at present");
        let fits = service.base_price <= request.budget;
        violations.require(fits, "service_id", "has a base price above the request's budget");
    }
    if agent_id != service.agent_id {
        let holds = service.guild_id.is_some() && guild == service.guild_id;
        violations.require(holds, "agent_id", "is neither the service's agent nor a member of its guild");
    }
    let is_own = owner == request.client_id || Some(&owner) == request.client_owner.as_ref();
    violations.require(!is_own, "agent_id", "is an agent of the client's: nobody trades with itself");
    violations.finish().map_err(MarketError::Invalid)?;
    Ok(AcceptingAgent { agent_id, owner, service })
}

/// Whether an agent is in the guild of a service.
async fn shares_guild(conn: &mut Connection, service: Option<&MarketService>, agent: Option<&AgentId>) -> Result<bool> {
    let (Some(guild), Some(agent)) = (service.and_then(|service| service.guild_id.as_ref()), agent) else {
        return Ok(false);
    };
    Ok(guild_of(conn, agent).await?.as_ref() == Some(guild))
}
