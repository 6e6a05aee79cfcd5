//! Entries that are to be posted.

use am_core::{ids::LedgerEntryId, money::Money, validation::Violations};

use super::{
    error::{LedgerError, Result},
    model::{AccountKey, EntryKind, EntryReference, EntryTags},
};

/// Maximum number of movements of one entry.
pub(crate) const MAX_MOVEMENTS: usize = 1000;
/// Maximum length of a note, in characters.
const MAX_NOTE_LEN: usize = 500;
/// Maximum length of an asset's symbol, in bytes.
const MAX_ASSET_LEN: usize = 20;

/// An amount that goes from one account to another of the same asset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryMovement {
    /// Account that it leaves.
    pub from: AccountKey,
    /// Account that it comes to.
    pub to: AccountKey,
    /// Amount in the accounts' asset.
    pub amount: Money,
    /// Whether it is a fee.
    pub is_fee: bool,
}

/// An entry to be posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// Kind of the entry.
    pub kind: EntryKind,
    /// What it is about; `None`: nothing else.
    pub reference: Option<EntryReference>,
    /// What moves, in this order; amounts of 0 are left out.
    pub movements: Vec<EntryMovement>,
    /// Who spends it and on what.
    pub tags: EntryTags,
    /// How much of it counts as spent by the tags' principal, in AIT; below zero where spending is taken back.
    pub spent: Money,
    /// How much of it counts as spent on the tags' agent alone: it is a part of what counts as spent elsewhere.
    pub spent_on_agent: Money,
    /// Words for people; `None`: none.
    pub note: Option<String>,
    /// Key under which it is posted once; `None`: it can't be repeated.
    pub once: Option<String>,
    /// Entry that it takes back; `None`: none.
    pub(crate) reverses: Option<LedgerEntryId>,
}

impl NewEntry {
    /// An entry without movements.
    pub fn new(kind: EntryKind) -> Self {
        Self {
            kind,
            reference: None,
            movements: Vec::new(),
            tags: EntryTags::default(),
            spent: Money::ZERO,
            spent_on_agent: Money::ZERO,
            note: None,
            once: None,
            reverses: None,
        }
    }

    /// The same, about the thing of this kind and id.
    #[must_use]
    pub fn of(self, kind: &'static str, id: impl Into<String>) -> Self {
        Self { reference: Some(EntryReference::new(kind, id)), ..self }
    }

    /// The same, which also moves this amount.
    #[must_use]
    pub fn moving(mut self, from: AccountKey, to: AccountKey, amount: Money) -> Self {
        self.movements.push(EntryMovement { from, to, amount, is_fee: false });
        self
    }

    /// The same, which also moves this amount as a fee.
    #[must_use]
    pub fn fee(mut self, from: AccountKey, to: AccountKey, amount: Money) -> Self {
        self.movements.push(EntryMovement { from, to, amount, is_fee: true });
        self
    }

    /// The same, spent by these and on these.
    #[must_use]
    pub fn tagged(self, tags: EntryTags) -> Self {
        Self { tags, ..self }
    }

    /// The same, of which this amount counts as spent.
    #[must_use]
    pub fn spending(self, amount: Money) -> Self {
        Self { spent: amount, ..self }
    }

    /// The same, of which this amount counts as spent on the agent alone.
    #[must_use]
    pub fn spending_on_agent(self, amount: Money) -> Self {
        Self { spent_on_agent: amount, ..self }
    }

    /// The same, posted once under this key.
    #[must_use]
    pub fn once(self, key: impl Into<String>) -> Self {
        Self { once: Some(key.into()), ..self }
    }

    /// The same with these words for people.
    #[must_use]
    pub fn note(self, text: impl Into<String>) -> Self {
        Self { note: Some(text.into()), ..self }
    }

    /// Whether anything moves.
    pub(crate) fn is_empty(&self) -> bool {
        self.movements.iter().all(|movement| movement.amount == Money::ZERO)
    }

    /// Check what can be checked without the accounts. Each movement has one asset and takes from one account what it adds to
    /// another, so the lines of an entry sum to zero for each asset.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] with all faults.
    pub(crate) fn check(&self) -> Result<()> {
        let mut violations = Violations::default();
        let movements = &self.movements;
        violations.require(movements.len() <= MAX_MOVEMENTS, "movements", format!("must be at most {MAX_MOVEMENTS}"));
        for EntryMovement { from, to, amount, .. } in movements {
            violations.require(*amount >= Money::ZERO, "amount", "must not be negative");
            violations.require(from != to, "to", "must be another account than the one it comes from");
            violations.require(from.asset == to.asset, "asset", "must be the same on both sides");
            for asset in [&from.asset, &to.asset] {
                violations.require(is_asset(asset), "asset", asset_rule());
            }
        }
        let note = self.note.as_ref().map_or(0, |note| note.chars().count());
        violations.require(note <= MAX_NOTE_LEN, "note", format!("has over {MAX_NOTE_LEN} characters"));
        violations.finish().map_err(LedgerError::Invalid)
    }
}

/// What a symbol of an asset may be, in words.
pub(crate) fn asset_rule() -> String {
    format!("must be 1 to {MAX_ASSET_LEN} letters, digits, dots, hyphens and underscores")
}

/// Whether a text may be the symbol of an asset.
pub(crate) fn is_asset(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    (1..=MAX_ASSET_LEN).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccountOwner, AccountPurpose};

    fn wallet(name: &str) -> AccountKey {
        AccountKey::wallet(AccountOwner::Principal(name.into()))
    }

    #[test]
    fn what_can_not_balance_is_refused() {
        let eth = AccountKey::new(AccountOwner::System, "ETH", AccountPurpose::External);
        let fault = |entry: NewEntry| match entry.check() {
            Err(LedgerError::Invalid(found)) => found[0].path.to_string(),
            other => format!("{other:?}"),
        };
        let new = || NewEntry::new(EntryKind::Transfer);
        assert_eq!(fault(new().moving(wallet("a"), wallet("a"), Money::from_units(1))), "to");
        assert_eq!(fault(new().moving(wallet("a"), eth, Money::from_units(1))), "asset");
        assert_eq!(fault(new().moving(wallet("a"), wallet("b"), Money::from_units(-1))), "amount");
        assert_eq!(fault(new().note("x".repeat(501))), "note");
        assert!(new().moving(wallet("a"), wallet("b"), Money::from_units(1)).check().is_ok());
    }

    #[test]
    fn nothing_moves_where_all_amounts_are_zero() {
        let entry = NewEntry::new(EntryKind::Cost).moving(wallet("a"), wallet("b"), Money::ZERO);
        assert!(entry.is_empty());
        assert!(!entry.fee(wallet("a"), wallet("b"), Money::from_units(1)).is_empty());
    }
}
