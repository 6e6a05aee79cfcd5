//! What accounts show: lists, statements in pages and as files, balances at a time and by period.

mod export;
mod store;

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    boxed,
    ids::{LedgerAccountId, LedgerEntryId},
    money::Money,
};
use am_db::{Connection, codec::Timestamp, page::PageRequest};

use super::{
    LedgerService,
    error::{LedgerError, Result},
    model::{AccountBalance, AccountKey, AccountOwner, AccountPurpose, EntryKind, LedgerAccount, LedgerEntry},
    store as accounts,
};

pub use export::{StatementExport, StatementFormat};

/// Maximum number of periods of one report.
pub const MAX_PERIODS: usize = 1000;

/// Which accounts a list has. `None` members restrict nothing.
#[derive(Clone, Debug, Default)]
pub struct AccountFilter {
    /// Owner of the accounts.
    pub owner: Option<AccountOwner>,
    /// Asset of the accounts.
    pub asset: Option<String>,
    /// What the accounts are for.
    pub purpose: Option<AccountPurpose>,
}

/// One line of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LedgerLine)]
pub struct StatementLine {
    /// Time at which it was posted.
    pub posted_at: Timestamp,
    /// Number of the line in its account, from 1 without gaps.
    pub line_no: i64,
    /// The number as text, by which pages are divided.
    #[serde(skip)]
    pub place: String,
    /// Entry that it belongs to.
    #[schema(value_type = String)]
    pub entry_id: LedgerEntryId,
    /// Kind of the entry.
    pub kind: EntryKind,
    /// Kind of the thing that the entry is about; null: nothing else.
    pub reference_kind: Option<String>,
    /// Id of the thing that the entry is about; null: nothing else.
    pub reference_id: Option<String>,
    /// Words for people; null: none.
    pub note: Option<String>,
    /// The account that the amount came from or went to.
    #[schema(value_type = String)]
    pub other_account_id: LedgerAccountId,
    /// Owner of that account.
    pub other_owner: String,
    /// Change of the balance, below zero where it was paid.
    pub amount: Money,
    /// Balance after it.
    pub balance_after: Money,
    /// Whether it is a fee.
    pub is_fee: bool,
}

/// Length of a period, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = LedgerPeriodLength)]
pub enum PeriodLength {
    /// Periods of an hour.
    Hour,
    /// Periods of a day.
    Day,
    /// Periods of a week, which begins on Monday.
    Week,
    /// Periods of a month.
    Month,
}

