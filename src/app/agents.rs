//! Construction of the registry, the assignments and the plans.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::StartError;
use am_audit::Audit;
use am_communication::messages::Messages;
use am_core::{
    ambient::{Clock, Ids},
    config::{AgentsConfig, Config},
};
use am_db::Database;
use am_events::Hub;
use am_orchestration::{
    action::Names,
    assignments::Assignments,
    executions::Executions,
    plans::{Parts, Plans},
    registry::Registry,
};

/// Services for agents.
pub(super) struct Agents {
    pub registry: Registry,
    pub assignments: Assignments,
    settings: AgentsConfig,
}

impl Agents {
    /// Build the services and start their background tasks.
    pub fn open(
        config: &Config,
        audit: &Audit,
        hub: &Hub,
        messages: &Messages,
        (db, clock): (&Database, &Clock),
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let (base, settings) = (|| (db.clone(), clock.clone()), config.agents.clone());
        let registry = Registry::new(base(), audit.clone(), hub.clone(), settings.clone(), stop.clone());
        let courier = Arc::new(messages.clone());
        let (audit, hub) = (audit.clone(), hub.clone());
        let assignments = Assignments::new(base(), audit, hub, registry.clone(), settings.clone(), courier)?;
        Ok(Self { registry, assignments, settings })
    }

    /// Build the service for plans.
    pub fn plans(
        &self,
        (executions, names): (&Executions, Names),
        (db, clock, ids): (&Database, &Clock, &Ids),
        audit: &Audit,
    ) -> Plans {
        Plans::new(Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            registry: self.registry.clone(),
            executions: executions.clone(),
            names,
            settings: self.settings.clone(),
        })
    }
}
