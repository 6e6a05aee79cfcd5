//! SQL of tables `agent_audit_logs` and `am_audit_*`.

use std::ops::Range;

use super::{
    custody::EntryMac,
    leaf::{LEAF_COLUMNS, SELECTED, SealedEntry},
    merkle::{self, NodeHash},
    model::{AuditAlert, AuditRecord, EntrySource, EventType, ExportedEntry, LogKey, SignedTreeHead},
};
use am_core::ids::AuditId;
use am_db::{
    Connection, DatabaseError, FromRow, Result, Tx,
    bulk_insert::{InsertStatement, RowBatch},
    conflict_rule::ConflictRule,
    insert, owner, push_row, row,
    row::Columns,
    sql,
    sql_value::SqlValue,
    statement_list::Listed,
};

/// Number of leaves below a tile of the lowest level, and of tiles below a tile of the next level.
pub const TILE_WIDTH: u64 = 256;

static LOG_INSERT: InsertStatement =
    InsertStatement::new(concat!(file!(), ":", line!()), "agent_audit_logs", &LEAF_COLUMNS, &[], ConflictRule::Refuse);
am_db::inventory::submit! { Listed::Insert(&LOG_INSERT) }

/// Add the rows of this service's own entries with their leaves.
pub fn add_sealed_rows(rows: &mut RowBatch, sealed: &[SealedEntry], mac: &EntryMac) {
    for entry in sealed {
        rows.push(&LOG_INSERT, |row| {
            for column in &entry.columns {
                row.put(column);
            }
        });
    }
    for entry in sealed {
        add_leaf_row(
            rows,
            &LeafRow {
                id: &entry.columns[0],
                hash: &entry.leaf,
                source: entry.source,
                mac: Some(mac.tag(entry.columns[0].text().unwrap_or_default(), &entry.leaf)),
                event: entry.event,
                level: entry.level,
                risk: entry.risk,
            },
        );
    }
}

/// The record of a leaf: the entry's id, its hash, and what entries are counted and searched by.
struct LeafRow<'a> {
    id: &'a SqlValue,
    hash: &'a NodeHash,
    source: EntrySource,
    mac: Option<String>,
    event: &'a str,
    level: &'a str,
    risk: i64,
}

fn add_leaf_row(rows: &mut RowBatch, leaf: &LeafRow<'_>) {
    push_row!(rows, "am_audit_entries" {
        audit_id: leaf.id,
        leaf_hash: hex::encode(leaf.hash),
        source: leaf.source.word(),
        mac: &leaf.mac,
        event_type: leaf.event,
        security_level: leaf.level,
        risk_score: leaf.risk,
        requires_investigation: leaf.risk >= super::model::INVESTIGATION_THRESHOLD,
    });
}

/// A row of the coordinator that has no leaf yet.
pub struct UnsealedRow {
    columns: Vec<SqlValue>,
}

impl FromRow for UnsealedRow {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        // The row's number, which only the order is by.
        columns.next_value::<i64>()?;
        Ok(Self { columns: raw_columns(columns)? })
    }
}

/// Every column of an entry, as it is stored. A key in `user_id`, which the coordinator puts there, is known by its hash alone: it
/// is in no leaf and in no export.
fn raw_columns(columns: &mut Columns<'_>) -> Result<Vec<SqlValue>> {
    let column = |name: &&str| {
        let raw = columns.next_raw()?;
        Ok(match raw.text().filter(|_| *name == "user_id").and_then(owner::hash_if_api_key) {
            Some(hash) => SqlValue::Unsupported { kind: "key".to_owned(), hex: hex::encode(hash) },
            None => raw,
        })
    };
    LEAF_COLUMNS.iter().map(column).collect()
}

/// Rows of the coordinator without a leaf, in the order they were written.
pub struct UnsealedRows {
    pub rows: Vec<UnsealedRow>,
    /// Number of the last row that was looked at, with a leaf or without.
    pub last: i64,
}

