//! Who may see and change what: every operation, asked about the things of one admin by that admin, by another, by a client
//! and by a miner, and compared with a table. An operation that the table doesn't have fails the test.

mod things;

use std::collections::BTreeMap;

use reqwest::Method;

use self::things::Things;
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, MINER, OTHER_ADMIN, TestApp},
    kit::{operations, webhook_to_nobody},
};

/// A word in every private content that the first admin makes. Names stand in the audit log.
const MARK: &str = "walnut";

/// Each operation's statuses for the first admin, the other admin, a client and a miner, and `shown` where the others
/// may see what the first has made.
const TABLE: &str = include_str!("table.txt");

/// The callers besides the first admin.
const OTHERS: [(&str, &str); 3] = [("other", OTHER_ADMIN), ("client", CLIENT), ("miner", MINER)];

/// Before something is deleted, the others have been asked about it.
fn turn(method: &Method, template: &str) -> u8 {
    match *method {
        Method::DELETE if template.ends_with("/channels/{channel_id}") => 3,
        Method::DELETE if template.ends_with("/workflows/{workflow_id}") => 3,
        // What remains of a job, once it is ended and told.
        Method::DELETE if template.ends_with("/jobs/{job_id}/record") => 4,
        Method::DELETE => 2,
        // A call waits for an instance, until the deployment has ended.
        Method::POST if template.ends_with("/invoke") => 3,
        // Ends with the job.
        Method::GET if template.ends_with("/jobs/{job_id}/events") => 3,
        Method::POST if template.ends_with("/cancel") || template.ends_with("/fail") => 1,
        _ => 0,
    }
}

async fn asked(
    server: &ApiClient,
    things: &Things,
    (role, key): (&str, &str),
    method: &Method,
    template: &str,
) -> Answer {
    server.answer(things.request(server, key, role, method, template)).await
}

/// What an answer says, but for the request's id.
fn said(answer: &Answer) -> String {
    let mut body = answer.body.clone();
    if let Some(members) = body.as_object_mut() {
        members.remove("request_id");
    }
    format!("{} {body}", answer.status)
}

/// Whether what was found is what a row says.
fn agrees(row: &str, found: &[String]) -> bool {
    let wanted: Vec<&str> = row.split(' ').collect();
    let same = |(wanted, found): (&&str, &String)| match *wanted {
        "any" => !matches!(found.as_str(), "401" | "403") && !found.starts_with('5'),
        wanted => wanted == found,
    };
    wanted.len() == found.len() && wanted.iter().zip(found).all(same)
}

#[tokio::test]
async fn every_operation_answers_each_caller_as_the_table_says() {
    let server = TestApp::builder().env("WEBHOOKS", webhook_to_nobody()).start().await;
    let things = Things::made(&server).await;
    let nowhere = things.nowhere();
    let document = server.get("/openapi.json").await.ok();
    let mut all = operations(&document);
    all.sort_by_key(|(method, template)| (turn(method, template), template.clone(), method.to_string()));
    let mut wanted: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for row in TABLE.lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
        let mut words = row.splitn(3, ' ');
        let (method, path, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap_or_default());
        assert_eq!(wanted.insert((method, path), rest.trim()), None, "{row} stands twice");
    }
    let mut faults = Vec::new();
    for (method, template) in &all {
        let (mut found, mut shown) = (Vec::new(), false);
        for caller in OTHERS {
            let answer = asked(&server, &things, caller, method, template).await;
            found.push(answer.status.as_u16().to_string());
            shown |= answer.text.contains(MARK);
            if answer.status == 404 {
                // What one may not know of is answered as what never was.
                let never = asked(&server, &nowhere, caller, method, template).await;
                if said(&answer) != things.renamed(&said(&never), &nowhere) {
                    faults.push(format!("{method} {template} tells that it is there: {} {}", answer.text, never.text));
                }
            }
        }
        let own = asked(&server, &things, ("first", ADMIN), method, template).await;
        found.insert(0, own.status.as_u16().to_string());
        found.extend(shown.then(|| "shown".to_owned()));
        let told = format!("{method} {template} {}", found.join(" "));
        match wanted.remove(&(method.as_str(), template)) {
            Some(row) if agrees(row, &found) => {}
            Some(row) => faults.push(format!("{told}, not {row}: {}", own.text)),
            None => faults.push(told),
        }
    }
    assert!(faults.is_empty(), "not in the table:\n{}", faults.join("\n"));
    assert!(wanted.is_empty(), "rows of no operation: {wanted:?}");
}
