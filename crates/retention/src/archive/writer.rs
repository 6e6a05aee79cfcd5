//! Writing of an archive: under a name that says it is not complete, until the audit log knows of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{ARCHIVE_FORM, ArchiveCounts, ArchiveHeader, ArchiveManifest, ArchivedThing, hash_file};

/// What the name of an archive ends with until its audit entry is durable.
pub(crate) const PARTIAL_SUFFIX: &str = ".part";
/// Level of the compression: what zstd uses by default.
const COMPRESSION_LEVEL: i32 = 3;

/// An archive that is being written.
pub(crate) struct ArchiveWriter {
    folder: PathBuf,
    name: String,
    encoder: zstd::stream::write::Encoder<'static, File>,
    counts: ArchiveCounts,
    /// Bytes of its lines so far.
    bytes: u64,
}

/// An archive that is written and durable, and whose name still says that it is not complete.
#[derive(Debug)]
pub(crate) struct FinishedFile {
    pub name: String,
    pub sha256: String,
    pub size_bytes: u64,
    pub counts: ArchiveCounts,
}

impl ArchiveWriter {
    /// Begin an archive in `folder`, which is made if it is missing.
    pub fn begin(folder: &Path, name: String, kind: &str, cause: &str, made_at: String) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join(format!("{name}{PARTIAL_SUFFIX}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let encoder = zstd::stream::write::Encoder::new(file, COMPRESSION_LEVEL)?;
        let mut writer = Self { folder: folder.to_owned(), name, encoder, counts: ArchiveCounts::default(), bytes: 0 };
        let header = ArchiveHeader { archive: ARCHIVE_FORM, kind: kind.to_owned(), cause: cause.to_owned(), made_at };
        writer.line(&header)?;
        Ok(writer)
    }

    fn line(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.bytes += line.len() as u64;
        self.encoder.write_all(&line)
    }

    /// Add a thing.
    pub fn add(&mut self, thing: &ArchivedThing) -> io::Result<()> {
        self.counts.add(thing);
        self.line(thing)
    }

    /// Bytes of its lines so far, not compressed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Write the manifest and make the file durable.
    pub fn finish(mut self) -> io::Result<FinishedFile> {
        let manifest = ArchiveManifest { manifest: self.counts.clone() };
        self.line(&manifest)?;
        let Self { folder, name, encoder, counts, .. } = self;
        encoder.finish()?.sync_all()?;
        File::open(&folder)?.sync_all()?;
        // Read back from the file: what is noted is what is there.
        let (sha256, size_bytes) = hash_file(&folder.join(format!("{name}{PARTIAL_SUFFIX}")))?;
        Ok(FinishedFile { name, sha256, size_bytes, counts })
    }
}

/// Give the archive `name` its final name. One that has it already stays.
pub(crate) fn place_file(folder: &Path, name: &str) -> io::Result<()> {
    let (partial, path) = (folder.join(format!("{name}{PARTIAL_SUFFIX}")), folder.join(name));
    match fs::rename(&partial, &path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.exists() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => File::open(folder)?.sync_all(),
    }
}

/// Remove an archive that was not completed.
pub(crate) fn discard_file(folder: &Path, name: &str) {
    let _ = fs::remove_file(folder.join(format!("{name}{PARTIAL_SUFFIX}")));
}
