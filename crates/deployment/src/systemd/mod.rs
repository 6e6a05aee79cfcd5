//! The `systemd` supervisor: each instance is a unit of the template `aitbc-agent@.service` (deploy/), which systemd starts, restarts and
//! limits. This module asks systemd over D-Bus, and keeps which instance each unit is.

mod bus;
mod spec_files;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, Instant},
};

use am_agent_process::{
    process_info::read_process,
    protocol::{InstanceSpec, KeptInstance, KeptState},
};
use am_core::boxed;
use futures_util::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use zbus::zvariant::Value;

pub use self::bus::SystemdBusAddress;
use self::bus::{SystemdBus, UnitState};
use crate::supervisor::{InstanceSupervisor, SupervisorFault};

/// The template unit.
const TEMPLATE: &str = "aitbc-agent@.service";
/// Names of its instances.
const PATTERN: &str = "aitbc-agent@*.service";
/// Least memory of an instance in MiB, as it itself has it.
const LEAST_MEMORY_MB: u64 = 64;

/// Where systemd is asked, and where its template unit looks for what it starts.
#[derive(Clone, Debug)]
pub struct SystemdSettings {
    /// Where the bus is.
    pub bus: SystemdBusAddress,
    /// Directory of the variables of instances: the template unit reads `%i.env` there.
    pub directory: PathBuf,
}

/// The `systemd` supervisor.
pub struct SystemdSupervisor {
    bus: SystemdBus,
    directory: PathBuf,
    kept: Mutex<BTreeMap<String, InstanceSpec>>,
    /// Instances that are being ended, and when by force.
    ending: Mutex<HashMap<String, Instant>>,
}

fn unit_name(id: &str) -> String {
    format!("aitbc-agent@{id}.service")
}

/// Check what would become part of a unit's name and of a command line.
fn check_spec(spec: &InstanceSpec) -> Result<(), SupervisorFault> {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if spec.id.is_empty() || spec.id.len() > 200 || spec.id.starts_with('.') || !spec.id.chars().all(sound) {
        return Err(format!("{:?} is no id of an instance", spec.id));
    }
    if spec.port < 1024 {
        return Err(format!("port {} is the system's", spec.port));
    }
    Ok(())
}

/// The limits of an instance as properties of its unit.
fn limits(spec: &InstanceSpec) -> Vec<(&'static str, Value<'static>)> {
    let mut found = Vec::new();
    if spec.memory_mb > 0 {
        found.push(("MemoryMax", Value::from(spec.memory_mb.max(LEAST_MEMORY_MB).saturating_mul(1 << 20))));
    }
    if spec.cpu_millis > 0 {
        // Microseconds of processor time in each second.
        found.push(("CPUQuotaPerSecUSec", Value::from(spec.cpu_millis.saturating_mul(1000))));
    }
    found
}

