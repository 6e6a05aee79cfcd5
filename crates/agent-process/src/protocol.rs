//! What the service and the supervisor say to each other: one JSON document a line over a Unix socket, one answer for each request.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Name of the socket below the supervisor's directory.
const SOCKET_NAME: &str = "supervisor.sock";

/// Bytes of a line at most, in either direction.
pub const MAX_LINE_BYTES: usize = 4 << 20;

/// The socket of the supervisor of `directory`.
pub fn socket_path(directory: &Path) -> PathBuf {
    directory.join(SOCKET_NAME)
}

/// What an instance is started with. There is no command in it: the supervisor starts its own executable only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// Id of the instance, unique on the host: letters, digits, dots, hyphens and underscores.
    pub id: String,
    /// Name under which clients know it.
    pub instance_id: String,
    /// Id of the workflow that it serves.
    pub workflow_id: String,
    /// Revision of the deployment that it serves.
    pub revision: i64,
    /// Port of 127.0.0.1 that it listens on.
    pub port: u16,
    /// Address of the service, such as `http://127.0.0.1:8012`.
    pub service_url: String,
    /// File with its token, which only the service's user may read.
    pub token_file: PathBuf,
    /// Path that answers health checks, such as `/health`.
    pub health_path: String,
    /// Memory for its data in MiB; the system refuses it more.
    pub memory_mb: u64,
    /// Processor time that it may use, in thousandths of a core; 0: no limit. Only systemd limits it.
    #[serde(default)]
    pub cpu_millis: u64,
}

/// A request to the supervisor.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum SupervisorRequest {
    /// Say that it is there.
    Ping,
    /// Keep this instance running. One that runs with the same specification stays as it is; one that was given up is tried again.
    Keep {
        /// What to run.
        spec: Box<InstanceSpec>,
    },
    /// End an instance: SIGTERM, and SIGKILL after `grace_ms`.
    Remove {
        /// Id of the instance.
        id: String,
        /// Milliseconds that it may take to end.
        grace_ms: u64,
    },
    /// Tell of all instances.
    List,
    /// End, and leave the instances running.
    Leave,
}

/// The supervisor's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum SupervisorAnswer {
    /// It is there.
    Pong {
        /// Id of its process.
        pid: u32,
    },
    /// It is done, or begun.
    Done,
    /// All instances that it keeps.
    Instances {
        /// In the order of their ids.
        instances: Vec<KeptInstance>,
    },
    /// It was not done.
    Failed {
        /// Why it was not.
        error: String,
    },
}

/// State of an instance at its supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptState {
    /// Its process runs.
    Running,
    /// Its process has ended, and a new one starts when the back-off is over.
    Waiting,
    /// It ended too often within too little time: nothing starts it until it is asked for again.
    GivenUp,
    /// It is being ended.
    Ending,
}

/// An instance as its supervisor knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptInstance {
    /// Id of the instance.
    pub id: String,
    /// Port that it listens on.
    pub port: u16,
    /// Revision that it serves.
    pub revision: i64,
    /// Address of the service that it was started with.
    pub service_url: String,
    /// What its supervisor does.
    pub state: KeptState,
    /// Its process; `None`: none runs.
    pub pid: Option<u32>,
    /// When the process started, in ticks since the machine did: with the pid it names one process for ever.
    pub started_ticks: Option<u64>,
    /// Times that it was started again.
    pub restarts: u64,
    /// How its last process ended; `None`: none has.
    pub last_end: Option<String>,
}
