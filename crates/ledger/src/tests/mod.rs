//! The ledger on a real database.

mod books;
mod budgets;
mod guarded;
mod random_operations;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::*;
use am_audit::AuditSettings;
use am_core::{crypto::Signer, ids::PrincipalId, money::Money};
use am_db::{DatabaseError, DatabaseSettings, migrate};

/// A ledger with a clock that the test sets.
pub(super) struct LedgerTestBooks {
    _dir: tempfile::TempDir,
    pub(super) db: Database,
    pub(super) ledger: LedgerService,
    seconds: Arc<AtomicI64>,
}

pub(super) async fn open() -> LedgerTestBooks {
    let dir = tempfile::tempdir().unwrap();
    let settings = DatabaseSettings { readers: 2, busy_timeout: Duration::from_secs(5) };
    let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
    migrate(&db, &Clock::system()).await.unwrap();
    let seconds = Arc::new(AtomicI64::new(0));
    let read = seconds.clone();
    let begin: DateTime<Utc> = "2027-03-03T12:34:56Z".parse().unwrap();
    let clock = Clock::from_fn(move || begin + TimeDelta::seconds(read.load(Ordering::Relaxed)));
    let ids = IdGenerator::seeded(7);
    let webhooks = WebhookService::new(db.clone(), clock.clone(), ids.clone(), &Default::default()).unwrap();
    let audit = AuditSettings { origin: "test/log".into(), every: Duration::from_secs(3600) };
    let signer = Signer::from_hex(&"17".repeat(32)).unwrap();
    let audit = AuditLog::new(db.clone(), clock.clone(), ids.clone(), webhooks.clone(), signer, audit);
    let ledger = LedgerService::new(db.clone(), clock, ids, audit, webhooks);
    LedgerTestBooks { _dir: dir, db, ledger, seconds }
}

impl LedgerTestBooks {
    pub(super) fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(super) async fn post(&self, entry: NewEntry) -> Result<Option<PostedEntry>> {
        let ledger = self.ledger.clone();
        self.db.write(async move |tx: &mut Tx| ledger.post(tx, entry).await).await
    }

    pub(super) async fn hold(&self, account: AccountKey, units: i64, expires: Option<i64>) -> Result<LedgerHold> {
        let (ledger, now) = (self.ledger.clone(), self.ledger.now());
        let new = NewHold {
            account,
            amount: Money::from_units(units),
            reference: EntryReference::new("test", "1"),
            tags: EntryTags::default(),
            expires_at: expires.map(|seconds| Timestamp(now.0 + TimeDelta::seconds(seconds))),
            once: None,
        };
        self.db.write(async move |tx: &mut Tx| ledger.hold(tx, new).await).await
    }

    pub(super) async fn balance(&self, key: &AccountKey) -> (i64, i64) {
        let found = self.ledger.balance(&mut self.db.read().await.unwrap(), key).await.unwrap();
        assert_eq!(found.available, found.balance - found.held);
        (found.balance.units(), found.held.units())
    }

    pub(super) async fn verify(&self) -> LedgerVerification {
        self.ledger.verify().await.unwrap()
    }

    /// Change the tables behind the ledger's back.
    pub(super) async fn run(&self, sql: impl Into<String>) -> std::result::Result<(), DatabaseError> {
        let sql = AssertSqlSafe(sql.into());
        let work = async move |tx: &mut Tx| {
            sqlx::raw_sql(sql).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        };
        self.db.write(work).await
    }
}

pub(super) fn wallet(name: &str) -> AccountKey {
    AccountKey::wallet(AccountOwner::Principal(name.into()))
}

pub(super) fn outside() -> AccountKey {
    AccountKey::ait(AccountOwner::System, AccountPurpose::External)
}

pub(super) fn deposit(to: &str, units: i64) -> NewEntry {
    NewEntry::new(EntryKind::Deposit).moving(outside(), wallet(to), Money::from_units(units))
}

pub(super) fn principal(name: &str) -> Principal {
    Principal { name: name.into(), aliases: [name.to_owned()].into(), agent: None, origin: None }
}

pub(super) fn spending(principal: &str, workflow: &str, units: i64) -> NewEntry {
    let owner = AccountOwner::Principal(principal.into());
    let tags = EntryTags {
        principal: Some(PrincipalId::from(principal)),
        workflow: Some(workflow.into()),
        ..EntryTags::default()
    };
    let costs = AccountPurpose::Costs;
    NewEntry::new(EntryKind::Cost)
        .moving(AccountKey::ait(owner, costs), AccountKey::ait(AccountOwner::System, costs), Money::from_units(units))
        .tagged(tags)
        .spending(Money::from_units(units))
}
