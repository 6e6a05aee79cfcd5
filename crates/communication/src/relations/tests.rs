//! The rule of who may write to whom, over everything that can stand between two agents.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use am_core::{ambient::IdGenerator, crypto::Signer};
use am_db::{DatabaseError, Tx};
use am_security::reputation::get_reputation;
use am_webhooks::WebhookService;

async fn open() -> (tempfile::TempDir, Database, [AgentRelations; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let settings = am_db::DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
    let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
    am_db::migrate(&db, &clock).await.unwrap();
    let ids = IdGenerator::seeded(1);
    let webhooks = WebhookService::new(db.clone(), clock.clone(), ids.clone(), &Default::default()).unwrap();
    let settings = am_audit::AuditSettings { origin: "test".to_owned(), every: Duration::from_secs(5) };
    let signer = Signer::from_hex(&"5a".repeat(32)).unwrap();
    let audit = AuditLog::new(db.clone(), clock.clone(), ids, webhooks, signer, settings);
    let relations = [false, true].map(|strict| AgentRelations::new(db.clone(), clock.clone(), audit.clone(), strict));
    (dir, db, relations)
}

/// What stands between `a`, who writes, and `b`.
#[derive(Clone, Debug)]
struct RelationModel {
    authorised: [Option<bool>; 2],
    /// b has blocked a, and the other way round.
    blocked: [bool; 2],
    /// b is a contact of a, and the other way round.
    contacts: [bool; 2],
    /// Of the coordinator, 0 to 1000; and of trust, 0 to 100.
    reputation: (Option<f64>, Option<f64>),
}

fn between() -> impl Strategy<Value = RelationModel> {
    let score = |most: f64| proptest::option::of(prop_oneof![0.0..most, Just(most / 10.0), Just(0.0)]);
    (any::<[Option<bool>; 2]>(), any::<[bool; 2]>(), any::<[bool; 2]>(), score(1000.0), score(100.0)).prop_map(
        |(authorised, blocked, contacts, coordinator, trust)| RelationModel {
            authorised,
            blocked: blocked.map(|yes| yes && contacts[0]),
            contacts,
            reputation: (coordinator, trust),
        },
    )
}

async fn set(db: &Database, all: &RelationModel) {
    let mut sql = String::from(
        "DELETE FROM am_agent_authorizations; DELETE FROM am_agent_blocks; DELETE FROM am_agent_contacts;
         DELETE FROM agent_reputation; DELETE FROM agent_trust_scores;",
    );
    let at = "'2026-05-12 14:00:00.000000'";
    for (agent, other, n) in [("a", "b", 0), ("b", "a", 1)] {
        if let Some(granted) = all.authorised[n] {
            let state = if granted { "GRANTED" } else { "REVOKED" };
            sql += &format!("INSERT INTO am_agent_authorizations VALUES ('{agent}', '{state}', NULL, 'x', {at});");
        }
        if all.blocked[1 - n] {
            sql += &format!("INSERT INTO am_agent_blocks VALUES ('{agent}', '{other}', NULL, {at});");
        }
        if all.contacts[n] {
            sql += &format!("INSERT INTO am_agent_contacts VALUES ('{agent}', '{other}', NULL, {at});");
        }
    }
    if let Some(score) = all.reputation.0 {
        sql += &format!(
            "INSERT INTO agent_reputation (id, agent_id, trust_score, reputation_level, performance_rating, reliability_score,
                 community_rating, total_earnings, transaction_count, success_rate, dispute_count, dispute_won_count,
                 jobs_completed, jobs_failed, average_response_time, uptime_percentage, geographic_region, created_at,
                 updated_at, last_activity)
             VALUES ('r', 'a', {score:?}, 'BEGINNER', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', {at}, {at}, {at});"
        );
    }
    if let Some(score) = all.reputation.1 {
        sql += &format!(
            "INSERT INTO agent_trust_scores (id, entity_type, entity_id, trust_score, reputation_score, total_executions,
                 successful_executions, failed_executions, verification_success_rate, security_violations,
                 policy_violations, sandbox_breaches, created_at, updated_at)
             VALUES ('t', 'agent', 'a', 50, {score:?}, 0, 0, 0, 0, 0, 0, 0, {at}, {at});"
        );
    }
    let work = async move |tx: &mut Tx| {
        sqlx_all(tx, sql).await?;
        Ok::<_, DatabaseError>(())
    };
    db.write(work).await.unwrap();
}

async fn sqlx_all(tx: &mut Tx, sql: String) -> am_db::Result<()> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(tx.conn().await?).await?;
    Ok(())
}

/// The contract's rule, in words of its own.
fn expected(all: &RelationModel, strict: bool) -> Option<&'static str> {
    let fine = |state: Option<bool>| state.unwrap_or(!strict);
    let score = all.reputation.0.map(|score| score * 10.0).or(all.reputation.1.map(|score| score * 100.0));
    if !fine(all.authorised[0]) || !fine(all.authorised[1]) {
        Some("not_authorised")
    } else if all.blocked != [false, false] {
        Some("blocked")
    } else if all.contacts != [false, false] || score.unwrap_or(5000.0) >= 1000.0 {
        None
    } else {
        Some("reputation")
    }
}

#[test]
fn whatever_stands_between_two_agents_the_contracts_rule_holds() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_dir, db, both) = runtime.block_on(open());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(all in between())| {
        runtime.block_on(set(&db, &all));
        for (relations, strict) in both.iter().zip([false, true]) {
            let verdict = runtime.block_on(relations.verdict(&"a".into(), &"b".into())).unwrap();
            let reason = verdict.refusal.map(|refusal| serde_json::to_value(refusal).unwrap()["reason"].clone());
            let reason = reason.as_ref().and_then(|reason| reason.as_str());
            prop_assert_eq!(reason, expected(&all, strict), "{:?}", all);
            prop_assert_eq!(verdict.allowed, reason.is_none());
        }
    });
}

#[tokio::test]
async fn a_database_without_the_coordinators_table_is_one_where_it_says_nothing() {
    let (_dir, db, [relations, _]) = open().await;
    let work = async move |tx: &mut Tx| {
        sqlx_all(tx, "DROP TABLE reputation_events; DROP TABLE agent_reputation".to_owned()).await?;
        Ok::<_, DatabaseError>(())
    };
    db.write(work).await.unwrap();
    assert!(relations.verdict(&"a".into(), &"b".into()).await.unwrap().allowed);
    let found = get_reputation(&mut db.read().await.unwrap(), &"a".into()).await.unwrap();
    assert_eq!(found.reputation, 5000.0);
}
