//! Random operations, some of them rolled back in the middle, beside a model in memory: they agree, and the sum is always zero.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use am_core::ids::{LedgerEntryId, LedgerHoldId};

const OWNERS: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum LedgerOperation {
    Deposit {
        to: usize,
        units: i64,
    },
    Withdraw {
        from: usize,
        units: i64,
    },
    /// With a fee, and a second movement that may fail after the first.
    Transfer {
        from: usize,
        to: usize,
        units: i64,
        fee: i64,
        more: i64,
    },
    Spend {
        by: usize,
        units: i64,
    },
    Hold {
        on: usize,
        units: i64,
        expires: Option<i64>,
    },
    Capture {
        hold: usize,
        to: usize,
        units: i64,
        release_rest: bool,
    },
    Release {
        hold: usize,
    },
    Reverse {
        entry: usize,
    },
    Pass {
        seconds: i64,
    },
    Expire,
}

fn operations() -> impl Strategy<Value = Vec<(LedgerOperation, bool)>> {
    use LedgerOperation::*;
    let (owner, units) = (|| 0..OWNERS.len(), || 0..60_i64);
    let operation = prop_oneof![
        3 => (owner(), units()).prop_map(|(to, units)| Deposit { to, units }),
        1 => (owner(), units()).prop_map(|(from, units)| Withdraw { from, units }),
        4 => (owner(), owner(), units(), 0..3_i64, units())
            .prop_map(|(from, to, units, fee, more)| Transfer { from, to, units, fee, more }),
        1 => (owner(), units()).prop_map(|(by, units)| Spend { by, units }),
        3 => (owner(), units(), proptest::option::of(1..40_i64))
            .prop_map(|(on, units, expires)| Hold { on, units, expires }),
        3 => (0..12_usize, owner(), units(), any::<bool>())
            .prop_map(|(hold, to, units, release_rest)| Capture { hold, to, units, release_rest }),
        1 => (0..12_usize).prop_map(|hold| Release { hold }),
        1 => (0..30_usize).prop_map(|entry| Reverse { entry }),
        2 => (-5..30_i64).prop_map(|seconds| Pass { seconds }),
        1 => Just(Expire),
    ];
    // One in six is undone after it was done, as by a crash before the commit.
    proptest::collection::vec((operation, prop::bool::weighted(1.0 / 6.0)), 1..50)
}

#[derive(Clone, Debug)]
struct ModelHold {
    id: LedgerHoldId,
    on: AccountKey,
    left: i64,
    expires_at: Option<i64>,
    is_open: bool,
}

#[derive(Clone, Debug)]
struct ModelEntry {
    id: LedgerEntryId,
    movements: Vec<(AccountKey, AccountKey, i64)>,
    can_be_reversed: bool,
}

#[derive(Clone, Debug, Default)]
struct ModelBooks {
    balances: BTreeMap<AccountKey, i64>,
    holds: Vec<ModelHold>,
    entries: Vec<ModelEntry>,
    now: i64,
}

impl ModelBooks {
    fn balance(&self, key: &AccountKey) -> i64 {
        self.balances.get(key).copied().unwrap_or(0)
    }

    fn held(&self, key: &AccountKey) -> i64 {
        self.holds.iter().filter(|hold| hold.is_open && hold.on == *key).map(|hold| hold.left).sum()
    }

    /// Whether all movements can be made; they are, then.
    fn apply(&mut self, movements: &[(AccountKey, AccountKey, i64)]) -> bool {
        let mut after = self.clone();
        for (from, to, units) in movements.iter().filter(|(.., units)| *units != 0) {
            let left = after.balance(from) - units;
            if from == to || (left < after.held(from) && !from.purpose.may_be_negative()) {
                return false;
            }
            after.balances.insert(from.clone(), left);
            let got = after.balance(to) + units;
            after.balances.insert(to.clone(), got);
        }
        self.balances = after.balances;
        true
    }

    fn is_over(&self, hold: &ModelHold) -> bool {
        hold.expires_at.is_some_and(|at| at <= self.now)
    }
}

fn undone<T>(result: Result<T>, crashes: bool) -> Result<T> {
    match result {
        Ok(_) if crashes => Err(LedgerError::NotFound("Crash")),
        other => other,
    }
}

