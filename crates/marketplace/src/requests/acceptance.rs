//! Acceptance of a request by an agent, which fixes the price: of several at once one is first.

use super::{
    AcceptOrder, MarketRequest, REFERENCE, RequestAdvance, RequestEvent, RequestState, find, is_offered, is_provider,
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
    ids::{AgentId, MarketRequestId, PrincipalId},
    validation::Violations,
};
use am_db::{
    Connection, Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};
use am_security::reputation::get_reputation;

/// Who accepts, and as which service.
struct AcceptingAgent {
    agent_id: AgentId,
    owner: PrincipalId,
    service: MarketService,
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
        let (this, by, request_id, now) = (self.clone(), caller.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let conn = tx.conn().await?;
            let mut request = find(conn, &request_id).await?.ok_or(MarketError::NotFound("Request"))?;
            let accepting = accepting_agent(conn, &by, &request, order).await?;
            if request.state != RequestState::Open {
                return Err(MarketError::Conflict(format!("the request is {} already", request.state)));
            }
            if request.deadline <= now {
                return Err(MarketError::Conflict("the request's deadline has passed".to_owned()));
            }
            let AcceptingAgent { agent_id, owner, service } = accepting;
            let reputation = get_reputation(conn, &agent_id).await?.reputation;
            let jobs = figures::agent_counts(conn, &agent_id).await?.map_or(0, |counts| counts.jobs);
            let price = acceptance_price(PriceFacts {
                base_price: service.base_price,
                budget: request.budget,
                reputation,
                jobs,
                rating: service.rating.unwrap_or(0.0),
            });
            let (guild, contribution) = contribution_of(conn, &agent_id).await?.unzip();
            request.agent_id = Some(agent_id);
            request.provider_id = Some(owner);
            request.service_id = Some(service.id);
            request.guild_id = guild;
            request.guild_contribution = contribution.unwrap_or(0);
            request.workflow_id = service.workflow_id;
            request.price = Some(price);
            request.accepted_at = Some(now);
            let event = RequestEvent::Accept { price };
            let next = RequestAdvance { event, actor: Some(&by.principal), reason: None, now };
            this.advance(tx, &mut request, next).await?;
            if request.workflow_id.is_some() {
                let this = this.clone();
                tx.after_commit(move || this.0.wake.notify_one());
            }
            am_core::crash_point!("market.before_accept");
            Ok(request)
        };
        let accepted = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        if let Ok(accepted) = &accepted {
            self.count_event("request_accepted", accepted.replayed);
        }
        self.with_refusal(caller, (REFERENCE, id), "accept", accepted).await
    }
}

/// The agent and the service by which the caller may accept a request.
async fn accepting_agent(
    conn: &mut Connection,
    caller: &MarketCaller,
    request: &MarketRequest,
    order: AcceptOrder,
) -> Result<AcceptingAgent> {
    let wanted = if request.state == RequestState::Open { request.service_id.as_ref() } else { None };
    let is_public = request.state == RequestState::Open && request.service_id.is_none();
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
    let may_know = is_public
        || is_provider(conn, caller, request).await?
        || shares_guild(conn, target.as_ref(), owner.is_some().then_some(agent_id.as_ref()).flatten()).await?
        || caller.is_or_governs(&request.client_id);
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
        violations.require(is_target && !is_public || is_offered(&service), "service_id", "is not offered at present");
        let fits = service.base_price <= request.budget;
        violations.require(fits, "service_id", "has a base price above the request's budget");
    }
    if agent_id != service.agent_id {
        let guild = guild_of(conn, &agent_id).await?;
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
