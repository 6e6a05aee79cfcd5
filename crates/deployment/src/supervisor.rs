//! Who keeps instances running. The `process` supervisor is a small process of its own, which outlives this one; this module speaks
//! with it, and starts it where none answers. The `systemd` supervisor is in `systemd`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use am_agent_process::protocol::{
    InstanceSpec, KeptInstance, MAX_LINE_BYTES, SupervisorAnswer, SupervisorRequest, socket_path,
};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::Mutex,
    time::timeout,
};

/// Time limit of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time in which a supervisor that was started must answer, and how often it is asked.
const START_TIME: (Duration, Duration) = (Duration::from_secs(5), Duration::from_millis(20));

/// Why a supervisor did not do what it was asked for; for operators.
pub type SupervisorFault = String;

/// Keeps instances running, whatever becomes of this process.
pub trait InstanceSupervisor: Send + Sync {
    /// Its name, as the configuration has it.
    fn name(&self) -> &'static str;

    /// Whether instances can be started on this host.
    ///
    /// # Errors
    /// Why they can't.
    fn check_host(&self) -> Result<(), SupervisorFault>;

    /// Keep an instance running. One that runs stays as it is; one that was given up is tried again.
    fn keep(&self, spec: InstanceSpec) -> BoxFuture<'_, Result<(), SupervisorFault>>;

    /// End an instance, by force after `grace`. One that is not there is ended already.
    fn remove(&self, id: String, grace: Duration) -> BoxFuture<'_, Result<(), SupervisorFault>>;

    /// All instances that it keeps.
    fn list(&self) -> BoxFuture<'_, Result<Vec<KeptInstance>, SupervisorFault>>;
}

/// Where the `process` supervisor is, and how it is started.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The executable `agent-management-agent`.
    pub program: PathBuf,
    /// Directory of the supervisor's socket and memory.
    pub directory: PathBuf,
    /// User and group that instances run as; `None`: this process's own, which must not be root's.
    pub user: Option<(u32, u32)>,
    /// Whether instances may run as root.
    pub allow_root: bool,
}

/// The `process` supervisor.
pub struct ProcessSupervisor {
    settings: ProcessSettings,
    stream: Mutex<Option<BufReader<UnixStream>>>,
}

impl ProcessSupervisor {
    /// One that is started when it is first needed.
    pub fn new(settings: ProcessSettings) -> Self {
        Self { settings, stream: Mutex::new(None) }
    }

    async fn ask(&self, request: &SupervisorRequest) -> Result<SupervisorAnswer, SupervisorFault> {
        let mut line = serde_json::to_vec(request).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let mut held = self.stream.lock().await;
        // A connection that broke is made anew once: the supervisor may have been started again.
        if let Some(stream) = held.take()
            && let Ok((answer, stream)) = exchange(stream, &line).await
        {
            *held = Some(stream);
            return Ok(answer);
        }
        let (answer, stream) = exchange(BufReader::new(self.connect().await?), &line).await?;
        *held = Some(stream);
        Ok(answer)
    }

    /// Connect to the supervisor, and start it where none answers.
    async fn connect(&self) -> Result<UnixStream, SupervisorFault> {
        let socket = socket_path(&self.settings.directory);
        if let Ok(stream) = UnixStream::connect(&socket).await {
            return Ok(stream);
        }
        self.check_host()?;
        let mut command = tokio::process::Command::new(&self.settings.program);
        command.arg("supervise").arg("--directory").arg(absolute(&self.settings.directory));
        if let Some((user, group)) = self.settings.user {
            command.arg(format!("--user={user}:{group}"));
        }
        if self.settings.allow_root {
            command.arg("--allow-root");
        }
        let log = supervisor_log(&self.settings.directory).map_err(|error| format!("its log: {error}"))?;
        command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        command.spawn().map_err(|error| format!("{}: {error}", self.settings.program.display()))?;
        let answers = async {
            loop {
                match UnixStream::connect(&socket).await {
                    Ok(stream) => return stream,
                    Err(_) => tokio::time::sleep(START_TIME.1).await,
                }
            }
        };
        timeout(START_TIME.0, answers).await.map_err(|_| "the supervisor was started and does not answer".to_owned())
    }

    async fn done(&self, request: SupervisorRequest) -> Result<(), SupervisorFault> {
        match self.ask(&request).await? {
            SupervisorAnswer::Failed { error } => Err(error),
            _ => Ok(()),
        }
    }

    /// End the supervisor, and leave its instances running.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn leave(&self) -> Result<(), SupervisorFault> {
        self.done(SupervisorRequest::Leave).await
    }
}

async fn exchange(
    mut stream: BufReader<UnixStream>,
    line: &[u8],
) -> Result<(SupervisorAnswer, BufReader<UnixStream>), SupervisorFault> {
    let asked = async {
        stream.write_all(line).await?;
        let mut answer = Vec::new();
        (&mut stream).take(MAX_LINE_BYTES as u64).read_until(b'\n', &mut answer).await?;
        serde_json::from_slice(&answer).map_err(std::io::Error::other)
    };
    match timeout(REQUEST_TIMEOUT, asked).await {
        Ok(Ok(answer)) => Ok((answer, stream)),
        Ok(Err(error)) => Err(format!("the supervisor: {error}")),
        Err(_) => Err("the supervisor does not answer".to_owned()),
    }
}

/// The path from the root, since the supervisor works there.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn supervisor_log(directory: &Path) -> std::io::Result<std::fs::File> {
    std::fs::create_dir_all(directory)?;
    std::fs::OpenOptions::new().create(true).append(true).open(directory.join("supervisor.log"))
}

impl InstanceSupervisor for ProcessSupervisor {
    fn name(&self) -> &'static str {
        "process"
    }

    fn check_host(&self) -> Result<(), SupervisorFault> {
        if !self.settings.program.is_file() {
            return Err(format!("{} is not there", self.settings.program.display()));
        }
        let is_root = rustix::process::geteuid().is_root();
        match (is_root, self.settings.user, self.settings.allow_root) {
            (true, None, false) => {
                Err("the service runs as root, and instances must not: set DEPLOYMENT_USER to another user".to_owned())
            }
            (false, Some(_), _) => Err("DEPLOYMENT_USER needs a service that runs as root".to_owned()),
            _ => Ok(()),
        }
    }

    fn keep(&self, spec: InstanceSpec) -> BoxFuture<'_, Result<(), SupervisorFault>> {
        self.done(SupervisorRequest::Keep { spec: Box::new(spec) }).boxed()
    }

    fn remove(&self, id: String, grace: Duration) -> BoxFuture<'_, Result<(), SupervisorFault>> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        self.done(SupervisorRequest::Remove { id, grace_ms }).boxed()
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<KeptInstance>, SupervisorFault>> {
        let listed = async move {
            match self.ask(&SupervisorRequest::List).await? {
                SupervisorAnswer::Instances { instances } => Ok(instances),
                SupervisorAnswer::Failed { error } => Err(error),
                _ => Err("the supervisor answered something else".to_owned()),
            }
        };
        listed.boxed()
    }
}
