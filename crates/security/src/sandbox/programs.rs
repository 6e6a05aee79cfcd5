//! Files of the programs that a sandbox may start.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Result},
    judge::{is_version_of, matches_any},
    model::Rules,
};

/// Directories in which programs are looked up, outside and inside.
pub const DIRECTORIES: [&str; 3] = ["/usr/local/bin", "/usr/bin", "/bin"];

/// A program of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Path under which it is found.
    pub link: PathBuf,
    /// Path of the file itself, with links resolved.
    pub file: PathBuf,
}

impl Program {
    fn name(&self) -> &str {
        self.link.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

/// Programs that `rules` allow and this host has. A script includes its interpreter.
pub fn allowed(rules: &Rules) -> Vec<Program> {
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        // On most hosts the last directory is a link to the one before.
        if Path::new(directory).is_symlink() {
            continue;
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| matches_any(name, &rules.allowed_commands)) {
                found.extend(program(&entry.path(), rules));
            }
        }
    }
    let interpreters: Vec<Program> =
        found.iter().filter_map(|script| program(&interpreter(&script.file)?, rules)).collect();
    found.extend(interpreters);
    found.sort_by(|a, b| a.link.cmp(&b.link));
    found.dedup();
    found
}

/// The program at `link`, unless it is missing or blocked under either of its names.
fn program(link: &Path, rules: &Rules) -> Option<Program> {
    let file = fs::canonicalize(link).ok().filter(|file| file.is_file())?;
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let blocked = [name(link)?, name(&file)?].iter().any(|name| matches_any(name, &rules.blocked_commands));
    (!blocked).then(|| Program { link: link.to_owned(), file })
}

/// Interpreter named by `#!` in a file's first line.
fn interpreter(file: &Path) -> Option<PathBuf> {
    let mut line = String::new();
    BufReader::new(File::open(file).ok()?.take(256)).read_line(&mut line).ok()?;
    let words = line.strip_prefix("#!")?.split_whitespace().next()?;
    Some(PathBuf::from(words)).filter(|path| path.is_absolute())
}

/// Path of the program that `argv0` names, by name or by path.
///
/// # Errors
/// Returns [`Error::Command`] with the reason why it is not allowed.
pub fn resolve(argv0: &str, programs: &[Program], rules: &Rules) -> Result<PathBuf> {
    let name = argv0.rsplit('/').next().unwrap_or(argv0);
    if matches_any(name, &rules.blocked_commands) {
        return Err(Error::Command(format!("command {name:?} is blocked in this sandbox")));
    }
    if !matches_any(name, &rules.allowed_commands) {
        let allowed = rules.allowed_commands.join(", ");
        return Err(Error::Command(format!("command {name:?} is not among those allowed in this sandbox: {allowed}")));
    }
    if argv0.contains('/') {
        let known =
            programs.iter().find(|program| program.link == Path::new(argv0) || program.file == Path::new(argv0));
        let known = known.map(|program| program.link.clone());
        return known.ok_or_else(|| Error::Command(format!("{argv0:?} is not a program of this host")));
    }
    let exact = programs.iter().find(|program| program.name() == name);
    // `python` where there is only `python3`: the shortest name is the usual one.
    let version =
        || programs.iter().filter(|program| is_version_of(program.name(), name)).min_by_key(|p| p.name().len());
    let found = exact.or_else(version).map(|program| program.link.clone());
    found.ok_or_else(|| Error::Command(format!("this host has no {name:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{levels, model::Requirements};
    use am_audit::SecurityLevel;

    #[test]
    fn a_shell_is_there_when_it_is_allowed_and_not_blocked() {
        let public = levels::rules(SecurityLevel::Public);
        let resolved = |rules: &Rules, name: &str| resolve(name, &allowed(rules), rules);
        assert!(resolved(&public, "sh").unwrap_err().to_string().contains("not among those allowed"));
        let words = |word: &str| vec![word.to_owned()];
        let shell = public.clone().with(&Requirements { allowed_commands: words("sh"), ..Requirements::default() });
        assert!(resolved(&shell, "sh").unwrap().ends_with("sh"));
        assert!(resolved(&shell, "/bin/nothing/sh").is_err());
        let both = shell.with(&Requirements { blocked_commands: words("sh"), ..Requirements::default() });
        assert!(resolved(&both, "sh").unwrap_err().to_string().contains("blocked"), "blocked wins");
        assert!(!allowed(&both).iter().any(|program| program.name() == "sh"));
        assert!(resolved(&public, "rm").unwrap_err().to_string().contains("blocked"));
    }

    #[test]
    fn a_name_without_a_version_finds_one_with() {
        let rules = levels::rules(SecurityLevel::Public);
        let at = |path: &str| Program { link: path.into(), file: path.into() };
        let programs = [at("/usr/bin/python3"), at("/usr/bin/python3.11")];
        assert_eq!(resolve("python", &programs, &rules).unwrap(), PathBuf::from("/usr/bin/python3"));
        assert_eq!(resolve("python3.11", &programs, &rules).unwrap(), PathBuf::from("/usr/bin/python3.11"));
        assert!(resolve("node", &programs, &rules).unwrap_err().to_string().contains("this host has no"));
    }
}
