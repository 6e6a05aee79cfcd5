//! Budgets: what begins, waits and is refused.

use super::*;
use am_core::ids::{BudgetId, ExecutionId};
use am_db::page::PageRequest;

async fn make(books: &LedgerTestBooks, period: BudgetPeriod, on_exceed: ExceedAction, units: i64) -> Budget {
    let draft = BudgetDraft {
        name: format!("{period} {on_exceed}"),
        scope: BudgetScope::Principal,
        subject: None,
        principal: "p".into(),
        limit: Money::from_units(units).into(),
        period,
        on_exceed,
    };
    books.ledger.create_budget(&principal("p"), draft, None).await.unwrap().value
}

async fn admit(books: &LedgerTestBooks, execution: &str, bound: Option<i64>) -> Result<Admission> {
    let ledger = books.ledger.clone();
    let request = SpendingRequest {
        execution: execution.into(),
        principal: "p".into(),
        workflow: "w".into(),
        bound: bound.map(Money::from_units),
    };
    books.db.write(async move |tx: &mut Tx| ledger.admit(tx, &request).await).await
}

/// Post what an execution costs, and end it.
async fn cost(books: &LedgerTestBooks, execution: &str, units: i64) {
    let (ledger, execution) = (books.ledger.clone(), ExecutionId::from(execution));
    let work = async move |tx: &mut Tx| {
        ledger.post(tx, spending("p", "w", units)).await?;
        ledger.settle_reservation(tx, &execution, Money::from_units(units)).await?;
        ledger.release_reservation(tx, &execution).await
    };
    books.db.write(work).await.unwrap();
}

async fn state(books: &LedgerTestBooks, id: &BudgetId) -> (i64, i64, i64, i64) {
    let found = books.ledger.budget(&principal("p"), false, id).await.unwrap().state;
    (found.spent.units(), found.reserved.units(), found.remaining.units(), found.waiting)
}

#[tokio::test]
async fn ten_thousand_starts_at_once_do_not_exceed_a_budget_by_one_unit() {
    let books = Arc::new(open().await);
    let budget = make(&books, BudgetPeriod::Day, ExceedAction::Refuse, 10_000).await;
    // Whoever exceeds it, if only for a moment, fails.
    let guard = "CREATE TRIGGER exceeded AFTER INSERT ON am_ledger_reservations BEGIN
        SELECT RAISE(ABORT, 'exceeded') WHERE (SELECT reserved FROM am_ledger_budgets)
            + (SELECT coalesce(sum(amount), 0) FROM am_ledger_spending WHERE dimension = 'principal') > 10000; END";
    books.run(guard).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..10_000 {
        let books = books.clone();
        tasks.spawn(async move {
            let id = format!("exec_{number}");
            match admit(&books, &id, Some(7)).await {
                Ok(begun) => assert_eq!(begun, Admission::Reserved { ceiling: Some(Money::from_units(7)) }),
                Err(LedgerError::BudgetExceeded { .. }) => return (0, 0),
                Err(error) => panic!("{error}"),
            }
            // Some cost less than they reserved, at once.
            let costs = number % 3 == 0;
            if costs {
                cost(&books, &id, 3).await;
            }
            (1, i64::from(costs))
        });
    }
    let ends = tasks.join_all().await;
    let (begun, ended): (i64, i64) = ends.into_iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let (spent, reserved, remaining, _) = state(&books, &budget.id).await;
    assert_eq!((spent, reserved), (3 * ended, 7 * (begun - ended)));
    assert!(remaining >= 0 && begun >= 10_000 / 7, "{begun} began, {remaining} are left");
    assert!(books.verify().await.valid);
}

#[tokio::test]
async fn what_has_no_bound_gets_what_is_left() {
    let books = open().await;
    assert_eq!(admit(&books, "exec_0", Some(1)).await.unwrap(), Admission::Unbound);
    books.post(spending("p", "w", 30)).await.unwrap();
    let budget = make(&books, BudgetPeriod::Month, ExceedAction::Refuse, 100).await;
    assert_eq!(state(&books, &budget.id).await, (30, 0, 70, 0), "what was spent before counts");
    let ceiling = Some(Money::from_units(70));
    assert_eq!(admit(&books, "exec_1", None).await.unwrap(), Admission::Reserved { ceiling });
    assert!(matches!(admit(&books, "exec_2", None).await, Err(LedgerError::BudgetExceeded { .. })));
    assert!(matches!(admit(&books, "exec_2", Some(1)).await, Err(LedgerError::BudgetExceeded { .. })));
    let free = Admission::Reserved { ceiling: Some(Money::ZERO) };
    assert_eq!(admit(&books, "exec_3", Some(0)).await.unwrap(), free, "what costs nothing is let in");
    cost(&books, "exec_1", 20).await;
    assert_eq!(state(&books, &budget.id).await, (50, 0, 50, 0));
    books.pass(31 * 86_400);
    assert_eq!(state(&books, &budget.id).await, (0, 0, 100, 0), "it begins anew");
}