/// The rows without a leaf among the next `limit` after row number `after`.
pub async fn find_unsealed(conn: &mut Connection, after: i64, limit: i64) -> Result<UnsealedRows> {
    let last = sql!(
        "SELECT max(place) FROM (SELECT {place l} AS place FROM agent_audit_logs l WHERE {place l} > $1 ORDER BY {place l} LIMIT $2) AS next",
    );
    let last: Option<i64> = last.bind(after).bind(limit).fetch_value(&mut *conn).await?;
    let Some(last) = last else { return Ok(UnsealedRows { rows: Vec::new(), last: after }) };
    let unsealed = sql!(
        "SELECT {place l}",
        SELECTED,
        " FROM agent_audit_logs l WHERE {place l} > $1 AND {place l} <= $2
             AND NOT EXISTS (SELECT 1 FROM am_audit_entries e WHERE e.audit_id = l.id) ORDER BY {place l}",
    );
    Ok(UnsealedRows { rows: unsealed.bind(after).bind(last).fetch_all(conn).await?, last })
}

/// Insert leaves for rows that the coordinator wrote.
pub async fn insert_coordinator_leaves(tx: &mut Tx, rows: &[UnsealedRow]) -> Result<()> {
    let mut leaves = RowBatch::default();
    for row in rows {
        // An unknown event type or level is sealed all the same, and counted as empty.
        let word = |at: usize| row.columns[at].text().unwrap_or_default();
        let leaf = LeafRow {
            id: &row.columns[0],
            hash: &super::leaf::leaf_hash(EntrySource::Coordinator, &row.columns),
            source: EntrySource::Coordinator,
            mac: None,
            event: word(1),
            level: word(7),
            risk: row.columns[13].as_integer().unwrap_or(0),
        };
        add_leaf_row(&mut leaves, &leaf);
    }
    if rows.is_empty() { Ok(()) } else { leaves.execute(tx).await }
}

/// Highest row number of the coordinator's table.
pub async fn last_row(conn: &mut Connection) -> Result<i64> {
    let last: Option<i64> = sql!("SELECT max({place l}) FROM agent_audit_logs l").fetch_value(conn).await?;
    Ok(last.unwrap_or(0))
}

/// Number of entries in the log.
pub async fn log_size(conn: &mut Connection) -> Result<u64> {
    let size: Option<i64> = sql!("SELECT max(seq) FROM am_audit_entries").fetch_value(conn).await?;
    Ok(size.unwrap_or(0).cast_unsigned())
}

/// Leaf hashes of a range, counted from 0.
pub async fn read_leaves(conn: &mut Connection, range: Range<u64>) -> Result<Vec<NodeHash>> {
    let found =
        sql!("SELECT string_agg(leaf_hash, '' ORDER BY seq) FROM am_audit_entries WHERE seq > $1 AND seq <= $2")
            .bind(range.start.cast_signed())
            .bind(range.end.cast_signed());
    let found: Option<String> = found.fetch_value(conn).await?;
    decode_hashes(&found.unwrap_or_default(), &range)
}

