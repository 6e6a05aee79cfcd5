//! Times of events, which are taken before the write lock.

use am_core::ambient::Clock;
use am_db::{Tx, codec::Timestamp};
use am_events::{StreamEvent, append_events, read_events};
use serde_json::json;

use crate::kit::migrated_database;

#[tokio::test]
async fn times_within_a_stream_do_not_run_back() {
    let dir = tempfile::tempdir().unwrap();
    let db = migrated_database(&dir.path().join("t.db")).await;
    let begun = Clock::system().now();
    let at = move |ms: i64| Timestamp(begun + chrono::Duration::milliseconds(ms));
    let event = move |seq: i64, ms: i64| StreamEvent { seq, kind: "x".to_owned(), at: at(ms), data: json!({}) };
    // Those who append took their time before the write lock.
    for (stream, events) in [
        ("a", vec![event(1, 9), event(2, 4)]),
        ("a", vec![event(3, 5)]),
        ("b", vec![event(1, 2)]),
        ("a", vec![event(4, 20), event(5, 12)]),
    ] {
        db.write(async move |tx: &mut Tx| append_events(tx, stream, &events).await).await.unwrap();
    }
    let mut conn = db.read().await.unwrap();
    let times = |events: Vec<StreamEvent>| events.into_iter().map(|event| event.at).collect::<Vec<_>>();
    let found = read_events(&mut conn, "a", 0, 10).await.unwrap();
    assert_eq!(times(found), [at(9), at(9), at(9), at(20), at(20)]);
    assert_eq!(times(read_events(&mut conn, "b", 0, 10).await.unwrap()), [at(2)]);
}
