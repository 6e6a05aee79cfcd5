//! The walks of docs/GUIDES.md, each run as it is printed.

use crate::tour::{blocks, run_blocks};

const GUIDES: &str = include_str!("../../docs/GUIDES.md");

/// Runs one walk: all shell blocks of its section are marked, and so are run.
fn walk(title: &str, mark: &str) {
    let section = GUIDES.split("\n## ").find(|section| section.starts_with(title)).unwrap();
    let walk = blocks(GUIDES, mark);
    assert!(!walk.is_empty(), "{title} has blocks");
    assert_eq!(section.matches("```sh").count(), walk.len(), "each block of {title} is tried");
    assert!(!section.to_lowercase().contains("sqlite") && !section.contains("SELECT "), "{title} needs no SQL");
    run_blocks("docs/GUIDES.md", &walk, &[], "");
}

#[test]
fn a_client_developer_gets_a_result_through_failures() {
    walk("A client developer", "client");
}

#[test]
fn an_operator_runs_watches_and_restores_it() {
    walk("An operator", "operator");
}

#[test]
fn a_reinforcement_learning_engineer_promotes_what_is_better() {
    walk("A reinforcement-learning engineer", "learning");
}

#[test]
fn an_agent_author_takes_work_and_letters() {
    walk("An agent author", "agent");
}

#[test]
fn a_security_officer_bounds_and_proves() {
    walk("A security officer", "security");
}
