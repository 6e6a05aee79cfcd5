//! Tokens of instances: a random text in a file that only the service's user may read, and its hash in the database.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use am_core::{ambient::IdGenerator, crypto::sha256_hex};

/// The file of an instance's token.
pub(crate) fn token_file(directory: &Path, id: &str) -> PathBuf {
    let file = directory.join("tokens").join(id);
    // The supervisor works elsewhere.
    std::path::absolute(&file).unwrap_or(file)
}

/// The hash of a token, as it is stored.
pub(crate) fn token_hash(token: &str) -> String {
    sha256_hex(token.as_bytes())
}

/// Read an instance's token; `None`: there is no file.
pub(crate) fn read_token(directory: &Path, id: &str) -> std::io::Result<Option<String>> {
    match fs::read_to_string(token_file(directory, id)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Write a new token of an instance, and return it.
pub(crate) fn make_token(directory: &Path, id: &str, ids: &IdGenerator) -> std::io::Result<String> {
    let file = token_file(directory, id);
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let token = format!("ainst_{}{}", ids.hex(32), ids.hex(32));
    let next = file.with_extension("new");
    let mut written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    written.write_all(token.as_bytes())?;
    written.sync_all()?;
    fs::rename(next, file)?;
    Ok(token)
}

/// Remove an instance's token.
pub(crate) fn remove_token(directory: &Path, id: &str) {
    // One that stays speaks for an instance that is gone.
    let _ = fs::remove_file(token_file(directory, id));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_readable_by_its_user_only() {
        let folder = tempfile::tempdir().unwrap();
        let ids = IdGenerator::seeded(1);
        assert_eq!(read_token(folder.path(), "deploy_1.1").unwrap(), None);
        let token = make_token(folder.path(), "deploy_1.1", &ids).unwrap();
        assert_eq!(read_token(folder.path(), "deploy_1.1").unwrap(), Some(token.clone()));
        let mode = fs::metadata(token_file(folder.path(), "deploy_1.1")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let other = make_token(folder.path(), "deploy_1.2", &ids).unwrap();
        assert!(token.len() == 70 && other != token && token_hash(&token).len() == 64);
        remove_token(folder.path(), "deploy_1.1");
        assert_eq!(read_token(folder.path(), "deploy_1.1").unwrap(), None);
    }
}
