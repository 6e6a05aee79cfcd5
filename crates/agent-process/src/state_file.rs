//! The supervisor's memory: which instances it keeps, and which process each is. Written as a whole whenever one changes, so that a
//! supervisor that was killed finds its instances again.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::protocol::InstanceSpec;

/// An instance as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RememberedInstance {
    pub spec: InstanceSpec,
    /// Its process, by pid and start; `None`: none ran.
    pub process: Option<(u32, u64)>,
    /// Times that it was started again.
    pub restarts: u64,
    /// It ended too often, and waits until it is asked for again.
    pub given_up: bool,
}

/// The file below the supervisor's directory.
pub(crate) struct StateFile(PathBuf);

impl StateFile {
    pub fn new(directory: &Path) -> Self {
        Self(directory.join("state.json"))
    }

    /// What is remembered; nothing where there is no file. One that can't be read is set aside, and told of.
    pub fn read(&self) -> (Vec<RememberedInstance>, Option<String>) {
        let text = match fs::read(&self.0) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), None),
            Err(error) => return (Vec::new(), Some(format!("{}: {error}", self.0.display()))),
        };
        match serde_json::from_slice(&text) {
            Ok(found) => (found, None),
            Err(error) => {
                let _ = fs::rename(&self.0, self.0.with_extension("unreadable"));
                (Vec::new(), Some(format!("{}: {error}", self.0.display())))
            }
        }
    }

    /// Replace what is remembered.
    pub fn write(&self, instances: &[RememberedInstance]) -> io::Result<()> {
        let next = self.0.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(instances)?)?;
        // What a machine's crash loses names processes that are gone then, too.
        drop(file);
        fs::rename(&next, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_torn_file_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path());
        assert_eq!(file.read(), (Vec::new(), None));
        let spec = InstanceSpec {
            id: "deploy_1.1".into(),
            instance_id: "a-production-1".into(),
            workflow_id: "agent_1".into(),
            revision: 3,
            port: 20_001,
            service_url: "http://127.0.0.1:8012".into(),
            token_file: "/t".into(),
            health_path: "/health".into(),
            memory_mb: 64,
            cpu_millis: 1000,
        };
        let kept = vec![RememberedInstance { spec, process: Some((7, 8)), restarts: 2, given_up: false }];
        file.write(&kept).unwrap();
        assert_eq!(file.read(), (kept, None));
        fs::write(folder.path().join("state.json"), "[{").unwrap();
        let (found, fault) = file.read();
        assert!(found.is_empty() && fault.is_some());
        assert_eq!(file.read(), (Vec::new(), None));
    }
}
