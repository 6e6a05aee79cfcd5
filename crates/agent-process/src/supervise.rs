//! The supervisor: keeps instances running, and does what the service asks for over its socket. It outlives the service.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use clap::Args;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};

use crate::{
    AgentError,
    keeper::{Keeper, KeptView, StartSettings},
    protocol::{
        InstanceSpec, KeptInstance, KeptState, MAX_LINE_BYTES, SupervisorAnswer, SupervisorRequest, socket_path,
    },
    state_file::{RememberedInstance, StateFile},
};

/// Longest time that an instance may take to end.
const LONGEST_GRACE: Duration = Duration::from_secs(600);
/// Time between two looks whether its directory is there.
const DIRECTORY_LOOK: Duration = Duration::from_secs(1);
/// Time that instances may take to end when the directory is gone.
const LAST_GRACE: Duration = Duration::from_secs(2);

/// Settings of the supervisor.
#[derive(Args, Clone, Debug)]
pub struct SuperviseArguments {
    /// Directory of its socket, its memory and its instances' logs. Only its user may enter it.
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// User and group that instances run as, as two numbers. Needs root.
    #[arg(long, value_name = "UID:GID", value_parser = parse_user)]
    pub user: Option<(u32, u32)>,
    /// Let instances run as root.
    #[arg(long)]
    pub allow_root: bool,
}

fn parse_user(text: &str) -> Result<(u32, u32), String> {
    let numbers = text.split_once(':').and_then(|(user, group)| Some((user.parse().ok()?, group.parse().ok()?)));
    match numbers {
        Some((0, _)) => Err("root is no user for instances".to_owned()),
        Some(numbers) => Ok(numbers),
        None => Err("must be two numbers, such as 65534:65534".to_owned()),
    }
}

/// Run until SIGTERM or a request to leave; instances go on. Ends at once where another supervisor serves the directory.
///
/// # Errors
/// When the directory can't be used, or instances would run as root.
pub fn run_supervisor(arguments: SuperviseArguments) -> Result<(), AgentError> {
    if rustix::process::geteuid().is_root() && arguments.user.is_none() && !arguments.allow_root {
        return Err(AgentError("instances don't run as root: name another user with --user".to_owned()));
    }
    // In a session of its own, so that no signal to the service's reaches it.
    let _ = rustix::process::setsid();
    let directory = &arguments.directory;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|error| AgentError::of(directory.display(), error))?;
    let lock = fs::File::create(directory.join("supervisor.lock"));
    let lock = lock.map_err(|error| AgentError::of("supervisor.lock", error))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|error| AgentError::of("the executable's own path", error))?;
    let settings =
        StartSettings { program, logs: directory.join("logs"), user: arguments.user, allow_root: arguments.allow_root };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| AgentError::of("the runtime", error))?;
    let served = runtime.block_on(InstanceSupervisor::serve(directory, settings));
    drop(lock);
    served
}

struct InstanceSupervisor {
    keepers: Mutex<BTreeMap<String, Arc<Keeper>>>,
    settings: Arc<StartSettings>,
    origin: Instant,
    /// The state has changed and is to be written.
    changed: Notify,
    leaving: Notify,
}