/// Tile hashes of a range of one level.
async fn read_tiles(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<NodeHash>> {
    let found = sql!(
        "SELECT string_agg(hash, '' ORDER BY place) FROM am_audit_tiles WHERE level = $1 AND place >= $2 AND place < $3",
    )
    .bind(i64::from(level))
    .bind(range.start.cast_signed())
    .bind(range.end.cast_signed());
    let found: Option<String> = found.fetch_value(conn).await?;
    decode_hashes(&found.unwrap_or_default(), &range)
}

/// Decode the concatenated hex hashes of a range. They are read as one value, because each row costs two thread
/// switches.
fn decode_hashes(found: &str, range: &Range<u64>) -> Result<Vec<NodeHash>> {
    let bytes = hex::decode(found).map_err(|_| DatabaseError::InvalidValue("am_audit: a hash is no hash".into()))?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() as u64 != range.end - range.start || !rest.is_empty() {
        return Err(DatabaseError::InvalidValue(format!("am_audit: {} hashes of {range:?}", hashes.len())));
    }
    Ok(hashes.to_vec())
}

/// Hashes of level `level` (0: leaves) for a range of positions.
async fn level_hashes(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<NodeHash>> {
    if level == 0 { read_leaves(conn, range).await } else { read_tiles(conn, level, range).await }
}

/// Hash over a range of leaves that a proof or a root needs (see [`merkle::complete_subtrees`]). All complete tiles within it
/// must be stored.
pub async fn range_hash(conn: &mut Connection, range: Range<u64>) -> Result<NodeHash> {
    let mut parts = Vec::new();
    for part in merkle::complete_subtrees(range) {
        // The highest level whose tiles fit, so that at most 255 of them are read.
        let level = (part.end - part.start).trailing_zeros() / TILE_WIDTH.trailing_zeros();
        let wide = TILE_WIDTH.pow(level);
        let hashes = level_hashes(conn, level, part.start / wide..part.end / wide).await?;
        parts.push(merkle::root_of_complete(hashes));
    }
    Ok(merkle::root_of_subtrees(&parts))
}

/// The hash over [`TILE_WIDTH`] neighbours of the level below.
pub struct MerkleTile {
    /// Level of the tile, from 1; level 0 are the leaves.
    pub level: u32,
    /// Place among the tiles of its level, from 0.
    pub place: u64,
    pub hash: NodeHash,
}

/// Tiles that entries up to `size` complete beyond those up to `from`, lowest level first.
pub async fn compute_new_tiles(conn: &mut Connection, from: u64, size: u64) -> Result<Vec<MerkleTile>> {
    let mut made: Vec<MerkleTile> = Vec::new();
    let (mut level, mut wide) = (1, TILE_WIDTH);
    while size / wide > 0 {
        for place in from / wide..size / wide {
            let below = place * TILE_WIDTH..(place + 1) * TILE_WIDTH;
            // Some tiles were computed above, the others are stored.
            let fresh = made.iter().filter(|tile| tile.level == level - 1 && below.contains(&tile.place));
            let fresh: Vec<NodeHash> = fresh.map(|tile| tile.hash).collect();
            let stored = below.end - fresh.len() as u64;
            let mut hashes = level_hashes(conn, level - 1, below.start..stored).await?;
            hashes.extend(fresh);
            made.push(MerkleTile { level, place, hash: merkle::root_of_complete(hashes) });
        }
        level += 1;
        wide *= TILE_WIDTH;
    }
    Ok(made)
}

/// Insert the given tiles.
pub async fn insert_tiles(tx: &mut Tx, tiles: &[MerkleTile]) -> Result<()> {
    let mut rows = RowBatch::default();
    for tile in tiles {
        push_row!(rows, "am_audit_tiles" {
            level: i64::from(tile.level),
            place: tile.place.cast_signed(),
            hash: hex::encode(tile.hash),
        } "ON CONFLICT DO NOTHING");
    }
    if tiles.is_empty() { Ok(()) } else { rows.execute(tx).await }
}

/// Insert a head unless one of this size exists. Returns whether it is new.
pub async fn insert_head(tx: &mut Tx, head: &SignedTreeHead) -> Result<bool> {
    let kept = insert!("am_audit_heads" {
        size: head.size.cast_signed(),
        root: &head.root,
        checkpoint: &head.checkpoint,
        made_at: head.made_at,
    } "ON CONFLICT DO NOTHING");
    Ok(kept.execute(tx.conn().await?).await? > 0)
}

row! {
    SignedTreeHead { size => i64::cast_unsigned, root, checkpoint, made_at }
}

/// The last head over at most `size` entries.
pub async fn head_until(conn: &mut Connection, size: u64) -> Result<Option<SignedTreeHead>> {
    let head =
        sql!("SELECT ", SignedTreeHead::COLUMNS, " FROM am_audit_heads WHERE size <= $1 ORDER BY size DESC LIMIT 1");
    head.bind(i64::try_from(size).unwrap_or(i64::MAX)).fetch_optional(conn).await
}

/// Heads over more than `after` entries, smallest first.
pub async fn heads(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<SignedTreeHead>> {
    let heads = sql!("SELECT ", SignedTreeHead::COLUMNS, " FROM am_audit_heads WHERE size > $1 ORDER BY size LIMIT $2");
    heads.bind(i64::try_from(after).unwrap_or(i64::MAX)).bind(limit).fetch_all(conn).await
}

row! {
    /// Where an entry stands in the log.
    pub struct LogPosition {
        /// Position from 1.
        pub seq: u64 => i64::cast_unsigned,
        /// Leaf hash in hex.
        pub leaf_hash: String,
        /// The stored form of its writer.
        pub source: String,
    }
}

/// Position of an entry in the log; `None` when it is not sealed.
pub async fn find_position(conn: &mut Connection, id: &AuditId) -> Result<Option<LogPosition>> {
    let found = sql!("SELECT ", LogPosition::COLUMNS, " FROM am_audit_entries WHERE audit_id = $1");
    found.bind(id).fetch_optional(conn).await
}

/// Position of consumer `reader`; 0 when it has none.
pub async fn consumer_position(conn: &mut Connection, reader: &str) -> Result<u64> {
    Ok(find_consumer_position(conn, reader).await?.unwrap_or(0))
}

/// Position of consumer `reader`; `None` when it has none.
pub async fn find_consumer_position(conn: &mut Connection, reader: &str) -> Result<Option<u64>> {
    let seq = sql!("SELECT seq FROM am_audit_cursors WHERE reader = $1").bind(reader);
    let seq: Option<i64> = seq.fetch_optional_value(conn).await?;
    Ok(seq.map(i64::cast_unsigned))
}

/// Advance consumer `reader` to position `seq`.
pub async fn advance_consumer(tx: &mut Tx, reader: &str, seq: u64) -> Result<()> {
    insert!("am_audit_cursors" { reader: reader, seq: seq.cast_signed() } update on (reader))
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Entries after `seq` that require investigation, in order.
pub async fn to_investigate(conn: &mut Connection, seq: u64, limit: i64) -> Result<Vec<AuditAlert>> {
    let alerts = sql!(
        "SELECT ",
        AuditAlert::COLUMNS,
        " FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id
         WHERE e.requires_investigation AND e.seq > $1 ORDER BY e.seq LIMIT $2",
    );
    alerts.bind(seq.cast_signed()).bind(limit).fetch_all(conn).await
}

row! {
    AuditAlert from "l." {
        seq = "e.seq" => i64::cast_unsigned,
        id,
        event_type => |event: String| EventType::from_stored(&event).map_or(event, |event| event.value().to_owned()),
        risk_score,
        user_id,
        execution_id,
        workflow_id,
        source = "e.source" => |word: String| EntrySource::from_stored(&word).unwrap_or(EntrySource::Coordinator),
        timestamp,
    }
}

/// Entries after position `after` with their stored columns, in order, for an export. An entry whose row is missing
/// from the coordinator's table has no columns.
pub async fn read_exported(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<ExportedEntry>> {
    let exported = sql!(
        "SELECT e.seq, e.audit_id, e.leaf_hash, e.source, l.id IS NULL",
        SELECTED,
        " FROM am_audit_entries e LEFT JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > $1 ORDER BY e.seq LIMIT $2",
    );
    exported.bind(i64::try_from(after).unwrap_or(i64::MAX)).bind(limit).fetch_all(conn).await
}

impl FromRow for ExportedEntry {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            seq: columns.next_value::<i64>()?.cast_unsigned(),
            audit_id: columns.next_value()?,
            leaf_hash: columns.next_value()?,
            source: columns.next_value()?,
            columns: if columns.next_value()? { None } else { Some(raw_columns(columns)?) },
        })
    }
}

/// Whether there is an entry with this id, sealed or not.
pub async fn entry_exists(conn: &mut Connection, id: &AuditId) -> Result<bool> {
    sql!("SELECT 1 FROM agent_audit_logs WHERE id = $1").bind(id).exists(conn).await
}

/// Next entries of a consumer: those of the given event types from position `from` (exclusive) to `to` (inclusive).
pub struct ConsumerRange<'a> {
    pub from: u64,
    pub to: u64,
    pub events: &'a [EventType],
}

/// Data of these entries, in order. Entries that the coordinator wrote before the log began, and events that somebody
/// reported, are left out.
pub async fn read_audit_records(conn: &mut Connection, next: &ConsumerRange<'_>) -> Result<Vec<AuditRecord>> {
    let facts = sql!(
        "SELECT ",
        AuditRecord::COLUMNS,
        " FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > $1 AND e.seq <= $2
             AND NOT (e.source = 'coordinator' AND l.created_at < (SELECT installed_on FROM am_migrations WHERE description = 'audit'))
             AND e.source <> 'reported' AND e.event_type IN ($3) ORDER BY e.seq",
    );
    let facts = facts.bind(next.from.cast_signed()).bind(next.to.cast_signed());
    facts.bind_all(next.events.iter().copied()).fetch_all(conn).await
}

row! {
    AuditRecord from "l." {
        audit_id = "l.id",
        event = "e.event_type",
        at = "l.timestamp",
        user = "l.user_id",
        workflow_id,
        execution_id,
        data = "l.event_data",
    }
}

row! {
    /// An entry that is said to be this service's own, with the code that only the service can compute.
    pub struct ClaimedEntry {
        pub seq: u64 => i64::cast_unsigned,
        pub audit_id: String,
        /// Leaf hash in hex.
        pub leaf_hash: String,
        /// The code in hex; null: none.
        pub mac: Option<String>,
    }
}

/// Entries of a range (positions from 0) that are said to be this service's own.
pub async fn claimed_entries(conn: &mut Connection, range: Range<u64>) -> Result<Vec<ClaimedEntry>> {
    let claimed = sql!(
        "SELECT ",
        ClaimedEntry::COLUMNS,
        " FROM am_audit_entries WHERE seq > $1 AND seq <= $2 AND source <> 'coordinator' ORDER BY seq",
    );
    claimed.bind(range.start.cast_signed()).bind(range.end.cast_signed()).fetch_all(conn).await
}

/// Give an entry, with the leaf hash that follows from it, to the coordinator.
pub async fn disown_entry(tx: &mut Tx, seq: u64, leaf: &NodeHash) -> Result<()> {
    let disown = sql!("UPDATE am_audit_entries SET source = 'coordinator', mac = NULL, leaf_hash = $1 WHERE seq = $2");
    disown.bind(hex::encode(leaf)).bind(seq.cast_signed()).execute(tx.conn().await?).await?;
    Ok(())
}

/// The stored tile of level 1 at a place; `None` when there is none.
pub async fn find_tile(conn: &mut Connection, place: u64) -> Result<Option<String>> {
    let tile = sql!("SELECT hash FROM am_audit_tiles WHERE level = 1 AND place = $1").bind(place.cast_signed());
    tile.fetch_optional_value(conn).await
}

row! {
    LogKey { first_size => i64::cast_unsigned, public_key, verifier_key, change, audit_id, begun_at }
}

/// Keys that signed heads, oldest first.
pub async fn log_keys(conn: &mut Connection) -> Result<Vec<LogKey>> {
    sql!("SELECT ", LogKey::COLUMNS, " FROM am_audit_keys ORDER BY first_size").fetch_all(conn).await
}

/// Record from which head on a key signs.
pub async fn insert_log_key(tx: &mut Tx, key: &LogKey) -> Result<()> {
    let insert = insert!("am_audit_keys" {
        first_size: key.first_size.cast_signed(),
        public_key: &key.public_key,
        verifier_key: &key.verifier_key,
        change: &key.change,
        audit_id: &key.audit_id,
        begun_at: key.begun_at,
    } "ON CONFLICT DO NOTHING");
    insert.execute(tx.conn().await?).await?;
    Ok(())
}
