//! Services: who lists them, and how they are found.

use serde_json::json;

use super::*;
use crate::{harness::TestApp, kit::locations};

#[tokio::test]
async fn services_are_found_by_words_filters_and_order() {
    let server = TestApp::start().await;
    agent(&server, ADMIN, "maker").await;
    agent(&server, OTHER_ADMIN, "other").await;
    let list = async |agent: &str,
                      key: &str,
                      name: &str,
                      description: &str,
                      category: &str,
                      price: f64,
                      tags: &[&str]| {
        let more =
            json!({"name": name, "description": description, "category": category, "base_price": price, "tags": tags});
        offer(&server, key, agent, more).await.text("id").to_owned()
    };
    let bars = list("maker", ADMIN, "Bars", "draws bar charts of tables", "data_analysis", 3.0, &["fast"]).await;
    let pies =
        list("maker", ADMIN, "Pies", "draws pie charts of tables", "data_analysis", 1.0, &["fast", "round"]).await;
    let essay = list("other", OTHER_ADMIN, "Essays", "writes about charts and tables", "writing", 2.0, &[]).await;
    let found = async |query: &str| -> Vec<String> {
        let all = get(&server, CLIENT, &format!("/services?{query}")).await.ok();
        all.as_array().unwrap().iter().map(|service| service.text("id").to_owned()).collect()
    };
    assert_eq!(found("sort=price").await, [pies.as_str(), essay.as_str(), bars.as_str()]);
    assert_eq!(found("sort=newest").await, [essay.as_str(), pies.as_str(), bars.as_str()]);
    assert_eq!(found("category=writing").await, [essay.as_str()]);
    assert_eq!(found("min_price=1.5&max_price=2.5").await, [essay.as_str()]);
    assert_eq!(found("q=pie").await, [pies.as_str()]);
    assert_eq!(found("q=draws%20table*&sort=price").await, [pies.as_str(), bars.as_str()]);
    assert_eq!(found("q=essays").await, [essay.as_str()]);
    assert_eq!(found("tags=fast,round").await, [pies.as_str()]);
    assert_eq!(found("agent_id=other").await, [essay.as_str()]);
    assert_eq!(found("q=nothing%20of%20this").await, [""; 0]);
    assert_eq!(found("q=charts%20OR%20NEAR(x)").await, [""; 0], "words, not an expression");

    // Each page begins after the last row of the one before, in any order.
    for query in ["sort=price", "sort=rating", "sort=newest", "q=charts", "agent_id=maker"] {
        let all = found(query).await;
        let (mut seen, mut path) = (Vec::new(), format!("{MARKET}/services?{query}&limit=1"));
        loop {
            let page = get_as(&server, CLIENT, &path).await;
            let link = page.header("link").to_owned();
            seen.extend(page.ok().as_array().unwrap().iter().map(|service| service.text("id").to_owned()));
            let next = link.split(", ").find_map(|link| link.strip_suffix("; rel=\"next\""));
            let Some(next) = next else { break };
            path = next.trim_matches(['<', '>']).to_owned();
        }
        assert_eq!(seen, all, "{query}");
    }

    // What is paused is not offered, nor found by its words; what is changed is found by the new ones.
    patch(&server, ADMIN, &format!("/services/{pies}"), json!({"state": "paused"})).await.ok();
    assert_eq!(found("q=pie").await, [""; 0]);
    assert_eq!(found("agent_id=maker&state=paused").await, [pies.as_str()]);
    patch(&server, ADMIN, &format!("/services/{bars}"), json!({"description": "draws columns of numbers"})).await.ok();
    assert_eq!(found("q=bar").await, [""; 0]);
    assert_eq!(found("q=columns").await, [bars.as_str()]);
    patch(&server, ADMIN, &format!("/services/{pies}"), json!({"state": "active"})).await.ok();
    assert_eq!(found("q=pie").await, [pies.as_str()]);
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let check = "INSERT INTO am_market_text (am_market_text, rank) VALUES ('integrity-check', 0)";
    sqlx::query(check).execute(&mut conn).await.expect("the index of texts is sound");
    let wrong = get(&server, CLIENT, "/services?state=paused").await.is(422);
    assert_eq!(locations(&wrong), [json!(["query", "state"])]);
    let wordless = get(&server, CLIENT, "/services?tags=fast,--").await.is(422);
    assert_eq!(locations(&wordless), [json!(["query", "tags"])]);
    get(&server, CLIENT, "/services?min_price=x").await.is(422);
}

