//! Profiles: reports and their refusals, ranking, series, what is measured of work, summaries.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::PERFORMANCE;
use crate::{
    agents::{plans, registry},
    harness::{Answer, ApiClient, CLIENT, MINER, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, get_as, json_fixture, locations, post_as, sql},
    marketplace,
    portfolio::text_of,
};

fn at(path: &str) -> String {
    format!("{PERFORMANCE}/{path}")
}

async fn create(server: &ApiClient, agent: &str, metrics: Value) -> Value {
    let body = json!({"agent_id": agent, "initial_metrics": metrics});
    server.post(&at("profiles"), body).await.ok()
}

async fn report(server: &ApiClient, agent: &str, metrics: Value) -> Answer {
    server.post(&at(&format!("profiles/{agent}/metrics")), json!({"metrics": metrics})).await
}

async fn profile(server: &ApiClient, agent: &str) -> Value {
    server.get(&at(&format!("profiles/{agent}"))).await.ok()
}

/// Wait until an agent's profile is as it should be.
async fn until(server: &ApiClient, agent: &str, done: impl Fn(&Value) -> bool) -> Value {
    loop {
        let found = server.get(&at(&format!("profiles/{agent}"))).await;
        if found.status == 200 && done(&found.body) {
            return found.body;
        }
        poll_interval().await;
    }
}

/// What to ask of a POST about profiles so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    if template.ends_with("/metrics") {
        // It may be there.
        server.post(&at("profiles"), json!({"agent_id": "once-reported"})).await;
        return (at("profiles/once-reported/metrics"), json!({"metrics": {"accuracy": 80, "latency": 2.5}}));
    }
    (at("profiles"), json!({"agent_id": "once", "agent_type": "solver", "initial_metrics": {"accuracy": 80}}))
}

#[tokio::test]
async fn a_profile_has_the_contracts_members_and_its_score_and_trends() {
    let server = TestApp::start().await;
    let made = create(&server, "a", json!({"accuracy": 90, "latency": 50})).await;
    let contract = json_fixture("contract/openapi.json");
    for member in contract["components"]["schemas"]["PerformanceProfileResponse"]["required"].as_array().unwrap() {
        assert!(made.get(member.as_str().unwrap()).is_some(), "{member}: {made}");
    }
    assert_eq!((&made["agent_type"], &made["reports"]), (&json!("hermes"), &json!(0)));
    assert!((made["overall_score"].as_f64().unwrap() - (27.0 - 10.0) / 0.1).abs() < 1e-9, "{made}");
    let done = report(&server, "a", json!({"accuracy": 99, "recall": 10})).await.ok();
    assert!((done["overall_score"].as_f64().unwrap() - (29.7 - 10.0 + 1.0) / 0.2).abs() < 1e-9, "{done}");
    assert!((done["improvement_trends"]["accuracy"].as_f64().unwrap() - 0.1).abs() < 1e-12, "{done}");
    assert_eq!(done["improvement_trends"].as_object().unwrap().len(), 1, "metrics of both reports alone: {done}");
    let read = profile(&server, "a").await;
    assert_eq!(read["performance_metrics"], json!({"accuracy": 99.0, "latency": 50.0, "recall": 10.0}));
    assert_eq!((&read["average_latency"], &read["throughput"]), (&json!(50.0), &Value::Null));
    assert!(read["reasons"].get("throughput").is_some() && read["reasons"].get("measured").is_some(), "{read}");
    assert_eq!(read["last_assessed"], done["updated_at"]);
    let empty = create(&server, "b", json!({})).await;
    assert_eq!((&empty["overall_score"], &empty["ranking_position"]), (&Value::Null, &Value::Null));
    let again = server.post(&at("profiles"), json!({"agent_id": "a"})).await.is(409);
    assert_eq!(again["code"], "profile_exists");
    for missing in ["profiles/nobody", "analytics/nobody"] {
        server.get(&at(missing)).await.is(404);
    }
    report(&server, "nobody", json!({"a": 1})).await.is(404);
    assert_eq!(server.get(&at("health")).await.ok()["status"], "healthy");
}

