//! What agents talk with, opened.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tokio_util::sync::CancellationToken;

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
};
use am_db::Database;

/// The rooms of messages.
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
    /// Open them, and the task that writes what is sent, which ends after `stop`.
    pub fn open(
        config: &Config,
        audit: &Audit,
        (db, clock, ids): (&Database, &Clock, &Ids),
        stop: &CancellationToken,
    ) -> Result<Self, StartError> {
        let parts = || (db.clone(), clock.clone(), ids.clone());
        let sealing = open_sealing(config, audit, (db, clock, ids))?;
        let relations = Relations::new(db.clone(), clock.clone(), audit.clone(), config.messages.require_authorization);
        let templates = Templates::new(parts(), audit.clone());
        let payments = Payments::new(db.clone(), clock.clone(), audit.clone());
        let transfer = Transfer::new(parts(), audit.clone(), sealing.clone());
        let channels = Channels::new(parts(), audit.clone(), relations.clone());
        let sockets = config.messages.sockets;
        let delivery = Delivery::open((db.clone(), clock.clone(), ids), audit.clone(), sealing.clone(), sockets);
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
        let (messages, office) = Messages::open(parts, stop.clone());
        tokio::spawn(office);
        Ok(Self { sealing, relations, templates, payments, transfer, channels, messages, delivery })
    }
}

/// What seals messages. A development server without keys makes one beside the database; in production a key there would
/// protect nothing that is copied with it, and encryption at rest is refused until one is configured.
///
/// # Errors
/// When a key can't be read or made.
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
            tracing::warn!(path = %path.display(), "MESSAGE_KEYS is not set; a key was made, keep the file");
        }
        masters.push(("file".to_owned(), STANDARD.encode(*key).into()));
    }
    if masters.is_empty() {
        tracing::warn!("MESSAGE_KEYS is not set: messages to agents without a key of their own are refused");
    }
    let settings = sealing::Settings { masters, allow_plaintext: config.messages.allow_plaintext };
    Ok(Sealing::new((db.clone(), clock.clone(), ids.clone()), audit.clone(), settings)?)
}
