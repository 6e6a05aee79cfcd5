//! Command `config check`: which settings there are, where they come from, and what is wrong with them.

use std::path::{Path, PathBuf};

use am_core::config::{Config, ConfigOrigins, ConfigSources, SettingSource};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    CommandError,
    output::{OutputForm, print_document, print_table},
    print_output,
};

/// Settings of the installed service, which the unit reads.
const INSTALLED_SETTINGS: &str = "/etc/agent-management/env";

/// Subcommands of `config`.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Check the settings that a server started here would have. Exit status 1 if it would not start with them.
    Check {
        /// Print JSON on a terminal too.
        #[arg(long)]
        json: bool,
    },
}

/// Print the settings that are set, without secrets, and refuse those that are wrong, all at once.
pub fn check_config(file: Option<PathBuf>, json: bool) -> Result<(), CommandError> {
    let sources = ConfigSources::from_process(file);
    let origins = sources.origins();
    let loaded = Config::load(sources);
    let hint = systemd_line(Path::new(INSTALLED_SETTINGS), "config check");
    match OutputForm::choose(json) {
        OutputForm::Json => print_document(&describe(&origins, &loaded, hint.as_deref())),
        OutputForm::Table => print_check(&origins, &loaded, hint.as_deref()),
    }
    loaded.map(drop).map_err(Into::into)
}

/// The command line that runs a command as the installed service; `None`: none is installed, or this is it.
fn systemd_line(settings: &Path, command: &str) -> Option<String> {
    // Set by systemd for whatever it runs.
    let runs_under_systemd = std::env::var_os("INVOCATION_ID").is_some();
    // Its directory is readable where the file is not.
    if runs_under_systemd || !settings.exists() {
        return None;
    }
    Some(format!(
        "sudo systemd-run --quiet --wait --pipe --uid=agent-management -p EnvironmentFile={} \
         -p WorkingDirectory=/var/lib/agent-management /usr/local/bin/agent-management {command}",
        settings.display()
    ))
}

/// What is said when a command fails on a database that is not there: perhaps the settings are not those that were meant.
pub fn settings_hint(origins: &ConfigOrigins) -> String {
    let line = systemd_line(Path::new(INSTALLED_SETTINGS), "...");
    let installed = line.map_or_else(String::new, |line| {
        format!("\n  hint: the installed service has settings of its own; with them: {line}")
    });
    format!("\n  read were {} (`agent-management config check` shows them){installed}", origins.summary())
}

fn source_text(source: &SettingSource) -> String {
    match source {
        SettingSource::Environment => "environment".to_owned(),
        SettingSource::Dotenv(path) | SettingSource::File(path) => path.display().to_string(),
    }
}

fn describe(
    origins: &ConfigOrigins,
    loaded: &Result<Config, am_core::config::ConfigError>,
    hint: Option<&str>,
) -> Value {
    let settings: Vec<Value> = origins
        .settings
        .iter()
        .map(|one| json!({"name": one.name, "value": one.value, "from": source_text(&one.source)}))
        .collect();
    let faults: Vec<Value> = loaded.as_ref().err().map_or_else(Vec::new, |error| {
        let faults = error.violations.iter();
        faults.map(|fault| json!({"setting": fault.path.to_string(), "message": fault.message})).collect()
    });
    let config = loaded.as_ref().ok();
    json!({
        "directory": std::env::current_dir().ok(), "user": rustix::process::geteuid().as_raw(), "dotenv": origins.dotenv,
        "file": origins.file, "settings": settings, "faults": faults,
        "database": config.map(|config| json!({"path": config.database, "exists": config.database.exists()})),
        "data_dir": config.map(|config| &config.data_dir), "installed_service": hint,
    })
}

fn print_check(origins: &ConfigOrigins, loaded: &Result<Config, am_core::config::ConfigError>, hint: Option<&str>) {
    let rows = origins.settings.iter().map(|one| {
        let value = one.value.clone().unwrap_or_else(|| "(hidden)".to_owned());
        vec![one.name.to_owned(), value, source_text(&one.source)]
    });
    if !origins.settings.is_empty() {
        print_table(&["SETTING", "VALUE", "FROM"], rows);
        print_output("");
    }
    print_output(&format!("{}; all others have their defaults", origins.summary()));
    if let Ok(directory) = std::env::current_dir() {
        print_output(&format!("directory: {}, user: {}", directory.display(), rustix::process::geteuid().as_raw()));
    }
    if let Ok(config) = loaded {
        let missing = if config.database.exists() { "" } else { " (not there)" };
        print_output(&format!("database: {}{missing}, data: {}", config.database.display(), config.data_dir.display()));
        print_output("no fault: a server started here would start with these settings");
    }
    if let Some(hint) = hint {
        print_output(&format!("the installed service has settings of its own; to check those:\n  {hint}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systemd_line_is_shown_where_a_service_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        let settings = dir.path().join("env");
        assert_eq!(systemd_line(&settings, "config check"), None);
        std::fs::write(&settings, "").unwrap();
        let line = systemd_line(&settings, "config check");
        let expected = std::env::var_os("INVOCATION_ID").is_none();
        assert_eq!(
            line.is_some_and(|line| line.contains(&format!("EnvironmentFile={}", settings.display()))),
            expected
        );
    }
}
