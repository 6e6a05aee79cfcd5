//! Alarms and the board of `deploy/`, compared with the metrics that docs/OPERATIONS.md explains; that those are the service's is
//! tested beside the documents.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

const OPERATIONS: &str = include_str!("../../docs/OPERATIONS.md");
const RULES: &str = include_str!("../../deploy/prometheus-rules.yml");
const BOARD: &str = include_str!("../../deploy/grafana.json");

/// The metrics of the table by their names in a scrape, and whether each has an alarm in words.
fn explained() -> BTreeMap<&'static str, bool> {
    let section = OPERATIONS.split("\n## ").find(|section| section.starts_with("Metrics")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| (row.split('`').nth(1).unwrap(), !row.trim_end().ends_with("| |"))).collect()
}

/// The metrics that an expression asks for: names before a `{`, without what a histogram or counter appends.
fn asked(expression: &str) -> Vec<&str> {
    let ends = expression.match_indices('{').map(|(at, _)| at);
    let names = ends.map(|end| {
        let begin = expression[..end].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        &expression[begin..end]
    });
    let known = explained();
    names
        .filter(|name| !name.is_empty())
        .map(|name| match name.strip_suffix("_bucket") {
            Some(histogram) if known.contains_key(histogram) => histogram,
            _ => name,
        })
        .collect()
}

#[test]
fn each_alarm_fires_when_it_should_and_not_otherwise() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let written = tempfile::tempdir().unwrap();
    let output = Command::new(crate::coordinator::python())
        .arg(root.join("tests/it/monitoring.py"))
        .arg(root.join("deploy/prometheus-rules.yml"))
        .arg(written.path())
        .output()
        .unwrap();
    let (said, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{faults}");
    assert!(said.contains("alarms, each with a case that sets it off"), "{said}");
}

#[test]
fn every_alarm_of_the_guide_is_a_rule_on_metrics_that_exist() {
    let known = explained();
    let in_rules: BTreeSet<&str> = asked(RULES).into_iter().filter(|name| *name != "up").collect();
    let unknown: Vec<&&str> = in_rules.iter().filter(|name| !known.contains_key(**name)).collect();
    assert!(unknown.is_empty(), "rules on what the service does not have: {unknown:?}");
    let missing: Vec<&str> =
        known.iter().filter(|(name, alarm)| **alarm && !in_rules.contains(*name)).map(|(name, _)| *name).collect();
    assert!(missing.is_empty(), "docs/OPERATIONS.md has alarms for them, and no rule does: {missing:?}");
    // Every rule looks at this service's series alone.
    let named = RULES.matches("job=\"agent-management\"").count();
    let selectors = asked(RULES).len();
    assert_eq!(named, selectors, "each series is selected by its job");
}

fn member<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or_else(|| panic!("no {path} in {value}"))
}

#[test]
fn the_board_shows_every_metric_and_no_other() {
    let board: Value = serde_json::from_str(BOARD).unwrap();
    for name in ["uid", "title", "schemaVersion", "version", "time", "templating", "annotations", "panels"] {
        member(&board, &format!("/{name}"));
    }
    let variables: Vec<&str> = member(&board, "/templating/list")
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    let (mut ids, mut places, mut shown) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for panel in member(&board, "/panels").as_array().unwrap() {
        assert!(ids.insert(member(panel, "/id").as_i64().unwrap()), "an id stands twice: {panel}");
        let place = ["x", "y", "w", "h"].map(|name| member(panel, &format!("/gridPos/{name}")).as_i64().unwrap());
        let [x, y, width, height] = place;
        assert!(x >= 0 && width > 0 && height > 0 && x + width <= 24, "the board has 24 columns: {panel}");
        for column in x..x + width {
            for line in y..y + height {
                assert!(places.insert((column, line)), "two panels lie at {column}, {line}: {panel}");
            }
        }
        assert!(!member(panel, "/title").as_str().unwrap().is_empty());
        let kind = member(panel, "/type").as_str().unwrap();
        if kind == "row" {
            assert!(panel["panels"].is_array() && panel["collapsed"] == false, "{panel}");
            continue;
        }
        assert!(matches!(kind, "timeseries" | "stat"), "{panel}");
        assert_eq!(member(panel, "/datasource/uid"), "${datasource}");
        member(panel, "/fieldConfig/defaults/unit");
        member(panel, "/options");
        let targets = member(panel, "/targets").as_array().unwrap();
        assert!(!targets.is_empty());
        let letters: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert_eq!(letters.len(), targets.len(), "{panel}");
        for target in targets {
            let expression = target["expr"].as_str().unwrap();
            assert!(expression.contains(r#"{job=~"$job", instance=~"$instance""#), "{expression}");
            shown.extend(asked(expression).into_iter().map(str::to_owned));
        }
    }
    let known: BTreeSet<String> = explained().into_keys().map(str::to_owned).collect();
    assert_eq!(shown, known);
}

#[test]
fn metrics_are_found_in_expressions() {
    let expression = "histogram_quantile(0.99, sum by (le) (rate(db_commit_seconds_bucket{job=\"j\"}[5m]))) > 1 and db_wal_bytes{} > 2";
    assert_eq!(asked(expression), ["db_commit_seconds", "db_wal_bytes"]);
}