impl InstanceSupervisor {
    async fn serve(directory: &Path, settings: StartSettings) -> Result<(), AgentError> {
        let socket = socket_path(directory);
        match fs::remove_file(&socket) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(AgentError::of(socket.display(), error)),
        }
        let me = Arc::new(Self {
            keepers: Mutex::default(),
            settings: Arc::new(settings),
            origin: Instant::now(),
            changed: Notify::new(),
            leaving: Notify::new(),
        });
        let file = StateFile::new(directory);
        let (remembered, fault) = file.read();
        if let Some(fault) = fault {
            complain(&fault);
        }
        for one in remembered {
            let state = if one.given_up { KeptState::GivenUp } else { KeptState::Waiting };
            me.begin(one.spec, KeptView { state, process: one.process, restarts: one.restarts, last_end: None });
        }
        let listener = UnixListener::bind(&socket).map_err(|error| AgentError::of(socket.display(), error))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600))
            .map_err(|error| AgentError::of(socket.display(), error))?;
        let mut terminated = signal(SignalKind::terminate()).map_err(|error| AgentError::of("SIGTERM", error))?;
        let mut looks = tokio::time::interval(DIRECTORY_LOOK);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        tokio::spawn(me.clone().answer_all(stream));
                    }
                    // Too many open files, say: those that are open end.
                    Err(error) => {
                        complain(&error.to_string());
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                () = me.changed.notified() => {
                    if let Err(error) = file.write(&me.remembered()) {
                        complain(&format!("its memory can't be written: {error}"));
                    }
                }
                _ = terminated.recv() => break,
                _ = looks.tick() => if !directory.is_dir() {
                    // Nobody can ask for anything any more.
                    complain("its directory is gone, and its instances end with it");
                    me.end_all().await;
                    return Ok(());
                },
                () = me.leaving.notified() => break,
            }
        }
        file.write(&me.remembered()).map_err(|error| AgentError::of("its memory", error))
    }

    fn begin(self: &Arc<Self>, spec: InstanceSpec, view: KeptView) {
        let given_up = view.state == KeptState::GivenUp;
        let weak = Arc::downgrade(self);
        let changed = move || note_change(&weak);
        let keeper = Arc::new(Keeper {
            spec,
            view: Mutex::new(view),
            ending: watch::Sender::new(None),
            changed: Box::new(changed),
        });
        self.keepers.lock().insert(keeper.spec.id.clone(), keeper.clone());
        if given_up {
            return;
        }
        let (me, settings, origin) = (self.clone(), self.settings.clone(), self.origin);
        tokio::spawn(async move {
            keeper.clone().keep(settings, origin).await;
            let mut keepers = me.keepers.lock();
            if keepers.get(&keeper.spec.id).is_some_and(|held| Arc::ptr_eq(held, &keeper)) {
                keepers.remove(&keeper.spec.id);
            }
            drop(keepers);
            me.changed.notify_one();
        });
    }

    /// End all instances, and wait for that.
    async fn end_all(&self) {
        let keepers: Vec<Arc<Keeper>> = self.keepers.lock().values().cloned().collect();
        keepers.iter().for_each(|keeper| {
            keeper.ending.send_replace(Some(LAST_GRACE));
        });
        let ended = async {
            while self.keepers.lock().values().any(|keeper| keeper.view.lock().state != KeptState::GivenUp) {
                self.changed.notified().await;
            }
        };
        let _ = tokio::time::timeout(LAST_GRACE * 2, ended).await;
    }

    /// What is kept. One that is being ended too: a supervisor that is killed meanwhile leaves none that nobody knows.
    fn remembered(&self) -> Vec<RememberedInstance> {
        let keepers = self.keepers.lock();
        let all = keepers.values().map(|keeper| {
            let view = keeper.view.lock();
            let given_up = view.state == KeptState::GivenUp;
            RememberedInstance { spec: keeper.spec.clone(), process: view.process, restarts: view.restarts, given_up }
        });
        all.collect()
    }

    async fn answer_all(self: Arc<Self>, stream: UnixStream) {
        let (reading, mut writing) = stream.into_split();
        let mut reading = BufReader::new(reading);
        loop {
            let mut line = Vec::new();
            let read = (&mut reading).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut line).await;
            if !matches!(read, Ok(bytes) if bytes > 0 && line.ends_with(b"\n")) {
                return;
            }
            let (answer, leaves) = match serde_json::from_slice(&line) {
                Ok(SupervisorRequest::Leave) => (SupervisorAnswer::Done, true),
                Ok(request) => (self.answer(request), false),
                Err(error) => (SupervisorAnswer::Failed { error: error.to_string() }, false),
            };
            let mut text = serde_json::to_vec(&answer).unwrap_or_default();
            text.push(b'\n');
            let sent = writing.write_all(&text).await;
            if leaves {
                self.leaving.notify_one();
            }
            if sent.is_err() || leaves {
                return;
            }
        }
    }

    fn answer(self: &Arc<Self>, request: SupervisorRequest) -> SupervisorAnswer {
        match request {
            SupervisorRequest::Ping => SupervisorAnswer::Pong { pid: std::process::id() },
            SupervisorRequest::List => SupervisorAnswer::Instances { instances: self.list() },
            SupervisorRequest::Leave => SupervisorAnswer::Done,
            SupervisorRequest::Keep { spec } => self.keep(*spec),
            SupervisorRequest::Remove { id, grace_ms } => {
                let keeper = self.keepers.lock().get(&id).cloned();
                if let Some(keeper) = keeper {
                    let grace = Duration::from_millis(grace_ms).min(LONGEST_GRACE);
                    if keeper.view.lock().state == KeptState::GivenUp {
                        self.keepers.lock().remove(&id);
                        self.changed.notify_one();
                    }
                    keeper.ending.send_replace(Some(grace));
                }
                SupervisorAnswer::Done
            }
        }
    }

    fn keep(self: &Arc<Self>, spec: InstanceSpec) -> SupervisorAnswer {
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if spec.id.is_empty() || spec.id.len() > 200 || spec.id.starts_with('.') || !spec.id.chars().all(sound) {
            return SupervisorAnswer::Failed { error: format!("{:?} is no id of an instance", spec.id) };
        }
        if spec.port < 1024 {
            return SupervisorAnswer::Failed { error: format!("port {} is the system's", spec.port) };
        }
        let known = self.keepers.lock().get(&spec.id).cloned();
        let restarts = match known {
            Some(keeper) if keeper.view.lock().state == KeptState::Ending => {
                return SupervisorAnswer::Failed { error: format!("{} is being ended", spec.id) };
            }
            Some(keeper) if keeper.spec != spec => {
                return SupervisorAnswer::Failed { error: format!("{} is kept with another specification", spec.id) };
            }
            Some(keeper) if keeper.view.lock().state != KeptState::GivenUp => return SupervisorAnswer::Done,
            Some(keeper) => {
                // Its task waits for nothing but this.
                keeper.ending.send_replace(Some(Duration::ZERO));
                keeper.view.lock().restarts
            }
            None => 0,
        };
        self.begin(spec, KeptView { state: KeptState::Waiting, process: None, restarts, last_end: None });
        self.changed.notify_one();
        SupervisorAnswer::Done
    }

    fn list(&self) -> Vec<KeptInstance> {
        let keepers = self.keepers.lock();
        let all = keepers.values().map(|keeper| {
            let view = keeper.view.lock();
            KeptInstance {
                id: keeper.spec.id.clone(),
                port: keeper.spec.port,
                revision: keeper.spec.revision,
                service_url: keeper.spec.service_url.clone(),
                state: view.state,
                pid: view.process.map(|(pid, _)| pid),
                started_ticks: view.process.map(|(_, started)| started),
                restarts: view.restarts,
                last_end: view.last_end.clone(),
            }
        });
        all.collect()
    }
}

fn note_change(supervisor: &Weak<InstanceSupervisor>) {
    if let Some(supervisor) = supervisor.upgrade() {
        supervisor.changed.notify_one();
    }
}

/// Tell whoever reads the supervisor's log.
fn complain(what: &str) {
    #[expect(clippy::print_stderr, reason = "its standard error is its log")]
    {
        eprintln!("agent-management-agent: {what}");
    }
}
