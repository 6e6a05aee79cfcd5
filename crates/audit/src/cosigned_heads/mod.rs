//! Heads as they are shown: with the cosignatures that witnesses made over them.

mod store;

use super::{cosignature::HeadCosignature, model::SignedTreeHead};
use am_db::Connection;

pub(super) use store::{insert_cosignature, last_cosigned};

/// Append the cosignatures to the checkpoints of heads, which are in the order of their sizes.
pub(super) async fn append_cosignatures(conn: &mut Connection, heads: &mut [SignedTreeHead]) -> am_db::Result<()> {
    let (Some(first), Some(last)) = (heads.first(), heads.last()) else { return Ok(()) };
    let found = store::cosignatures_between(conn, first.size, last.size).await?;
    for cosignature in found {
        if let Ok(place) = heads.binary_search_by_key(&cosignature.size, |head| head.size) {
            append_line(&mut heads[place], &cosignature.line);
        }
    }
    Ok(())
}

/// Append the cosignatures to the checkpoint of a head: these very ones, by their witnesses' names.
pub(super) async fn append_and_list(
    conn: &mut Connection,
    head: &mut SignedTreeHead,
) -> am_db::Result<Vec<HeadCosignature>> {
    let cosignatures = store::cosignatures_of(conn, head.size).await?;
    cosignatures.iter().for_each(|cosignature| append_line(head, &cosignature.line));
    Ok(cosignatures)
}

fn append_line(head: &mut SignedTreeHead, line: &str) {
    head.checkpoint.push_str(line);
    head.checkpoint.push('\n');
}
