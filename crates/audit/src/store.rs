//! Tables `agent_audit_logs` and `am_audit_*`.

use std::ops::Range;

use sqlx::{QueryBuilder, Row as _};

use super::{
    export::Exported,
    follow::Fact,
    leaf::{COLUMNS, Sealed},
    merkle::{self, Hash},
    model::{EventType, Source},
    seal::Alert,
};
use am_db::{
    Connection, Db, Error, Result, Row, Tx,
    codec::{Doc, Timestamp},
    owner::{self, Owner},
    raw::Raw,
    rows::{Insert, Rows},
};

/// Leaves below a tile of the lowest level, and tiles of one level below one of the next.
pub const TILE: u64 = 256;

pub const LOG_COLUMNS: &str = "id, event_type, timestamp, workflow_id, execution_id, step_id, user_id, security_level, ip_address, \
     user_agent, event_data, previous_state, new_state, risk_score, requires_investigation, investigation_notes, \
     cryptographic_hash, signature_valid, created_at";
static LOGS: Insert = Insert::into("agent_audit_logs", LOG_COLUMNS);
static ENTRIES: Insert = Insert::into(
    "am_audit_entries",
    "audit_id, leaf_hash, source, event_type, security_level, risk_score, requires_investigation",
);

/// Entries of this service's own, with their leaves.
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
    rows.push(&ENTRIES, |row| {
        row.put(id).put(&hex::encode(leaf)).put(source.word()).put(event).put(level).put(risk);
        row.put(risk >= super::model::INVESTIGATE);
    });
}

/// A row of the coordinator's own that has no leaf yet.
pub struct Unsealed {
    columns: Vec<Raw>,
}

/// Every column of a row, as it is stored, from place `first` on. A key in `user_id`, which the coordinator puts there, is
/// known by its hash alone: it is in no leaf and in no export.
pub fn raw_columns(row: &Row, first: usize) -> Result<Vec<Raw>> {
    let column = |at: usize| {
        let raw = Raw::read(row, first + at)?;
        Ok(match raw.text().filter(|_| COLUMNS[at] == "user_id").and_then(owner::hidden) {
            Some(hash) => Raw::Odd { kind: "key".to_owned(), hex: hex::encode(hash) },
            None => raw,
        })
    };
    (0..COLUMNS.len()).map(column).collect()
}

/// Rows without a leaf after row number `after`, at most `limit`, in the order they were written; and the last row that
/// was looked at.
pub async fn unsealed(conn: &mut Connection, after: i64, limit: i64) -> Result<(Vec<Unsealed>, i64)> {
    let last: Option<i64> = sqlx::query_scalar(
        "SELECT max(rowid) FROM (SELECT rowid FROM agent_audit_logs WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)",
    )
    .bind(after)
    .bind(limit)
    .fetch_one(&mut *conn)
    .await?;
    let Some(last) = last else { return Ok((Vec::new(), after)) };
    let mut query = QueryBuilder::<Db>::new("SELECT ");
    query.push(LOG_COLUMNS).push(" FROM agent_audit_logs l WHERE rowid > ").push_bind(after);
    query.push(" AND rowid <= ").push_bind(last);
    query.push(" AND NOT EXISTS (SELECT 1 FROM am_audit_entries e WHERE e.audit_id = l.id) ORDER BY rowid");
    let rows = query.build().fetch_all(conn).await?;
    let unsealed = rows.iter().map(|row| Ok(Unsealed { columns: raw_columns(row, 0)? })).collect::<Result<_>>()?;
    Ok((unsealed, last))
}

/// Give leaves to rows that the coordinator wrote.
pub async fn seal_coordinators(tx: &mut Tx, rows: &[Unsealed]) -> Result<()> {
    let mut leaves = Rows::default();
    for row in rows {
        // What is no word is sealed all the same, and counted as none.
        let word = |at: usize| row.columns[at].text().unwrap_or_default();
        let risk = row.columns[13].integer().unwrap_or(0);
        let leaf = super::leaf::hash(Source::Coordinator, &row.columns);
        push_leaf(&mut leaves, &row.columns[0], &leaf, Source::Coordinator, (word(1), word(7)), risk);
    }
    if rows.is_empty() { Ok(()) } else { leaves.execute(tx).await }
}

