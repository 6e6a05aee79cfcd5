//! Reading of an archive.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::Path,
};

use am_core::crypto::HashingStream;

use super::{ARCHIVE_FORM, ArchiveCounts, ArchiveHeader, ArchiveManifest, ArchivedThing};

/// SHA-256 of a file in hex, and its size in bytes.
pub(crate) fn hash_file(path: &Path) -> io::Result<(String, u64)> {
    let mut stream = HashingStream::new(File::open(path)?);
    let size = io::copy(&mut stream, &mut io::sink())?;
    Ok((stream.finish(), size))
}

fn damaged(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// Read an archive, and give each of its things to `each`. Its counts must be what its manifest says.
pub(crate) fn read_archive(
    path: &Path,
    mut each: impl FnMut(ArchivedThing) -> io::Result<()>,
) -> io::Result<(ArchiveHeader, ArchiveManifest)> {
    let mut lines = BufReader::new(zstd::stream::read::Decoder::new(File::open(path)?)?).lines();
    let first = lines.next().ok_or_else(|| damaged("it is empty"))??;
    let header: ArchiveHeader = serde_json::from_str(&first).map_err(|_| damaged("it does not begin as one"))?;
    if header.archive != ARCHIVE_FORM {
        return Err(damaged(format!("its form is {}, not {ARCHIVE_FORM}", header.archive)));
    }
    let mut counts = ArchiveCounts::default();
    let mut last = None;
    for line in lines {
        let line = line?;
        if last.is_some() {
            return Err(damaged("something follows its manifest"));
        }
        match serde_json::from_str::<ArchivedThing>(&line) {
            Ok(thing) => {
                counts.add(&thing);
                each(thing)?;
            }
            Err(error) => {
                last = Some(serde_json::from_str::<ArchiveManifest>(&line).map_err(|_| damaged(error.to_string()))?);
            }
        }
    }
    match last {
        None => Err(damaged("it has no manifest")),
        Some(manifest) if manifest.manifest != counts => Err(damaged("it does not hold what its manifest says")),
        Some(manifest) => Ok((header, manifest)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::archive::{ArchiveWriter, PARTIAL_SUFFIX, place_file};

    fn thing() -> impl Strategy<Value = ArchivedThing> {
        let value = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let row = prop::collection::btree_map("[a-z]{1,6}", value, 1..4);
        let rows = prop::collection::vec(row.prop_map(|row| row.into_iter().collect()), 0..4);
        let tables = prop::collection::btree_map("[a-z_]{1,8}", rows, 0..3);
        (any::<String>(), tables).prop_map(|(id, rows)| ArchivedThing { id, rows, files: BTreeMap::new() })
    }

    fn written(folder: &Path, things: &[ArchivedThing]) -> io::Result<(String, u64)> {
        let mut writer =
            ArchiveWriter::begin(folder, "a".to_owned(), "plans", "retention", "2026-01-01T00:00:00Z".into())?;
        things.iter().try_for_each(|thing| writer.add(thing))?;
        let finished = writer.finish()?;
        place_file(folder, "a")?;
        Ok((finished.sha256, finished.size_bytes))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_was_written_is_read_and_has_the_same_digest(things in prop::collection::vec(thing(), 0..6)) {
            let folder = tempfile::tempdir().unwrap();
            let noted = written(folder.path(), &things).unwrap();
            let path = folder.path().join("a");
            assert_eq!(hash_file(&path).unwrap(), noted);
            let mut read = Vec::new();
            let (header, manifest) = read_archive(&path, |thing| { read.push(thing); Ok(()) }).unwrap();
            assert_eq!((header.kind.as_str(), manifest.manifest.things), ("plans", things.len() as i64));
            let digests = |things: &[ArchivedThing]| things.iter().map(ArchivedThing::digest).collect::<Vec<_>>();
            assert_eq!(digests(&read), digests(&things));
            assert_eq!(read, things);
        }
    }

    #[test]
    fn what_is_cut_or_not_complete_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let row = |n: i64| [("id".to_owned(), json!(n))].into_iter().collect();
        let things: Vec<ArchivedThing> = (0..500)
            .map(|n| ArchivedThing {
                id: n.to_string(),
                rows: BTreeMap::from([("t".to_owned(), vec![row(n)])]),
                files: BTreeMap::new(),
            })
            .collect();
        written(folder.path(), &things).unwrap();
        let path = folder.path().join("a");
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        assert!(read_archive(&path, |_| Ok(())).is_err());
        let lines = "{\"archive\":1,\"kind\":\"plans\",\"cause\":\"request\",\"made_at\":\"x\"}\n";
        for (end, why) in [
            ("", "no manifest"),
            ("{\"manifest\":{\"things\":1,\"rows\":{}}}\n", "what its manifest says"),
            ("{\"manifest\":{\"things\":0,\"rows\":{}}}\n{}\n", "follows its manifest"),
        ] {
            std::fs::write(&path, zstd::encode_all(format!("{lines}{end}").as_bytes(), 1).unwrap()).unwrap();
            let refused = read_archive(&path, |_| Ok(())).unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        assert!(!folder.path().join(format!("a{PARTIAL_SUFFIX}")).exists());
    }
}
