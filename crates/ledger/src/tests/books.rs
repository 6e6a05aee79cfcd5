//! What the books say after each kind of operation.

use super::*;
use am_db::bulk_insert::RowBatch;

pub(super) fn transfer(from: &str, to: &str, units: i64) -> NewEntry {
    NewEntry::new(EntryKind::Transfer).moving(wallet(from), wallet(to), Money::from_units(units))
}

#[tokio::test]
async fn an_entry_moves_what_it_says_and_no_account_goes_below_zero() {
    let books = open().await;
    let posted = books.post(deposit("a", 100)).await.unwrap().unwrap();
    assert!(!posted.replayed);
    let fee = AccountKey::ait(AccountOwner::System, AccountPurpose::Fees);
    books.post(transfer("a", "b", 30).fee(wallet("a"), fee.clone(), Money::from_units(2))).await.unwrap();
    assert_eq!(books.balance(&wallet("a")).await, (68, 0));
    assert_eq!(books.balance(&wallet("b")).await, (30, 0));
    assert_eq!(books.balance(&fee).await, (2, 0));
    let refused = books.post(transfer("a", "b", 69)).await;
    assert!(matches!(refused, Err(LedgerError::InsufficientFunds { available, .. }) if available.units() == 68));
    let twice = transfer("a", "b", 60).moving(wallet("a"), wallet("c"), Money::from_units(9));
    assert!(matches!(books.post(twice).await, Err(LedgerError::InsufficientFunds { .. })));
    assert_eq!(books.balance(&wallet("a")).await, (68, 0));
    assert_eq!(books.balance(&wallet("c")).await, (0, 0));
    assert!(books.post(transfer("a", "b", 0)).await.unwrap().is_none());
    let report = books.verify().await;
    assert!(report.valid, "{report:?}");
    assert_eq!((report.accounts, report.entries, report.lines), (4, 2, 6));
    assert_eq!(report.assets, [AssetTotal { asset: "AIT".into(), accounts: 4, total: Money::ZERO }]);
}

#[tokio::test]
async fn a_key_posts_once_and_an_entry_is_reversed_once() {
    let books = open().await;
    let first = books.post(deposit("a", 100).once("k")).await.unwrap().unwrap();
    let again = books.post(deposit("a", 100).once("k")).await.unwrap().unwrap();
    assert_eq!((again.id.clone(), again.replayed), (first.id.clone(), true));
    let ledger = books.ledger.clone();
    let both = vec![deposit("a", 1).once("j"), deposit("a", 1).once("j")];
    let posted = books.db.write(async move |tx: &mut Tx| ledger.post_all(tx, both).await).await.unwrap();
    assert_eq!((posted[0].replayed, posted[1].replayed), (false, true));
    assert_eq!(books.balance(&wallet("a")).await, (101, 0));

    let reverse = async |id: &am_core::ids::LedgerEntryId| {
        let (ledger, id) = (books.ledger.clone(), id.clone());
        books.db.write(async move |tx: &mut Tx| ledger.reverse(tx, &id, Some("wrong".into())).await).await
    };
    let back = reverse(&first.id).await.unwrap();
    assert_eq!(books.balance(&wallet("a")).await, (1, 0));
    assert!(matches!(reverse(&first.id).await, Err(LedgerError::AlreadyReversed(_))));
    assert!(matches!(reverse(&back.id).await, Err(LedgerError::AlreadyReversed(_))));
    assert!(matches!(reverse(&"entry_0".into()).await, Err(LedgerError::NotFound(_))));
    let entry = books.ledger.entry(&first.id).await.unwrap();
    assert_eq!((entry.reversed_by, entry.lines.len()), (Some(back.id.clone()), 2));
    assert_eq!(books.ledger.entry(&back.id).await.unwrap().reverses, Some(first.id));
    assert!(books.verify().await.valid);
}