impl SystemdSupervisor {
    /// Ask systemd whether it has the template unit, and read which instances there are.
    ///
    /// # Errors
    /// When the bus can't be reached, the template is not installed, or the directory can't be read.
    #[boxed]
    pub async fn connect(settings: SystemdSettings) -> Result<Self, SupervisorFault> {
        let bus = SystemdBus::new(settings.bus);
        match bus.unit_file(TEMPLATE).await {
            Ok(_) => {}
            Err(fault) if fault.is_unknown_unit() => {
                return Err(format!("systemd has no unit {TEMPLATE}, which deploy/install.sh installs"));
            }
            Err(fault) => return Err(fault.into()),
        }
        let directory = std::path::absolute(&settings.directory).unwrap_or(settings.directory);
        let found = spec_files::read(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let kept = found.into_iter().map(|spec| (spec.id.clone(), spec)).collect();
        Ok(Self { bus, directory, kept: Mutex::new(kept), ending: Mutex::default() })
    }

    async fn keep_unit(&self, spec: InstanceSpec) -> Result<(), SupervisorFault> {
        check_spec(&spec)?;
        if self.ending.lock().contains_key(&spec.id) {
            return Err(format!("{} is being ended", spec.id));
        }
        let known = self.kept.lock().get(&spec.id).cloned();
        if known.is_some_and(|known| known != spec) {
            return Err(format!("{} is kept with another specification", spec.id));
        }
        let unit = unit_name(&spec.id);
        spec_files::write(&self.directory, &spec).map_err(|error| format!("{}: {error}", self.directory.display()))?;
        self.kept.lock().insert(spec.id.clone(), spec.clone());
        // One that was given up is tried again.
        self.bus.reset(&unit).await?;
        self.bus.set_properties(&unit, limits(&spec)).await?;
        self.bus.start(&unit).await?;
        Ok(())
    }

    async fn remove_unit(&self, id: String, grace: Duration) -> Result<(), SupervisorFault> {
        if !self.kept.lock().contains_key(&id) {
            return Ok(());
        }
        let deadline = Instant::now() + grace;
        self.ending.lock().entry(id.clone()).or_insert(deadline);
        match self.bus.stop(&unit_name(&id)).await {
            Ok(()) => Ok(()),
            Err(fault) if fault.is_unknown_unit() => {
                self.forget(&id);
                Ok(())
            }
            Err(fault) => {
                self.ending.lock().remove(&id);
                Err(fault.into())
            }
        }
    }

    fn forget(&self, id: &str) {
        self.kept.lock().remove(id);
        self.ending.lock().remove(id);
        spec_files::remove(&self.directory, id);
    }

    async fn list_units(&self) -> Result<Vec<KeptInstance>, SupervisorFault> {
        let units = self.bus.units(PATTERN).await?;
        let specs: Vec<InstanceSpec> = self.kept.lock().values().cloned().collect();
        let mut found = Vec::new();
        for spec in specs {
            let unit = units.iter().find(|unit| unit.name == unit_name(&spec.id));
            let view = match unit {
                Some(unit) => self.view(&spec, unit).await?,
                None => None,
            };
            match view {
                Some(view) => found.push(view),
                None => self.forget(&spec.id),
            }
        }
        Ok(found)
    }

    /// What a unit is as an instance; `None`: it has ended.
    async fn view(&self, spec: &InstanceSpec, unit: &UnitState) -> Result<Option<KeptInstance>, SupervisorFault> {
        let deadline = self.ending.lock().get(&spec.id).copied();
        let state = match (unit.active.as_str(), deadline) {
            ("inactive", _) if !unit.has_job => return Ok(None),
            ("failed", Some(_)) => {
                self.bus.reset(&unit.name).await?;
                return Ok(None);
            }
            ("failed", None) => KeptState::GivenUp,
            (_, Some(deadline)) => {
                if Instant::now() >= deadline {
                    self.bus.kill(&unit.name).await?;
                }
                KeptState::Ending
            }
            ("active" | "reloading", None) => KeptState::Running,
            _ => KeptState::Waiting,
        };
        let restarts = self.bus.number(&unit.path, "NRestarts").await?;
        let pid = match state {
            KeptState::Running | KeptState::Ending => self.bus.number(&unit.path, "MainPID").await?,
            KeptState::Waiting | KeptState::GivenUp => 0,
        };
        let process = (pid > 0).then_some(pid).and_then(|pid| Some((pid, read_process(pid)?.started_ticks)));
        let last_end = if restarts > 0 || state == KeptState::GivenUp {
            let result = self.bus.text(&unit.path, "Result").await?;
            Some(format!("systemd has started it again {restarts} times, its result is {result}"))
        } else {
            None
        };
        Ok(Some(KeptInstance {
            id: spec.id.clone(),
            port: spec.port,
            revision: spec.revision,
            service_url: spec.service_url.clone(),
            state,
            pid: process.map(|(pid, _)| pid),
            started_ticks: process.map(|(_, started)| started),
            restarts: u64::from(restarts),
            last_end,
        }))
    }
}

impl InstanceSupervisor for SystemdSupervisor {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn check_host(&self) -> Result<(), SupervisorFault> {
        // It was asked at the start, and its template names the user.
        Ok(())
    }

    fn keep(&self, spec: InstanceSpec) -> BoxFuture<'_, Result<(), SupervisorFault>> {
        self.keep_unit(spec).boxed()
    }

    fn remove(&self, id: String, grace: Duration) -> BoxFuture<'_, Result<(), SupervisorFault>> {
        self.remove_unit(id, grace).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<KeptInstance>, SupervisorFault>> {
        self.list_units().boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, port: u16) -> InstanceSpec {
        InstanceSpec {
            id: id.into(),
            instance_id: "shop".into(),
            workflow_id: "agent_1".into(),
            revision: 1,
            port,
            service_url: "http://127.0.0.1:8012".into(),
            token_file: "/t".into(),
            health_path: "/health".into(),
            memory_mb: 32,
            cpu_millis: 1500,
        }
    }

    #[test]
    fn names_that_would_leave_the_template_are_refused() {
        assert!(check_spec(&spec("deploy_1.1", 20_000)).is_ok());
        for id in ["", ".hidden", "../../etc", "a b", "a@b", "a/b"] {
            assert!(check_spec(&spec(id, 20_000)).is_err(), "{id}");
        }
        assert!(check_spec(&spec("deploy_1.1", 80)).unwrap_err().contains("port 80"));
    }

    #[test]
    fn limits_are_in_bytes_and_microseconds_of_a_second() {
        let found = limits(&spec("a", 20_000));
        assert_eq!(
            found,
            [("MemoryMax", Value::from(64_u64 << 20)), ("CPUQuotaPerSecUSec", Value::from(1_500_000_u64))]
        );
        assert!(limits(&InstanceSpec { memory_mb: 0, cpu_millis: 0, ..spec("a", 20_000) }).is_empty());
    }

    #[tokio::test]
    async fn a_bus_that_is_not_there_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", folder.path().join("bus").display());
        let settings =
            SystemdSettings { bus: SystemdBusAddress::At(address), directory: folder.path().join("systemd") };
        let fault = SystemdSupervisor::connect(settings).await.err().unwrap();
        assert!(fault.contains("systemd can't be asked over D-Bus"), "{fault}");
    }
}
