//! The `systemd` supervisor over a real D-Bus, with a bus of its own: not against systemd itself, which must be process 1 to run units, but
//! against a mock of its published interface (python-dbusmock), whose units have real processes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use am_agent_process::protocol::{InstanceSpec, KeptInstance, KeptState};
use am_deployment::{InstanceSupervisor as _, SystemdBusAddress, SystemdSettings, SystemdSupervisor};
use zbus::{Connection, Message, connection::Builder};

/// Time in which what is waited for must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Python that Debian's D-Bus bindings are installed for.
const PYTHON: &str = "/usr/bin/python3";
/// A bus on which everybody may do everything.
const BUS_RULES: &str = r#"<busconfig><type>session</type><listen>ADDRESS</listen><auth>EXTERNAL</auth><policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>"#;
const UNIT: &str = "aitbc-agent@deploy_1.1.service";

/// A bus, and the mock on it; both end with this.
struct MockedSystemd {
    folder: tempfile::TempDir,
    bus: Child,
    mock: Child,
    address: String,
    connection: Connection,
}

impl Drop for MockedSystemd {
    fn drop(&mut self) {
        // The units' processes are the mock's group.
        let group = rustix::process::Pid::from_child(&self.mock);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        for child in [&mut self.mock, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where scripts/test-tools.sh puts what Python needs.
fn python_path() -> String {
    let executable = std::env::current_exe().unwrap();
    let tools = executable.ancestors().map(|folder| folder.join("tools")).find(|tools| tools.join("dbusmock").is_dir());
    let tools = tools.expect("scripts/test-tools.sh brings python-dbusmock");
    format!("{}:{}", tools.join("dbusmock").display(), tools.join("usr/lib/python3/dist-packages").display())
}

impl MockedSystemd {
    async fn start() -> Self {
        use std::os::unix::process::CommandExt as _;
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:path={}", folder.path().join("bus").display());
        // The daemon's own file for sessions is of another package.
        let rules = folder.path().join("bus.conf");
        fs::write(&rules, BUS_RULES.replace("ADDRESS", &address)).unwrap();
        let mut bus = Command::new("dbus-daemon")
            .args(["--nofork", "--print-address=1"])
            .arg(format!("--config-file={}", rules.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("scripts/test-tools.sh brings dbus-daemon");
        let mut printed = String::new();
        BufReader::new(bus.stdout.take().unwrap()).read_line(&mut printed).unwrap();
        assert!(printed.starts_with("unix:"), "{printed}");
        let template = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/systemd_mock.py");
        let mut mock = Command::new(PYTHON)
            .args(["-m", "dbusmock", "--template"])
            .arg(template)
            .env("PYTHONPATH", python_path())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("DBUS_SESSION_BUS_ADDRESS", &address)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let connection = Builder::address(address.as_str()).unwrap().build().await.unwrap();
        let begun = Instant::now();
        loop {
            let known = connection
                .call_method(
                    Some("org.freedesktop.DBus"),
                    "/org/freedesktop/DBus",
                    Some("org.freedesktop.DBus"),
                    "NameHasOwner",
                    &("org.freedesktop.systemd1",),
                )
                .await
                .unwrap();
            if known.body().deserialize::<bool>().unwrap() {
                break;
            }
            if mock.try_wait().unwrap().is_some() || begun.elapsed() > PATIENCE {
                let mut said = String::new();
                let _ = mock.kill();
                mock.stderr.take().unwrap().read_to_string(&mut said).unwrap();
                panic!("the mock does not come: {said}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { folder, bus, mock, address, connection }
    }

    /// Call a method of the mock's own.
    async fn mock(&self, method: &str, unit: Option<&str>) -> Message {
        let (path, interface) = ("/org/freedesktop/systemd1", "org.freedesktop.DBus.Mock");
        let name = Some("org.freedesktop.systemd1");
        let called = match unit {
            Some(unit) => self.connection.call_method(name, path, Some(interface), method, &(unit,)).await,
            None => self.connection.call_method(name, path, Some(interface), method, &()).await,
        };
        called.unwrap()
    }

    async fn try_connect(&self) -> Result<SystemdSupervisor, String> {
        let bus = SystemdBusAddress::At(self.address.clone());
        SystemdSupervisor::connect(SystemdSettings { bus, directory: self.folder.path().join("systemd") }).await
    }

    async fn connect(&self) -> SystemdSupervisor {
        self.try_connect().await.unwrap()
    }
}

fn spec() -> InstanceSpec {
    InstanceSpec {
        id: "deploy_1.1".into(),
        instance_id: "shop-production-1".into(),
        workflow_id: "agent_1".into(),
        revision: 3,
        port: 20_001,
        service_url: "http://127.0.0.1:8012".into(),
        token_file: "/t".into(),
        health_path: "/ready".into(),
        memory_mb: 512,
        cpu_millis: 500,
    }
}

async fn only(supervisor: &SystemdSupervisor) -> KeptInstance {
    let mut found = supervisor.list().await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[tokio::test]
async fn units_are_started_with_limits_known_again_and_ended() {
    let systemd = MockedSystemd::start().await;
    let supervisor = systemd.connect().await;
    assert_eq!((supervisor.name(), supervisor.list().await.unwrap()), ("systemd", Vec::new()));
    supervisor.keep(spec()).await.unwrap();
    let first = only(&supervisor).await;
    assert_eq!((first.state, first.restarts, &first.last_end), (KeptState::Running, 0, &None));
    assert_eq!((first.port, first.revision, first.service_url.as_str()), (20_001, 3, "http://127.0.0.1:8012"));
    assert!(fs::read_to_string(format!("/proc/{}/comm", first.pid.unwrap())).unwrap().starts_with("sleep"));
    assert!(first.started_ticks.is_some());
    let limits: String = systemd.mock("LimitsOf", Some(UNIT)).await.body().deserialize().unwrap();
    assert_eq!(limits, "runtime MemoryMax=536870912 CPUQuotaPerSecUSec=500000");
    let variables = fs::read_to_string(systemd.folder.path().join("systemd/deploy_1.1.env")).unwrap();
    assert!(variables.contains("INSTANCE_PORT=\"20001\"") && variables.contains("INSTANCE_HEALTH_PATH=\"/ready\""));
    // Asked for again it stays; with another specification it is refused.
    supervisor.keep(spec()).await.unwrap();
    assert_eq!(only(&supervisor).await.pid, first.pid);
    let other = InstanceSpec { revision: 4, ..spec() };
    assert!(supervisor.keep(other).await.unwrap_err().contains("another specification"));
    // A service that was restarted knows it again.
    drop(supervisor);
    let supervisor = systemd.connect().await;
    assert_eq!(only(&supervisor).await, first);

    supervisor.remove("deploy_1.1".to_owned(), Duration::from_secs(30)).await.unwrap();
    assert!(supervisor.list().await.unwrap().is_empty());
    assert_eq!(fs::read_dir(systemd.folder.path().join("systemd")).unwrap().count(), 0);
    supervisor.remove("deploy_1.1".to_owned(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn restarts_are_counted_and_one_that_was_given_up_is_tried_again() {
    let systemd = MockedSystemd::start().await;
    let supervisor = systemd.connect().await;
    supervisor.keep(spec()).await.unwrap();
    let first = only(&supervisor).await;
    systemd.mock("EndProcess", Some(UNIT)).await;
    let second = only(&supervisor).await;
    assert_eq!((second.state, second.restarts), (KeptState::Running, 1));
    assert!(second.pid != first.pid && second.last_end.unwrap().contains("1 times"));

    systemd.mock("FailUnit", Some(UNIT)).await;
    let failed = only(&supervisor).await;
    assert_eq!((failed.state, failed.pid), (KeptState::GivenUp, None));
    assert!(failed.last_end.unwrap().contains("start-limit-hit"));
    supervisor.keep(spec()).await.unwrap();
    assert_eq!(only(&supervisor).await.state, KeptState::Running);
    // One that failed while it was to end is gone.
    systemd.mock("FailUnit", Some(UNIT)).await;
    supervisor.remove("deploy_1.1".to_owned(), Duration::from_secs(30)).await.unwrap();
    assert!(supervisor.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_does_not_end_in_time_is_killed() {
    let systemd = MockedSystemd::start().await;
    let supervisor = systemd.connect().await;
    supervisor.keep(spec()).await.unwrap();
    systemd.mock("BeStubborn", None).await;
    supervisor.remove("deploy_1.1".to_owned(), Duration::from_secs(600)).await.unwrap();
    assert_eq!(only(&supervisor).await.state, KeptState::Ending);
    assert!(supervisor.keep(spec()).await.unwrap_err().contains("being ended"));
    // A service that was restarted has no time limit of its own any more, until it is asked again.
    let supervisor = systemd.connect().await;
    supervisor.remove("deploy_1.1".to_owned(), Duration::ZERO).await.unwrap();
    assert_eq!(only(&supervisor).await.state, KeptState::Ending);
    assert!(supervisor.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn without_its_unit_or_its_bus_it_says_so() {
    let mut systemd = MockedSystemd::start().await;
    let supervisor = systemd.connect().await;
    supervisor.keep(spec()).await.unwrap();
    systemd.mock("LoseTemplate", None).await;
    let fault = systemd.try_connect().await.err().unwrap();
    assert!(fault.contains("systemd has no unit aitbc-agent@.service"), "{fault}");
    systemd.bus.kill().unwrap();
    systemd.bus.wait().unwrap();
    let fault = supervisor.list().await.unwrap_err();
    assert!(fault.contains("systemd can't be asked over D-Bus"), "{fault}");
    assert!(systemd.try_connect().await.err().unwrap().contains("over D-Bus"));
}
