//! SQL of tables `am_settlements`, `am_settlement_transactions` and `am_settlement_chains`, and of what a settlement's end writes into
//! the coordinator's.

use std::collections::HashMap;

use super::{
    SettlementFilter,
    model::{ContractCall, SettlementDraft, SettlementKind, SettlementRecord, SignedCall},
};
use crate::{
    error::Result,
    model::{PortfolioDocument, SettlementStatus},
};
use am_core::ids::PrincipalId;
use am_db::{
    Connection, DatabaseError, FromRow as _, Tx,
    codec::{Json, JsonText, Timestamp},
    insert,
    page::PageRequest,
    row, sql, update,
};

row! {
    SettlementRecord {
        id,
        portfolio_id,
        kind,
        subject_id,
        status,
        reason,
        attempts,
        nonce,
        transaction_hash,
        block,
        queued_at,
        created_at,
        updated_at,
    }
}

row! {
    /// A settlement that is to be sent, or under way.
    #[derive(Clone, Debug)]
    pub(super) struct OpenSettlement {
        pub(super) id: String,
        pub(super) portfolio_id: i64,
        pub(super) agent_address: String,
        pub(super) kind: SettlementKind,
        pub(super) subject_id: Option<i64>,
        pub(super) content: ContractCall => Json::into_inner,
        pub(super) status: SettlementStatus,
        pub(super) reason: Option<String>,
        pub(super) reprice: bool = "reprice <> 0",
        pub(super) queued_at: Timestamp,
    }
}

row! {
    /// A transaction that was signed.
    #[derive(Clone, Debug)]
    pub(super) struct StoredTransaction {
        pub(super) hash: String,
        pub(super) settlement_id: String,
        pub(super) account: String,
        pub(super) nonce: i64,
        pub(super) raw: String,
        pub(super) max_fee: i64,
        pub(super) priority_fee: Option<i64>,
        pub(super) created_at: Timestamp,
    }
}

row! {
    /// A transaction that moves nothing, for a number that nobody's transaction has.
    #[derive(Clone, Debug)]
    pub(super) struct FillerTransaction {
        pub(super) hash: String,
        pub(super) raw: String,
        pub(super) max_fee: i64,
        pub(super) priority_fee: i64,
        pub(super) created_at: Timestamp,
    }
}

row! {
    /// How far a settlement is.
    pub(super) struct SettlementState {
        id: String,
        pub(super) status: SettlementStatus,
        pub(super) transaction_hash: Option<String>,
        pub(super) block: Option<i64>,
        pub(super) reason: Option<String>,
    }
}

/// A settlement's end.
#[derive(Clone, Debug)]
pub(super) struct SettlementEnd {
    pub(super) status: SettlementStatus,
    /// Hash of the transaction that is in the chain; `None`: none is, or it is not known.
    pub(super) hash: Option<String>,
    pub(super) block: Option<i64>,
    pub(super) reason: Option<String>,
    /// Id that the contract gave the portfolio; `None`: it is not of its creation.
    pub(super) contract_portfolio: Option<String>,
}

pub(super) async fn next_place(conn: &mut Connection) -> Result<i64> {
    Ok(sql!("SELECT 1 + coalesce(max(place), 0) FROM am_settlements").fetch_value(conn).await?)
}