/// The number of the last row of the coordinator's table.
pub async fn last_row(conn: &mut Connection) -> Result<i64> {
    let last: Option<i64> = sqlx::query_scalar("SELECT max(rowid) FROM agent_audit_logs").fetch_one(conn).await?;
    Ok(last.unwrap_or(0))
}

/// How many entries the log has.
pub async fn size(conn: &mut Connection) -> Result<u64> {
    let size: Option<i64> = sqlx::query_scalar("SELECT max(seq) FROM am_audit_entries").fetch_one(conn).await?;
    Ok(size.unwrap_or(0).cast_unsigned())
}

/// The leaves of a range, counted from 0.
pub async fn leaves(conn: &mut Connection, range: Range<u64>) -> Result<Vec<Hash>> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(leaf_hash, '' ORDER BY seq) FROM am_audit_entries WHERE seq > ?1 AND seq <= ?2",
    )
    .bind(range.start.cast_signed())
    .bind(range.end.cast_signed())
    .fetch_one(conn)
    .await?;
    whole(&found.unwrap_or_default(), &range)
}

/// The tiles of a range of one level.
async fn tiles(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<Hash>> {
    let found: Option<String> = sqlx::query_scalar(
        "SELECT string_agg(hash, '' ORDER BY place) FROM am_audit_tiles WHERE level = ?1 AND place >= ?2 AND place < ?3",
    )
    .bind(i64::from(level))
    .bind(range.start.cast_signed())
    .bind(range.end.cast_signed())
    .fetch_one(conn)
    .await?;
    whole(&found.unwrap_or_default(), &range)
}

/// The hashes of a range out of their hex, which comes as one value: rows one by one cost two changes of thread each.
fn whole(found: &str, range: &Range<u64>) -> Result<Vec<Hash>> {
    let bytes = hex::decode(found).map_err(|_| Error::Unreadable("am_audit: a hash is no hash".into()))?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if hashes.len() as u64 != range.end - range.start || !rest.is_empty() {
        return Err(Error::Unreadable(format!("am_audit: {} hashes of {range:?}", hashes.len())));
    }
    Ok(hashes.to_vec())
}

/// Hashes of level `level` (0: leaves) of a range of places.
async fn level_hashes(conn: &mut Connection, level: u32, range: Range<u64>) -> Result<Vec<Hash>> {
    if level == 0 { leaves(conn, range).await } else { tiles(conn, level, range).await }
}

/// The hash over a range of leaves as proofs and roots ask for them (see [`merkle::complete`]). Tiles must be there for
/// all complete ones in it.
pub async fn range_hash(conn: &mut Connection, range: Range<u64>) -> Result<Hash> {
    let mut parts = Vec::new();
    for part in merkle::complete(range) {
        // The highest level whose tiles fit: at most 255 of them are read.
        let level = (part.end - part.start).trailing_zeros() / TILE.trailing_zeros();
        let wide = TILE.pow(level);
        let hashes = level_hashes(conn, level, part.start / wide..part.end / wide).await?;
        parts.push(merkle::root_of_complete(hashes));
    }
    Ok(merkle::fold(&parts))
}

/// The tiles that entries up to `size` complete beyond those up to `from`, lowest level first.
pub async fn new_tiles(conn: &mut Connection, from: u64, size: u64) -> Result<Vec<(u32, u64, Hash)>> {
    let mut made: Vec<(u32, u64, Hash)> = Vec::new();
    let (mut level, mut wide) = (1, TILE);
    while size / wide > 0 {
        for place in from / wide..size / wide {
            let below = place * TILE..(place + 1) * TILE;
            // Some were made now, the rest stand.
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

static TILES: Insert = Insert::into("am_audit_tiles", "level, place, hash").on_conflict("ON CONFLICT DO NOTHING");

/// Keep tiles.
pub async fn keep_tiles(tx: &mut Tx, tiles: &[(u32, u64, Hash)]) -> Result<()> {
    let mut rows = Rows::default();
    for (level, place, hash) in tiles {
        rows.push(&TILES, |row| {
            row.put(i64::from(*level)).put(place.cast_signed()).put(&hex::encode(hash));
        });
    }
    if tiles.is_empty() { Ok(()) } else { rows.execute(tx).await }
}

/// A signed head as it is kept.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct Head {
    /// Entries below it.
    pub size: u64,
    /// The root over them, in hex.
    pub root: String,
    /// The C2SP checkpoint, whole: log, size, root in base64, an empty line, the signature.
    pub checkpoint: String,
    /// When it was signed.
    #[schema(value_type = String)]
    pub made_at: Timestamp,
}

/// Keep a head; one of this size that stands is left. Answers whether it is new.
pub async fn keep_head(tx: &mut Tx, head: &Head) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO am_audit_heads (size, root, checkpoint, made_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
    )
    .bind(head.size.cast_signed())
    .bind(&head.root)
    .bind(&head.checkpoint)
    .bind(head.made_at)
    .execute(tx.conn().await?)
    .await?;
    Ok(done.rows_affected() > 0)
}

fn head(row: &Row) -> Result<Head> {
    let size: i64 = row.try_get(0)?;
    Ok(Head {
        size: size.cast_unsigned(),
        root: row.try_get(1)?,
        checkpoint: row.try_get(2)?,
        made_at: row.try_get(3)?,
    })
}

/// The last head of at most `size` entries.
pub async fn head_until(conn: &mut Connection, size: u64) -> Result<Option<Head>> {
    let found = sqlx::query(
        "SELECT size, root, checkpoint, made_at FROM am_audit_heads WHERE size <= ?1 ORDER BY size DESC LIMIT 1",
    )
    .bind(i64::try_from(size).unwrap_or(i64::MAX))
    .fetch_optional(conn)
    .await?;
    found.as_ref().map(head).transpose()
}

/// Heads of more than `after` entries, smallest first.
pub async fn heads(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<Head>> {
    let found = sqlx::query(
        "SELECT size, root, checkpoint, made_at FROM am_audit_heads WHERE size > ?1 ORDER BY size LIMIT ?2",
    )
    .bind(i64::try_from(after).unwrap_or(i64::MAX))
    .bind(limit)
    .fetch_all(conn)
    .await?;
    found.iter().map(head).collect()
}

/// The place of an entry in the log, from 1, and its leaf.
pub async fn place(conn: &mut Connection, id: &str) -> Result<Option<(u64, String, String)>> {
    let found: Option<(i64, String, String)> =
        sqlx::query_as("SELECT seq, leaf_hash, source FROM am_audit_entries WHERE audit_id = ?1")
            .bind(id)
            .fetch_optional(conn)
            .await?;
    Ok(found.map(|(seq, leaf, source)| (seq.cast_unsigned(), leaf, source)))
}

/// How far `reader` has come; 0: it has not begun.
pub async fn cursor(conn: &mut Connection, reader: &str) -> Result<u64> {
    Ok(known_cursor(conn, reader).await?.unwrap_or(0))
}

/// How far `reader` has come; none: it has not begun.
pub async fn known_cursor(conn: &mut Connection, reader: &str) -> Result<Option<u64>> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM am_audit_cursors WHERE reader = ?1")
        .bind(reader)
        .fetch_optional(conn)
        .await?;
    Ok(seq.map(i64::cast_unsigned))
}

/// `reader` has come to `seq`.
pub async fn advance(tx: &mut Tx, reader: &str, seq: u64) -> Result<()> {
    sqlx::query(
        "INSERT INTO am_audit_cursors (reader, seq) VALUES (?1, ?2) ON CONFLICT (reader) DO UPDATE SET seq = excluded.seq",
    )
    .bind(reader)
    .bind(seq.cast_signed())
    .execute(tx.conn().await?)
    .await?;
    Ok(())
}

/// Entries after `seq` that somebody should look at, in order.
pub async fn to_investigate(conn: &mut Connection, seq: u64, limit: i64) -> Result<Vec<Alert>> {
    let rows = sqlx::query(
        "SELECT e.seq, l.id, l.event_type, l.risk_score, l.user_id, l.execution_id, l.workflow_id, e.source, l.timestamp
         FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id
         WHERE e.requires_investigation AND e.seq > ?1 ORDER BY e.seq LIMIT ?2",
    )
    .bind(seq.cast_signed())
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(alert).collect()
}

fn alert(row: &Row) -> Result<Alert> {
    let seq: i64 = row.try_get(0)?;
    let (event, user, source): (String, Option<String>, String) = (row.try_get(2)?, row.try_get(4)?, row.try_get(7)?);
    Ok(Alert {
        seq: seq.cast_unsigned(),
        id: row.try_get(1)?,
        event_type: EventType::from_stored(&event).map_or(event, |event| event.value().to_owned()),
        risk_score: row.try_get(3)?,
        user_id: user.as_deref().map(Owner::from_stored),
        execution_id: row.try_get(5)?,
        workflow_id: row.try_get(6)?,
        source: Source::from_word(&source).unwrap_or(Source::Coordinator),
        timestamp: row.try_get(8)?,
    })
}

/// Entries of a range of places with what is stored of them, in order: what an export holds. An entry that is gone from the
/// coordinator's table has no columns.
pub async fn exported(conn: &mut Connection, after: u64, limit: i64) -> Result<Vec<Exported>> {
    let mut query = QueryBuilder::<Db>::new("SELECT e.seq, e.audit_id, e.leaf_hash, e.source, l.rowid IS NULL");
    for column in COLUMNS {
        query.push(", l.").push(column);
    }
    query.push(" FROM am_audit_entries e LEFT JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > ");
    query.push_bind(i64::try_from(after).unwrap_or(i64::MAX)).push(" ORDER BY e.seq LIMIT ").push_bind(limit);
    let rows = query.build().fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let seq: i64 = row.try_get(0)?;
            let gone: bool = row.try_get(4)?;
            Ok(Exported {
                seq: seq.cast_unsigned(),
                audit_id: row.try_get(1)?,
                leaf_hash: row.try_get(2)?,
                source: row.try_get(3)?,
                columns: if gone { None } else { Some(raw_columns(row, 5)?) },
            })
        })
        .collect()
}

