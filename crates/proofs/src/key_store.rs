//! Keys of circuits as files of a directory: `NAME.keys`, which the command `proof-keys` makes, and `NAME.json`, which describes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use am_core::atomic_file::write_atomically;
use am_zk::{
    CircuitKeys, KeySetup, VerifyingKey,
    circuits::CircuitForm,
    snarkjs::{key_hash, key_json, read_key},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{ProofError, Result};

/// Name of the directory of the keys, in the data directory.
pub const KEY_DIRECTORY: &str = "proof-keys";

/// The keys of circuits that a service has. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CircuitKeyStore {
    directory: PathBuf,
}

/// A circuit whose keys there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CircuitDocument {
    /// Name of the circuit, with its version.
    #[schema(example = "openings-v1-8x4")]
    pub circuit: String,
    /// SHA-256 of the circuit's constraints in iden3's r1cs format.
    pub circuit_sha256: String,
    /// SHA-256 of the verification key.
    pub key_sha256: String,
    /// Number of constraints.
    pub constraints: u64,
    /// Number of wires, that of the constant 1 included.
    pub wires: u64,
    /// Names of the public signals, in their order.
    pub signals: Vec<String>,
    /// Who made the keys.
    pub setup: SetupDocument,
    /// The verification key: snarkjs's `verification_key.json`.
    #[schema(value_type = Object)]
    pub verification_key: Value,
}

/// Who made a circuit's keys, and what of that has to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct SetupDocument {
    /// `one_party`, or `ceremony`: powers of tau of a ceremony, and the circuit's own secret by one party.
    pub kind: String,
    /// What has to be trusted.
    pub trust: String,
    /// SHA-256 of the powers of tau that were used; null: there were none.
    pub powers_sha256: Option<String>,
}

impl From<&KeySetup> for SetupDocument {
    fn from(setup: &KeySetup) -> Self {
        match setup {
            KeySetup::OneParty => Self {
                kind: "one_party".to_owned(),
                trust: "One party made the keys. A proof is sound only as far as that party, and the machine that it used, can be trusted \
                        to have kept no secret; that a proof tells nothing of the private values needs no trust."
                    .to_owned(),
                powers_sha256: None,
            },
            KeySetup::Ceremony { powers_sha256, .. } => Self {
                kind: "ceremony".to_owned(),
                trust: "The powers of tau are a ceremony's, for which one honest participant suffices. The circuit's own secret is one \
                        party's: a proof is sound only as far as that party can be trusted to have kept none."
                    .to_owned(),
                powers_sha256: Some(powers_sha256.clone()),
            },
        }
    }
}

fn file_error(path: &Path, error: &io::Error) -> ProofError {
    ProofError::KeyFile(format!("{}: {error}", path.display()))
}

