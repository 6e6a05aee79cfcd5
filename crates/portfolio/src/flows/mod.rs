//! Money that comes into portfolios and leaves them.

mod store;

use am_core::{
    boxed,
    ids::PrincipalId,
    money::{Money, StatedAmount},
    validation::{Violation, Violations},
};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
};
use am_ledger::{AccountKey, AccountOwner, AccountPurpose, EntryKind, EntryTags, NewEntry};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    PortfolioCaller, PortfolioService,
    arithmetic::value_of,
    book::{PortfolioBook, ValueCause, outside_of, wallet_of},
    error::{PortfolioError, Result},
    model::{SYMBOL_RULE, SettlementSummary, is_symbol},
    portfolios::visible_portfolio,
    settlement::{ContractCall, SettlementDraft, SettlementKind, fill_summaries},
};

/// Where a deposit comes from, or a withdrawal goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlowSource {
    /// The wallet of the portfolio's owner in the ledger.
    #[default]
    Wallet,
    /// Outside the ledger, which an admin attests.
    Outside,
}

/// A deposit or a withdrawal to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioFlowRequest)]
pub struct FlowRequest {
    /// Symbol of the token. Default `AIT`.
    pub token: Option<String>,
    /// Amount of the token, more than nothing, with at most eight decimal places.
    pub amount: StatedAmount,
    /// Where it comes from or goes: `wallet` or `outside`, the latter for admins. Default `wallet`.
    pub source: Option<FlowSource>,
}

/// Direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowDirection {
    Deposit,
    Withdrawal,
}

impl FlowDirection {
    fn word(self) -> &'static str {
        match self {
            Self::Deposit => "deposit",
            Self::Withdrawal => "withdrawal",
        }
    }
}

/// A deposit or a withdrawal that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioFlow)]
pub struct FlowDocument {
    /// Number of the flow.
    pub id: i64,
    /// Number of the portfolio.
    pub portfolio_id: i64,
    /// `deposit` or `withdrawal`.
    pub direction: String,
    /// Symbol of the token.
    pub token: String,
    /// Amount of the token.
    #[serde(with = "am_core::money::exact")]
    pub amount: Money,
    /// Price of one token in AIT at that time.
    #[serde(with = "am_core::money::exact")]
    pub price: Money,
    /// What it was worth in AIT.
    #[serde(with = "am_core::money::exact")]
    pub value: Money,
    /// Entry of the ledger.
    pub entry_id: String,
    /// How far it is in the contract.
    #[serde(default)]
    pub settlement: SettlementSummary,
    /// When it was made.
    pub created_at: Timestamp,
}