#[tokio::test]
async fn a_hold_keeps_its_part_until_it_is_taken_freed_or_over() {
    let books = open().await;
    books.post(deposit("a", 100)).await.unwrap();
    let hold = books.hold(wallet("a"), 60, None).await.unwrap();
    assert_eq!(books.balance(&wallet("a")).await, (100, 60));
    assert!(matches!(books.hold(wallet("a"), 41, None).await, Err(LedgerError::InsufficientFunds { .. })));
    assert!(matches!(books.hold(wallet("nobody"), 1, None).await, Err(LedgerError::InsufficientFunds { .. })));
    assert!(books.post(transfer("a", "b", 41)).await.is_err(), "what is held can't be spent");

    let take = |units: i64, release_rest: bool| HoldCapture {
        movements: vec![CaptureMovement { to: wallet("b"), amount: Money::from_units(units), is_fee: false }],
        kind: EntryKind::Capture,
        tags: None,
        spent: Money::ZERO,
        note: None,
        release_rest,
    };
    let capture = async |id: &am_core::ids::LedgerHoldId, what: HoldCapture| {
        let (ledger, id) = (books.ledger.clone(), id.clone());
        books.db.write(async move |tx: &mut Tx| ledger.capture(tx, &id, what).await).await
    };
    assert!(matches!(capture(&hold.id, take(61, false)).await, Err(LedgerError::Overdrawn { .. })));
    let part = capture(&hold.id, take(20, false)).await.unwrap();
    assert_eq!((part.hold.state, part.hold.left().units()), (HoldState::Open, 40));
    assert_eq!(books.balance(&wallet("a")).await, (80, 40));
    let rest = capture(&hold.id, take(10, true)).await.unwrap();
    assert_eq!((rest.hold.state, rest.hold.released.units()), (HoldState::Captured, 30));
    assert_eq!((books.balance(&wallet("a")).await, books.balance(&wallet("b")).await), ((70, 0), (30, 0)));
    assert!(matches!(capture(&hold.id, take(1, false)).await, Err(LedgerError::HoldEnded { .. })));

    let short = books.hold(wallet("a"), 70, Some(60)).await.unwrap();
    books.pass(60);
    let late = capture(&short.id, take(1, false)).await;
    assert!(matches!(late, Err(LedgerError::HoldEnded { state: HoldState::Expired, .. })), "{late:?}");
    assert_eq!(books.ledger.expire_holds().await.unwrap(), 1);
    assert_eq!(books.ledger.expire_holds().await.unwrap(), 0);
    assert_eq!(books.balance(&wallet("a")).await, (70, 0));
    assert!(books.verify().await.valid);
}

