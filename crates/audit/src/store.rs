//! SQL of tables `agent_audit_logs` and `am_audit_*`.

use std::ops::Range;

use super::{
    export::Exported,
    follow::Fact,
    leaf::{COLUMNS, SELECTED, Sealed},
    merkle::{self, Hash},
    model::{EventType, Source},
    seal::Alert,
};
use am_db::{
    Connection, Error, FromRow, Result, Tx,
    codec::Timestamp,
    insert, owner, push_row,
    raw::Raw,
    row,
    row::Columns,
    rows::{Insert, Rows},
    sql,
    statement::Listed,
};

/// Number of leaves below a tile of the lowest level, and of tiles below a tile of the next level.
pub const TILE: u64 = 256;

static LOGS: Insert = Insert::new(concat!(file!(), ":", line!()), "agent_audit_logs", &COLUMNS, "");
am_db::inventory::submit! { Listed::Insert(&LOGS) }

/// Add the rows of this service's own entries with their leaves.
pub fn push(rows: &mut Rows, sealed: &[Sealed]) {
    for entry in sealed {
        rows.push(&LOGS, |row| {
            for column in &entry.columns {
                row.put(column);
            }
        });
    }
    for entry in sealed {
        push_leaf(rows, &entry.columns[0], &entry.leaf, Source::Service, (entry.event, entry.level), entry.risk);
    }
}

fn push_leaf(rows: &mut Rows, id: &Raw, leaf: &Hash, source: Source, (event, level): (&str, &str), risk: i64) {
    push_row!(rows, "am_audit_entries" {
        audit_id: id,
        leaf_hash: hex::encode(leaf),
        source: source.word(),
        event_type: event,
        security_level: level,
        risk_score: risk,
        requires_investigation: risk >= super::model::INVESTIGATE,
    });
}

/// A row of the coordinator that has no leaf yet.
pub struct Unsealed {
    columns: Vec<Raw>,
}

impl FromRow for Unsealed {
    fn from_row(columns: &mut Columns<'_>) -> Result<Self> {
        // The row's number, which only the order is by.
        columns.next_value::<i64>()?;
        Ok(Self { columns: raw_columns(columns)? })
    }
}

/// Every column of an entry, as it is stored. A key in `user_id`, which the coordinator puts there, is known by its hash alone: it
/// is in no leaf and in no export.
fn raw_columns(columns: &mut Columns<'_>) -> Result<Vec<Raw>> {
    let column = |name: &&str| {
        let raw = columns.next_raw()?;
        Ok(match raw.text().filter(|_| *name == "user_id").and_then(owner::hidden) {
            Some(hash) => Raw::Odd { kind: "key".to_owned(), hex: hex::encode(hash) },
            None => raw,
        })
    };
    COLUMNS.iter().map(column).collect()
}

/// At most `limit` rows without a leaf after row number `after`, in the order they were written, and the number of the
/// last row read.
pub async fn unsealed(conn: &mut Connection, after: i64, limit: i64) -> Result<(Vec<Unsealed>, i64)> {
    let last = sql!(
        "SELECT max(place) FROM (SELECT {place l} AS place FROM agent_audit_logs l WHERE {place l} > $1 ORDER BY {place l} LIMIT $2) AS next",
    );
    let last: Option<i64> = last.bind(after).bind(limit).fetch_value(&mut *conn).await?;
    let Some(last) = last else { return Ok((Vec::new(), after)) };
    let unsealed = sql!(
        "SELECT {place l}",
        SELECTED,
        " FROM agent_audit_logs l WHERE {place l} > $1 AND {place l} <= $2
             AND NOT EXISTS (SELECT 1 FROM am_audit_entries e WHERE e.audit_id = l.id) ORDER BY {place l}",
    );
    Ok((unsealed.bind(after).bind(last).fetch_all(conn).await?, last))
}

/// Insert leaves for rows that the coordinator wrote.
pub async fn seal_coordinators(tx: &mut Tx, rows: &[Unsealed]) -> Result<()> {
    let mut leaves = Rows::default();
    for row in rows {
        // An unknown event type or level is sealed all the same, and counted as empty.
        let word = |at: usize| row.columns[at].text().unwrap_or_default();
        let risk = row.columns[13].integer().unwrap_or(0);
        let leaf = super::leaf::hash(Source::Coordinator, &row.columns);
        push_leaf(&mut leaves, &row.columns[0], &leaf, Source::Coordinator, (word(1), word(7)), risk);
    }
    if rows.is_empty() { Ok(()) } else { leaves.execute(tx).await }
}

/// Highest row number of the coordinator's table.
pub async fn last_row(conn: &mut Connection) -> Result<i64> {
    let last: Option<i64> = sql!("SELECT max({place l}) FROM agent_audit_logs l").fetch_value(conn).await?;
    Ok(last.unwrap_or(0))
}

/// Number of entries in the log.
pub async fn size(conn: &mut Connection) -> Result<u64> {
    let size: Option<i64> = sql!("SELECT max(seq) FROM am_audit_entries").fetch_value(conn).await?;
    Ok(size.unwrap_or(0).cast_unsigned())
}

