//! When the service is ready.

use crate::http::Readiness;
use am_db::Database;
use am_orchestration::{engine::Engine, jq};

/// The database answers and is migrated, the engine runs, and the jq workers keep up.
pub(super) fn readiness(db: &Database, engine: &Engine, jq: &jq::Pool) -> Readiness {
    let (reads, migrated, engine, jq) = (db.clone(), db.clone(), engine.clone(), jq.clone());
    Readiness::builder()
        .check("database", move || {
            let db = reads.clone();
            async move { db.ping().await.map_err(|error| error.to_string()) }
        })
        .check("migrations", move || {
            let db = migrated.clone();
            async move {
                let mut conn = db.read().await.map_err(|error| error.to_string())?;
                am_db::check(&mut conn).await.map_err(|error| error.to_string())
            }
        })
        .check("workers", move || {
            let (running, waiting) = (engine.is_running(), jq.stats().waiting());
            async move {
                match running {
                    true if waiting < 10_000 => Ok(()),
                    true => Err(format!("{waiting} jq evaluations are waiting")),
                    false => Err("the engine is not running".to_owned()),
                }
            }
        })
        .build()
}
