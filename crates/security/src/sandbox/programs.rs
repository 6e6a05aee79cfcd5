//! Files of the programs that a sandbox may start.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use super::{
    error::{Result, SandboxError},
    model::SandboxRules,
    violation_recorder::{is_version_of, matches_any},
};

/// Directories in which programs are looked up, outside and inside.
pub const PROGRAM_SEARCH_PATH: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A program of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedProgram {
    /// Path under which it is found.
    pub link: PathBuf,
    /// Path of the file itself, with links resolved.
    pub file: PathBuf,
}

impl AllowedProgram {
    fn name(&self) -> &str {
        self.link.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Programs that `rules` allow and this host has. A script includes its interpreter.
pub fn allowed_programs(rules: &SandboxRules) -> Vec<AllowedProgram> {
    let mut found = Vec::new();
    for directory in PROGRAM_SEARCH_PATH {
        // On most hosts the last directory is a link to the one before.
        if Path::new(directory).is_symlink() {
            continue;
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| matches_any(name, &rules.allowed_commands)) {
                found.extend(find_allowed_program(&entry.path(), rules));
            }
        }
    }
    let interpreters: Vec<AllowedProgram> =
        found.iter().filter_map(|script| find_allowed_program(&script_interpreter(&script.file)?, rules)).collect();
    found.extend(interpreters);
    found.sort_by(|a, b| a.link.cmp(&b.link));
    found.dedup();
    found
}

/// The program at `link`, unless it is missing or blocked under either of its names.
fn find_allowed_program(link: &Path, rules: &SandboxRules) -> Option<AllowedProgram> {
    let file = fs::canonicalize(link).ok().filter(|file| file.is_file())?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let blocked = [name(link)?, name(&file)?].iter().any(|name| matches_any(name, &rules.blocked_commands));
    (!blocked).then(|| AllowedProgram { link: link.to_owned(), file })
}

/// Interpreter named by `#!` in a file's first line.
fn script_interpreter(file: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(File::open(file).ok()?.take(256)).read_line(&mut line).ok()?;
    let words = line.strip_prefix("#!")?.split_whitespace().next()?;
    Some(PathBuf::from(words)).filter(|path| path.is_absolute())
}

/// Path of the program that `argv0` names, by name or by path.
///
/// # Errors
/// Returns [`SandboxError::CommandRefused`] with the reason why it is not allowed.
pub fn resolve_program(argv0: &str, programs: &[AllowedProgram], rules: &SandboxRules) -> Result<PathBuf> {
    let name = argv0.rsplit('/').next().unwrap_or(argv0);
    if matches_any(name, &rules.blocked_commands) {
        return Err(SandboxError::CommandRefused(format!("command {name:?} is blocked in this sandbox")));
    }
    if !matches_any(name, &rules.allowed_commands) {
        let allowed = rules.allowed_commands.join(", ");
        return Err(SandboxError::CommandRefused(format!(
            "command {name:?} is not among those allowed in this sandbox: {allowed}"
        )));
    }
    if argv0.contains('/') {
        let known =
            programs.iter().find(|program| program.link == Path::new(argv0) || program.file == Path::new(argv0));
        let known = known.map(|program| program.link.clone());
        return known.ok_or_else(|| SandboxError::CommandRefused(format!("{argv0:?} is not a program of this host")));
    }
    let exact = programs.iter().find(|program| program.name() == name);
    // `python` where there is only `python3`: the shortest name is the usual one.
    let version =
        || programs.iter().filter(|program| is_version_of(program.name(), name)).min_by_key(|p| p.name().len());
    let found = exact.or_else(version).map(|program| program.link.clone());
    found.ok_or_else(|| SandboxError::CommandRefused(format!("this host has no {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{model::SandboxRequirements, presets};
    use am_audit::SecurityLevel;

    #[test]
    fn a_shell_is_there_when_it_is_allowed_and_not_blocked() {
        let public = presets::rules_for_level(SecurityLevel::Public);
        let resolved = |rules: &SandboxRules, name: &str| resolve_program(name, &allowed_programs(rules), rules);
        assert!(resolved(&public, "sh").unwrap_err().to_string().contains("not among those allowed"));
        let words = |word: &str| vec![word.to_owned()];
        let shell = public
            .clone()
            .with(&SandboxRequirements { allowed_commands: words("sh"), ..SandboxRequirements::default() });
        assert!(resolved(&shell, "sh").unwrap().ends_with("sh"));
        assert!(resolved(&shell, "/bin/nothing/sh").is_err());
        let both = shell.with(&SandboxRequirements { blocked_commands: words("sh"), ..SandboxRequirements::default() });
        assert!(resolved(&both, "sh").unwrap_err().to_string().contains("blocked"), "blocked wins");
        assert!(!allowed_programs(&both).iter().any(|program| program.name() == "sh"));
        assert!(resolved(&public, "rm").unwrap_err().to_string().contains("blocked"));
    }

    #[test]
    fn a_name_without_a_version_finds_one_with() {
        let rules = presets::rules_for_level(SecurityLevel::Public);
        let at = |path: &str| AllowedProgram { link: path.into(), file: path.into() };
        let programs = [at("/usr/bin/python3"), at("/usr/bin/python3.11")];
        assert_eq!(resolve_program("python", &programs, &rules).unwrap(), PathBuf::from("/usr/bin/python3"));
        assert_eq!(resolve_program("python3.11", &programs, &rules).unwrap(), PathBuf::from("/usr/bin/python3.11"));
        assert!(resolve_program("node", &programs, &rules).unwrap_err().to_string().contains("this host has no"));
    }
}
