//! What is asked of systemd over D-Bus: methods and properties of `org.freedesktop.systemd1`, as its manual page of that name
//! publishes them.

use std::{fmt, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::Mutex, time::timeout};
use zbus::{
    Connection, Message,
    connection::Builder,
    zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Type, Value},
};

/// Name of systemd on the bus.
const SYSTEMD: &str = "org.freedesktop.systemd1";
/// Object and interface of its manager.
const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
/// Interface of a unit that is a service.
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// Interface that properties are read by.
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Time limit of a connection and of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Errors of a unit that systemd has not loaded, and of one that it has no file of.
const UNKNOWN_UNIT: [&str; 2] = ["org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound"];

/// Which bus systemd is asked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SystemdBusAddress {
    /// That of the system: units of `/etc/systemd/system`.
    System,
    /// That of the user's session: units of `systemd --user`.
    Session,
    /// Another one, by its D-Bus address.
    At(String),
}

/// Why systemd did not do what it was asked for.
#[derive(Debug)]
pub(super) enum BusFault {
    /// It refused, with the name of a D-Bus error and its text.
    Refused(String, String),
    /// The bus, or what came over it, is broken.
    Broken(String),
}

impl BusFault {
    /// Whether systemd knows no such unit.
    pub(super) fn is_unknown_unit(&self) -> bool {
        matches!(self, Self::Refused(name, _) if UNKNOWN_UNIT.contains(&name.as_str()))
    }
}

impl fmt::Display for BusFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(name, text) => write!(f, "systemd refuses: {text} ({name})"),
            Self::Broken(text) => write!(f, "systemd can't be asked over D-Bus: {text}"),
        }
    }
}

impl From<BusFault> for String {
    fn from(fault: BusFault) -> Self {
        fault.to_string()
    }
}

fn fault_of(error: zbus::Error) -> BusFault {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            BusFault::Refused(name.as_str().to_owned(), text.unwrap_or_default())
        }
        error => BusFault::Broken(error.to_string()),
    }
}

/// A unit as `ListUnitsByPatterns` tells of it: name, description, load state, active state, sub state, followed unit, object, job's number,
/// its type and its object.
type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A unit that systemd has loaded.
#[derive(Clone, Debug)]
pub(super) struct UnitState {
    /// Name of the unit.
    pub(super) name: String,
    /// `active`, `reloading`, `inactive`, `failed`, `activating` or `deactivating`.
    pub(super) active: String,
    /// Whether a job is about to change that.
    pub(super) has_job: bool,
    /// Path of its object.
    pub(super) path: String,
}

/// A connection to systemd, made anew when it breaks.
pub(super) struct SystemdBus {
    address: SystemdBusAddress,
    connection: Mutex<Option<Connection>>,
}

impl SystemdBus {
    /// One that is connected when it is first needed.
    pub(super) fn new(address: SystemdBusAddress) -> Self {
        Self { address, connection: Mutex::new(None) }
    }

    async fn connected(&self) -> Result<Connection, BusFault> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let builder = match &self.address {
            SystemdBusAddress::System => Builder::system(),
            SystemdBusAddress::Session => Builder::session(),
            SystemdBusAddress::At(address) => Builder::address(address.as_str()),
        };
        let made = builder.map_err(fault_of)?.method_timeout(CALL_TIMEOUT).build();
        let late = |_| BusFault::Broken("the bus does not answer".to_owned());
        let connection = timeout(CALL_TIMEOUT, made).await.map_err(late)?.map_err(fault_of)?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// Call a method. A connection that broke is made anew once: what is asked for may be asked for twice.
    async fn call<B>(&self, (path, interface): (&str, &str), method: &str, body: &B) -> Result<Message, BusFault>
    where
        B: Serialize + DynamicType + Sync,
    {
        let mut is_second = false;
        loop {
            let connection = self.connected().await?;
            match connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await.map_err(fault_of) {
                Err(BusFault::Broken(_)) if !is_second => {
                    is_second = true;
                    self.connection.lock().await.take();
                }
                answered => return answered,
            }
        }
    }

    async fn ask<R, B>(&self, target: (&str, &str), method: &str, body: &B) -> Result<R, BusFault>
    where
        R: DeserializeOwned + Type,
        B: Serialize + DynamicType + Sync,
    {
        let message = self.call(target, method, body).await?;
        let body = message.body();
        body.deserialize::<R>().map_err(fault_of)
    }

    async fn property(&self, path: &str, name: &str) -> Result<OwnedValue, BusFault> {
        self.ask((path, PROPERTIES), "Get", &(SERVICE, name)).await
    }

    /// A property of a service that is a number.
    pub(super) async fn number(&self, path: &str, name: &str) -> Result<u32, BusFault> {
        let value = self.property(path, name).await?;
        u32::try_from(value).map_err(|error| BusFault::Broken(format!("{name}: {error}")))
    }

    /// A property of a service that is a text.
    pub(super) async fn text(&self, path: &str, name: &str) -> Result<String, BusFault> {
        let value = self.property(path, name).await?;
        String::try_from(value).map_err(|error| BusFault::Broken(format!("{name}: {error}")))
    }

    /// How a unit file is enabled, such as `static`. An error: there is none of this name.
    pub(super) async fn unit_file(&self, name: &str) -> Result<String, BusFault> {
        self.ask(MANAGER, "GetUnitFileState", &(name,)).await
    }

    /// The loaded units whose names match `pattern`.
    pub(super) async fn units(&self, pattern: &str) -> Result<Vec<UnitState>, BusFault> {
        let states: Vec<&str> = Vec::new();
        let listed: Vec<ListedUnit> = self.ask(MANAGER, "ListUnitsByPatterns", &(states, vec![pattern])).await?;
        let unit = |(name, _, _, active, _, _, path, job, _, _): ListedUnit| UnitState {
            name,
            active,
            has_job: job != 0,
            path: path.as_str().to_owned(),
        };
        Ok(listed.into_iter().map(unit).collect())
    }

    /// Set properties of a unit until the machine restarts.
    pub(super) async fn set_properties(&self, unit: &str, properties: Vec<(&str, Value<'_>)>) -> Result<(), BusFault> {
        self.call(MANAGER, "SetUnitProperties", &(unit, true, properties)).await?;
        Ok(())
    }

    /// Queue the start of a unit. One that is active stays as it is.
    pub(super) async fn start(&self, unit: &str) -> Result<(), BusFault> {
        self.call(MANAGER, "StartUnit", &(unit, "replace")).await?;
        Ok(())
    }

    /// Queue the stop of a unit.
    pub(super) async fn stop(&self, unit: &str) -> Result<(), BusFault> {
        self.call(MANAGER, "StopUnit", &(unit, "replace")).await?;
        Ok(())
    }

    /// Let a unit that has failed be inactive, so that it may be started again.
    pub(super) async fn reset(&self, unit: &str) -> Result<(), BusFault> {
        match self.call(MANAGER, "ResetFailedUnit", &(unit,)).await {
            Err(fault) if !fault.is_unknown_unit() => Err(fault),
            _ => Ok(()),
        }
    }

    /// Send SIGKILL to all processes of a unit.
    pub(super) async fn kill(&self, unit: &str) -> Result<(), BusFault> {
        self.call(MANAGER, "KillUnit", &(unit, "all", 9_i32)).await?;
        Ok(())
    }
}