/// Is there an entry of this id, with a leaf or without?
pub async fn exists(conn: &mut Connection, id: &str) -> Result<bool> {
    let found: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM agent_audit_logs WHERE id = ?1").bind(id).fetch_optional(conn).await?;
    Ok(found.is_some())
}

/// Which entries a reader that follows the log comes to next: those of these events, after place `from` up to `to`.
pub struct Following<'a> {
    pub from: u64,
    pub to: u64,
    pub events: &'a [EventType],
}

/// What they tell, in order. The coordinator's from before the log began are left out.
pub async fn facts(conn: &mut Connection, next: &Following<'_>) -> Result<Vec<Fact>> {
    let mut query = QueryBuilder::<Db>::new(
        "SELECT l.id, e.event_type, l.timestamp, l.user_id, l.workflow_id, l.event_data
         FROM am_audit_entries e JOIN agent_audit_logs l ON l.id = e.audit_id WHERE e.seq > ",
    );
    query.push_bind(next.from.cast_signed()).push(" AND e.seq <= ").push_bind(next.to.cast_signed());
    query.push(" AND NOT (e.source = 'coordinator' AND l.created_at < (SELECT applied_at FROM am_migrations WHERE name = 'audit'))");
    query.push(" AND e.event_type IN (");
    let mut list = query.separated(", ");
    for event in next.events {
        list.push_bind(event.stored());
    }
    query.push(") ORDER BY e.seq");
    let rows = query.build().fetch_all(conn).await?;
    rows.iter()
        .map(|row| {
            let user: Option<String> = row.try_get(3)?;
            Ok(Fact {
                audit_id: row.try_get(0)?,
                event: row.try_get(1)?,
                at: row.try_get(2)?,
                user: user.as_deref().map(Owner::from_stored),
                workflow_id: row.try_get(4)?,
                data: row.try_get::<Option<Doc>, _>(5)?.unwrap_or_else(Doc::none),
            })
        })
        .collect()
}
