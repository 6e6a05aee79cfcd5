//! Readiness checks of the service.

use crate::http::Readiness;
use am_audit::AuditLog;
use am_core::supervisor::Supervisor;
use am_db::{Database, kept_list::UnfinishedList};
use am_orchestration::{engine::Engine, jq};

/// What is said of lists that are being made, without which the service is slower and no less ready.
fn lists_notice(lists: &[UnfinishedList]) -> Option<String> {
    let parts: Vec<String> = lists.iter().map(|list| format!("{} {} %", list.name, list.percent)).collect();
    (!parts.is_empty()).then(|| format!("lists are being made, and pages are slow until then: {}", parts.join(", ")))
}

/// The database answers and is migrated, the coordinator's tables in it fit, the background tasks run, the jq workers keep up, and the audit log continues what
/// was signed.
pub(super) fn build_readiness(
    db: &Database,
    engine: &Engine,
    jq: &jq::JqPool,
    audit: &AuditLog,
    supervisor: &Supervisor,
) -> Readiness {
    let audit = audit.clone();
    let (reads, migrated, shared, lists) = (db.clone(), db.clone(), db.clone(), db.clone());
    let (engine, jq) = (engine.clone(), jq.clone());
    let supervisor = supervisor.clone();
    Readiness::builder()
        .check("database", move || {
            let db = reads.clone();
            async move { db.ping().await.map_err(|error| error.to_string()) }
        })
        .check("migrations", move || {
            let db = migrated.clone();
            async move {
                let mut conn = db.read_vital().await.map_err(|error| error.to_string())?;
                am_db::check_schema(&mut conn).await.map_err(|error| error.to_string())
            }
        })
        .check_with_notice("coordinator_tables", move || {
            let db = shared.clone();
            async move {
                let report = db.coordinator_report().await.map_err(|error| error.to_string())?;
                report.accept().map_err(|error| error.to_string())?;
                Ok((!report.notices.is_empty()).then(|| report.notices.join("; ")))
            }
        })
        .check_with_notice("lists", move || {
            let notice = lists_notice(&lists.unfinished_lists());
            async move { Ok(notice) }
        })
        .check("audit_log", move || {
            let refusal = audit.refusal();
            async move { refusal.map_or(Ok(()), Err) }
        })
        .check("workers", move || {
            let (failure, running) = (supervisor.failure(), engine.is_running());
            let waiting = jq.stats().waiting();
            async move {
                if let Some(failure) = failure {
                    return Err(failure.to_string());
                }
                match running {
                    true if waiting < 10_000 => Ok(()),
                    true => Err(format!("{waiting} jq evaluations are waiting")),
                    false => Err("the engine is not running".to_owned()),
                }
            }
        })
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_made_are_named_with_how_far_they_are() {
        let list = |name, percent| UnfinishedList { name, percent };
        assert_eq!(lists_notice(&[]), None);
        let told = lists_notice(&[list("jobs", 42), list("trust_scores", 0)]).unwrap();
        assert!(told.ends_with(": jobs 42 %, trust_scores 0 %"), "{told}");
    }
}
