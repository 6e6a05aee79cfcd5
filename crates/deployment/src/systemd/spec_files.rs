//! What units are started with: for each instance the variables that the template unit reads, and the specification itself, by which a
//! service that was restarted knows its instances again.

use std::{
    fs,
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use am_agent_process::protocol::InstanceSpec;

/// Ending of the files of variables.
const VARIABLES: &str = "env";
/// Ending of the files of specifications.
const SPECIFICATION: &str = "json";

fn file_name(id: &str, ending: &str) -> String {
    format!("{id}.{ending}")
}

fn put(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let next = directory.join(format!("{name}.new"));
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(next, directory.join(name))
}

/// A value in double quotes, as systemd.exec(5) has them in an `EnvironmentFile=`.
fn quoted(value: &str) -> io::Result<String> {
    if value.chars().any(char::is_control) {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{value:?} has a control character")));
    }
    let mut text = String::from('"');
    for one in value.chars() {
        if matches!(one, '"' | '\\' | '`' | '$') {
            text.push('\\');
        }
        text.push(one);
    }
    text.push('"');
    Ok(text)
}

/// The variables of an instance, a line each.
fn variables(spec: &InstanceSpec) -> io::Result<String> {
    let mut text = String::new();
    for (name, value) in [
        ("INSTANCE_WORKFLOW", spec.workflow_id.as_str()),
        ("INSTANCE_PORT", spec.port.to_string().as_str()),
        ("INSTANCE_NAME", spec.instance_id.as_str()),
        ("INSTANCE_REVISION", spec.revision.to_string().as_str()),
        ("INSTANCE_SERVICE", spec.service_url.as_str()),
        ("INSTANCE_HEALTH_PATH", spec.health_path.as_str()),
        ("INSTANCE_MEMORY_MB", spec.memory_mb.to_string().as_str()),
    ] {
        text.push_str(name);
        text.push('=');
        text.push_str(&quoted(value)?);
        text.push('\n');
    }
    Ok(text)
}

/// Write the files of an instance.
pub(super) fn write(directory: &Path, spec: &InstanceSpec) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    put(directory, &file_name(&spec.id, VARIABLES), variables(spec)?.as_bytes())?;
    put(directory, &file_name(&spec.id, SPECIFICATION), &serde_json::to_vec(spec)?)
}

/// Remove the files of an instance.
pub(super) fn remove(directory: &Path, id: &str) {
    // Those that stay are of an instance that no unit runs: it is forgotten at the next look.
    for ending in [VARIABLES, SPECIFICATION] {
        let _ = fs::remove_file(directory.join(file_name(id, ending)));
    }
}

/// The specifications that there are.
pub(super) fn read(directory: &Path) -> io::Result<Vec<InstanceSpec>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == SPECIFICATION) {
            match serde_json::from_slice(&fs::read(&path)?) {
                Ok(spec) => found.push(spec),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "the specification of an instance can't be read");
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn spec() -> InstanceSpec {
        InstanceSpec {
            id: "deploy_1.1".into(),
            instance_id: "a \"shop\" of $5".into(),
            workflow_id: "agent_1".into(),
            revision: 3,
            port: 20_001,
            service_url: "http://127.0.0.1:8012".into(),
            token_file: "/t".into(),
            health_path: "/health".into(),
            memory_mb: 128,
            cpu_millis: 500,
        }
    }

    #[test]
    fn variables_are_quoted_as_systemd_reads_them() {
        let text = variables(&spec()).unwrap();
        assert!(text.contains("INSTANCE_NAME=\"a \\\"shop\\\" of \\$5\"\n"), "{text}");
        assert!(text.contains("INSTANCE_PORT=\"20001\"\n"), "{text}");
        let other = InstanceSpec { health_path: "/a\nINSTANCE_PORT=1".into(), ..spec() };
        assert!(variables(&other).is_err(), "a line more would be a variable more");
    }

    #[test]
    fn specifications_are_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("systemd");
        assert!(read(&directory).unwrap().is_empty());
        write(&directory, &spec()).unwrap();
        assert_eq!(read(&directory).unwrap(), [spec()]);
        let mode = fs::metadata(directory.join("deploy_1.1.env")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        remove(&directory, "deploy_1.1");
        assert!(read(&directory).unwrap().is_empty());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}