impl PeriodLength {
    /// The begin of the period that `at` is in.
    pub fn begin(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let day = at.date_naive();
        let hour = |hours: u32| day.and_hms_opt(hours, 0, 0).map_or(at, |begin| begin.and_utc());
        let midnight = |day: NaiveDate| day.and_hms_opt(0, 0, 0).map_or(at, |begin| begin.and_utc());
        match self {
            Self::Hour => hour(chrono::Timelike::hour(&at)),
            Self::Day => hour(0),
            Self::Week => midnight(
                day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday()))).unwrap_or(day),
            ),
            Self::Month => midnight(day.with_day(1).unwrap_or(day)),
        }
    }

    /// The begin of the next period, of one that begins at `begin`.
    pub fn next(self, begin: DateTime<Utc>) -> DateTime<Utc> {
        let next = match self {
            Self::Hour => begin.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => begin.checked_add_days(Days::new(1)),
            Self::Week => begin.checked_add_days(Days::new(7)),
            Self::Month => begin.checked_add_months(Months::new(1)),
        };
        next.unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

/// An account in one period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = LedgerPeriod)]
pub struct PeriodBalance {
    /// Begin of the period.
    pub from: Timestamp,
    /// Its end, which belongs to the next one.
    pub to: Timestamp,
    /// Balance before its first line.
    pub opening: Money,
    /// Balance after its last line.
    pub closing: Money,
    /// Difference of the two.
    pub change: Money,
    /// Number of lines.
    pub lines: i64,
}

impl LedgerService {
    /// What an account has; zeros for one that was never used.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn balance(&self, conn: &mut Connection, key: &AccountKey) -> Result<AccountBalance> {
        Ok(self.balances(conn, std::slice::from_ref(key)).await?.pop().unwrap_or_default())
    }

    /// What accounts have, in the order of `keys`.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn balances(&self, conn: &mut Connection, keys: &[AccountKey]) -> Result<Vec<AccountBalance>> {
        let ids: Vec<LedgerAccountId> = keys.iter().map(AccountKey::id).collect();
        let states = accounts::read_states(conn, &ids).await?;
        let found = ids.iter().map(|id| {
            let state = states.iter().find(|state| state.id == *id);
            state.map_or_else(AccountBalance::default, |state| AccountBalance {
                balance: state.balance,
                held: state.held,
                available: state.balance - state.held,
            })
        });
        Ok(found.collect())
    }

    /// Balance of an account after all lines up to `at`.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn balance_at(&self, conn: &mut Connection, key: &AccountKey, at: Timestamp) -> Result<Money> {
        let after = Timestamp(at.0 + TimeDelta::microseconds(1));
        Ok(accounts::balance_before(conn, &key.id(), after).await?.map_or(Money::ZERO, |(balance, _)| balance))
    }

    /// All accounts of an owner with what they have, by asset and purpose.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn holdings(
        &self,
        conn: &mut Connection,
        owner: &AccountOwner,
    ) -> Result<Vec<(AccountKey, AccountBalance)>> {
        let found = accounts::accounts_of(conn, &owner.to_string()).await?;
        let holding = |account: LedgerAccount| {
            let LedgerAccount { balance, held, available, .. } = account;
            let key = AccountKey::new(owner.clone(), &account.asset, account.purpose);
            (key, AccountBalance { balance, held, available })
        };
        Ok(found.into_iter().map(holding).collect())
    }

    /// A page of accounts, and how many match.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list_accounts(&self, filter: &AccountFilter, page: &PageRequest) -> Result<(Vec<LedgerAccount>, i64)> {
        let owner = filter.owner.as_ref().map(ToString::to_string);
        let mut conn = self.0.db.read_list().await?;
        Ok(store::list_accounts(&mut conn, owner.as_deref(), filter.asset.as_deref(), filter.purpose, page).await?)
    }

    /// An account.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; a database error.
    #[boxed]
    pub async fn account(&self, id: &LedgerAccountId) -> Result<LedgerAccount> {
        let found = accounts::get_account(&mut *self.0.db.read().await?, id).await?;
        found.ok_or(LedgerError::NotFound("Account"))
    }

    /// Balance of the account after all lines up to `at`.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn account_balance_at(&self, id: &LedgerAccountId, at: Timestamp) -> Result<Money> {
        let after = Timestamp(at.0 + TimeDelta::microseconds(1));
        let found = accounts::balance_before(&mut *self.0.db.read().await?, id, after).await?;
        Ok(found.map_or(Money::ZERO, |(balance, _)| balance))
    }

    /// A page of an account's lines, and how many the span of time has.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn statement(&self, id: &LedgerAccountId, page: &PageRequest) -> Result<(Vec<StatementLine>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let after = match &page.after {
            Some((at, line_no)) => {
                let line_no =
                    line_no.parse().map_err(|_| LedgerError::invalid("cursor", "is not one of a statement"))?;
                Some((*at, line_no))
            }
            None => None,
        };
        let (last, before) = store::line_bounds(&mut conn, id, page.created).await?;
        let lines = store::read_lines(&mut conn, id, after, page).await?;
        Ok((lines, (last - before).max(0)))
    }

    /// What an account had in each period from the one that `from` is in to the one that `to` is in. Each takes one step in an
    /// index, however many lines there are.
    ///
    /// # Errors
    /// [`LedgerError::Invalid`] for a span that is empty or has more than [`MAX_PERIODS`]; a database error.
    #[boxed]
    pub async fn periods(
        &self,
        id: &LedgerAccountId,
        length: PeriodLength,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<PeriodBalance>> {
        if to < from {
            return Err(LedgerError::invalid("to", "must not be earlier than `from`"));
        }
        let mut begins = vec![length.begin(from.0)];
        while let Some(last) = begins.last().copied().filter(|last| *last <= to.0) {
            if begins.len() > MAX_PERIODS {
                return Err(LedgerError::invalid("from", format!("must be at most {MAX_PERIODS} periods before `to`")));
            }
            begins.push(length.next(last));
        }
        let mut conn = self.0.db.read_list().await?;
        let mut found = Vec::with_capacity(begins.len());
        for begin in &begins {
            found.push(accounts::balance_before(&mut conn, id, Timestamp(*begin)).await?.unwrap_or_default());
        }
        let period = |(ends, states): (&[DateTime<Utc>], &[(Money, i64)])| {
            let ([from, to], [(opening, first), (closing, last)]) = (ends, states) else { return None };
            Some(PeriodBalance {
                from: Timestamp(*from),
                to: Timestamp(*to),
                opening: *opening,
                closing: *closing,
                change: *closing - *opening,
                lines: last - first,
            })
        };
        Ok(begins.windows(2).zip(found.windows(2)).filter_map(period).collect())
    }

    /// An entry with its lines.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; a database error.
    #[boxed]
    pub async fn entry(&self, id: &LedgerEntryId) -> Result<LedgerEntry> {
        let mut conn = self.0.db.read().await?;
        let found = accounts::get_entry(&mut conn, id).await?.ok_or(LedgerError::NotFound("Ledger entry"))?;
        let lines = accounts::entry_lines(&mut conn, id).await?;
        let reversed_by = accounts::reversal_of(&mut conn, id).await?;
        Ok(found.with_lines(lines, reversed_by))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_begin_at_their_calendars_borders() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let noon = at("2027-03-03T12:34:56.7Z");
        for (length, begin, next) in [
            (PeriodLength::Hour, "2027-03-03T12:00:00Z", "2027-03-03T13:00:00Z"),
            (PeriodLength::Day, "2027-03-03T00:00:00Z", "2027-03-04T00:00:00Z"),
            (PeriodLength::Week, "2027-03-01T00:00:00Z", "2027-03-08T00:00:00Z"),
            (PeriodLength::Month, "2027-03-01T00:00:00Z", "2027-04-01T00:00:00Z"),
        ] {
            assert_eq!(length.begin(noon), at(begin), "{length:?}");
            assert_eq!(length.next(at(begin)), at(next), "{length:?}");
            assert_eq!(length.begin(at(next)), at(next), "{length:?}");
        }
        assert_eq!(PeriodLength::Month.next(at("2027-01-01T00:00:00Z")), at("2027-02-01T00:00:00Z"));
    }
}
