//! Construction of the services for messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::StartError;
use am_audit::AuditLog;
use am_communication::{
    channels::ChannelService,
    delivery::{DeliveryLimits, DeliveryService},
    encryption::{self, EncryptionService},
    messages::{self, MessageService},
    payments::PaymentRecords,
    relations::AgentRelations,
    templates::TemplateService,
    transfer::TransferService,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::{AppEnvironment, Config},
    crypto::load_or_create_secret,
    supervisor::{BackgroundTask, Supervisor},
};
use am_db::Database;
use am_ledger::LedgerService;

/// Services for messages.
pub(super) struct Messaging {
    pub sealing: EncryptionService,
    pub relations: AgentRelations,
    pub templates: TemplateService,
    pub payments: PaymentRecords,
    pub transfer: TransferService,
    pub channels: ChannelService,
    pub messages: MessageService,
    pub delivery: DeliveryService,
}

impl Messaging {
    /// Open them, and start the tasks that write and deliver what is sent.
    pub fn start(
        config: &Config,
        (audit, ledger): (&AuditLog, &LedgerService),
        db: &Database,
        clock: &Clock,
        ids: &IdGenerator,
        supervisor: &Supervisor,
    ) -> Result<Self, StartError> {
        let sealing = open_sealing(config, audit, db, clock, ids)?;
        let relations =
            AgentRelations::new(db.clone(), clock.clone(), audit.clone(), config.messages.require_authorization);
        let templates = TemplateService::new(db.clone(), clock.clone(), ids.clone(), audit.clone());
        let payments = PaymentRecords::new(db.clone(), clock.clone(), audit.clone());
        let transfer = TransferService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), sealing.clone());
        let channels = ChannelService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), relations.clone());
        let limits =
            DeliveryLimits { connections: config.messages.sockets, presence_kept: config.messages.presence_kept };
        let (delivery, delivering) =
            DeliveryService::open(db.clone(), clock.clone(), ids, audit.clone(), sealing.clone(), limits);
        let parts = messages::MessageServiceParts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            ledger: ledger.clone(),
            sealing: sealing.clone(),
            relations: relations.clone(),
            delivery: delivery.clone(),
            channels: channels.clone(),
        };
        let (messages, writer) = MessageService::open(parts, supervisor.stopping().clone());
        supervisor.adopt(BackgroundTask::new("messages.writer", writer));
        delivering.into_iter().for_each(|task| supervisor.adopt(task));
        Ok(Self { sealing, relations, templates, payments, transfer, channels, messages, delivery })
    }
}

/// Open the encryption of messages. A development server without keys makes one beside the database. In production a
/// key stored there would protect nothing, because it is copied with the database; encryption at rest is then refused
/// until a key is configured.
///
/// # Errors
/// When a key cannot be read or made.
pub fn open_sealing(
    config: &Config,
    audit: &AuditLog,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
) -> Result<EncryptionService, StartError> {
    let mut masters = config.messages.keys.clone();
    if masters.is_empty() && config.environment == AppEnvironment::Dev {
        let path = config.data_dir.join("message-key.hex");
        let (key, created) = load_or_create_secret(&path)?;
        if created {
            tracing::warn!(path = %path.display(), "MESSAGE_KEYS is not set; a key was created, back up this file");
        }
        masters.push(("file".to_owned(), STANDARD.encode(*key).into()));
    }
    if masters.is_empty() {
        tracing::warn!("MESSAGE_KEYS is not set: messages to agents without a key of their own are refused");
    }
    let settings = encryption::EncryptionSettings { masters, allow_plaintext: config.messages.allow_plaintext };
    Ok(EncryptionService::new(db.clone(), clock.clone(), ids.clone(), audit.clone(), settings)?)
}
