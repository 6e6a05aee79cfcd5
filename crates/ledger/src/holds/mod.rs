//! Holds: parts of balances that are kept for something, taken in part or as a whole, or set free.

mod store;

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use am_audit::{AuditEntry, EventType};
use am_core::{
    ambient::sleep_or_cancelled,
    boxed,
    ids::{LedgerAccountId, LedgerHoldId},
    money::Money,
};
use am_db::{Connection, Tx, codec::Timestamp, owner, page::PageRequest};

use super::{
    LedgerService,
    draft::NewEntry,
    error::{LedgerError, Result},
    model::{AccountKey, EntryKind, EntryReference, EntryTags, HoldState, LedgerHold, PostedEntry},
    store as accounts,
};

/// Interval at which expired holds are looked for.
const EXPIRY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Holds that expire in one transaction.
const EXPIRY_BATCH: i64 = 200;

/// A hold to be made.
#[derive(Clone, Debug)]
pub struct NewHold {
    /// Account that it keeps a part of.
    pub account: AccountKey,
    /// Amount that is held, more than 0.
    pub amount: Money,
    /// What it is for.
    pub reference: EntryReference,
    /// Who spends what is taken, and on what.
    pub tags: EntryTags,
    /// Time at which it expires; `None`: it does not.
    pub expires_at: Option<Timestamp>,
    /// Key under which it is made once; `None`: it can't be repeated.
    pub once: Option<String>,
}

/// Where a part of a hold goes.
#[derive(Clone, Debug)]
pub struct CaptureMovement {
    /// Account that it comes to.
    pub to: AccountKey,
    /// Amount in the accounts' asset.
    pub amount: Money,
    /// Whether it is a fee.
    pub is_fee: bool,
}

/// What is taken of a hold.
#[derive(Clone, Debug)]
pub struct HoldCapture {
    /// Where it goes; amounts of 0 are left out.
    pub movements: Vec<CaptureMovement>,
    /// Kind of the entry that is posted.
    pub kind: EntryKind,
    /// Who spends it and on what; `None`: as the hold says.
    pub tags: Option<EntryTags>,
    /// How much of it counts as spent, in AIT.
    pub spent: Money,
    /// Words for people; `None`: none.
    pub note: Option<String>,
    /// Whether the hold ends and the rest is set free.
    pub release_rest: bool,
}

/// A hold after something was taken of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedHold {
    /// The hold as it is now.
    pub hold: LedgerHold,
    /// The entry of what was taken; `None`: nothing was.
    pub entry: Option<PostedEntry>,
}

impl LedgerService {
    /// Keep a part of an account's balance.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for an amount of 0 or less, or a time that has passed; [`LedgerError::InsufficientFunds`].
    #[boxed]
    pub async fn hold(&self, tx: &mut Tx, new: NewHold) -> Result<LedgerHold> {
        let now = self.now();
        let NewHold { account, amount, reference, tags, expires_at, once } = new;
        if !amount.is_positive() {
            return Err(LedgerError::invalid("amount", "must be more than 0"));
        }
        if expires_at.is_some_and(|at| at <= now) {
            return Err(LedgerError::invalid("expires_at", "must be later than now"));
        }
        if let Some(key) = &once
            && let Some(known) = store::find_once(tx.conn().await?, key).await?
        {
            return Ok(known);
        }
        let account_id = account.id();
        let state = accounts::read_states(tx.conn().await?, std::slice::from_ref(&account_id)).await?.pop();
        let available = state.as_ref().map_or(Some(Money::ZERO), |state| state.balance.checked_sub(state.held));
        let available = available.ok_or(LedgerError::OutOfRange)?;
        // An account without a line has nothing that could be held.
        if state.is_none() || (available < amount && !account.purpose.may_be_negative()) {
            return Err(LedgerError::InsufficientFunds { account: Box::new(account), available, needed: amount });
        }
        let hold = LedgerHold {
            id: self.0.ids.next("hold_", 16).into(),
            account_id,
            amount,
            captured: Money::ZERO,
            released: Money::ZERO,
            state: HoldState::Open,
            reference,
            tags,
            created_at: now,
            expires_at,
            ended_at: None,
        };
        store::insert_hold(tx, &hold, once.as_deref()).await?;
        Ok(hold)
    }

    /// The hold, if it is open now.
    async fn open_hold(&self, tx: &mut Tx, id: &LedgerHoldId) -> Result<LedgerHold> {
        let hold = store::get_hold(tx.conn().await?, id).await?.ok_or(LedgerError::NotFound("Hold"))?;
        let state = match hold.state {
            // It is swept later.
            HoldState::Open if hold.expires_at.is_some_and(|at| at <= self.now()) => HoldState::Expired,
            state => state,
        };
        match state {
            HoldState::Open => Ok(hold),
            state => Err(LedgerError::HoldEnded { hold: id.clone(), state }),
        }
    }