#[tokio::test]
async fn what_is_no_metric_is_refused_with_its_place_and_stores_nothing() {
    let server = TestApp::start().await;
    create(&server, "a", json!({"accuracy": 90})).await;
    let before = profile(&server, "a").await;
    let many: BTreeMap<String, f64> = (0..101).map(|number| (format!("m{number}"), 1.0)).collect();
    for (metrics, place) in [
        (json!({"accuracy": "good"}), json!(["body", "metrics", "accuracy"])),
        (json!({"accuracy": null}), json!(["body", "metrics", "accuracy"])),
        (json!({"accuracy": 1e16}), json!(["body", "metrics", "accuracy"])),
        (json!({"": 1}), json!(["body", "metrics", ""])),
        (json!({"a b": 1}), json!(["body", "metrics", "a b"])),
        (json!({"measured_latency": 1}), json!(["body", "metrics", "measured_latency"])),
        (json!({"overall_score": 1}), json!(["body", "metrics", "overall_score"])),
        (json!({}), json!(["body", "metrics"])),
        (json!(many), json!(["body", "metrics"])),
        (json!([1]), json!(["body", "metrics"])),
    ] {
        let refused = report(&server, "a", metrics.clone()).await.is(422);
        assert_eq!(locations(&refused), [place], "{metrics}: {refused}");
    }
    let path = at("profiles/a/metrics");
    for number in ["NaN", "1e999", "-Infinity"] {
        let body = format!(r#"{{"metrics": {{"accuracy": {number}}}}}"#);
        let request = server.request(reqwest::Method::POST, &path).header("content-type", "application/json");
        let refused = server.answer(request.body(body)).await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{number}: {}", refused.text);
    }
    let context = json!({"metrics": {"a": 1}, "task_context": {"x": "y".repeat(5000)}});
    assert_eq!(locations(&server.post(&path, context).await.is(422)), [json!(["body", "task_context"])]);
    for (body, place) in [
        (json!({}), json!(["body", "agent_id"])),
        (json!({"agent_id": ""}), json!(["body", "agent_id"])),
        (json!({"agent_id": "x", "agent_type": " "}), json!(["body", "agent_type"])),
        (json!({"agent_id": "x", "initial_metrics": {"a": "b"}}), json!(["body", "initial_metrics", "a"])),
    ] {
        let refused = server.post(&at("profiles"), body.clone()).await.is(422);
        assert_eq!(locations(&refused), [place], "{body}: {refused}");
    }
    for (query, name) in [
        ("analytics/performance-summary?period=-7d", "period"),
        ("analytics/performance-summary?period=soon", "period"),
        ("analytics/performance-summary?period=0d", "period"),
        ("analytics/performance-summary?period=2000d", "from"),
        ("analytics/performance-summary?from=1h&to=2h", "from"),
        ("analytics/performance-summary?limit=0", "limit"),
        ("analytics/a?from=2026-05-02T00:00:00Z&to=2026-05-01T00:00:00Z", "from"),
        ("profiles/a/timeseries", "metric"),
        ("profiles/a/timeseries?metric=accuracy&from=1h&to=1d", "from"),
        ("profiles/a/timeseries?metric=accuracy&resolution=week", "resolution"),
        ("profiles/a/timeseries?metric=accuracy&limit=2001", "limit"),
        ("profiles?limit=0", "limit"),
    ] {
        let refused = server.get(&at(query)).await.is(422);
        assert_eq!(locations(&refused), [json!(["query", name])], "{query}: {refused}");
    }
    assert_eq!(profile(&server, "a").await, before, "nothing was stored");
}

#[tokio::test]
async fn a_ranking_is_exact_and_comes_in_pages() {
    let server = TestApp::start().await;
    for number in 0..30 {
        // Some are equal, some are beyond the usual.
        let score = if number == 7 { -3000.0 } else { f64::from(number / 2 * 2) * 3.7 };
        create(&server, &format!("agent-{number:02}"), json!({"accuracy": score})).await;
    }
    let other = json!({"agent_id": "other", "agent_type": "other", "initial_metrics": {"accuracy": 1e6}});
    server.post(&at("profiles"), other).await.ok();
    let (mut path, mut listed) = (Some(at("profiles?agent_type=hermes&limit=7")), Vec::new());
    while let Some(next) = path {
        let page = server.get(&next).await;
        assert_eq!(page.header("x-total-count"), "30");
        let link = page.header("link").to_owned();
        listed.extend(page.ok().as_array().unwrap().clone());
        path = link
            .split(", ")
            .find(|link| link.ends_with("rel=\"next\""))
            .map(|link| link.split(['<', '>']).nth(1).unwrap().to_owned());
    }
    let scores: Vec<f64> = listed.iter().map(|row| row["overall_score"].as_f64().unwrap()).collect();
    assert_eq!(scores.len(), 30);
    assert!(scores.is_sorted_by(|one, other| one >= other), "{scores:?}");
    for row in &listed {
        let found = profile(&server, row.text("agent_id")).await;
        let score = row["overall_score"].as_f64().unwrap();
        let better = scores.iter().filter(|other| **other > score).count();
        assert_eq!(
            (&found["ranking_position"], &found["ranked_profiles"]),
            (&json!(better + 1), &json!(30)),
            "{found}"
        );
        let percentile = 100.0 * (30 - better) as f64 / 30.0;
        assert!((found["percentile_rank"].as_f64().unwrap() - percentile).abs() < 1e-9, "{found}");
    }
    report(&server, "agent-07", json!({"accuracy": 500})).await.ok();
    assert_eq!(profile(&server, "agent-07").await["ranking_position"], 1, "it moved");
    assert_eq!(server.get(&at("profiles?limit=1")).await.ok()[0]["agent_id"], "other");
}

#[tokio::test]
async fn a_client_sees_its_own_agents_alone() {
    let server = TestApp::start().await;
    create(&server, "admins", json!({"accuracy": 95})).await;
    let body = json!({"agent_id": "clients", "initial_metrics": {"accuracy": 60}});
    post_as(&server, CLIENT, &at("profiles"), body).await.ok();
    post_as(&server, CLIENT, &at("profiles/admins/metrics"), json!({"metrics": {"accuracy": 0}})).await.is(404);
    get_as(&server, MINER, &at("profiles/clients")).await.is(404);
    let listed = get_as(&server, CLIENT, &at("profiles")).await.ok();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    let summary = get_as(&server, CLIENT, &at("analytics/performance-summary")).await.ok();
    assert_eq!((&summary["total_agents"], &summary["average_score"]), (&json!(1), &json!(60.0)), "{summary}");
    let named = at("analytics/performance-summary?agent_ids=admins,clients");
    assert_eq!(get_as(&server, CLIENT, &named).await.ok()["total_agents"], 1, "others' are left out");
    assert_eq!(server.get(&named).await.ok()["total_agents"], 2);
    let own = get_as(&server, CLIENT, &at("profiles/clients")).await.ok();
    assert_eq!(own["ranking_position"], 2, "a rank is among all profiles of the type");
}

#[tokio::test]
async fn reports_that_wait_together_count_each_and_refusals_nothing() {
    let server = TestApp::start().await;
    for agent in ["busy", "calm"] {
        create(&server, agent, json!({})).await;
    }
    let sent = (0..60u64).map(|n| {
        let (agent, server) = (["busy", "busy", "calm", "nobody"][n as usize % 4], &server);
        async move { (agent, report(server, agent, json!({"accuracy": n})).await) }
    });
    let mut scores: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (agent, answer) in futures_util::future::join_all(sent).await {
        if agent == "nobody" {
            answer.is(404);
        } else {
            scores.entry(agent).or_default().push(answer.ok()["overall_score"].as_f64().unwrap());
        }
    }
    for (agent, count) in [("busy", 30), ("calm", 15)] {
        let read = profile(&server, agent).await;
        assert_eq!(read["reports"], count, "{read}");
        let told = &scores[agent];
        assert!(told.contains(&read["overall_score"].as_f64().unwrap()), "{read} {told:?}");
        assert_eq!(told.len() as u64, count);
        let stored = async |column: &str| {
            let of = format!("SELECT {column} FROM agent_performance_profiles WHERE agent_id = '{agent}'");
            serde_json::from_str::<Value>(&text_of(&server, &of).await).unwrap()
        };
        let history = stored("performance_history").await;
        let history = history.as_array().unwrap();
        assert_eq!(history.len() as u64, count.min(20));
        let mut seen: Vec<f64> = history.iter().map(|entry| entry["metrics"]["accuracy"].as_f64().unwrap()).collect();
        assert_eq!(json!({"accuracy": seen.last()}), stored("performance_metrics").await);
        seen.sort_by(f64::total_cmp);
        seen.dedup();
        assert_eq!(seen.len(), history.len(), "each is there once: {history:?}");
        let day = server.get(&at(&format!("profiles/{agent}/timeseries?metric=accuracy&resolution=day"))).await.ok();
        assert_eq!(day["points"][0]["count"], count, "{day}");
    }
}

#[tokio::test]
async fn a_summary_honours_period_and_metric() {
    let server = TestApp::start().await;
    for (agent, accuracy) in [("a", 85), ("b", 65), ("c", 45), ("d", 5)] {
        create(&server, agent, json!({"accuracy": accuracy})).await;
    }
    server.clock().advance(std::time::Duration::from_secs(30 * 3600));
    report(&server, "b", json!({"recall": 65})).await.ok();
    let summary = async |query: &str| server.get(&at(&format!("analytics/performance-summary?{query}"))).await.ok();
    let all = summary("period=7d").await;
    assert_eq!(
        all["performance_distribution"],
        json!({"excellent": 1, "good": 1, "average": 1, "below_average": 1}),
        "{all}"
    );
    assert!((all["average_score"].as_f64().unwrap() - 50.0).abs() < 1e-9, "{all}");
    let top: Vec<&str> = all["top_performers"].as_array().unwrap().iter().map(|row| row.text("agent_id")).collect();
    assert_eq!(top, ["a", "b", "c", "d"]);
    let last_day = summary("period=24h").await;
    assert_eq!(last_day["total_agents"], 1, "{last_day}");
    assert_eq!(summary("period=24h&metric=recall").await["average_score"], 65.0);
    assert_eq!(summary("metric=accuracy").await["total_agents"], 4);
    let none = summary("metric=unheard").await;
    assert_eq!((&none["average_score"], &none["total_agents"]), (&Value::Null, &json!(0)));
    assert!(none["reasons"].get("average_score").is_some());
    let page = summary("limit=1&offset=1").await;
    assert_eq!(page["top_performers"][0]["agent_id"], "b", "{page}");
    assert_eq!(page["top_performers"].as_array().unwrap().len(), 1);
}

/// Store values of a metric of an agent, so many hours ago each.
async fn store_points(server: &ApiClient, agent: &str, metric: &str, values: &[(i64, f64)]) {
    let now = chrono::DateTime::parse_from_rfc3339(profile(server, agent).await.text("created_at")).unwrap();
    let rows: Vec<String> = values
        .iter()
        .map(|(hours, value)| {
            let then = (now - chrono::Duration::hours(*hours)).format("%Y-%m-%d %H:%M:%S%.6f");
            format!("('{agent}', '{metric}', {value:?}, '{then}')")
        })
        .collect();
    let insert = "INSERT INTO am_profile_points (agent_id, metric, value, happened_at) VALUES";
    sql(&server.database(), &format!("{insert} {}", rows.join(", "))).await;
}

#[tokio::test]
async fn a_series_has_its_values_whether_they_were_counted_or_not() {
    let server = TestApp::start().await;
    create(&server, "a", json!({})).await;
    for value in 1..=20 {
        report(&server, "a", json!({"latency": value})).await.ok();
    }
    for resolution in ["minute", "hour", "day"] {
        let path = at(&format!("profiles/a/timeseries?metric=latency&resolution={resolution}"));
        let series = server.get(&path).await.ok();
        let points = series["points"].as_array().unwrap();
        let count: i64 = points.iter().map(|point| point["count"].as_i64().unwrap()).sum();
        assert_eq!(count, 20, "{series}");
        let sum: f64 =
            points.iter().map(|point| point["mean"].as_f64().unwrap() * point["count"].as_f64().unwrap()).sum();
        assert!((sum - 210.0).abs() < 1e-6, "{series}");
    }
    let raw = server.get(&at("profiles/a/timeseries?metric=latency&resolution=raw&limit=5")).await.ok();
    assert_eq!(raw["points"].as_array().unwrap().len(), 5);
    assert!(raw["next_from"].is_string(), "{raw}");
    let csv = server.get(&at("profiles/a/timeseries?metric=latency&resolution=raw&format=csv")).await;
    assert!(csv.header("content-type").starts_with("text/csv"));
    assert_eq!(csv.text.lines().count(), 21, "{}", csv.text);
    assert!(csv.text.starts_with("at,count,mean,min,max,median,p95\n"));
    let path = at("profiles/a/timeseries?metric=latency&resolution=raw");
    let request = server.request(reqwest::Method::GET, &path).header("accept", "image/svg+xml");
    let drawn = server.answer(request).await;
    assert_eq!((drawn.status.as_u16(), drawn.header("content-type")), (200, "image/svg+xml"));
    assert!(drawn.text.starts_with("<svg") && drawn.text.contains("latency of a (raw)"), "{}", drawn.text);
}

#[tokio::test]
async fn percentiles_trends_and_changes_are_those_of_the_values_and_a_change_is_told() {
    let server = TestApp::start().await;
    create(&server, "a", json!({"speed": 1})).await;
    // 60 hours around 10, then 40 around 30, with noise that is none of chance.
    let value = |hour: i64| if hour >= 40 { 10.0 } else { 30.0 } + (hour * 7919 % 13) as f64 / 6.5;
    let values: Vec<(i64, f64)> = (1..=100).rev().map(|hour| (hour, value(hour))).collect();
    store_points(&server, "a", "speed", &values).await;
    let window = loop {
        let found = server.get(&at("analytics/a?metric=speed&from=120h")).await.ok()["metrics"][0].clone();
        if found["count"] == 101 {
            break found;
        }
        poll_interval().await;
    };
    let mut exact: Vec<f64> = values.iter().map(|(_, value)| *value).chain([1.0]).collect();
    exact.sort_by(f64::total_cmp);
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
        let wanted = exact[(share * 100.0) as usize];
        let found = window[name].as_f64().unwrap();
        assert!((found - wanted).abs() <= 0.010_001 * wanted, "{name}: {found} for {wanted}");
    }
    let trend = &window["trend"];
    let [low, slope, high] = ["low", "slope_per_hour", "high"].map(|name| trend[name].as_f64().unwrap());
    assert!(0.0 < low && low <= slope && slope <= high, "it rises: {trend}");
    let changes = window["changes"].as_array().unwrap();
    assert!(!changes.is_empty(), "{window}");
    assert!((changes[0]["before"].as_f64().unwrap() - 11.0).abs() < 1.5, "{window}");
    assert!((changes[0]["after"].as_f64().unwrap() - 31.0).abs() < 3.0, "{window}");
    let told = loop {
        let entries = server.get("/api/v1/agents/security/audit-logs?limit=50").await.ok();
        let is_told = |entry: &&Value| entry["event_data"]["action"] == "changed";
        if let Some(entry) = entries.as_array().unwrap().iter().find(is_told) {
            break entry.clone();
        }
        poll_interval().await;
    };
    assert_eq!((&told["event_data"]["agent_id"], &told["event_data"]["metric"]), (&json!("a"), &json!("speed")));
}