pub(super) async fn insert(
    tx: &mut Tx,
    portfolio: &PortfolioDocument,
    draft: &SettlementDraft,
    place: i64,
    now: Timestamp,
) -> Result<()> {
    let content = JsonText::from_value(&draft.call).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    insert!("am_settlements" {
        id: &draft.id,
        place: place,
        owner_id: &portfolio.owner_id,
        portfolio_id: portfolio.id,
        agent_address: &portfolio.agent_address,
        kind: draft.kind,
        subject_id: draft.subject_id,
        content: content,
        status: SettlementStatus::Pending,
        attempts: 0_i64,
        queued_at: now,
        created_at: now,
        updated_at: now,
    })
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write down which settlement brings a portfolio into the contract.
pub(super) async fn name_creation(tx: &mut Tx, portfolio: i64, settlement: Option<&str>) -> Result<()> {
    update!("am_portfolios" { settlement_id: settlement } where "id = $1" (portfolio))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

pub(super) async fn get(conn: &mut Connection, id: &str) -> Result<Option<(SettlementRecord, PrincipalId)>> {
    let found = sql!("SELECT ", SettlementRecord::COLUMNS, " FROM am_settlements WHERE id = $1");
    let Some(record) = found.bind(id).fetch_optional::<SettlementRecord>(conn).await? else { return Ok(None) };
    let owner = sql!("SELECT owner_id FROM am_settlements WHERE id = $1");
    let owner: Option<PrincipalId> = owner.bind(id).fetch_optional_value(conn).await?;
    Ok(owner.map(|owner| (record, owner)))
}

pub(super) async fn list(
    conn: &mut Connection,
    owner: Option<PrincipalId>,
    filter: SettlementFilter,
    page: &PageRequest,
) -> Result<(Vec<SettlementRecord>, Option<i64>)> {
    let rows = sql!(
        "SELECT ",
        SettlementRecord::COLUMNS,
        " FROM am_settlements WHERE true [AND owner_id = $1] [AND status = $2] [AND portfolio_id = $3] {page $4}",
    );
    let rows = rows.bind_some(owner.clone()).bind_some(filter.status).bind_some(filter.portfolio_id);
    let rows = rows.bind_page(page).fetch_all(conn).await?;
    let Some(owner) = owner else { return Ok((rows, None)) };
    let total = sql!(
        "SELECT count(*) FROM am_settlements WHERE owner_id = $1 [AND status = $2] [AND portfolio_id = $3] {span $4}",
    );
    let total = total.bind(owner).bind_some(filter.status).bind_some(filter.portfolio_id).bind_span(page.created);
    Ok((rows, Some(total.fetch_value(conn).await?)))
}

/// How far these settlements are, by their ids.
pub(super) async fn states(conn: &mut Connection, ids: &[String]) -> Result<HashMap<String, SettlementState>> {
    let found = sql!("SELECT ", SettlementState::COLUMNS, " FROM am_settlements WHERE id IN {texts $1}");
    let rows: Vec<SettlementState> = found.bind(texts(ids)?).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|row| (row.id.clone(), row)).collect())
}

fn texts(ids: &[String]) -> Result<String> {
    Ok(serde_json::to_string(ids).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?)
}

/// Settlements under way, in the order in which they were sent.
pub(super) async fn in_flight(conn: &mut Connection, most: i64) -> Result<Vec<OpenSettlement>> {
    let found = sql!(
        "SELECT ",
        OpenSettlement::COLUMNS,
        " FROM am_settlements WHERE status || '' IN ('signed', 'sent', 'unknown') ORDER BY place LIMIT $1",
    );
    Ok(found.bind(most).fetch_all(conn).await?)
}

/// The settlement to sign next.
pub(super) async fn next_pending(conn: &mut Connection) -> Result<Option<OpenSettlement>> {
    let found = sql!(
        "SELECT ",
        OpenSettlement::COLUMNS,
        " FROM am_settlements WHERE status || '' = 'pending' ORDER BY place LIMIT 1",
    );
    Ok(found.fetch_optional(conn).await?)
}

/// How many wait, and how many are under way.
pub(super) async fn count_open(conn: &mut Connection) -> Result<(i64, i64)> {
    let pending = sql!("SELECT count(*) FROM am_settlements WHERE status = 'pending'").fetch_value(conn).await?;
    let flying = sql!("SELECT count(*) FROM am_settlements WHERE status IN ('signed', 'sent', 'unknown')");
    Ok((pending, flying.fetch_value(conn).await?))
}

