//! Entries that are posted without a look: the database refuses what a look would have refused.

use super::{books::transfer, *};
use am_db::bulk_insert::RowBatch;

/// Transfers that are posted at once.
const TOGETHER: i64 = 40;

/// Post without a look.
async fn post_blindly(books: &LedgerTestBooks, entries: &[NewEntry]) -> std::result::Result<(), DatabaseError> {
    let mut rows = RowBatch::default();
    books.ledger.add_guarded_rows(&mut rows, entries).unwrap();
    books.db.insert(rows, || {}).await
}

#[tokio::test]
async fn guarded_entries_are_those_that_a_look_would_post() {
    let books = open().await;
    books.post(deposit("a", 100)).await.unwrap();
    let keyed = |units: i64| transfer("a", "b", units).once("key");
    post_blindly(&books, &[keyed(30), transfer("b", "c", 10)]).await.unwrap();
    assert_eq!((books.balance(&wallet("a")).await.0, books.balance(&wallet("b")).await.0), (70, 20));
    // Nothing of the first entry is left where the second one fails.
    for refused in [
        vec![transfer("a", "c", 5), keyed(1)],
        vec![transfer("a", "c", 5), transfer("b", "a", 21)],
        vec![transfer("nobody", "a", 1)],
    ] {
        assert!(post_blindly(&books, &refused).await.is_err(), "{refused:?}");
    }
    books.hold(wallet("a"), 60, None).await.unwrap();
    assert!(post_blindly(&books, &[transfer("a", "b", 11)]).await.is_err(), "held");
    post_blindly(&books, &[transfer("a", "b", 10)]).await.unwrap();
    assert!(books.ledger.add_guarded_rows(&mut RowBatch::default(), &[transfer("a", "a", 1)]).is_err());
    post_blindly(&books, &[transfer("a", "b", 0), transfer("b", "c", 1)]).await.unwrap();
    let report = books.verify().await;
    assert!(report.valid, "{report:?}");
    assert_eq!((report.entries, report.lines), (5, 10));
}

#[tokio::test]
async fn of_those_posted_at_once_as_many_fit_as_there_is_money_for() {
    let books = Arc::new(open().await);
    let fitting = TOGETHER / 4;
    books.post(deposit("a", fitting * 7)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..TOGETHER {
        let books = books.clone();
        tasks.spawn(async move {
            let to = format!("b{}", number % 3);
            post_blindly(&books, &[transfer("a", &to, 7).once(format!("once-{number}"))]).await.is_ok()
        });
    }
    let good = tasks.join_all().await.into_iter().filter(|good| *good).count();
    assert_eq!(good as i64, fitting);
    assert_eq!(books.balance(&wallet("a")).await.0, 0);
    let report = books.verify().await;
    assert!(report.valid, "{report:?}");
}

#[tokio::test]
async fn what_a_subject_reserves_is_settled_and_released_by_rows() {
    let books = open().await;
    let reserved = async |id: &str| -> i64 {
        let mut conn = books.db.read().await.unwrap();
        let sum = "SELECT coalesce(sum(amount), 0) FROM am_ledger_reservations WHERE execution_id = $1";
        sqlx::query_scalar(sum).bind(id.to_owned()).fetch_one(&mut *conn).await.unwrap()
    };
    let rows = "INSERT INTO am_ledger_reservations (execution_id, budget_id, amount, created_at)
        VALUES ('one', 'b1', 10, 'x'), ('one', 'b2', 4, 'x'), ('two', 'b1', 20, 'x'), ('three', 'b1', 30, 'x')";
    books.run(rows).await.unwrap();
    let mut rows = RowBatch::default();
    books.ledger.add_settled_rows(&mut rows, "one", Money::from_units(6));
    books.ledger.add_settled_rows(&mut rows, "two", Money::from_units(5));
    books.ledger.add_settled_rows(&mut rows, "nobody", Money::from_units(5));
    books.ledger.add_released_rows(&mut rows, "three");
    assert_eq!(rows.statement_count(), 2);
    books.db.insert(rows, || {}).await.unwrap();
    assert_eq!((reserved("one").await, reserved("two").await, reserved("three").await), (4, 15, 0));
}
