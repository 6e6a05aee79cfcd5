//! Commands for the ledger, on the database itself: a server may run.

use std::io::Write as _;

use agent_management::app;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    ids::LedgerAccountId,
};
use am_db::page::{PageRequest, TimeSpan};
use am_ledger::{
    AccountFilter, AccountOwner, LedgerAccount, LedgerService, LedgerVerification, StatementFormat, StatementLine,
};
use clap::{Subcommand, ValueEnum};

use super::{
    CommandError,
    output::{OutputForm, print_table},
    print_output,
};

/// Rows that are read at once.
const PAGE_ROWS: u32 = 500;

/// Form of an exported statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Comma-separated values with a line of names.
    Csv,
    /// A JSON document on each line.
    Jsonl,
}

/// A command for the ledger.
#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Verify the whole ledger. Exit status 0: the books are sound; 1: they are not.
    ///
    /// The lines of each entry sum to zero, each balance is the sum of its account's lines, what is held is the sum of the open
    /// holds, and all accounts of an asset sum to zero.
    Verify {
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// List accounts with their balances, the oldest first.
    Balances {
        /// Only accounts of this owner: a principal, agent:ID, guild:ID, portfolio:ID or system.
        #[arg(long)]
        owner: Option<String>,
        /// Only accounts in this asset.
        #[arg(long)]
        asset: Option<String>,
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// Print the last lines of an account, the newest first.
    Statement {
        /// Id of the account, from `ledger balances`.
        account: LedgerAccountId,
        /// Number of lines, 500 at most.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
        /// Print JSON, which is what a pipe gets anyway.
        #[arg(long)]
        json: bool,
    },
    /// Write all lines of an account to standard output, the oldest first.
    Export {
        /// Id of the account, from `ledger balances`.
        account: LedgerAccountId,
        /// Form of the file.
        #[arg(long, value_enum, default_value_t = ExportFormat::Csv)]
        format: ExportFormat,
    },
}

/// Run a command for the ledger.
pub async fn run_ledger_command(config: &Config, command: LedgerCommand) -> Result<(), CommandError> {
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(config).await?;
    let (audit, webhooks) = app::open_audit(config, &db, &clock, &ids).await?;
    let ledger = LedgerService::new(db.clone(), clock, ids, audit, webhooks);
    let done = run_on_ledger(&ledger, command).await;
    db.close().await;
    done
}

async fn run_on_ledger(ledger: &LedgerService, command: LedgerCommand) -> Result<(), CommandError> {
    match command {
        LedgerCommand::Verify { json } => {
            let report = ledger.verify().await?;
            match OutputForm::choose(json) {
                OutputForm::Json => print_output(&serde_json::to_string_pretty(&report)?),
                OutputForm::Table => print_verification(&report),
            }
            if report.valid { Ok(()) } else { Err(format!("the books have {} faults", report.faults).into()) }
        }
        LedgerCommand::Balances { owner, asset, json } => {
            let owner = owner.as_deref().map(AccountOwner::from_stored);
            let accounts = read_accounts(ledger, &AccountFilter { owner, asset, purpose: None }).await?;
            match OutputForm::choose(json) {
                OutputForm::Json => print_output(&serde_json::to_string_pretty(&accounts)?),
                OutputForm::Table => print_accounts(&accounts),
            }
            Ok(())
        }
        LedgerCommand::Statement { account, limit, json } => {
            ledger.account(&account).await?;
            let (lines, _) = ledger.statement(&account, &PageRequest { limit, ..PageRequest::default() }).await?;
            match OutputForm::choose(json) {
                OutputForm::Json => print_output(&serde_json::to_string_pretty(&lines)?),
                OutputForm::Table => print_lines(&lines),
            }
            Ok(())
        }
        LedgerCommand::Export { account, format } => {
            ledger.account(&account).await?;
            let format = match format {
                ExportFormat::Csv => StatementFormat::Csv,
                ExportFormat::Jsonl => StatementFormat::JsonLines,
            };
            let mut export = ledger.export_statement(account, format, TimeSpan::default());
            let mut out = std::io::stdout().lock();
            while let Some(lines) = export.next().await? {
                out.write_all(lines.as_bytes())?;
            }
            Ok(out.flush()?)
        }
    }
}

async fn read_accounts(ledger: &LedgerService, filter: &AccountFilter) -> Result<Vec<LedgerAccount>, CommandError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest { after: after.take(), limit: PAGE_ROWS, oldest_first: true, ..PageRequest::default() };
        let (accounts, _) = ledger.list_accounts(filter, &page).await?;
        after = accounts.last().map(|last| (last.created_at, last.id.to_string()));
        let is_last = accounts.len() < PAGE_ROWS as usize;
        found.extend(accounts);
        if is_last {
            return Ok(found);
        }
    }
}

fn print_verification(report: &LedgerVerification) {
    let sums = report.assets.iter().map(|one| {
        let total = if one.total.units() == 0 { "balanced".to_owned() } else { format!("off by {}", one.total) };
        vec![one.asset.clone(), one.accounts.to_string(), total]
    });
    print_table(&["ASSET", "ACCOUNTS", "SUM"], sums);
    print_output(&format!("{} accounts, {} entries, {} lines", report.accounts, report.entries, report.lines));
    report.found.iter().for_each(|fault| print_output(fault));
}

fn print_accounts(accounts: &[LedgerAccount]) {
    let row = |one: &LedgerAccount| {
        let amounts = [one.balance, one.held].map(|amount| amount.to_string());
        let [balance, held] = amounts;
        vec![one.id.to_string(), one.owner.clone(), one.purpose.to_string(), one.asset.clone(), balance, held]
    };
    print_table(&["ACCOUNT", "OWNER", "PURPOSE", "ASSET", "BALANCE", "HELD"], accounts.iter().map(row));
}

fn print_lines(lines: &[StatementLine]) {
    let row = |one: &StatementLine| {
        let amounts = [one.amount, one.balance_after].map(|amount| amount.to_string());
        let [amount, balance] = amounts;
        let about = one.reference_id.clone().unwrap_or_default();
        let posted_at = one.posted_at.0.format("%F %T").to_string();
        vec![one.line_no.to_string(), posted_at, one.kind.to_string(), about, one.other_owner.clone(), amount, balance]
    };
    print_table(&["LINE", "POSTED", "KIND", "ABOUT", "OTHER", "AMOUNT", "BALANCE"], lines.iter().map(row));
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::CliArguments;

    #[test]
    fn a_command_line_that_names_no_account_is_refused() {
        let read = |line: &str| {
            CliArguments::try_parse_from(["agent-management", "ledger"].into_iter().chain(line.split(' ')))
        };
        for good in [
            "verify",
            "verify --json",
            "balances --owner system",
            "statement acct_1 --limit 5",
            "export acct_1 --format jsonl",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["statement", "export acct_1 --format xml", "statement acct_1 --limit 501", "pay"] {
            assert!(read(bad).is_err_and(|error| error.exit_code() == 2), "{bad}");
        }
    }
}
