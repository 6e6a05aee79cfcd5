//! What clients ask of the ledger: each is one transaction with its entry in the audit log; what is refused is told there too.

use serde_json::{Value, json};

use am_audit::{AuditEntry, EventType};
use am_core::{
    boxed,
    ids::{LedgerEntryId, LedgerHoldId},
    money::{Money, StatedAmount},
    validation::Violations,
};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

use super::{
    LedgerService,
    draft::NewEntry,
    error::{LedgerError, Result},
    holds::{CaptureMovement, HoldCapture, NewHold},
    model::{AccountKey, EntryKind, EntryReference, EntryTags, LedgerEntry, LedgerHold},
    store,
};

/// Money that somebody wants to move.
#[derive(Clone, Debug)]
pub struct MoneyOrder {
    /// Kind of the entry.
    pub kind: EntryKind,
    /// Account that it leaves.
    pub from: AccountKey,
    /// Account that it comes to.
    pub to: AccountKey,
    /// Amount, more than 0.
    pub amount: StatedAmount,
    /// What it is about; `None`: nothing else.
    pub reference: Option<EntryReference>,
    /// Words for people; `None`: none.
    pub note: Option<String>,
}

/// A hold that somebody wants to make.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// Account that it keeps a part of.
    pub account: AccountKey,
    /// Amount, more than 0.
    pub amount: StatedAmount,
    /// What it is for.
    pub reference: EntryReference,
    /// Time at which it expires; `None`: it does not.
    pub expires_at: Option<Timestamp>,
}

/// A part of a hold that somebody wants to take.
#[derive(Clone, Debug)]
pub struct CaptureOrder {
    /// Account that it comes to.
    pub to: AccountKey,
    /// Amount, more than 0; `None`: all that is left.
    pub amount: Option<StatedAmount>,
    /// Words for people; `None`: none.
    pub note: Option<String>,
    /// Whether the hold ends and the rest is set free.
    pub release_rest: bool,
}

/// The amount that a request states.
fn stated(amount: StatedAmount) -> Result<Money> {
    let mut violations = Violations::default();
    let amount = amount.positive("amount", &mut violations);
    violations.finish_with(amount).map_err(LedgerError::Invalid)
}

