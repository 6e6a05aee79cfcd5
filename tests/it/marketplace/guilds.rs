//! Guilds: who joins, who decides, and the treasury.

use serde_json::json;

use super::*;
use crate::{
    harness::TestApp,
    kit::{locations, sql},
};

async fn reputation(server: &ApiClient, agent: &str, of_ten_thousand: f64) {
    let row = format!(
        "PRAGMA foreign_keys = OFF; INSERT INTO agent_reputation (id, agent_id, trust_score, reputation_level, performance_rating, reliability_score,
         community_rating, total_earnings, transaction_count, success_rate, dispute_count, dispute_won_count, jobs_completed, jobs_failed,
         average_response_time, uptime_percentage, geographic_region, created_at, updated_at, last_activity)
         VALUES ('rep_{agent}', '{agent}', {}, 'BEGINNER', 3, 50, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '2026-05-12 14:29:30.123456',
         '2026-05-12 14:29:30.123456', '2026-05-12 14:29:30.123456')",
        of_ten_thousand / 10.0
    );
    sql(&server.database(), &row).await;
}

#[tokio::test]
async fn guild_shares_reputation_work_and_income() {
    let server = TestApp::start().await;
    fund(&server, CLIENT, 100.0).await;
    let guild = found_guild(&server, "founder").await;
    let path = format!("/guilds/{}", guild.text("id"));
    assert_eq!(
        (&guild["reputation"], &guild["members"], &guild["contribution_percent"]),
        (&json!(5000.0), &json!(1), &json!(10.0))
    );
    for (name, score) in [("weak", 2499.0), ("able", 2500.0)] {
        agent(&server, ADMIN, name).await;
        reputation(&server, name, score).await;
    }
    let join =
        async |name: &str| post_as(&server, ADMIN, &format!("{MARKET}{path}/members"), json!({"agent_id": name})).await;
    assert_eq!(locations(&join("weak").await.is(422)), [json!(["body", "agent_id"])]);
    assert_eq!(join("able").await.is(201)["role"], "member");
    assert_eq!(join("able").await.is(409)["code"], "conflict");
    assert_eq!(get(&server, CLIENT, &path).await.ok()["reputation"], 3750.0);

    // A member does the work of the guild's service, and its guild gets a tenth after the fee.
    let service = offer(&server, OTHER_ADMIN, "founder", json!({"guild_id": guild["id"]})).await;
    let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
    let accepted = act(&server, ADMIN, &made, "accept", json!({"agent_id": "able"})).await.ok();
    assert_eq!((&accepted["agent_id"], &accepted["guild_id"]), (&json!("able"), &guild["id"]));
    act(&server, ADMIN, &made, "complete", json!({"results": 1})).await.ok();
    let settled = act(&server, CLIENT, &made, "settle", json!({})).await.ok();
    // 2 × (1 + 2500 / 10000 × 0.5) = 2.25; 0.05625 is the fee, a tenth of the rest the guild's.
    assert_eq!((&settled["paid"], &settled["fee"]), (&json!(2.25), &json!(0.05625)));
    assert_eq!(get(&server, CLIENT, &path).await.ok()["treasury"], 0.219375);
    check_books(&server).await;

    let pay = async |key: &str, amount: Value| {
        post_as(&server, key, &format!("{MARKET}{path}/payouts"), json!({"agent_id": "able", "amount": amount})).await
    };
    pay(CLIENT, json!(0.1)).await.is(403);
    assert_eq!(pay(OTHER_ADMIN, json!(1)).await.is(409)["code"], "insufficient_funds");
    let paid = pay(OTHER_ADMIN, json!("0.2")).await.is(201);
    assert_eq!(paid["treasury"], 0.019375);
    check_books(&server).await;

    let member = format!("{path}/members/able");
    patch(&server, CLIENT, &member, json!({"role": "leader"})).await.is(403);
    patch(&server, OTHER_ADMIN, &format!("{path}/members/founder"), json!({"role": "member"})).await.is(409);
    assert_eq!(patch(&server, OTHER_ADMIN, &member, json!({"role": "leader"})).await.ok()["role"], "leader");
    let members = get(&server, CLIENT, &format!("{path}/members")).await.ok();
    let roles: Vec<(&str, &str)> =
        members.as_array().unwrap().iter().map(|member| (member.text("agent_id"), member.text("role"))).collect();
    assert_eq!(roles, [("able", "leader"), ("founder", "officer")]);
    let leave = async |key: &str, name: &str| {
        ask(&server, Some(key), Method::DELETE, &format!("{MARKET}{path}/members/{name}"), None).await
    };
    leave(ADMIN, "able").await.is(409);
    assert_eq!(leave(OTHER_ADMIN, "founder").await.status, 204);
    leave(ADMIN, "able").await.is(409);
    assert_eq!(get(&server, CLIENT, &path).await.ok()["members"], 1, "the treasury is not left behind");
}
