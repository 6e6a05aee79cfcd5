//! Tests of the writer.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::{Database, DatabaseSettings};

async fn open() -> (tempfile::TempDir, Database) {
    let dir = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings { readers: 2, busy_timeout: Duration::from_millis(200) };
    let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
    db.write(async |tx: &mut Tx| {
        sqlx::query("CREATE TABLE t (n INTEGER PRIMARY KEY)").execute(tx.conn().await?).await?;
        Ok::<_, DatabaseError>(())
    })
    .await
    .unwrap();
    (dir, db)
}

async fn put(db: &Database, n: i64) -> Result<()> {
    db.write(async move |tx: &mut Tx| {
        sqlx::query("INSERT INTO t (n) VALUES (?1)").bind(n).execute(tx.conn().await?).await?;
        Ok(())
    })
    .await
}

async fn count(db: &Database) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *db.read().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_failing_piece_undoes_itself_alone() {
    let (_dir, db) = open().await;
    let hooks = Arc::new(AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (db, hooks) = (db.clone(), hooks.clone());
        tasks.spawn(async move {
            db.write(async move |tx: &mut Tx| {
                sqlx::query("INSERT INTO t (n) VALUES (?1)").bind(n).execute(tx.conn().await?).await?;
                tx.after_commit(move || {
                    hooks.fetch_add(1, Ordering::Relaxed);
                });
                match n % 5 {
                    0 => Err(DatabaseError::SchemaMismatch("on purpose".into())),
                    1 if n == 11 => panic!("on purpose"),
                    _ => Ok(n),
                }
            })
            .await
        });
    }
    let results: Vec<Result<i64>> = tasks.join_all().await;
    let good = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(good, 159, "40 refused, one panicked");
    assert_eq!(results.iter().filter(|result| matches!(result, Err(DatabaseError::WritePanicked))).count(), 1);
    assert_eq!(count(&db).await, 159);
    assert_eq!(hooks.load(Ordering::Relaxed), 159, "a hook runs for what is durable only");
}

#[tokio::test]
async fn a_duplicate_is_told_apart() {
    let (_dir, db) = open().await;
    put(&db, 1).await.unwrap();
    assert!(matches!(put(&db, 1).await, Err(DatabaseError::Duplicate(_))));
    put(&db, 2).await.unwrap();
}

#[tokio::test]
async fn a_lock_held_elsewhere_is_waited_for_and_then_answered_busy() {
    let (dir, db) = open().await;
    let mut other = super::super::connect::open_write_connection(&dir.path().join("t.db")).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    assert!(matches!(put(&db, 1).await, Err(DatabaseError::Busy)));
    let waiting = tokio::spawn({
        let db = db.clone();
        async move { put(&db, 2).await }
    });
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(count(&db).await, 1);
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_more() {
    let (_dir, db) = open().await;
    let queued = tokio::spawn({
        let db = db.clone();
        async move { put(&db, 7).await }
    });
    queued.await.unwrap().unwrap();
    assert_eq!(count(&db).await, 1);
    db.close().await;
    assert!(matches!(put(&db, 8).await, Err(DatabaseError::WriterStopped)));
}
