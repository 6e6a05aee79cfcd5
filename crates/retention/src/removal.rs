//! Deletion of things, each only as it was archived: what changed meanwhile stays.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    archive::ArchivedThing,
    error::Result,
    kinds::{RemovalCause, RetentionKind, SHARED_WEIGHTS},
    store,
};
use am_db::{Connection, Tx, whole_rows};

/// A thing that is to be deleted.
#[derive(Clone, Debug)]
pub(crate) struct DraftThing {
    pub id: String,
    /// SHA-256 of its rows as they were archived; none: it is not archived.
    pub digest: Option<[u8; 32]>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BatchOutcome {
    pub removed: i64,
    /// Those that had changed, or may not be removed any more.
    pub kept: i64,
}

/// The file of a version's weights.
pub(crate) fn weights_path(folder: &Path, sha256: &str) -> PathBuf {
    folder.join(format!("{sha256}.safetensors"))
}

fn weights_of(thing: &ArchivedThing) -> Option<&str> {
    thing.rows.get("am_policy_versions")?.first()?.get("sha256")?.as_str()
}

fn model_weights_of(thing: &ArchivedThing) -> Option<&str> {
    thing.rows.get("am_meta_models")?.first()?.get("sha256")?.as_str()
}

/// Read these things with all of their rows. Those that are not there are left out.
pub(crate) async fn read_things(
    conn: &mut Connection,
    kind: RetentionKind,
    ids: &[&str],
) -> am_db::Result<Vec<ArchivedThing>> {
    let mut things: BTreeMap<String, ArchivedThing> = BTreeMap::new();
    for (at, source) in kind.rows().iter().enumerate() {
        for (id, rows) in whole_rows::read_rows(conn, source, ids).await? {
            // The first rows are its own.
            if at == 0 {
                let thing = ArchivedThing { id: id.clone(), rows: BTreeMap::new(), files: BTreeMap::new() };
                things.insert(id.clone(), thing);
            }
            if let Some(thing) = things.get_mut(&id) {
                thing.rows.insert(source.table.to_owned(), rows);
            }
        }
    }
    Ok(things.into_values().collect())
}

/// Add the weights of versions, which an archive holds too. A file that is missing is not held.
pub(crate) fn add_files(folder: &Path, things: &mut [ArchivedThing]) {
    for thing in things {
        let Some(sha256) = weights_of(thing) else { continue };
        let path = weights_path(folder, sha256);
        if let (Ok(bytes), Some(name)) = (fs::read(&path), path.file_name().and_then(|name| name.to_str())) {
            thing.files.insert(name.to_owned(), STANDARD.encode(bytes));
        }
    }
}

/// Delete those of these things that may be removed and are as they were archived. Files of weights below `weights` go with the last
/// version that has them, after the commit.
pub(crate) async fn delete_things(
    tx: &mut Tx,
    kind: RetentionKind,
    cause: RemovalCause,
    batch: &[DraftThing],
    weights: &Path,
) -> Result<BatchOutcome> {
    let ids: Vec<&str> = batch.iter().map(|thing| thing.id.as_str()).collect();
    let present = read_things(tx.conn().await?, kind, &ids).await?;
    let removable = store::removable(tx.conn().await?, kind, cause, &ids).await?;
    let removable: BTreeSet<&str> = removable.iter().map(String::as_str).collect();
    let digests: BTreeMap<&str, Option<[u8; 32]>> =
        batch.iter().map(|thing| (thing.id.as_str(), thing.digest)).collect();
    let is_same = |thing: &&ArchivedThing| {
        let archived = digests.get(thing.id.as_str()).copied().flatten();
        removable.contains(thing.id.as_str()) && archived.is_none_or(|digest| digest == thing.digest())
    };
    let deleted: Vec<&ArchivedThing> = present.iter().filter(is_same).collect();
    let ids: Vec<&str> = deleted.iter().map(|thing| thing.id.as_str()).collect();
    // Rows of rows go before those that they belong to.
    let own = kind.rows().iter().rev().filter(|source| source.table != SHARED_WEIGHTS);
    for source in own.filter(|_| !ids.is_empty()) {
        whole_rows::delete_rows(tx, source, &ids).await?;
    }
    if kind == RetentionKind::PolicyVersions {
        let name =
            |thing: &&ArchivedThing| thing.rows["am_policy_versions"].first()?.get("name")?.as_str().map(str::to_owned);
        let names: Vec<String> = deleted.iter().filter_map(name).collect();
        store::touch_policies(tx, &names).await?;
        for sha256 in deleted.iter().filter_map(|thing| weights_of(thing)) {
            if !store::has_weights(tx.conn().await?, sha256).await? {
                let path = weights_path(weights, sha256);
                tx.after_commit(move || drop(fs::remove_file(path)));
            }
        }
    }
    if kind == RetentionKind::MetaModels {
        let weights: Vec<&str> = deleted.iter().filter_map(|thing| model_weights_of(thing)).collect();
        store::delete_left_of_models(tx, &ids, &weights).await?;
    }
    let (removed, kept) = (ids.len() as i64, (present.len() - ids.len()) as i64);
    Ok(BatchOutcome { removed, kept })
}
