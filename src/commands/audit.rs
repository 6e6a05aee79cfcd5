//! Commands for the audit log: export and verification.

use std::{
    fs::File,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
};

use agent_management::app;
use am_audit::{ConsistencyProof, InclusionProof};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    crypto::{Ed25519PublicKey, NoteKey, NoteKeyKind},
    strict_json::parse_strict_json,
};

use super::{CommandError, print_output, read_text};

/// Write the whole log as JSON lines to standard output, directly from the database. Entries without a signed head are
/// sealed first.
pub async fn export_log(config: Config) -> Result<(), CommandError> {
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(&config).await?;
    let (audit, _) = app::open_audit(&config, &db, &clock, &ids).await?;
    audit.seal().await?;
    let mut export = audit.export(1).await?;
    let mut out = std::io::stdout().lock();
    while let Some(lines) = export.next().await? {
        out.write_all(lines.as_bytes())?;
    }
    out.flush()?;
    db.close().await;
    Ok(())
}

/// Accept that the database was restored from a backup, and print the first head of the epoch that begins.
pub async fn accept_restore(config: Config, reason: &str) -> Result<(), CommandError> {
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(&config).await?;
    let (audit, _) = app::open_audit(&config, &db, &clock, &ids).await?;
    let head = audit.accept_restore(reason).await?;
    print_output(&head.checkpoint);
    db.close().await;
    Ok(())
}

fn parse_keys(keys: &[String]) -> Result<Vec<Ed25519PublicKey>, CommandError> {
    Ok(keys.iter().map(|key| am_audit::parse_log_key(key)).collect::<Result<_, _>>()?)
}

fn parse_witness(key: &String) -> Result<NoteKey, CommandError> {
    let parsed = NoteKey::parse(key, NoteKeyKind::Cosignature);
    parsed.map_err(|_| {
        format!("--witness {key}: not a witness's verifier key (NAME+HASH+BASE64, algorithm byte 4)").into()
    })
}

/// Verify an export offline and print the result.
pub fn verify_export(
    file: &Path,
    keys: &[String],
    checkpoints: &[PathBuf],
    witnesses: &[String],
) -> Result<(), CommandError> {
    let keys = parse_keys(keys)?;
    let witnesses = witnesses.iter().map(parse_witness).collect::<Result<Vec<_>, _>>()?;
    let kept = checkpoints.iter().map(|file| read_text(file)).collect::<Result<Vec<_>, _>>()?;
    let source: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(|error| format!("{}: {error}", file.display()))?))
    };
    let report = am_audit::verify_export(source, &keys, &kept, &witnesses)?;
    print_output(&serde_json::to_string_pretty(&report)?);
    match report.first_fault {
        None => Ok(()),
        Some(fault) => {
            Err(format!("the log differs from what was signed, from entry {} on: {}", fault.seq, fault.what).into())
        }
    }
}

/// Verify a proof of inclusion or consistency in the form of the routes' responses, and say what it proves.
pub fn verify_proof(file: &Path, keys: &[String]) -> Result<(), CommandError> {
    let (keys, text) = (parse_keys(keys)?, read_text(file)?);
    let document = parse_strict_json(text.as_bytes())
        .map_err(|error| format!("{}: not a JSON document with one meaning: {error}", file.display()))?;
    if document.get("leaf_index").is_some() {
        let proof: InclusionProof = read_proof(document, file)?;
        proof.verify(&keys)?;
        let (place, size) = (proof.leaf_index + 1, proof.head.size);
        print_output(&match proof.columns {
            Some(_) => {
                format!(
                    "{} of source {}, as its columns show it, is entry {place} of the log's first {size}",
                    proof.audit_id, proof.source
                )
            }
            None => format!(
                "the leaf {} is entry {place} of the log's first {size}; nothing was verified of audit_id and source, as \
                 the proof has no columns",
                proof.leaf_hash
            ),
        });
    } else {
        let proof: ConsistencyProof = read_proof(document, file)?;
        proof.verify(&keys)?;
        print_output(&format!(
            "the log's first {} entries are the beginning of its first {}",
            proof.from.size, proof.to.size
        ));
    }
    print_output("no signature covers made_at, the time of a head");
    Ok(())
}

fn read_proof<T: serde::de::DeserializeOwned>(document: serde_json::Value, file: &Path) -> Result<T, CommandError> {
    let not_a_proof = |error| format!("{}: not a proof in the form that the routes return: {error}", file.display());
    Ok(serde_json::from_value(document).map_err(not_a_proof)?)
}
