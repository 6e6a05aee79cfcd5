//! `agent-management ledger` on the database of a service.

use std::{path::Path, process::Output};

use serde_json::{Value, json};

use super::{LEDGER, account_of, fund};
use crate::{
    cli,
    harness::TestApp,
    kit::{JsonDocument, jq, sql},
    operation::run,
};

fn ledger(dir: &Path, arguments: &[&str]) -> Output {
    let env = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "warn")];
    run(dir, &[&["ledger"], arguments].concat(), &env)
}

#[tokio::test]
async fn the_books_are_verified_and_printed_from_the_command_line() {
    let server = TestApp::start().await;
    let wallet = account_of(&fund(&server, 12).await, "wallet");
    server.post(&format!("{LEDGER}/holds"), json!({"amount": 5, "reference": "r"})).await.is(201);
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    let run = server.execute(&workflow, json!({})).await;
    server.ended(run.text("id")).await;

    let report = cli::document(&ledger(server.dir(), &["verify"]));
    assert_eq!((&report["valid"], &report["entries"], &report["lines"]), (&json!(true), &json!(2), &json!(4)));
    let accounts = cli::document(&ledger(server.dir(), &["balances", "--asset", "AIT"]));
    let mine: Vec<&Value> = accounts.as_array().unwrap().iter().filter(|one| one["id"] == *wallet).collect();
    assert_eq!((mine.len(), &mine[0]["balance"], &mine[0]["held"]), (1, &json!(12.0), &json!(5.0)));
    let lines = cli::document(&ledger(server.dir(), &["statement", &wallet]));
    assert_eq!((lines.as_array().unwrap().len(), &lines[0]["kind"]), (1, &json!("deposit")));
    let file = cli::printed(&ledger(server.dir(), &["export", &wallet]), 0);
    assert_eq!(file.lines().count(), 2, "{file}");
    cli::said(&ledger(server.dir(), &["statement", "acct_none"]), 1);

    sql(&server.database(), &format!("UPDATE am_ledger_accounts SET held = held + 1 WHERE id = '{wallet}'")).await;
    let broken = ledger(server.dir(), &["verify"]);
    let report: Value = serde_json::from_str(&cli::printed(&broken, 1)).unwrap();
    assert_eq!((&report["valid"], &report["faults"]), (&json!(false), &json!(1)), "{report}");
    assert!(report["found"][0].as_str().unwrap().contains(&wallet), "{report}");
}