#[tokio::test]
async fn balances_are_known_for_every_time() {
    let books = open().await;
    let begin = books.ledger.now();
    for day in 0..5 {
        books.post(deposit("a", 10 + day)).await.unwrap();
        books.pass(86_400);
    }
    // A clock that is set back does not put a line before others.
    books.pass(-10 * 86_400);
    books.post(transfer("a", "b", 5)).await.unwrap();
    let at = |days: i64| Timestamp(begin.0 + TimeDelta::days(days));
    let mut conn = books.db.read().await.unwrap();
    for (days, units) in [(-1, 0), (0, 10), (1, 21), (3, 46), (4, 55), (9, 55)] {
        let found = books.ledger.balance_at(&mut conn, &wallet("a"), at(days)).await.unwrap();
        assert_eq!(found.units(), units, "{days}");
    }
    drop(conn);
    let id = wallet("a").id();
    let periods = books.ledger.periods(&id, PeriodLength::Day, at(-1), at(4)).await.unwrap();
    let found: Vec<(i64, i64, i64)> =
        periods.iter().map(|day| (day.opening.units(), day.closing.units(), day.lines)).collect();
    assert_eq!(found, [(0, 0, 0), (0, 10, 1), (10, 21, 1), (21, 33, 1), (33, 46, 1), (46, 55, 2)]);
    let page = am_db::page::PageRequest { limit: 4, ..Default::default() };
    let (lines, total) = books.ledger.statement(&id, &page).await.unwrap();
    assert_eq!((total, lines[0].line_no, lines[0].amount.units(), lines.len()), (6, 6, -5, 4));
    let after = Some((lines[3].posted_at, lines[3].place.clone()));
    let (rest, _) = books.ledger.statement(&id, &am_db::page::PageRequest { after, ..page }).await.unwrap();
    assert_eq!(rest.iter().map(|line| line.line_no).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn rows_that_need_no_look_are_the_same_entries() {
    let books = open().await;
    let ledger = books.ledger.clone();
    let mut rows = RowBatch::default();
    for _ in 0..3 {
        ledger.add_entry_rows(&mut rows, &spending("p", "w", 7)).unwrap();
    }
    ledger.add_entry_rows(&mut rows, &spending("p", "w", 0)).unwrap();
    assert!(ledger.add_entry_rows(&mut rows, &transfer("a", "b", 1)).is_err());
    books.db.insert(rows, || {}).await.unwrap();
    books.post(spending("p", "v", 4)).await.unwrap();
    books.post(spending("q", "w", 100)).await.unwrap();
    let report = books.verify().await;
    assert!(report.valid, "{report:?}");
    assert_eq!((report.entries, report.lines), (5, 10));

    let sums = async |group, principal: Option<&str>| {
        let principal = principal.map(PrincipalId::from);
        let found = books.ledger.spending(group, principal.as_ref(), None, None).await.unwrap();
        found.into_iter().map(|sum| (sum.workflow_id.or(sum.day), sum.amount.units(), sum.entries)).collect::<Vec<_>>()
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(sums(SpendingGroup::Workflow, Some("p")).await, [(some("v"), 4, 1), (some("w"), 21, 3)]);
    assert_eq!(sums(SpendingGroup::Principal, None).await, [(None, 25, 4), (None, 100, 1)]);
    assert_eq!(sums(SpendingGroup::Day, None).await, [(some("2027-03-03"), 125, 5)]);
    assert_eq!(sums(SpendingGroup::Agent, None).await, []);
}

#[tokio::test]
async fn what_is_in_the_books_stays_and_what_is_changed_behind_them_shows() {
    let books = open().await;
    books.post(deposit("a", 100)).await.unwrap();
    books.hold(wallet("a"), 10, None).await.unwrap();
    for refused in [
        "DELETE FROM am_ledger_lines",
        "UPDATE am_ledger_lines SET amount = amount + 1",
        "DELETE FROM am_ledger_entries",
        "UPDATE am_ledger_entries SET note = 'x'",
        "DELETE FROM am_ledger_accounts",
        "UPDATE am_ledger_accounts SET balance = 9 WHERE purpose = 'WALLET'",
    ] {
        assert!(books.run(refused).await.is_err(), "{refused}");
    }
    assert!(books.verify().await.valid);
    for (change, back, faults) in [
        ("UPDATE am_ledger_accounts SET balance = balance + 1 WHERE purpose = 'WALLET'", "balance - 1", 2),
        ("UPDATE am_ledger_accounts SET held = held + 1 WHERE purpose = 'WALLET'", "held - 1", 1),
    ] {
        books.run(change).await.unwrap();
        let report = books.verify().await;
        assert_eq!((report.valid, report.faults), (false, faults), "{report:?}");
        let column = back.split(' ').next().unwrap();
        books.run(format!("UPDATE am_ledger_accounts SET {column} = {back} WHERE purpose = 'WALLET'")).await.unwrap();
        assert!(books.verify().await.valid);
    }
    books
        .run("DROP TRIGGER am_ledger_lines_fixed; UPDATE am_ledger_lines SET amount = 99 WHERE amount = 100")
        .await
        .unwrap();
    let report = books.verify().await;
    assert!(!report.valid && report.found.iter().any(|fault| fault.contains("entry")), "{report:?}");
}
