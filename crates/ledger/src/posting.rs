//! Posting: entries are checked against the accounts as they stand in the open transaction, and written.

use std::collections::HashMap;

use am_core::{
    boxed,
    ids::{LedgerAccountId, LedgerEntryId},
    money::Money,
};
use am_db::{Tx, bulk_insert::RowBatch, codec::Timestamp};

use super::{
    LedgerService,
    draft::{EntryMovement, NewEntry},
    error::{LedgerError, Result},
    model::{AccountKey, AccountOwner, EntryKind, PostedEntry},
    spending,
    store::{self, AccountChange},
};

/// Rows that one or several entries make, each table's together, so that each takes one statement.
#[derive(Default)]
struct PostingRows {
    entries: RowBatch,
    accounts: RowBatch,
    spending: RowBatch,
}

impl PostingRows {
    fn add(&mut self, id: &LedgerEntryId, entry: &NewEntry, now: Timestamp) {
        store::add_entry_row(&mut self.entries, id, entry, now);
        for EntryMovement { from, to, amount, is_fee } in &entry.movements {
            if *amount == Money::ZERO {
                continue;
            }
            let (units, is_fee) = (amount.units(), *is_fee);
            let paid = AccountChange { account: from, other: to, amount: -units, is_fee };
            let got = AccountChange { account: to, other: from, amount: units, is_fee };
            store::add_account_row(&mut self.accounts, id, &paid, now);
            store::add_account_row(&mut self.accounts, id, &got, now);
        }
        spending::add_rows(&mut self.spending, entry, now);
    }

    fn into_batch(self) -> RowBatch {
        let Self { mut entries, accounts, spending } = self;
        entries.append(accounts).append(spending);
        entries
    }
}

/// What accounts have, and will have after the movements that were taken in.
#[derive(Default)]
struct AccountBook(HashMap<LedgerAccountId, (Money, Money)>);

impl AccountBook {
    /// Take in a movement.
    ///
    /// # Errors
    /// [`LedgerError::InsufficientFunds`], [`LedgerError::OutOfRange`].
    fn apply(&mut self, movement: &EntryMovement) -> Result<()> {
        let EntryMovement { from, to, amount, .. } = movement;
        let (balance, held) = self.0.get(&from.id()).copied().unwrap_or_default();
        let after = balance.checked_sub(*amount).ok_or(LedgerError::OutOfRange)?;
        if after < held && !from.purpose.may_be_negative() {
            let available = balance.checked_sub(held).ok_or(LedgerError::OutOfRange)?;
            return Err(LedgerError::InsufficientFunds { account: Box::new(from.clone()), available, needed: *amount });
        }
        self.0.insert(from.id(), (after, held));
        let (balance, held) = self.0.get(&to.id()).copied().unwrap_or_default();
        let after = balance.checked_add(*amount).ok_or(LedgerError::OutOfRange)?;
        self.0.insert(to.id(), (after, held));
        Ok(())
    }
}

impl LedgerService {
    fn new_entry_id(&self) -> LedgerEntryId {
        self.0.ids.next("entry_", 16).into()
    }

    /// Post an entry. `None`: it moves nothing, and is not posted.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`], [`LedgerError::InsufficientFunds`], [`LedgerError::OutOfRange`]; a database error. Nothing is
    /// written then.
    #[boxed]
    pub async fn post(&self, tx: &mut Tx, entry: NewEntry) -> Result<Option<PostedEntry>> {
        Ok(self.post_all(tx, vec![entry]).await?.pop())
    }

    /// Post entries, in this order, with one read and one write for all of them. Answers those that move anything.
    ///
    /// # Errors
    /// As [`LedgerService::post`]; none is written then.
    #[boxed]
    pub async fn post_all(&self, tx: &mut Tx, entries: Vec<NewEntry>) -> Result<Vec<PostedEntry>> {
        let entries: Vec<NewEntry> = entries.into_iter().filter(|entry| !entry.is_empty()).collect();
        entries.iter().try_for_each(NewEntry::check)?;
        let mut known = self.known_entries(tx, &entries).await?;
        let is_new = |entry: &&NewEntry| entry.once.as_ref().is_none_or(|key| !known.contains_key(key));
        let ids: Vec<LedgerAccountId> = {
            let movements = entries.iter().filter(is_new).flat_map(|entry| &entry.movements);
            let mut ids: Vec<_> = movements.flat_map(|movement| [movement.from.id(), movement.to.id()]).collect();
            ids.sort();
            ids.dedup();
            ids
        };
        let mut book = AccountBook::default();
        if !ids.is_empty() {
            let states = store::read_states(tx.conn().await?, &ids).await?;
            book.0 = states.into_iter().map(|state| (state.id, (state.balance, state.held))).collect();
        }
        let (mut rows, mut posted) = (PostingRows::default(), Vec::new());
        let posted_at = self.now();
        for entry in &entries {
            if let Some(before) = entry.once.as_ref().and_then(|key| known.get(key)) {
                posted.push(before.clone());
                continue;
            }
            entry.movements.iter().try_for_each(|movement| book.apply(movement))?;
            let id = self.new_entry_id();
            rows.add(&id, entry, posted_at);
            let new = PostedEntry { id, posted_at, replayed: false };
            if let Some(key) = &entry.once {
                known.insert(key.clone(), PostedEntry { replayed: true, ..new.clone() });
            }
            posted.push(new);
        }
        if posted.iter().any(|entry| !entry.replayed) {
            rows.into_batch().execute(tx).await?;
        }
        Ok(posted)
    }