/// Leaf hashes of a range, counted from 0.
pub async fn leaves(conn: &mut Connection, range: Range<u64>) -> Result<Vec<Hash>> {
    let found =
        sql!("SELECT string_agg(leaf_hash, '' ORDER BY seq) FROM am_audit_entries WHERE seq > $1 AND seq <= $2")
            .bind(range.start.cast_signed())
            .bind(range.end.cast_signed());
    let found: Option<String> = found.fetch_value(conn).await?;
    whole(&found.unwrap_or_default(), &range)
}

/// Tile hashes of a range of one level.
async fn tiles(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<Hash>> {
    let found = sql!(
        "SELECT string_agg(hash, '' ORDER BY place) FROM am_audit_tiles WHERE level = $1 AND place >= $2 AND place < $3",
    )
    .bind(i64::from(level))
    .bind(range.start.cast_signed())
    .bind(range.end.cast_signed());
    let found: Option<String> = found.fetch_value(conn).await?;
    whole(&found.unwrap_or_default(), &range)
}

/// Decode the concatenated hex hashes of a range. They are read as one value, because each row costs two thread
/// switches.
fn whole(found: &str, range: &Range<u64>) -> Result<Vec<Hash>> {
    let bytes = hex::decode(found).map_err(|_| Error::Unreadable("am_audit: a hash is no hash".into()))?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() as u64 != range.end - range.start || !rest.is_empty() {
        return Err(Error::Unreadable(format!("am_audit: {} hashes of {range:?}", hashes.len())));
    }
    Ok(hashes.to_vec())
}

/// Hashes of level `level` (0: leaves) for a range of positions.
async fn level_hashes(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<Hash>> {
    if level == 0 { leaves(conn, range).await } else { tiles(conn, level, range).await }
}

/// Hash over a range of leaves that a proof or a root needs (see [`merkle::complete`]). All complete tiles within it
/// must be stored.
pub async fn range_hash(conn: &mut Connection, range: Range<u64>) -> Result<Hash> {
    let mut parts = Vec::new();
    for part in merkle::complete(range) {
        // The highest level whose tiles fit, so that at most 255 of them are read.
        let level = (part.end - part.start).trailing_zeros() / TILE.trailing_zeros();
        let wide = TILE.pow(level);
        let hashes = level_hashes(conn, level, part.start / wide..part.end / wide).await?;
        parts.push(merkle::root_of_complete(hashes));
    }
    Ok(merkle::fold(&parts))
}

/// Tiles that entries up to `size` complete beyond those up to `from`, lowest level first.
pub async fn new_tiles(conn: &mut Connection, from: u64, size: u64) -> Result<Vec<(u32, u64, Hash)>> {
    let mut made: Vec<(u32, u64, Hash)> = Vec::new();
    let (mut level, mut wide) = (1, TILE);
    while size / wide > 0 {
        for place in from / wide..size / wide {
            let below = place * TILE..(place + 1) * TILE;
            // Some tiles were computed above, the others are stored.
            let fresh = made.iter().filter(|(at, place, _)| *at == level - 1 && below.contains(place));
            let fresh: Vec<Hash> = fresh.map(|(_, _, hash)| *hash).collect();
            let stored = below.end - fresh.len() as u64;
            let mut hashes = level_hashes(conn, level - 1, below.start..stored).await?;
            hashes.extend(fresh);
            made.push((level, place, merkle::root_of_complete(hashes)));
        }
        level += 1;
        wide *= TILE;
    }
    Ok(made)
}

/// Insert the given tiles.
pub async fn keep_tiles(tx: &mut Tx, tiles: &[(u32, u64, Hash)]) -> Result<()> {
    let mut rows = Rows::default();
    for (level, place, hash) in tiles {
        push_row!(rows, "am_audit_tiles" {
            level: i64::from(*level),
            place: place.cast_signed(),
            hash: hex::encode(hash),
        } "ON CONFLICT DO NOTHING");
    }
    if tiles.is_empty() { Ok(()) } else { rows.execute(tx).await }
}

/// A stored signed head.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = AuditHead)]
pub struct Head {
    /// Number of entries covered.
    pub size: u64,
    /// Merkle root over the entries, in hex.
    pub root: String,
    /// Complete C2SP checkpoint: log, size, root in base64, an empty line, the signature.
    pub checkpoint: String,
    /// Time of signing.
    pub made_at: Timestamp,
}

/// Insert a head unless one of this size exists. Returns whether it is new.
pub async fn keep_head(tx: &mut Tx, head: &Head) -> Result<bool> {
    let kept = insert!("am_audit_heads" {
        size: head.size.cast_signed(),
        root: &head.root,
        checkpoint: &head.checkpoint,
        made_at: head.made_at,
    } "ON CONFLICT DO NOTHING");
    Ok(kept.execute(tx.conn().await?).await? > 0)
}

row! {
    Head { size => i64::cast_unsigned, root, checkpoint, made_at }
}

/// The last head over at most `size` entries.
pub async fn head_until(conn: &mut Connection, size: u64) -> Result<Option<Head>> {
    let head = sql!("SELECT ", Head::COLUMNS, " FROM am_audit_heads WHERE size <= $1 ORDER BY size DESC LIMIT 1");
    head.bind(i64::try_from(size).unwrap_or(i64::MAX)).fetch_optional(conn).await
}

/// Heads over more than `after` entries, smallest first.
pub async fn heads(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<Head>> {
    let heads = sql!("SELECT ", Head::COLUMNS, " FROM am_audit_heads WHERE size > $1 ORDER BY size LIMIT $2");
    heads.bind(i64::try_from(after).unwrap_or(i64::MAX)).bind(limit).fetch_all(conn).await
}

/// Position of an entry in the log (from 1), its leaf and its writer.
pub async fn place(conn: &mut Connection, id: &str) -> Result<Option<(u64, String, String)>> {
    let found = sql!("SELECT seq, leaf_hash, source FROM am_audit_entries WHERE audit_id = $1").bind(id);
    let found: Option<(i64, String, String)> = found.fetch_optional(conn).await?;
    Ok(found.map(|(seq, leaf, source)| (seq.cast_unsigned(), leaf, source)))
}

/// Position of consumer `reader`; 0 when it has none.
pub async fn cursor(conn: &mut Connection, reader: &str) -> Result<u64> {
    Ok(known_cursor(conn, reader).await?.unwrap_or(0))
}

/// Position of consumer `reader`; `None` when it has none.
pub async fn known_cursor(conn: &mut Connection, reader: &str) -> Result<Option<u64>> {
    let seq = sql!("SELECT seq FROM am_audit_cursors WHERE reader = $1").bind(reader);
    let seq: Option<i64> = seq.fetch_optional_value(conn).await?;
    Ok(seq.map(i64::cast_unsigned))
}

/// Advance consumer `reader` to position `seq`.
pub async fn advance(tx: &mut Tx, reader: &str, seq: u64) -> Result<()> {
    insert!("am_audit_cursors" { reader: reader, seq: seq.cast_signed() } "ON CONFLICT (reader) DO UPDATE SET seq = excluded.seq")
        .execute(tx.conn().await?)
        .await?;
    Ok(())
}

/// Entries after `seq` that require investigation, in order.
pub async fn to_investigate(conn: &mut Connection, seq: u64, limit: i64) -> Result<Vec<Alert>> {
    let alerts = sql!(
        "SELECT ",
        Alert::COLUMNS,
        " FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id
         WHERE e.requires_investigation AND e.seq > $1 ORDER BY e.seq LIMIT $2",
    );
    alerts.bind(seq.cast_signed()).bind(limit).fetch_all(conn).await
}

row! {
    Alert from "l." {
        seq = "e.seq" => i64::cast_unsigned,
        id,
        event_type => |event: String| EventType::from_stored(&event).map_or(event, |event| event.value().to_owned()),
        risk_score,
        user_id,
        execution_id,
        workflow_id,
        source = "e.source" => |word: String| Source::from_word(&word).unwrap_or(Source::Coordinator),
        timestamp,
    }
}

/// Entries after position `after` with their stored columns, in order, for an export. An entry whose row is missing
/// from the coordinator's table has no columns.
pub async fn exported(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<Exported>> {
    let exported = sql!(
        "SELECT e.seq, e.audit_id, e.leaf_hash, e.source, l.id IS NULL",
        SELECTED,
        " FROM am_audit_entries e LEFT JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > $1 ORDER BY e.seq LIMIT $2",
    );
    exported.bind(i64::try_from(after).unwrap_or(i64::MAX)).bind(limit).fetch_all(conn).await
}

impl FromRow for Exported {
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
pub async fn exists(conn: &mut Connection, id: &str) -> Result<bool> {
    sql!("SELECT 1 FROM agent_audit_logs WHERE id = $1").bind(id).exists(conn).await
}

/// Next entries of a consumer: those of the given event types from position `from` (exclusive) to `to` (inclusive).
pub struct Following<'a> {
    pub from: u64,
    pub to: u64,
    pub events: &'a [EventType],
}

/// Data of these entries, in order. Entries that the coordinator wrote before the log began are left out.
pub async fn facts(conn: &mut Connection, next: &Following<'_>) -> Result<Vec<Fact>> {
    let facts = sql!(
        "SELECT ",
        Fact::COLUMNS,
        " FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > $1 AND e.seq <= $2
             AND NOT (e.source = 'coordinator' AND l.created_at < (SELECT installed_on FROM am_migrations WHERE description = 'audit'))
             AND e.event_type IN ($3) ORDER BY e.seq",
    );
    let facts = facts.bind(next.from.cast_signed()).bind(next.to.cast_signed());
    facts.bind_all(next.events.iter().copied()).fetch_all(conn).await
}

row! {
    Fact from "l." {
        audit_id = "l.id",
        event = "e.event_type",
        at = "l.timestamp",
        user = "l.user_id",
        workflow_id,
        data = "l.event_data",
    }
}
