//! Construction of the services for messages.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::StartError;
use am_audit::Audit;
use am_communication::{
    channels::Channels,
    delivery::Delivery,
    messages::{self, Messages},
    payments::Payments,
    relations::Relations,
    sealing::{self, Sealing},
    templates::Templates,
    transfer::Transfer,
};
use am_core::{
    ambient::{Clock, Ids},
    config::{Config, Environment},
    crypto::secret_file,
    supervisor::{BackgroundTask, Supervisor},
};
use am_db::Database;

/// Services for messages.
pub(super) struct Talk {
    pub sealing: Sealing,
    pub relations: Relations,
    pub templates: Templates,
    pub payments: Payments,
    pub transfer: Transfer,
    pub channels: Channels,
    pub messages: Messages,
    pub delivery: Delivery,
}

impl Talk {
    /// Open them, and start the tasks that write and deliver what is sent.
    pub fn open(
        config: &Config,
        audit: &Audit,
        (db, clock, ids): (&Database, &Clock, &Ids),
        supervisor: &Supervisor,
    ) -> Result<Self, StartError> {
        let parts = || (db.clone(), clock.clone(), ids.clone());
        let sealing = open_sealing(config, audit, (db, clock, ids))?;
        let relations = Relations::new(db.clone(), clock.clone(), audit.clone(), config.messages.require_authorization);
        let templates = Templates::new(parts(), audit.clone());
        let payments = Payments::new(db.clone(), clock.clone(), audit.clone());
        let transfer = Transfer::new(parts(), audit.clone(), sealing.clone());
        let channels = Channels::new(parts(), audit.clone(), relations.clone());
        let sockets = config.messages.sockets;
        let (delivery, delivering) =
            Delivery::open((db.clone(), clock.clone(), ids), audit.clone(), sealing.clone(), sockets);
        let parts = messages::Parts {
            db: db.clone(),
            clock: clock.clone(),
            ids: ids.clone(),
            audit: audit.clone(),
            sealing: sealing.clone(),
            relations: relations.clone(),
            delivery: delivery.clone(),
            channels: channels.clone(),
        };
        let (messages, writer) = Messages::open(parts, supervisor.stopping().clone());
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
    audit: &Audit,
    (db, clock, ids): (&Database, &Clock, &Ids),
) -> Result<Sealing, StartError> {
    let mut masters = config.messages.keys.clone();
    if masters.is_empty() && config.environment == Environment::Dev {
        let path = config.data_dir.join("message-key.hex");
        let (key, created) = secret_file(&path)?;
        if created {
            tracing::warn!(path = %path.display(), "MESSAGE_KEYS is not set; a key was created, back up this file");
        }
        masters.push(("file".to_owned(), STANDARD.encode(*key).into()));
    }
    if masters.is_empty() {
        tracing::warn!("MESSAGE_KEYS is not set: messages to agents without a key of their own are refused");
    }
    let settings = sealing::Settings { masters, allow_plaintext: config.messages.allow_plaintext };
    Ok(Sealing::new((db.clone(), clock.clone(), ids.clone()), audit.clone(), settings)?)
}