impl PortfolioService {
    /// Bring money into a portfolio.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`]; [`PortfolioError::Invalid`] with all faults; [`PortfolioError::Conflict`] where a price is
    /// missing or too old; [`PortfolioError::Ledger`] where the wallet has too little.
    #[boxed]
    pub async fn deposit(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: FlowRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<FlowDocument>> {
        self.move_money(caller, id, request, FlowDirection::Deposit, once).await
    }

    /// Take money out of a portfolio.
    ///
    /// # Errors
    /// As [`PortfolioService::deposit`]; [`PortfolioError::Ledger`] where the portfolio has too little.
    #[boxed]
    pub async fn withdraw(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: FlowRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<FlowDocument>> {
        self.move_money(caller, id, request, FlowDirection::Withdrawal, once).await
    }

    async fn move_money(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        request: FlowRequest,
        direction: FlowDirection,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<FlowDocument>> {
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let flow = me.flow(tx, &by, id, &request, direction).await?;
            let entry = me.entry(&by.principal, "portfolio", direction.word(), flow.created_at);
            let entry = entry.data("portfolio", json!(id)).data("token", json!(flow.token));
            let entry = entry.data("amount", json!(flow.amount.to_string())).data("entry", json!(flow.entry_id));
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(flow)
        };
        match self.0.db.write_idempotent(&self.0.clock, once, work).await {
            Ok(done) => {
                self.wake_settlement();
                Ok(done)
            }
            Err(error) => Err(self.refused(&caller.principal, id, direction.word(), error).await),
        }
    }

    async fn flow(
        &self,
        tx: &mut Tx,
        caller: &PortfolioCaller,
        id: i64,
        request: &FlowRequest,
        direction: FlowDirection,
    ) -> Result<FlowDocument> {
        let now = self.now();
        let token = request.token.as_deref().unwrap_or(am_ledger::AIT);
        let mut book = self.open_book(tx.conn().await?, caller, id, &[token], now).await?;
        let source = request.source.unwrap_or_default();
        let amount = checked(caller, token, request.amount, source).map_err(PortfolioError::Invalid)?;
        if direction == FlowDirection::Deposit {
            book.check_active()?;
            book.check_room(token)?;
        }
        let held = book.amounts_held();
        let price = book.price(token)?;
        let value = value_of(amount, price).ok_or(PortfolioError::Ledger(am_ledger::LedgerError::OutOfRange))?;
        let owner = book.portfolio.owner_id.clone();
        let entry = flow_entry(&book, token, amount, direction, source, owner);
        match direction {
            FlowDirection::Deposit => {
                book.record_value(tx, ValueCause::Deposit, value).await?;
                book.positions.add(token, amount, value, value)?;
                if book.portfolio.initial_capital <= 0.0 {
                    book.portfolio.initial_capital = value.to_f64();
                }
            }
            FlowDirection::Withdrawal => {
                let held = book.positions.0.get(token).map_or(Money::ZERO, |position| position.amount);
                if held < amount {
                    // The ledger says how much is missing.
                    self.0.ledger.post(tx, entry).await?;
                    return Err(PortfolioError::Conflict("insufficient_funds", format!("It holds {held} {token}")));
                }
                book.record_value(tx, ValueCause::Withdrawal, Money::ZERO - value).await?;
                book.positions.take(token, amount, value)?;
            }
        }
        let posted = self.0.ledger.post(tx, entry).await?;
        let entry_id = posted.map(|posted| posted.id.to_string()).unwrap_or_default();
        book.save(tx).await?;
        let settlement = self.open_settlement(tx, &mut book.portfolio, &held).await?;
        let flow = FlowDocument {
            id: store::next_id(tx.conn().await?).await?,
            portfolio_id: id,
            direction: direction.word().to_owned(),
            token: token.to_owned(),
            amount,
            price,
            value,
            entry_id,
            settlement: SettlementSummary::pending(settlement.clone()),
            created_at: now,
        };
        store::insert(tx, &flow).await?;
        if let Some(settlement) = settlement {
            let (token, amount) = (token.to_owned(), amount.units());
            let (kind, call) = match direction {
                FlowDirection::Deposit => (SettlementKind::Deposit, ContractCall::Deposit { token, amount }),
                FlowDirection::Withdrawal => (SettlementKind::Withdrawal, ContractCall::Withdraw { token, amount }),
            };
            let draft = SettlementDraft { id: settlement, kind, subject_id: Some(flow.id), call };
            self.store_settlement(tx, &book.portfolio, draft).await?;
        }
        Ok(flow)
    }

    /// A page of a portfolio's deposits and withdrawals, the newest first, and how many there are.
    ///
    /// # Errors
    /// [`PortfolioError::NotFound`].
    #[boxed]
    pub async fn list_flows(
        &self,
        caller: &PortfolioCaller,
        id: i64,
        page: &PageRequest,
    ) -> Result<(Vec<FlowDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        visible_portfolio(&mut conn, caller, id).await?;
        let (mut rows, total) = store::list(&mut conn, id, page).await?;
        fill_summaries(&mut conn, rows.iter_mut().map(|row| &mut row.settlement)).await?;
        Ok((rows, total))
    }
}

/// The amount of a request, or all that is wrong with it.
fn checked(
    caller: &PortfolioCaller,
    token: &str,
    amount: StatedAmount,
    source: FlowSource,
) -> std::result::Result<Money, Vec<Violation>> {
    let mut violations = Violations::default();
    violations.require(is_symbol(token), "token", SYMBOL_RULE);
    let amount = amount.positive("amount", &mut violations);
    let attested = source == FlowSource::Wallet || caller.is_admin;
    violations.require(attested, "source", "`outside` needs an admin key");
    violations.finish_with(amount)
}

fn flow_entry(
    book: &PortfolioBook,
    token: &str,
    amount: Money,
    direction: FlowDirection,
    source: FlowSource,
    owner: PrincipalId,
) -> NewEntry {
    let other = match source {
        FlowSource::Wallet => AccountKey::new(AccountOwner::Principal(owner.clone()), token, AccountPurpose::Wallet),
        FlowSource::Outside => outside_of(token),
    };
    let own = wallet_of(book.id(), token);
    let (kind, from, to) = match direction {
        FlowDirection::Deposit => (EntryKind::Deposit, other, own),
        FlowDirection::Withdrawal => (EntryKind::Withdrawal, own, other),
    };
    let tags = EntryTags { principal: Some(owner), ..EntryTags::default() };
    NewEntry::new(kind).of("portfolio", book.id().to_string()).moving(from, to, amount).tagged(tags)
}