/// The transactions of these settlements, the oldest of each first.
pub(super) async fn transactions(conn: &mut Connection, ids: &[String]) -> Result<Vec<StoredTransaction>> {
    let found = sql!(
        "SELECT ",
        StoredTransaction::COLUMNS,
        " FROM am_settlement_transactions WHERE settlement_id IN {texts $1}",
    );
    let mut rows: Vec<StoredTransaction> = found.bind(texts(ids)?).fetch_all(conn).await?;
    // A replacement pays more.
    rows.sort_by_key(|row| (row.nonce, row.max_fee));
    Ok(rows)
}

/// The highest number that a transaction of an account was signed with.
pub(super) async fn last_nonce(conn: &mut Connection, account: &str) -> Result<Option<i64>> {
    let found = sql!("SELECT max(nonce) FROM am_settlement_transactions WHERE account = $1");
    Ok(found.bind(account).fetch_value(conn).await?)
}

/// The highest number of a transaction of an account that is in the chain for good.
pub(super) async fn last_mined_nonce(conn: &mut Connection, account: &str) -> Result<Option<i64>> {
    let found = sql!("SELECT max(nonce) FROM am_settlement_transactions WHERE account = $1 AND mined = 1");
    Ok(found.bind(account).fetch_value(conn).await?)
}

/// A transaction to store, before it is sent.
pub(super) struct NewTransaction<'a> {
    pub(super) account: &'a str,
    pub(super) nonce: i64,
    pub(super) max_fee: i64,
    pub(super) priority_fee: i64,
    pub(super) signed: &'a SignedCall,
    pub(super) now: Timestamp,
}

/// Store a transaction of a settlement, which is signed from then on.
pub(super) async fn store_transaction(tx: &mut Tx, settlement: &str, new: &NewTransaction<'_>) -> Result<()> {
    insert!("am_settlement_transactions" {
        hash: &new.signed.hash,
        settlement_id: settlement,
        account: new.account,
        nonce: new.nonce,
        raw: &new.signed.raw,
        max_fee: new.max_fee,
        priority_fee: new.priority_fee,
        created_at: new.now,
    })
    .execute(tx.conn().await?)
    .await?;
    let signed = sql!(
        "UPDATE am_settlements SET status = $2, reason = NULL, reprice = 0, attempts = attempts + 1, nonce = $3,
             transaction_hash = $4, updated_at = $5 WHERE id = $1",
    );
    let signed = signed.bind(settlement).bind(SettlementStatus::Signed).bind(new.nonce).bind(&new.signed.hash);
    signed.bind(new.now).execute(tx.conn().await?).await?;
    Ok(())
}

/// The fillers of a number of an account, the last first; some at most.
pub(super) async fn fillers(
    conn: &mut Connection,
    account: &str,
    nonce: i64,
    most: i64,
) -> Result<Vec<FillerTransaction>> {
    let found = sql!(
        "SELECT ",
        FillerTransaction::COLUMNS,
        " FROM am_settlement_fillers WHERE account = $1 AND nonce = $2 LIMIT $3",
    );
    let mut rows: Vec<FillerTransaction> = found.bind(account).bind(nonce).bind(most).fetch_all(conn).await?;
    // A replacement pays more.
    rows.sort_by_key(|row| std::cmp::Reverse(row.max_fee));
    Ok(rows)
}

