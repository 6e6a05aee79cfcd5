//! Commands for proofs of executions: keys of circuits, offline verification, and files of circuits for other provers.

use std::{
    fs::{self, File},
    io::{BufReader, Read as _},
    path::{Path, PathBuf},
};

use clap::Args;

use am_core::{ambient::IdGenerator, config::Config, crypto::Ed25519PublicKey};
use am_proofs::{CircuitKeyStore, verify_files};
use am_zk::{PowersOfTau, circuits::CircuitForm, iden3, setup_alone, setup_from_ceremony};

use super::{CommandError, print_output};

/// Arguments of `proof-keys`.
#[derive(Args)]
pub struct ProofKeysArguments {
    /// Names of circuits: `openings-v1-STEPSxBLOCKS` for executions of up to STEPS steps with values of up to BLOCKS times 434 bytes,
    /// `policy-v1-STATE-...-ACTIONS` for a network of these widths.
    #[arg(value_name = "CIRCUIT", required = true)]
    circuits: Vec<String>,
    /// Powers of tau of a public ceremony, in snarkjs's ptau format. Default: this machine draws all secrets, and is trusted.
    #[arg(long, value_name = "FILE")]
    ptau: Option<PathBuf>,
    /// Replace keys that there are. Proofs that were made with them are not valid by the new ones.
    #[arg(long)]
    replace: bool,
    /// Write each circuit's constraints into this directory too, as NAME.r1cs, for snarkjs.
    #[arg(long, value_name = "DIR")]
    r1cs: Option<PathBuf>,
}

/// Bytes that nobody can guess.
fn entropy_of(ids: IdGenerator) -> impl FnMut(&mut [u8]) {
    move |buffer: &mut [u8]| {
        for part in buffer.chunks_mut(8) {
            let length = part.len();
            part.copy_from_slice(&ids.number().to_le_bytes()[..length]);
        }
    }
}

/// Make keys of circuits, in the data directory.
pub fn make_keys(config: &Config, arguments: &ProofKeysArguments) -> Result<(), CommandError> {
    let store = CircuitKeyStore::new(config.data_dir.join(am_proofs::KEY_DIRECTORY));
    let mut entropy = entropy_of(IdGenerator::system()?);
    for name in &arguments.circuits {
        let form = CircuitForm::parse(name)?;
        let example = form.example()?;
        if let Some(directory) = &arguments.r1cs {
            fs::create_dir_all(directory)?;
            fs::write(directory.join(format!("{form}.r1cs")), iden3::r1cs_bytes(&example))?;
        }
        if store.document(&form)?.is_some() && !arguments.replace {
            return Err(format!("there are keys of {form}; --replace makes others").into());
        }
        let keys = match &arguments.ptau {
            None => setup_alone(&form, &mut entropy)?,
            Some(file) => {
                let source = File::open(file).map_err(|error| format!("{}: {error}", file.display()))?;
                let rows = example.constraints() + example.publics().len() + 1;
                setup_from_ceremony(
                    &form,
                    &PowersOfTau::read(BufReader::new(source), rows, &mut entropy)?,
                    &mut entropy,
                )?
            }
        };
        let made = store.put(&keys)?;
        print_output(&format!(
            "{}: {} constraints, verification key {}\n  {}",
            made.circuit, made.constraints, made.key_sha256, made.setup.trust
        ));
    }
    Ok(())
}

/// Read a file; `-` is standard input.
fn read_bytes(file: &Path) -> Result<(String, Vec<u8>), CommandError> {
    let read = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = read.map_err(|error| format!("{}: {error}", file.display()))?;
    Ok((file.display().to_string(), bytes))
}

/// Verify proofs offline and print the result.
pub fn verify_proof(files: &[PathBuf], keys: &[String]) -> Result<(), CommandError> {
    let keys = keys.iter().map(|key| Ed25519PublicKey::from_hex(key)).collect::<Result<Vec<_>, _>>()?;
    let files = files.iter().map(|file| read_bytes(file)).collect::<Result<Vec<_>, _>>()?;
    let report = verify_files(&files, &keys)?;
    print_output(&serde_json::to_string_pretty(&report)?);
    if report.valid { Ok(()) } else { Err("the proof is not valid".into()) }
}
