//! SQL of table `am_audit_cosignatures`.

use am_core::crypto::NoteKey;
use am_db::{Connection, FromRow as _, Result, Tx, insert, row, sql};

use super::super::cosignature::HeadCosignature;

row! {
    HeadCosignature { witness, key_id, cosigned_at, line }
}

row! {
    /// A cosignature with the size of its head.
    pub struct SizedCosignature {
        /// Number of entries below the head.
        pub size: u64 => i64::cast_unsigned,
        /// The signature line in the checkpoint, without its newline.
        pub line: String,
    }
}

/// Record a cosignature over the head of this size, unless there is one by the same key.
pub async fn insert_cosignature(tx: &mut Tx, size: u64, cosignature: &HeadCosignature) -> Result<()> {
    let insert = insert!("am_audit_cosignatures" {
        witness: &cosignature.witness,
        key_id: &cosignature.key_id,
        size: size.cast_signed(),
        cosigned_at: cosignature.cosigned_at,
        line: &cosignature.line,
    } "ON CONFLICT DO NOTHING");
    insert.execute(tx.conn().await?).await?;
    Ok(())
}

/// Size of the last head that a witness cosigned; 0 when it cosigned none.
pub async fn last_cosigned(conn: &mut Connection, key: &NoteKey) -> Result<u64> {
    let size = sql!("SELECT max(size) FROM am_audit_cosignatures WHERE witness = $1 AND key_id = $2");
    let size: Option<i64> = size.bind(key.name()).bind(hex::encode(key.id())).fetch_value(conn).await?;
    Ok(size.unwrap_or(0).cast_unsigned())
}

/// Cosignatures over the head of this size, by their witnesses' names.
pub async fn cosignatures_of(conn: &mut Connection, size: u64) -> Result<Vec<HeadCosignature>> {
    let found = sql!(
        "SELECT ",
        HeadCosignature::COLUMNS,
        " FROM am_audit_cosignatures WHERE size = $1 ORDER BY witness, key_id",
    );
    found.bind(size.cast_signed()).fetch_all(conn).await
}

/// Cosignatures over heads of sizes from `first` to `last`, both inclusive, by their sizes and witnesses' names.
pub async fn cosignatures_between(conn: &mut Connection, first: u64, last: u64) -> Result<Vec<SizedCosignature>> {
    let found = sql!(
        "SELECT ",
        SizedCosignature::COLUMNS,
        " FROM am_audit_cosignatures WHERE size >= $1 AND size <= $2 ORDER BY size, witness, key_id",
    );
    found.bind(first.cast_signed()).bind(last.cast_signed()).fetch_all(conn).await
}
