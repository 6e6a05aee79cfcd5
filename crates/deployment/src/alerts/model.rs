//! An alert of a deployment, as it is stored and answered.

use am_core::ids::PrincipalId;
use am_db::codec::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rules::{DeploymentAlertRule, DeploymentAlertSeverity, DeploymentAlertState};

/// An alert of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentAlert {
    /// Id of the alert: `dalert_` and hexadecimal digits.
    pub id: String,
    /// Id of the deployment.
    pub deployment_id: String,
    /// Principal that the deployment belongs to.
    pub owner_id: PrincipalId,
    /// What it is about.
    pub rule: DeploymentAlertRule,
    /// How urgent it is, or was at its worst.
    pub severity: DeploymentAlertSeverity,
    /// Where it stands.
    pub state: DeploymentAlertState,
    /// The figure that raised it, in the unit of its rule.
    pub value: f64,
    /// The same as a sentence.
    pub message: String,
    /// Principal that acknowledged it; null: nobody has.
    pub acknowledged_by: Option<PrincipalId>,
    /// When it was acknowledged; null: it was not.
    pub acknowledged_at: Option<Timestamp>,
    /// When it was over; null: it is not.
    pub resolved_at: Option<Timestamp>,
    /// Until when nobody is told of it, nor of the next of its rule; null: all are told.
    pub silenced_until: Option<Timestamp>,
    /// When it was raised.
    pub created_at: Timestamp,
}