#[tokio::test]
async fn work_of_an_agent_is_measured_once_and_makes_its_profile() {
    let server = TestApp::start().await;
    registry::register(&server, "worker", json!({"agent_type": "own", "capabilities": ["io_bound"]})).await;
    let sub_task = json!({"task_type": "io_bound", "agent_type": "own"});
    for (number, verb) in ["result", "result", "fail"].into_iter().enumerate() {
        let plan = plans::plan(&server, json!({"name": "p", "sub_tasks": [sub_task]})).await;
        plans::execute(&server, &plan).await;
        let one = plans::has(&server, "worker", 1).await.remove(0);
        let body =
            if verb == "fail" { json!({"error": "no", "retryable": false}) } else { json!({"result": {"x": 1}}) };
        plans::report(&server, &one, verb, body).await.ok();
        let found = until(&server, "worker", |found| found["measured"]["tasks"] == number + 1).await;
        assert_eq!((&found["agent_type"], &found["owner_id"].is_string()), (&json!("own"), &true), "{found}");
    }
    let found = profile(&server, "worker").await;
    let measured = &found["measured"];
    assert_eq!((&measured["succeeded"], &measured["failed"]), (&json!(2), &json!(1)), "{found}");
    assert_eq!(measured["latency"]["count"], 2, "{found}");
    assert!((measured["success"]["mean"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    assert!(
        found["throughput"].as_f64().unwrap() > 0.0 && found["average_latency"].as_f64().unwrap() >= 0.0,
        "{found}"
    );
    let success = server.get(&at("profiles/worker/timeseries?metric=measured_success&resolution=day")).await.ok();
    let counted: i64 = success["points"].as_array().unwrap().iter().map(|point| point["count"].as_i64().unwrap()).sum();
    assert_eq!(counted, 3, "{success}");
    let server = server.restart().await;
    assert_eq!(until(&server, "worker", |_| true).await["measured"]["tasks"], 3, "nothing counts twice");
}

#[tokio::test]
async fn a_paid_request_counts_for_its_agent() {
    let server = TestApp::start().await;
    let service = marketplace::open_market(&server).await;
    let body = marketplace::request_for(&service, 20.0);
    let request = marketplace::request(&server, CLIENT, body).await;
    let agent = service.text("agent_id").to_owned();
    marketplace::pay(&server, server.key(), CLIENT, &request).await;
    let found = until(&server, &agent, |found| found["measured"]["tasks"] == 1).await;
    assert_eq!(found["measured"]["succeeded"], 1, "{found}");
    assert_eq!(found["measured"]["latency"]["count"], 1, "{found}");
}

#[tokio::test]
async fn work_counts_once_when_the_process_dies_while_it_is_counted() {
    for point in ["profiles.before_commit", "profiles.after_commit"] {
        let server = Server::builder().start().await;
        let service = marketplace::open_market(&server).await;
        let request = marketplace::request(&server, CLIENT, marketplace::request_for(&service, 20.0)).await;
        for (verb, body) in [("accept", json!({})), ("complete", json!({"results": {"n": 1}}))] {
            let path = format!("{}/requests/{}/{verb}", marketplace::MARKET, request.text("id"));
            server.post(&path, body).await.ok();
        }
        let mut doomed = server.restart_with(&[("FAILPOINTS", &format!("{point}=return"))]).await;
        let settle = doomed.url(&format!("{}/requests/{}/settle", marketplace::MARKET, request.text("id")));
        // Its answer may come before the end or not.
        let _ = doomed.client().post(settle).header("x-api-key", CLIENT).json(&json!({})).send().await;
        doomed.wait();
        let server = doomed.restart_with(&[("FAILPOINTS", "")]).await;
        let found = until(&server, service.text("agent_id"), |found| found["measured"]["tasks"] == 1).await;
        assert_eq!((&found["measured"]["succeeded"], &found["measured"]["latency"]["count"]), (&json!(1), &json!(1)));
        let waiting = "SELECT count(*) || '' FROM am_profile_feed";
        assert_eq!(text_of(&server, waiting).await, "0", "{point}");
    }
}

#[tokio::test]
async fn a_profile_that_the_coordinator_made_is_taken_in() {
    let server = TestApp::start().await;
    let columns =
        "id, profile_id, agent_id, agent_type, agent_version, overall_score, performance_metrics, adaptation_rate,
        generalization_score, cost_per_task, throughput, average_latency, created_at, updated_at, performance_notes";
    let now = "2026-05-12 14:29:30.123456";
    sql(
        &server.database(),
        &format!(
            "INSERT INTO agent_performance_profiles ({columns}) VALUES ('perf_1', 'perf_1', 'theirs', 'hermes', '1.0.0', 72.5,
                 '{{\"accuracy\": 72.5}}', 0, 0, 0, 0, 0, '{now}', '{now}', '')"
        ),
    )
    .await;
    let found = until(&server, "theirs", |found| found["ranking_position"] == 1).await;
    assert_eq!((&found["overall_score"], &found["owner_id"]), (&json!(72.5), &Value::Null), "{found}");
    get_as(&server, CLIENT, &at("profiles/theirs")).await.is(404);
    let done = report(&server, "theirs", json!({"accuracy": 80})).await.ok();
    assert_eq!(done["overall_score"], 80.0, "{done}");
}