    /// Take a part of a hold, or all of it.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; [`LedgerError::HoldEnded`]; [`LedgerError::Overdrawn`]; as [`LedgerService::post`].
    #[boxed]
    pub async fn capture(&self, tx: &mut Tx, id: &LedgerHoldId, capture: HoldCapture) -> Result<CapturedHold> {
        let mut hold = self.open_hold(tx, id).await?;
        let from = store::account_key(tx.conn().await?, &hold.account_id).await?;
        let from = from.ok_or(LedgerError::NotFound("Account"))?;
        let mut new = NewEntry::new(capture.kind).tagged(capture.tags.unwrap_or_else(|| hold.tags.clone()));
        new = NewEntry { reference: Some(hold.reference.clone()), note: capture.note, spent: capture.spent, ..new };
        let mut asked = Money::ZERO;
        for CaptureMovement { to, amount, is_fee } in capture.movements {
            asked = asked.checked_add(amount).ok_or(LedgerError::OutOfRange)?;
            new = if is_fee { new.fee(from.clone(), to, amount) } else { new.moving(from.clone(), to, amount) };
        }
        new.check()?;
        if asked > hold.left() {
            return Err(LedgerError::Overdrawn { hold: id.clone(), left: hold.left(), asked });
        }
        hold.captured += asked;
        if capture.release_rest {
            hold.released += hold.left();
        }
        if hold.left() == Money::ZERO {
            let any = hold.captured.is_positive();
            (hold.state, hold.ended_at) =
                (if any { HoldState::Captured } else { HoldState::Released }, Some(self.now()));
        }
        // Before the balance changes: what is captured is not held any more.
        store::update_hold(tx, &hold).await?;
        let entry = self.post(tx, new).await?;
        Ok(CapturedHold { hold, entry })
    }

    /// Set free what is left of a hold.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; [`LedgerError::HoldEnded`].
    #[boxed]
    pub async fn release(&self, tx: &mut Tx, id: &LedgerHoldId) -> Result<LedgerHold> {
        let hold = self.open_hold(tx, id).await?;
        let state = if hold.captured.is_positive() { HoldState::Captured } else { HoldState::Released };
        self.end_hold(tx, hold, state).await
    }

    async fn end_hold(&self, tx: &mut Tx, mut hold: LedgerHold, state: HoldState) -> Result<LedgerHold> {
        hold.released += hold.left();
        (hold.state, hold.ended_at) = (state, Some(self.now()));
        store::update_hold(tx, &hold).await?;
        Ok(hold)
    }

    /// A hold; `None` when there is none of this id.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn find_hold(&self, conn: &mut Connection, id: &LedgerHoldId) -> Result<Option<LedgerHold>> {
        Ok(store::get_hold(conn, id).await?)
    }

    /// A page of the holds on an account, and how many match.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list_holds(
        &self,
        account: &LedgerAccountId,
        state: Option<HoldState>,
        page: &PageRequest,
    ) -> Result<(Vec<LedgerHold>, i64)> {
        Ok(store::list_holds(&mut *self.0.db.read_list().await?, account, state, page).await?)
    }

    /// End the holds whose time is over, at most [`EXPIRY_BATCH`] of them. Answers how many.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn expire_holds(&self) -> Result<usize> {
        let now = self.now();
        let due = store::list_due(&mut *self.0.db.read_vital().await?, now, EXPIRY_BATCH).await?;
        if due.is_empty() {
            return Ok(0);
        }
        let me = self.clone();
        let work = async move |tx: &mut Tx| {
            let mut entries = Vec::new();
            for id in due {
                // Another process may have been first.
                let Some(hold) = store::get_hold(tx.conn().await?, &id).await? else { continue };
                if hold.state != HoldState::Open {
                    continue;
                }
                let hold = me.end_hold(tx, hold, HoldState::Expired).await?;
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
                    .on_behalf_of(owner::SYSTEM_PRINCIPAL)
                    .of("ledger_hold", "expired");
                entries.push(entry.data("hold_id", json!(hold.id)).data("account_id", json!(hold.account_id)));
            }
            let ended = entries.len();
            me.0.audit.append(tx, entries).await?;
            Ok::<_, LedgerError>(ended)
        };
        self.0.db.write(work).await
    }

    /// End holds whose time is over, until `stop`.
    #[boxed]
    pub async fn expire_loop(self, stop: CancellationToken) {
        while sleep_or_cancelled(&stop, EXPIRY_POLL_INTERVAL).await {
            // A full batch may have more behind it.
            loop {
                match self.expire_holds().await {
                    Ok(ended) if ended as i64 == EXPIRY_BATCH && !stop.is_cancelled() => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "could not end expired holds; it is tried again");
                        break;
                    }
                }
            }
        }
    }
}