impl LedgerService {
    fn told(&self, by: &Principal, resource: &'static str, action: &'static str, data: Value) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, self.now()).by(by).of(resource, action);
        entry.change(None, Some(data))
    }

    /// Tell the audit log of what was refused.
    pub(super) async fn noted<T>(
        &self,
        by: &Principal,
        subject: (&'static str, &str),
        action: &'static str,
        done: Result<T>,
    ) -> Result<T> {
        if let Err(error) = &done
            && error.is_refusal()
        {
            self.record_refusal(by, subject, action, &error.to_string()).await;
        }
        done
    }

    /// Move money from one account to another.
    ///
    /// # Errors
    /// As [`LedgerService::post`]; [`LedgerError::Invalid`] for an amount of 0.
    #[boxed]
    pub async fn move_money(
        &self,
        by: &Principal,
        order: MoneyOrder,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<LedgerEntry>> {
        let (me, actor, from) = (self.clone(), by.clone(), order.from.id());
        let action = order.kind.value();
        let work = async move |tx: &mut Tx| {
            let MoneyOrder { kind, from, to, amount, reference, note } = order;
            let amount = stated(amount)?;
            let data = json!({"from": from.to_string(), "to": to.to_string(), "amount": amount.to_string()});
            let new = NewEntry { reference, note, ..NewEntry::new(kind).moving(from, to, amount) };
            let posted = me.post(tx, new).await?.ok_or(LedgerError::NotFound("Ledger entry"))?;
            let told = me.told(&actor, "ledger_entry", action, data).data("entry_id", json!(posted.id));
            me.0.audit.append(tx, vec![told]).await?;
            me.entry_in(tx, &posted.id).await
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.noted(by, ("ledger_account", &from), action, done).await
    }

    /// The entry with its lines, as the transaction has it.
    async fn entry_in(&self, tx: &mut Tx, id: &LedgerEntryId) -> Result<LedgerEntry> {
        let conn = tx.conn().await?;
        let found = store::get_entry(conn, id).await?.ok_or(LedgerError::NotFound("Ledger entry"))?;
        let lines = store::entry_lines(conn, id).await?;
        Ok(found.with_lines(lines, None))
    }

    /// Take an entry back.
    ///
    /// # Errors
    /// As [`LedgerService::reverse`].
    #[boxed]
    pub async fn reverse_entry(
        &self,
        by: &Principal,
        id: &LedgerEntryId,
        note: Option<String>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<LedgerEntry>> {
        let (me, actor, entry) = (self.clone(), by.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let posted = me.reverse(tx, &entry, note).await?;
            let told = me.told(&actor, "ledger_entry", "reversed", json!({"reverses": entry}));
            me.0.audit.append(tx, vec![told.data("entry_id", json!(posted.id))]).await?;
            me.entry_in(tx, &posted.id).await
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.noted(by, ("ledger_entry", id), "reversed", done).await
    }

    /// Make a hold.
    ///
    /// # Errors
    /// As [`LedgerService::hold`].
    #[boxed]
    pub async fn place_hold(
        &self,
        by: &Principal,
        request: HoldRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<LedgerHold>> {
        let (me, actor, account) = (self.clone(), by.clone(), request.account.id());
        let work = async move |tx: &mut Tx| {
            let HoldRequest { account, amount, reference, expires_at } = request;
            let amount = stated(amount)?;
            let tags = EntryTags { principal: Some(actor.id()), ..EntryTags::default() };
            let new = NewHold { account, amount, reference, tags, expires_at, once: None };
            let hold = me.hold(tx, new).await?;
            let told = me.told(&actor, "ledger_hold", "made", json!({"amount": hold.amount.to_string()}));
            me.0.audit.append(tx, vec![told.data("hold_id", json!(hold.id))]).await?;
            Ok(hold)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.noted(by, ("ledger_account", &account), "hold", done).await
    }

    /// Take a part of a hold.
    ///
    /// # Errors
    /// As [`LedgerService::capture`]; [`LedgerError::Invalid`] for what is no amount.
    #[boxed]
    pub async fn capture_hold(
        &self,
        by: &Principal,
        id: &LedgerHoldId,
        order: CaptureOrder,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<LedgerHold>> {
        let (me, actor, hold) = (self.clone(), by.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let CaptureOrder { to, amount, note, release_rest } = order;
            let amount = match amount {
                Some(amount) => stated(amount)?,
                None => {
                    let found = me.find_hold(tx.conn().await?, &hold).await?;
                    found.ok_or(LedgerError::NotFound("Hold"))?.left()
                }
            };
            let movements = vec![CaptureMovement { to, amount, is_fee: false }];
            let (kind, spent) = (EntryKind::Capture, Money::ZERO);
            let capture = HoldCapture { movements, kind, tags: None, spent, note, release_rest };
            let captured = me.capture(tx, &hold, capture).await?;
            let data = json!({"captured": captured.hold.captured.to_string()});
            let entry = captured.entry.map(|entry| entry.id);
            let told = me.told(&actor, "ledger_hold", "captured", data).data("hold_id", json!(hold));
            me.0.audit.append(tx, vec![told.data("entry_id", json!(entry))]).await?;
            Ok(captured.hold)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.noted(by, ("ledger_hold", id), "capture", done).await
    }

    /// Set free what is left of a hold.
    ///
    /// # Errors
    /// As [`LedgerService::release`].
    #[boxed]
    pub async fn release_hold(
        &self,
        by: &Principal,
        id: &LedgerHoldId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<LedgerHold>> {
        let (me, actor, hold) = (self.clone(), by.clone(), id.clone());
        let work = async move |tx: &mut Tx| {
            let hold = me.release(tx, &hold).await?;
            let told = me.told(&actor, "ledger_hold", "released", json!({"released": hold.released.to_string()}));
            me.0.audit.append(tx, vec![told.data("hold_id", json!(hold.id))]).await?;
            Ok(hold)
        };
        let done = self.0.db.write_idempotent(&self.0.clock, once, work).await;
        self.noted(by, ("ledger_hold", id), "release", done).await
    }
}