/// Store a filler, before it is sent.
pub(super) async fn store_filler(tx: &mut Tx, new: &NewTransaction<'_>) -> Result<()> {
    insert!("am_settlement_fillers" {
        hash: &new.signed.hash,
        account: new.account,
        nonce: new.nonce,
        raw: &new.signed.raw,
        max_fee: new.max_fee,
        priority_fee: new.priority_fee,
        created_at: new.now,
    } "ON CONFLICT (hash) DO NOTHING")
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Write down what is known of a settlement under way; one that has ended meanwhile stays as it is.
pub(super) async fn mark(
    tx: &mut Tx,
    id: &str,
    status: SettlementStatus,
    reason: Option<&str>,
    now: Timestamp,
) -> Result<()> {
    update!("am_settlements" {
        status: status,
        reason: reason,
        updated_at: now,
    } where "id = $1 AND status IN ('signed', 'sent', 'unknown')" (id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Say why a settlement under way is not sent again at a higher price, and don't try that further.
pub(super) async fn refuse_reprice(tx: &mut Tx, id: &str, reason: &str, now: Timestamp) -> Result<()> {
    update!("am_settlements" {
        reprice: 0_i64,
        reason: reason,
        updated_at: now,
    } where "id = $1 AND status IN ('signed', 'sent', 'unknown')" (id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// End a settlement under way; whether it was, and this is its end.
pub(super) async fn end(tx: &mut Tx, settlement: &OpenSettlement, end: &SettlementEnd, now: Timestamp) -> Result<bool> {
    let ended = update!("am_settlements" {
        status: end.status,
        reason: end.reason.as_deref(),
        block: end.block,
        reprice: 0_i64,
        updated_at: now,
    } where "id = $1 AND status IN ('signed', 'sent', 'unknown')" (&settlement.id));
    if ended.execute(tx.conn().await?).await? == 0 {
        return Ok(false);
    }
    let Some(hash) = &end.hash else {
        if end.status == SettlementStatus::Confirmed {
            // Which transaction did it is not known; the last one did not.
            update!("am_settlements" { transaction_hash: None::<String> } where "id = $1" (&settlement.id))
                .execute(tx.conn().await?)
                .await?;
        }
        return Ok(true);
    };
    update!("am_settlements" { transaction_hash: hash } where "id = $1" (&settlement.id))
        .execute(tx.conn().await?)
        .await?;
    update!("am_settlement_transactions" { mined: 1_i64 } where "hash = $1" (hash)).execute(tx.conn().await?).await?;
    if end.status != SettlementStatus::Confirmed {
        return Ok(true);
    }
    if matches!(settlement.kind, SettlementKind::Trade | SettlementKind::Rebalance) {
        update!("portfolio_trade" {
            transaction_hash: hash,
        } where "id IN (SELECT id FROM am_portfolio_trades WHERE settlement_id = $1)" (&settlement.id))
        .execute(tx.conn().await?)
        .await?;
    }
    if let (SettlementKind::Create, Some(number)) = (settlement.kind, &end.contract_portfolio) {
        update!("agent_portfolio" { contract_portfolio_id: number } where "id = $1" (settlement.portfolio_id))
            .execute(tx.conn().await?)
            .await?;
    }
    Ok(true)
}

/// Let a settlement wait to be signed anew.
pub(super) async fn requeue(tx: &mut Tx, id: &str, now: Timestamp) -> Result<()> {
    update!("am_settlements" {
        status: SettlementStatus::Pending,
        reason: None::<String>,
        block: None::<i64>,
        queued_at: now,
        updated_at: now,
    } where "id = $1" (id))
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Ask for a transaction that pays more.
pub(super) async fn ask_reprice(tx: &mut Tx, id: &str, now: Timestamp) -> Result<()> {
    update!("am_settlements" { reprice: 1_i64, updated_at: now } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Give a settlement up.
pub(super) async fn abandon(tx: &mut Tx, id: &str, now: Timestamp) -> Result<()> {
    update!("am_settlements" { status: SettlementStatus::Abandoned, updated_at: now } where "id = $1" (id))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Write down the chain that a contract is seen on, where it was seen on none.
pub(super) async fn bind_chain(
    tx: &mut Tx,
    chain_id: i64,
    contract: &str,
    genesis: &str,
    now: Timestamp,
) -> Result<()> {
    insert!("am_settlement_chains" {
        chain_id: chain_id,
        contract: contract,
        genesis: genesis,
        created_at: now,
    } "ON CONFLICT (chain_id, contract) DO NOTHING")
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// The first block of the chain that a contract was first seen on; `None`: it was seen on none.
pub(super) async fn chain_genesis(conn: &mut Connection, chain_id: i64, contract: &str) -> Result<Option<String>> {
    let found = sql!("SELECT genesis FROM am_settlement_chains WHERE chain_id = $1 AND contract = $2");
    Ok(found.bind(chain_id).bind(contract).fetch_optional_value(conn).await?)
}