/// Do an operation in the books and in the model; where it crashes, nothing must have happened.
async fn perform(books: &LedgerTestBooks, model: &mut ModelBooks, operation: LedgerOperation, crashes: bool) {
    use LedgerOperation::*;
    let costs = |owner| AccountKey::ait(owner, AccountPurpose::Costs);
    let fees = AccountKey::ait(AccountOwner::System, AccountPurpose::Fees);
    let ledger = books.ledger.clone();
    let movements = match &operation {
        Deposit { to, units } => vec![(outside(), wallet(OWNERS[*to]), *units)],
        Withdraw { from, units } => vec![(wallet(OWNERS[*from]), outside(), *units)],
        Transfer { from, to, units, fee, more } => {
            let from = wallet(OWNERS[*from]);
            vec![(from.clone(), wallet(OWNERS[*to]), *units), (from.clone(), fees, *fee), (from, outside(), *more)]
        }
        Spend { by, units } => {
            let by = AccountOwner::Principal(OWNERS[*by].into());
            vec![(costs(by), costs(AccountOwner::System), *units)]
        }
        _ => Vec::new(),
    };
    match operation {
        Deposit { .. } | Withdraw { .. } | Transfer { .. } | Spend { .. } => {
            let mut entry = NewEntry::new(EntryKind::Transfer);
            for (from, to, units) in &movements {
                entry = entry.moving(from.clone(), to.clone(), Money::from_units(*units));
            }
            let moves = movements.iter().any(|(.., units)| *units != 0);
            let valid = movements.iter().all(|(from, to, _)| from != to);
            let mut after = model.clone();
            let expected = !moves || (valid && after.apply(&movements));
            let work = async move |tx: &mut Tx| undone(ledger.post(tx, entry).await, crashes);
            let done = books.db.write(work).await;
            assert_eq!(done.is_ok(), expected && !crashes, "{done:?}");
            if let Ok(Some(posted)) = done {
                model.balances = after.balances;
                model.entries.push(ModelEntry { id: posted.id, movements, can_be_reversed: true });
            }
        }
        Hold { on, units, expires } => {
            let key = wallet(OWNERS[on]);
            let fits = units > 0 && model.balance(&key) - model.held(&key) >= units;
            let new = NewHold {
                account: key.clone(),
                amount: Money::from_units(units),
                reference: EntryReference::new("test", "1"),
                tags: EntryTags::default(),
                expires_at: expires.map(|seconds| Timestamp(books.ledger.now().0 + TimeDelta::seconds(seconds))),
                once: None,
            };
            let done = books.db.write(async move |tx: &mut Tx| undone(ledger.hold(tx, new).await, crashes)).await;
            assert_eq!(done.is_ok(), fits && !crashes, "{done:?}");
            if let Ok(hold) = done {
                let expires_at = expires.map(|seconds| model.now + seconds);
                model.holds.push(ModelHold { id: hold.id, on: key, left: units, expires_at, is_open: true });
            }
        }
        Capture { hold, to, units, release_rest } => {
            let Some(known) = model.holds.get(hold).cloned() else { return };
            let to = wallet(OWNERS[to]);
            let fits = known.is_open && !model.is_over(&known) && units <= known.left && to != known.on;
            let movement = CaptureMovement { to: to.clone(), amount: Money::from_units(units), is_fee: false };
            let capture = HoldCapture {
                movements: vec![movement],
                kind: EntryKind::Capture,
                tags: None,
                spent: Money::ZERO,
                note: None,
                release_rest,
            };
            let id = known.id.clone();
            let work = async move |tx: &mut Tx| undone(ledger.capture(tx, &id, capture).await, crashes);
            let done = books.db.write(work).await;
            assert_eq!(done.is_ok(), fits && !crashes, "{done:?}");
            if let Ok(captured) = done {
                let held = &mut model.holds[hold];
                held.left = if release_rest { 0 } else { held.left - units };
                held.is_open = held.left > 0;
                let movements = vec![(known.on, to, units)];
                assert!(model.apply(&movements), "what is captured was held");
                if let Some(entry) = captured.entry {
                    model.entries.push(ModelEntry { id: entry.id, movements, can_be_reversed: true });
                }
            }
        }
        Release { hold } => {
            let Some(known) = model.holds.get(hold).cloned() else { return };
            let id = known.id.clone();
            let done = books.db.write(async move |tx: &mut Tx| undone(ledger.release(tx, &id).await, crashes)).await;
            assert_eq!(done.is_ok(), known.is_open && !model.is_over(&known) && !crashes, "{done:?}");
            model.holds[hold].is_open = known.is_open && done.is_err();
        }
        Reverse { entry } => {
            let Some(known) = model.entries.get(entry).cloned() else { return };
            let id = known.id.clone();
            let moved = known.movements.iter().filter(|(.., units)| *units != 0);
            let back: Vec<_> = moved.map(|(from, to, units)| (to.clone(), from.clone(), *units)).collect();
            let done =
                books.db.write(async move |tx: &mut Tx| undone(ledger.reverse(tx, &id, None).await, crashes)).await;
            if let Ok(posted) = done {
                // The order of the movements may differ, but each is made.
                let mut after = model.clone();
                for (from, to, units) in &back {
                    *after.balances.entry(from.clone()).or_default() -= units;
                    *after.balances.entry(to.clone()).or_default() += units;
                }
                assert!(known.can_be_reversed);
                model.balances = after.balances;
                model.entries[entry].can_be_reversed = false;
                model.entries.push(ModelEntry { id: posted.id, movements: back, can_be_reversed: false });
            } else if known.can_be_reversed && !crashes && back.len() == 1 {
                assert!(!model.clone().apply(&back), "{done:?}");
            }
        }
        Pass { seconds } => {
            books.pass(seconds);
            model.now += seconds;
        }
        Expire => {
            let due = model.holds.iter().filter(|hold| hold.is_open && model.is_over(hold)).count();
            assert_eq!(books.ledger.expire_holds().await.unwrap(), due);
            let now = model.now;
            for hold in &mut model.holds {
                hold.is_open &= hold.expires_at.is_none_or(|at| at > now);
            }
        }
    }
}

async fn check(books: &LedgerTestBooks, model: &ModelBooks) {
    let mut total = 0;
    for key in model.balances.keys() {
        let expected = (model.balance(key), model.held(key));
        assert_eq!(books.balance(key).await, expected, "{key}");
        total += expected.0;
    }
    assert_eq!(total, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn random_operations_keep_the_books_balanced(operations in operations()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (books, mut model) = (open().await, ModelBooks::default());
            for (operation, crashes) in operations {
                perform(&books, &mut model, operation, crashes).await;
                check(&books, &model).await;
            }
            let report = books.verify().await;
            assert!(report.valid, "{report:?}");
        });
    }
}
