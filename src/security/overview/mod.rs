//! What other tables say of security: sandboxes as the coordinator keeps them.

mod store;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Result;
use crate::{audit::SecurityLevel, db::Database};

/// Limits of an execution's sandbox, from `agent_sandbox_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SandboxRecord {
    /// `sandbox_` and the execution's id.
    pub id: String,
    /// process, docker, vm.
    pub sandbox_type: String,
    /// What it is meant for.
    pub security_level: SecurityLevel,
    /// Cores.
    pub cpu_limit: f64,
    /// MB.
    pub memory_limit: i64,
    /// MB.
    pub disk_limit: i64,
    /// May it reach others?
    pub network_access: bool,
    /// Seconds.
    pub max_execution_time: i64,
    /// Is it there?
    pub is_active: bool,
}

/// Reads what is known. Cheap to clone.
#[derive(Clone)]
pub struct Overview {
    db: Database,
}

impl Overview {
    /// Of `db`.
    pub fn new(db: Database) -> Self {
        Self { db }
    }

    /// How many sandboxes are active.
    ///
    /// # Errors
    /// As the database.
    pub async fn active_sandboxes(&self) -> Result<u64> {
        Ok(store::active_sandboxes(&mut *self.db.read().await?).await?)
    }

    /// The sandbox of an execution, if it has one.
    ///
    /// # Errors
    /// As the database.
    pub async fn sandbox(&self, execution_id: &str) -> Result<Option<SandboxRecord>> {
        Ok(store::sandbox(&mut *self.db.read().await?, &format!("sandbox_{execution_id}")).await?)
    }
}
