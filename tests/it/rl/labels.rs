//! Names and tags of training runs: given, changed, found by, and gone with their run.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place, small, trained};
use crate::{
    harness::{ApiClient, CLIENT, OTHER_ADMIN, TestApp},
    kit::{JsonDocument as _, ask, get_as, post_as},
};

async fn labelled(server: &ApiClient, key: &str, name: Value, tags: Value) -> Value {
    let mut body = small(64);
    (body["name"], body["tags"]) = (name, tags);
    post_as(server, key, &format!("{RL}/runs"), body).await.is(201)
}

async fn patch(server: &ApiClient, key: &str, id: &str, body: Value) -> crate::harness::Answer {
    ask(server, Some(key), Method::PATCH, &format!("{RL}/runs/{id}"), Some(body)).await
}

/// The ids of the runs that a query finds, in its order, and how many there are.
async fn found(server: &ApiClient, key: &str, query: &str) -> (Vec<String>, String) {
    let page = get_as(server, key, &format!("{RL}/runs?{query}")).await;
    let ids = page.body.as_array().unwrap().iter().map(|run| run.text("id").to_owned()).collect();
    (ids, page.header("x-total-count").to_owned())
}

#[tokio::test]
async fn runs_are_found_by_tags_and_words_of_their_names() {
    let server = TestApp::builder().env("TRAINING_SLOTS", 0).start().await;
    let first = labelled(&server, CLIENT, json!("Larger networks"), json!(["team:a", "v1"])).await;
    assert_eq!((&first["name"], &first["tags"]), (&json!("Larger networks"), &json!(["team:a", "v1"])));
    let second = labelled(&server, CLIENT, json!("larger rate"), json!(["team:a"])).await;
    let third = labelled(&server, CLIENT, Value::Null, json!(["v1"])).await;
    let others = labelled(&server, server.key(), json!("larger"), json!(["team:a"])).await;
    let id = |run: &Value| run.text("id").to_owned();
    let (first, second, third) = (id(&first), id(&second), id(&third));
    for (query, wanted) in [
        ("tags=team:a", vec![&second, &first]),
        ("tags=team:a,v1", vec![&first]),
        ("tags=TEAM:A", vec![]),
        ("name=LARGER", vec![&second, &first]),
        ("name=networks%20larger", vec![&first]),
        ("name=large", vec![]),
        ("name=larger&tags=v1", vec![&first]),
        ("tags=v1&status=queued&order=asc", vec![&first, &third]),
        ("tags=v1&status=completed", vec![]),
        ("tags=v1&policy=other", vec![]),
        ("tags=&name=", vec![&third, &second, &first]),
    ] {
        let (ids, total) = found(&server, CLIENT, query).await;
        assert_eq!((ids.iter().collect::<Vec<_>>(), total), (wanted.clone(), wanted.len().to_string()), "{query}");
    }
    // Page by page, and everybody's for an admin.
    let (page, total) = found(&server, OTHER_ADMIN, "all=true&tags=team:a&limit=2").await;
    assert_eq!((page, total.as_str()), (vec![id(&others), second.clone()], "3"));
    let answer = get_as(&server, CLIENT, &format!("{RL}/runs?tags=team:a&limit=1")).await;
    let links = answer.header("link").to_owned();
    let next = links.split(", ").find(|link| link.ends_with("rel=\"next\"")).unwrap();
    let next = next.split(['<', '>']).nth(1).unwrap();
    let next = get_as(&server, CLIENT, next).await.ok();
    assert_eq!(next[0]["id"], json!(first), "{next}");
}

#[tokio::test]
async fn name_and_tags_are_changed_whatever_the_status() {
    let server = TestApp::start().await;
    let run = labelled(&server, CLIENT, json!("first"), json!(["x"])).await;
    let id = run.text("id");
    let ended = get_as(&server, CLIENT, &format!("{RL}/runs/{id}?wait=50")).await.ok();
    assert_eq!((&ended["status"], &ended["name"]), (&json!("completed"), &json!("first")));
    let renamed = patch(&server, CLIENT, id, json!({"name": "second one"})).await.ok();
    assert_eq!(
        (&renamed["name"], &renamed["tags"], &renamed["status"]),
        (&json!("second one"), &json!(["x"]), &json!("completed"))
    );
    assert_eq!(found(&server, CLIENT, "name=first").await.0, Vec::<String>::new());
    assert_eq!(found(&server, CLIENT, "name=second&tags=x").await.0, [id]);
    let retagged = patch(&server, CLIENT, id, json!({"tags": ["y", "z"]})).await.ok();
    assert_eq!((&retagged["name"], &retagged["tags"]), (&json!("second one"), &json!(["y", "z"])));
    let unnamed = patch(&server, CLIENT, id, json!({"name": null})).await.ok();
    assert_eq!((&unnamed["name"], &unnamed["tags"]), (&Value::Null, &json!(["y", "z"])));
    assert_eq!(found(&server, CLIENT, "tags=x").await.1, "0");
    assert_eq!(patch(&server, CLIENT, id, json!({})).await.ok()["tags"], json!(["y", "z"]));
    // Which change it was is in the log.
    let entries = server.get("/api/v1/agents/security/audit-logs?limit=50").await;
    assert!(entries.text.contains("relabel") && entries.text.contains("second one"), "{}", entries.text);
    let mut of_another = small(64);
    of_another["policy"] = json!("of-another");
    let others = post_as(&server, server.key(), &format!("{RL}/runs?wait=50"), of_another).await.is(201);
    patch(&server, CLIENT, others.text("id"), json!({"name": "mine"})).await.is(404);
    for (body, loc) in [
        (json!({"name": ""}), json!(["body", "name"])),
        (json!({"name": "a\u{7}"}), json!(["body", "name"])),
        (json!({"name": 7}), json!(["body", "name"])),
        (json!({"tags": ["a", "b/c"]}), json!(["body", "tags", 1])),
        (json!({"tags": ["a", "a"]}), json!(["body", "tags", 1])),
        (json!({"tag": ["a"]}), json!(["body", "tag"])),
    ] {
        assert_eq!(place(patch(&server, CLIENT, id, body).await), loc);
    }
    let mut body = small(64);
    (body["tags"], body["evaluation_episodes"]) = (json!(["a b"]), json!(0));
    let refused = post_as(&server, CLIENT, &format!("{RL}/runs"), body).await.is(422);
    assert_eq!(crate::kit::locations(&refused).len(), 2, "all at once: {refused}");
    assert_eq!(trained(&server, id).await["tags"], json!(["y", "z"]), "refused changes leave nothing");
    // What it is found by goes with it.
    let deleted = ask(&server, Some(CLIENT), Method::DELETE, &format!("{RL}/runs/{id}"), None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM am_training_labels WHERE id = $1")
        .bind(id)
        .fetch_one(&mut crate::jobs::open(&server.database()).await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}
