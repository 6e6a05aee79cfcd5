//! Settings of deployments: where their instances run, and as whom.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;

use super::{
    group::settings,
    setting_reader::{SettingReader, boolean, number, optional_path, parsed, seconds},
};

/// Who keeps instances running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SupervisorKind {
    /// A small process of its own.
    Process,
    /// systemd, by a template unit.
    Systemd,
}

settings! {
    /// Settings of deployments.
    pub struct DeploymentConfig {
        /// Ports of 127.0.0.1 that instances may take, the lowest and the highest, from 1024; default 20000-20999.
        "DEPLOYMENT_PORTS" ports: (u16, u16) = (20_000, 20_999), parsed("two ports from 1024, such as 20000-20999", port_range);
        /// Directory of instances' tokens and of their supervisor. `None`: `deployments` below `DATA_DIR`.
        "DEPLOYMENT_DIR" directory: Option<PathBuf> = None, optional_path;
        /// Who keeps instances running: `process` (default) or `systemd`.
        "DEPLOYMENT_SUPERVISOR" supervisor: SupervisorKind = SupervisorKind::Process, parsed("process or systemd", supervisor_kind);
        /// Bus that systemd is asked on: `system` (default), `session`, or a D-Bus address.
        "DEPLOYMENT_SYSTEMD_BUS" systemd_bus: String = "system".to_owned(), parsed("system, session or a D-Bus address such as unix:path=/run/bus", bus_name);
        /// User and group that instances run as, as two numbers, where the service runs as root. `None`: the service's own, which must
        /// not be root.
        "DEPLOYMENT_USER" user: Option<(u32, u32)> = None, instance_user;
        /// Whether instances may run as root where the service does, default false.
        "DEPLOYMENT_ALLOW_ROOT" allow_root: bool = false, boolean;
        /// Address of this service for its instances. `None`: its port on 127.0.0.1.
        "DEPLOYMENT_SERVICE_URL" service_url: Option<Url> = None, service_address;
        /// Deployments of one principal at most, default 200.
        "DEPLOYMENT_MAX_PER_PRINCIPAL" most_of_owner: u32 = 200, number(1..=10_000);
        /// Time for which a call waits for an instance, default 20 s.
        "DEPLOYMENT_HOLD_SECONDS" hold: Duration = Duration::from_secs(20), seconds(1..=300);
        /// Time that calls under way have when their instance ends, default 30 s.
        "DEPLOYMENT_DRAIN_SECONDS" drain: Duration = Duration::from_secs(30), seconds(1..=600);
    }
}

fn supervisor_kind(text: &str) -> Option<SupervisorKind> {
    match text {
        "process" => Some(SupervisorKind::Process),
        "systemd" => Some(SupervisorKind::Systemd),
        _ => None,
    }
}

fn bus_name(text: &str) -> Option<String> {
    (matches!(text, "system" | "session") || text.contains(':')).then(|| text.to_owned())
}

fn port_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-')?;
    let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
    (1024 <= low && low <= high).then_some((low, high))
}

fn instance_user(from: &mut SettingReader, key: &str, default: Option<(u32, u32)>) -> Option<(u32, u32)> {
    let text = from.text(key).filter(|text| !text.is_empty())?;
    let numbers = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    match numbers {
        Some((user, group)) if user > 0 => Some((user, group)),
        _ => {
            from.reject(key, "should be a user and a group that are not root's, as two numbers such as 65534:65534");
            default
        }
    }
}

fn service_address(from: &mut SettingReader, key: &str, default: Option<Url>) -> Option<Url> {
    let text = from.text(key).filter(|text| !text.is_empty())?;
    match text.parse::<Url>() {
        // An instance has no certificates: it can't read files.
        Ok(url) if url.scheme() == "http" && url.has_host() => Some(url),
        _ => {
            from.reject(key, "should be an http address, such as http://127.0.0.1:8012");
            default
        }
    }
}