impl CircuitKeyStore {
    /// The keys in a directory, which need not exist.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, form: &CircuitForm, extension: &str) -> PathBuf {
        self.directory.join(format!("{form}.{extension}"))
    }

    /// The circuits that there are keys of.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] when the directory can't be read.
    pub fn forms(&self) -> Result<Vec<CircuitForm>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error(&self.directory, &error)),
            Ok(entries) => entries,
        };
        let mut forms = Vec::new();
        for entry in entries {
            let name = entry.map_err(|error| file_error(&self.directory, &error))?.file_name();
            let form = name.to_str().and_then(|name| name.strip_suffix(".json")).map(CircuitForm::parse);
            forms.extend(form.and_then(std::result::Result::ok));
        }
        forms.sort();
        Ok(forms)
    }

    /// A circuit's description; `None`: there are no keys of it.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] when its file can't be read.
    pub fn document(&self, form: &CircuitForm) -> Result<Option<CircuitDocument>> {
        let path = self.path(form, "json");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file_error(&path, &error)),
            Ok(text) => text,
        };
        let read = serde_json::from_slice(&text);
        read.map(Some).map_err(|error| ProofError::KeyFile(format!("{}: {error}", path.display())))
    }

    /// A circuit's verification key; `None`: there are no keys of it.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] when its file can't be read, or is not what it describes.
    pub fn verifying_key(&self, form: &CircuitForm) -> Result<Option<(CircuitDocument, VerifyingKey)>> {
        let Some(document) = self.document(form)? else { return Ok(None) };
        let fault = |text: String| ProofError::KeyFile(format!("{}: {text}", self.path(form, "json").display()));
        let key = read_key(&document.verification_key).map_err(|error| fault(error.to_string()))?;
        if key_hash(&key) != document.key_sha256 {
            return Err(fault("its verification key does not have the hash that it names".to_owned()));
        }
        Ok(Some((document, key)))
    }

    /// A circuit's keys. It takes a second for a large circuit.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] when there are none, or their file can't be read.
    pub fn keys(&self, form: &CircuitForm) -> Result<CircuitKeys> {
        let path = self.path(form, "keys");
        let bytes = fs::read(&path).map_err(|error| file_error(&path, &error))?;
        CircuitKeys::from_bytes(&bytes).map_err(|error| ProofError::KeyFile(format!("{}: {error}", path.display())))
    }

    /// Keep a circuit's keys. Those that there are of it are replaced.
    ///
    /// # Errors
    /// [`ProofError::KeyFile`] when they can't be written.
    pub fn put(&self, keys: &CircuitKeys) -> Result<CircuitDocument> {
        let internal = |error: &dyn std::fmt::Display| ProofError::KeyFile(error.to_string());
        fs::create_dir_all(&self.directory).map_err(|error| file_error(&self.directory, &error))?;
        let key = keys.verifying_key();
        let document = CircuitDocument {
            circuit: keys.form().to_string(),
            circuit_sha256: keys.circuit_sha256().to_owned(),
            key_sha256: key_hash(&key),
            constraints: keys.constraints() as u64,
            wires: keys.wires() as u64,
            signals: keys.form().signals(),
            setup: keys.setup().into(),
            verification_key: key_json(&key),
        };
        let bytes = keys.to_bytes().map_err(|error| internal(&error))?;
        let text = serde_json::to_vec_pretty(&document).map_err(|error| internal(&error))?;
        // The description last: what is described is there.
        for (extension, content) in [("keys", &bytes), ("json", &text)] {
            let path = self.path(keys.form(), extension);
            write_atomically(&path, content, 0o600).map_err(|error| file_error(&path, &error))?;
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_described() {
        let directory = tempfile::tempdir().unwrap();
        let store = CircuitKeyStore::new(directory.path().join("proof-keys"));
        assert!(store.forms().unwrap().is_empty());
        let form = CircuitForm::parse("policy-v1-1-2").unwrap();
        assert_eq!(store.document(&form).unwrap(), None);
        assert!(store.keys(&form).is_err());
        let mut byte = 0u8;
        let keys = am_zk::setup_alone(&form, &mut |buffer: &mut [u8]| {
            buffer.iter_mut().for_each(|place| {
                byte = byte.wrapping_mul(5).wrapping_add(77);
                *place = byte;
            });
        });
        let made = store.put(&keys.unwrap()).unwrap();
        assert_eq!(
            (made.circuit.as_str(), made.setup.kind.as_str(), made.signals.len()),
            ("policy-v1-1-2", "one_party", 3)
        );
        assert_eq!(store.forms().unwrap(), std::slice::from_ref(&form));
        let (document, key) = store.verifying_key(&form).unwrap().unwrap();
        assert_eq!((&document, key_hash(&key)), (&made, made.key_sha256.clone()));
        assert_eq!(store.keys(&form).unwrap().verifying_key(), key);
        let other = CircuitDocument { key_sha256: "00".to_owned(), ..made };
        fs::write(store.path(&form, "json"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert!(matches!(store.verifying_key(&form), Err(ProofError::KeyFile(text)) if text.contains("hash")));
    }
}