    /// The entries that were posted before under the keys of these.
    async fn known_entries(&self, tx: &mut Tx, entries: &[NewEntry]) -> Result<HashMap<String, PostedEntry>> {
        let keys: Vec<&str> = entries.iter().filter_map(|entry| entry.once.as_deref()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let found = store::find_known(tx.conn().await?, &keys).await?;
        let known = |known: store::KnownEntry| {
            (known.once_key, PostedEntry { id: known.id, posted_at: known.posted_at, replayed: true })
        };
        Ok(found.into_iter().map(known).collect())
    }

    /// Add the rows of an entry that only takes from accounts whose balance may be below zero, and has no key: it needs no look
    /// at the accounts, so that it can be written with other rows. An entry that moves nothing adds none.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`].
    pub fn add_entry_rows(&self, rows: &mut RowBatch, entry: &NewEntry) -> Result<()> {
        if entry.is_empty() {
            return Ok(());
        }
        entry.check()?;
        if let Some(bound) = entry.movements.iter().find(|movement| !movement.from.purpose.may_be_negative()) {
            return Err(LedgerError::invalid("from", format!("{} may not be below zero", bound.from)));
        }
        let mut new = PostingRows::default();
        new.add(&self.new_entry_id(), entry, self.now());
        rows.append(new.into_batch());
        Ok(())
    }

    /// Add the rows of entries without a look at the accounts, so that they can be written with other rows, and with those of other
    /// requests, by one statement. An entry that moves nothing adds none. What an entry must not do fails the whole write: the
    /// database lets no account come below what it may be (triggers of `am_ledger_accounts`), and no second entry under a key (an
    /// index). Whoever is told so asks [`LedgerService::post_all`], which says why.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`].
    pub fn add_guarded_rows(&self, rows: &mut RowBatch, entries: &[NewEntry]) -> Result<()> {
        let (mut new, posted_at) = (PostingRows::default(), self.now());
        for entry in entries.iter().filter(|entry| !entry.is_empty()) {
            entry.check()?;
            new.add(&self.new_entry_id(), entry, posted_at);
        }
        rows.append(new.into_batch());
        Ok(())
    }

    /// Take an entry back: each of its movements goes the other way, the last one first.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; [`LedgerError::AlreadyReversed`]; as [`LedgerService::post`].
    #[boxed]
    pub async fn reverse(&self, tx: &mut Tx, entry: &LedgerEntryId, note: Option<String>) -> Result<PostedEntry> {
        let conn = tx.conn().await?;
        let found = store::get_entry(conn, entry).await?.ok_or(LedgerError::NotFound("Ledger entry"))?;
        if found.kind == EntryKind::Reversal || store::reversal_of(conn, entry).await?.is_some() {
            return Err(LedgerError::AlreadyReversed(entry.clone()));
        }
        let lines = store::entry_lines(conn, entry).await?;
        let keys: HashMap<&LedgerAccountId, AccountKey> = lines
            .iter()
            .map(|line| {
                let owner = AccountOwner::from_stored(&line.owner);
                (&line.account_id, AccountKey::new(owner, &line.asset, line.purpose))
            })
            .collect();
        let mut new = NewEntry::new(EntryKind::Reversal).of("ledger_entry", entry.as_str()).tagged(found.tags());
        (new.note, new.reverses) = (note, Some(entry.clone()));
        let taken_back = |spent: Money| Money::ZERO.checked_sub(spent).ok_or(LedgerError::OutOfRange);
        (new.spent, new.spent_on_agent) = (taken_back(found.spent)?, taken_back(found.spent_on_agent)?);
        for line in lines.iter().rev().filter(|line| line.amount < Money::ZERO) {
            let sides = keys.get(&line.account_id).zip(keys.get(&line.other_account_id));
            let (paid, got) = sides.ok_or(LedgerError::NotFound("Account"))?;
            let amount = taken_back(line.amount)?;
            let back = EntryMovement { from: got.clone(), to: paid.clone(), amount, is_fee: line.is_fee };
            new.movements.push(back);
        }
        self.post(tx, new).await?.ok_or(LedgerError::NotFound("Ledger entry"))
    }
}
