//! Commands for the archives of what was removed.

use agent_management::app;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};
use am_retention::{
    ArchiveRecord, ArchiveState, RestoreReport, RestoreSelection, RetentionKind, RetentionService, RetentionSettings,
    VerifiedArchive,
};
use clap::Subcommand;
use serde_json::json;

use super::{
    CommandError,
    output::{OutputForm, print_table},
    print_output,
};

/// A command for archives.
#[derive(Subcommand)]
pub enum ArchiveCommand {
    /// List the archives, the oldest first.
    List {
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// Compare the file of each archive with its hash in the audit log. Exit status 0: all are intact; 1: not.
    ///
    /// The audit log itself is verified by `export-audit` and `verify-audit`.
    Verify {
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// Put things of archives back into the database. What is there already stays as it is.
    ///
    /// Without --archive all archives are searched. A server may run.
    #[command(after_help = "Example:\n  agent-management archive restore --kind executions --id exec_0123456789")]
    Restore {
        /// Name of an archive, from `archive list`. Repeatable.
        #[arg(long, value_name = "NAME")]
        archive: Vec<String>,
        /// Kind of what is put back: executions, messages, ... Default: all kinds.
        #[arg(long, value_parser = parse_kind)]
        kind: Option<RetentionKind>,
        /// Id of what is put back. Repeatable. Default: everything.
        #[arg(long, value_name = "ID")]
        id: Vec<String>,
    },
}

fn parse_kind(text: &str) -> Result<RetentionKind, String> {
    RetentionKind::from_word(text).ok_or_else(|| {
        let words: Vec<&str> = RetentionKind::ALL.iter().map(|kind| kind.word()).collect();
        format!("one of {}", words.join(", "))
    })
}

/// Run a command for archives.
pub async fn run_archive_command(config: &Config, command: ArchiveCommand) -> Result<(), CommandError> {
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(config).await?;
    let (audit, _) = app::open_audit(config, &db, &clock, &ids).await?;
    let settings = RetentionSettings::from_config(&config.retention, &config.data_dir);
    let archives = RetentionService::new(db.clone(), clock, ids, audit.clone(), settings);
    let done = run_on_archives(&archives, command).await;
    db.close().await;
    done
}

async fn run_on_archives(archives: &RetentionService, command: ArchiveCommand) -> Result<(), CommandError> {
    match command {
        ArchiveCommand::List { json } => {
            let found = archives.archives().await?;
            match OutputForm::choose(json) {
                OutputForm::Json => print_output(&serde_json::to_string_pretty(&found)?),
                OutputForm::Table => print_list(&found),
            }
            Ok(())
        }
        ArchiveCommand::Verify { json } => {
            let found = archives.verify_archives().await?;
            match OutputForm::choose(json) {
                OutputForm::Json => print_output(&serde_json::to_string_pretty(&found)?),
                OutputForm::Table => print_states(&found),
            }
            let bad = found.iter().filter(|one| one.state != ArchiveState::Intact).count();
            if bad == 0 { Ok(()) } else { Err(format!("{bad} of {} archives are not intact", found.len()).into()) }
        }
        ArchiveCommand::Restore { archive, kind, id } => {
            let names = match archive.is_empty() {
                true => archives.archives().await?.into_iter().map(|archive| archive.name).collect(),
                false => archive,
            };
            let selection = RestoreSelection { kind, ids: id.into_iter().collect() };
            let mut total = RestoreReport::default();
            for name in names {
                let done = archives.restore(&name, selection.clone()).await?;
                total.restored += done.restored;
                total.present += done.present;
                total.rows += done.rows;
            }
            print_output(&serde_json::to_string_pretty(&json!(total))?);
            let nothing = total.restored + total.present == 0 && !selection.ids.is_empty();
            if nothing { Err("no archive has what was asked for".into()) } else { Ok(()) }
        }
    }
}

fn print_list(found: &[ArchiveRecord]) {
    let row = |one: &ArchiveRecord| {
        let state = if one.done_at.is_some() { "done" } else { "deleting" };
        let numbers = [one.things, one.removed, one.kept, one.size_bytes].map(|number| number.to_string());
        let [things, removed, kept, bytes] = numbers;
        vec![one.name.clone(), one.cause.clone(), things, removed, kept, bytes, state.to_owned()]
    };
    print_table(&["ARCHIVE", "CAUSE", "THINGS", "REMOVED", "KEPT", "BYTES", "STATE"], found.iter().map(row));
}

fn print_states(found: &[VerifiedArchive]) {
    let row = |one: &VerifiedArchive| {
        let state = match &one.state {
            ArchiveState::Intact => "intact",
            ArchiveState::Missing => "its file is missing",
            ArchiveState::Altered(what) => what,
            ArchiveState::Unknown => "the audit log knows nothing of it",
        };
        vec![one.name.clone(), state.to_owned()]
    };
    print_table(&["ARCHIVE", "STATE"], found.iter().map(row));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::CliArguments;

    #[test]
    fn a_command_line_that_names_no_kind_is_refused() {
        let read = |line: &str| {
            CliArguments::try_parse_from(["agent-management", "archive"].into_iter().chain(line.split(' ')))
        };
        for good in ["list", "list --json", "verify", "restore", "restore --kind plans --id plan_1 --id plan_2"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["restore --kind things", "list all", "verify --archive", "burn"] {
            assert!(read(bad).is_err_and(|error| error.exit_code() == 2), "{bad}");
        }
    }
}