#[tokio::test]
async fn services_are_listed_as_the_contract_says() {
    let server = TestApp::start().await;
    agent(&server, OTHER_ADMIN, "seller").await;
    let refused = async |key: &str, change: Value| {
        let mut body = offer_of("seller");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = post_as(&server, key, &format!("{MARKET}/services"), body).await.is(422);
        locations(&answer)[0].clone()
    };
    for (change, field) in [
        (json!({"description": "too short"}), "description"),
        (json!({"base_price": 0.0009}), "base_price"),
        (json!({"base_price": 1000.1}), "base_price"),
        (json!({"base_price": -1}), "base_price"),
        (json!({"base_price": "0.123456789"}), "base_price"),
        (json!({"category": "baking"}), "category"),
        (json!({"agent_id": "nobody"}), "agent_id"),
        (json!({"guild_id": "guild_000000000000"}), "guild_id"),
        (json!({"workflow_id": "agent_00000000"}), "workflow_id"),
    ] {
        assert_eq!(refused(OTHER_ADMIN, change.clone()).await, json!(["body", field]), "{change}");
    }
    assert_eq!(refused(CLIENT, json!({})).await, json!(["body", "agent_id"]), "another's agent");
    // A reputation below 500 of 10 000.
    let row = "PRAGMA foreign_keys = OFF; INSERT INTO agent_reputation (id, agent_id, trust_score, reputation_level, performance_rating, reliability_score,
         community_rating, total_earnings, transaction_count, success_rate, dispute_count, dispute_won_count, jobs_completed, jobs_failed,
         average_response_time, uptime_percentage, geographic_region, created_at, updated_at, last_activity)
         VALUES ('rep_1', 'seller', 49.9, 'BEGINNER', 3, 50, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '2026-05-12 14:29:30.123456',
         '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')";
    crate::kit::sql(&server.database(), row).await;
    assert_eq!(refused(OTHER_ADMIN, json!({})).await, json!(["body", "agent_id"]));
    crate::kit::sql(&server.database(), "UPDATE agent_reputation SET trust_score = 50").await;
    offer(&server, OTHER_ADMIN, "seller", json!({})).await;
}

#[tokio::test]
async fn words_count_where_they_stand_and_filters_leave_the_order() {
    let server = TestApp::start().await;
    agent(&server, ADMIN, "maker").await;
    let mut ids = Vec::new();
    for (name, tags, price) in [
        ("Amber maps", json!(["other"]), 1.0),
        ("Maps", json!(["amber"]), 2.0),
        ("Plans", json!(["other"]), 3.0),
        ("Amber of old", json!(["maps"]), 4.0),
        ("Old amber maps", json!(["map making"]), 5.0),
        ("Plans", json!(["amber maps"]), 6.0),
    ] {
        let more =
            json!({"name": name, "tags": tags, "base_price": price, "description": "draws amber maps of anything"});
        ids.push(offer(&server, ADMIN, "maker", more).await.text("id").to_owned());
    }
    let found = async |query: &str| -> (Vec<usize>, String) {
        let answer = get(&server, CLIENT, &format!("/services?{query}")).await;
        let total = answer.header("x-total-count").to_owned();
        let place = |service: &Value| ids.iter().position(|id| id == service.text("id")).unwrap();
        (answer.ok().as_array().unwrap().iter().map(place).collect(), total)
    };
    // In the name, in name and tags together, elsewhere; the newest first.
    assert_eq!(found("q=amber%20maps").await, (vec![4, 0, 5, 3, 1, 2], "6".to_owned()));
    assert_eq!(found("q=amber%20maps&limit=2").await, (vec![4, 0], "6".to_owned()));
    assert_eq!(found("q=amber%20maps&min_price=2&max_price=5").await, (vec![4, 3, 1, 2], "4".to_owned()));
    assert_eq!(found("q=amber%20maps&min_price=2&sort=price").await, (vec![1, 2, 3, 4, 5], "5".to_owned()));
    assert_eq!(found("q=amber%20maps&sort=newest&limit=3").await, (vec![5, 4, 3], "6".to_owned()));
    // A tag is the whole of one, though its words are found in others.
    assert_eq!(found("tags=maps").await, (vec![3], "1".to_owned()));
    assert_eq!(found("q=draws&tags=amber%20maps&category=data_analysis").await, (vec![5], "1".to_owned()));
    assert_eq!(found("q=amb*%20map*&min_price=6").await, (vec![5], "1".to_owned()));
    // Pages go on behind the last one where filters leave some out.
    for query in ["q=amber%20maps&min_price=2", "q=amber%20maps", "tags=other", "q=amber&sort=price&max_price=4"] {
        let all = found(query).await.0;
        let (mut seen, mut path) = (Vec::new(), format!("{MARKET}/services?{query}&limit=1"));
        loop {
            let page = get_as(&server, CLIENT, &path).await;
            let link = page.header("link").to_owned();
            let rows = page.ok();
            seen.extend(
                rows.as_array().unwrap().iter().map(|row| ids.iter().position(|id| id == row.text("id")).unwrap()),
            );
            let next = link.split(", ").find_map(|link| link.strip_suffix("; rel=\"next\""));
            let Some(next) = next else { break };
            path = next.trim_matches(['<', '>']).to_owned();
        }
        assert_eq!(seen, all, "{query}");
    }
}
