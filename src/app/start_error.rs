//! What keeps the service from starting.

use std::path::PathBuf;

use crate::http;
use am_communication::encryption;
use am_security::sandbox;

/// Error of starting the service.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened or migrated.
    #[error("the database {path}: {source}")]
    Database {
        /// Path of the database file.
        path: PathBuf,
        /// Error of the database.
        source: am_db::DatabaseError,
    },
    /// The audit log cannot be opened with the keys that are there.
    #[error("the audit log: {0}")]
    Audit(#[from] am_audit::CustodyError),
    /// The signing key cannot be read or made.
    #[error("the signing key: {0}")]
    Key(#[from] am_core::crypto::KeyFileError),
    /// The configured API keys are invalid.
    #[error(transparent)]
    Keyring(#[from] http::auth::KeyringError),
    /// The API keys in the database cannot be read.
    #[error("the API keys: {0}")]
    Keys(#[from] am_keys::KeyError),
    /// The policies cannot be opened.
    #[error("the policies: {0}")]
    Policies(#[from] am_rl::RlError),
    /// The budgets cannot be read.
    #[error("the ledger: {0}")]
    Ledger(#[from] am_ledger::LedgerError),
    /// The security policies cannot be opened.
    #[error("the security policies: {0}")]
    Security(#[from] am_security::policies::SecurityPolicyError),
    /// The built-in policy cannot be loaded.
    #[error("the built-in policy: {0}")]
    Libtorch(#[from] am_rl::ActError),
    /// The trust scores cannot be opened.
    #[error("trust: {0}")]
    Trust(#[from] am_security::trust::TrustError),
    /// The engine cannot be started.
    #[error("the engine: {0}")]
    Engine(#[from] am_orchestration::error::OrchestrationError),
    /// An operation of the operating system failed.
    #[error("{0}: {1}")]
    System(&'static str, std::io::Error),
    /// The executable that evaluates jq programs cannot be started.
    #[error("the jq workers can't be started from {0}: {1}")]
    Jq(PathBuf, std::io::Error),
    /// Nobody can keep instances of deployments running as the settings ask.
    #[error("DEPLOYMENT_SUPERVISOR=systemd: {0}")]
    Supervisor(am_deployment::SupervisorFault),
    /// The webhooks cannot be opened.
    #[error("the webhooks: {0}")]
    Webhooks(#[from] am_webhooks::WebhookError),
    /// The keys for encrypting messages cannot be read.
    #[error("the keys of messages: {0}")]
    Encryption(#[from] encryption::EncryptionError),
    /// The sandboxes cannot be opened.
    #[error("the sandboxes: {0}")]
    Sandboxes(#[from] sandbox::SandboxError),
    /// A witness of the audit log cannot be called.
    #[error("AUDIT_WITNESSES: {0}")]
    Witnesses(#[from] am_audit::WitnessError),
    /// The price source of portfolios cannot be called.
    #[error("PORTFOLIO_PRICE_URL: {0}")]
    Portfolios(#[from] am_portfolio::PortfolioError),
    /// Portfolios cannot be settled in the contract.
    #[error("PORTFOLIO_SETTLEMENT: {0}")]
    Settlement(#[from] am_portfolio::SettlementStartError),
    /// What creativity needs cannot be had.
    #[error(transparent)]
    Creativity(#[from] am_creativity::CreativityStartError),
    /// What deployments need cannot be had.
    #[error("deployments: {0}")]
    Deployments(#[from] am_deployment::DeploymentError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client: {0}")]
    Client(#[from] reqwest::Error),
}