#[tokio::test]
async fn who_waits_is_let_in_when_the_period_ends_or_the_limit_rises() {
    let books = open().await;
    let budget = make(&books, BudgetPeriod::Hour, ExceedAction::Pause, 10).await;
    admit(&books, "exec_1", Some(8)).await.unwrap();
    let waiting = Admission::Waiting(budget.id.clone());
    for (id, units) in [("exec_2", 5), ("exec_3", 4)] {
        assert_eq!(admit(&books, id, Some(units)).await.unwrap(), waiting);
        books.pass(1);
    }
    let never = admit(&books, "exec_4", Some(11)).await;
    assert!(matches!(never, Err(LedgerError::BudgetExceeded { .. })), "it would wait for ever: {never:?}");
    assert_eq!(state(&books, &budget.id).await, (0, 8, 2, 2));
    assert_eq!(books.ledger.waiting_executions().await.unwrap(), Vec::<ExecutionId>::new());

    let change = BudgetChange { limit: Some(Money::from_units(13).into()), ..BudgetChange::default() };
    books.ledger.update_budget(&principal("p"), false, &budget.id, change).await.unwrap();
    let mut ids = books.ledger.waiting_executions().await.unwrap();
    assert_eq!(ids.remove(0).as_str(), "exec_2", "the one that has waited longest");
    let again = async |id: &str| {
        let (ledger, id) = (books.ledger.clone(), ExecutionId::from(id));
        books.db.write(async move |tx: &mut Tx| ledger.admit_waiting(tx, &id).await).await.unwrap()
    };
    let ceiling = Some(Money::from_units(5));
    assert_eq!(again("exec_2").await, Some(Admission::Reserved { ceiling }));
    assert_eq!(again("exec_2").await, None);
    assert_eq!(again("exec_3").await, Some(waiting));
    let wait = books.ledger.wait_of(&mut books.db.read().await.unwrap(), &"exec_3".into()).await.unwrap().unwrap();
    assert_eq!((wait.name.as_str(), wait.until.is_some()), ("hour pause", true));
    cost(&books, "exec_1", 8).await;
    cost(&books, "exec_2", 5).await;
    assert!(books.ledger.waiting_executions().await.unwrap().is_empty());
    books.pass(3600);
    assert_eq!(books.ledger.waiting_executions().await.unwrap(), [ExecutionId::from("exec_3")]);
    books.ledger.delete_budget(&principal("p"), false, &budget.id).await.unwrap();
    assert_eq!(again("exec_3").await, Some(Admission::Unbound));
    assert!(books.verify().await.valid);
}

#[tokio::test]
async fn a_budget_without_a_period_sums_the_past_once() {
    let books = open().await;
    let budget = make(&books, BudgetPeriod::Total, ExceedAction::Notify, 100).await;
    for _ in 0..4 {
        books.post(spending("p", "w", 20)).await.unwrap();
        books.pass(5 * 86_400);
        admit(&books, "exec_1", Some(1)).await.unwrap();
        books
            .db
            .write({
                let ledger = books.ledger.clone();
                async move |tx: &mut Tx| ledger.release_reservation(tx, &"exec_1".into()).await
            })
            .await
            .unwrap();
    }
    assert_eq!(state(&books, &budget.id).await, (80, 0, 20, 0));
    let over = Admission::Reserved { ceiling: None };
    assert_eq!(admit(&books, "exec_2", Some(50)).await.unwrap(), over, "it only tells");
    let known = books.ledger.budget(&principal("q"), false, &budget.id).await;
    assert!(matches!(known, Err(LedgerError::NotFound(_))), "another's budget is not there");
    let (listed, total) =
        books.ledger.list_budgets(None, &PageRequest { limit: 5, ..Default::default() }).await.unwrap();
    assert_eq!((listed.len(), total), (1, 1));
    let twice = BudgetDraft {
        name: budget.name,
        scope: BudgetScope::Principal,
        subject: None,
        principal: "p".into(),
        limit: Money::ZERO.into(),
        period: BudgetPeriod::Day,
        on_exceed: ExceedAction::Refuse,
    };
    let made = books.ledger.create_budget(&principal("p"), twice, None).await;
    assert!(matches!(made, Err(LedgerError::NameTaken(_))));
}
