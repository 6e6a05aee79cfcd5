//! The engine's own server, composed as its binary composes it, on a free port.
use std::path::Path;

use anyhow::{bail, Result};
use assay_engine::{
    config::EngineConfig,
    embedded::{self, EmbeddedPool},
};
use sqlx::{Connection, SqliteConnection, SqlitePool};
use tokio::io::AsyncReadExt;

/// The key of the worker and the callers.
pub const KEY: &str = "assay-peer-0123456789abcdef";

/// The configuration file of an engine that keeps its files in a directory.
pub fn config(place: &Path) -> String {
    format!(
        "[server]\nbind_addr = \"127.0.0.1:0\"\n\n[backend]\ntype = \"sqlite\"\ndata_dir = \"{}\"\n\n[auth]\nadmin_api_keys = [\"{KEY}\"]\n\n[dashboard]\nenabled = false\n",
        place.join("data").display()
    )
}

/// The journal mode and the synchronous setting in effect on the engine's only connection. It leaves both as SQLite has them;
/// the journal mode is a property of the file, so that it can be chosen here.
async fn settings(pool: &SqlitePool, wal: bool) -> Result<String> {
    let mut seen = Vec::new();
    for file in ["workflow", "engine"] {
        if wal {
            sqlx::query(&format!("PRAGMA {file}.journal_mode = WAL")).execute(pool).await?;
        }
        let mode: String = sqlx::query_scalar(&format!("PRAGMA {file}.journal_mode")).fetch_one(pool).await?;
        let level: i64 = sqlx::query_scalar(&format!("PRAGMA {file}.synchronous")).fetch_one(pool).await?;
        seen.push(format!("journal_mode={mode} synchronous={}", ["off", "normal", "full", "extra"][level as usize]));
    }
    seen.dedup();
    if seen.len() != 1 {
        bail!("the files differ: {seen:?}");
    }
    Ok(seen.remove(0))
}

/// Prints its address and its settings, and serves until its standard input ends.
pub async fn serve(config: &str, wal: bool) -> Result<()> {
    let built = embedded::build(EngineConfig::from_file(Path::new(config))?).await?;
    let EmbeddedPool::Sqlite(pool) = &built.pool else { bail!("not SQLite") };
    let settings = settings(pool, wal).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}\n{settings}", listener.local_addr()?);
    let mut input = tokio::io::stdin();
    tokio::select! {
        ended = axum::serve(listener, built.router) => ended?,
        _ = input.read_u8() => {}
    }
    Ok(())
}

/// How many workflows and how many activities a stopped engine's file holds as completed.
pub async fn stored(place: &Path) -> Result<(i64, i64)> {
    let mut file = SqliteConnection::connect(&format!("sqlite:{}", place.join("data/workflow.db").display())).await?;
    let counts = sqlx::query_as(
        "SELECT (SELECT count(*) FROM workflows WHERE status = 'COMPLETED'), (SELECT count(*) FROM activities WHERE status = 'COMPLETED')",
    );
    Ok(counts.fetch_one(&mut file).await?)
}
