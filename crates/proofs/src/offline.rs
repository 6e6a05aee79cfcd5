//! Verification of proofs without a service: documents of this service, and files in snarkjs's JSON.

use am_core::{crypto::Ed25519PublicKey, strict_json::parse_strict_json};
use am_zk::{
    chain_root,
    circuits::{CircuitForm, openings_publics},
    decimal_element, element_decimal,
    snarkjs::{key_hash, read_key, read_proof, read_signals},
    verify,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    inclusion::is_included,
    model::{ProofDocument, ProofExport},
    statement::check_statement,
};

/// What was verified, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfflineReport {
    /// Whether everything that was looked at holds.
    pub valid: bool,
    /// What holds, in words.
    pub verified: Vec<String>,
    /// What does not hold, in words.
    pub refused: Vec<String>,
    /// What nobody could verify with what was given.
    pub not_verified: Vec<String>,
}

/// The files by what they are.
#[derive(Default)]
struct ProofFiles {
    documents: Vec<ProofDocument>,
    exports: Vec<(String, ProofExport)>,
    proof: Option<Value>,
    signals: Option<Value>,
    key: Option<Value>,
}

impl OfflineReport {
    fn note(&mut self, what: String, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.verified.push(what),
            Err(reason) => self.refused.push(format!("{what}: {reason}")),
        }
    }
}

impl ProofFiles {
    fn read(files: &[(String, Vec<u8>)]) -> Result<Self, String> {
        let mut found = Self::default();
        for (name, bytes) in files {
            let document = parse_strict_json(bytes)
                .map_err(|error| format!("{name}: it is not a JSON document with one meaning: {error}"))?;
            let read = |error: serde_json::Error| format!("{name}: {error}");
            let twice = |place: &Option<Value>| {
                if place.is_some() { Err(format!("{name}: there is another file of this kind")) } else { Ok(()) }
            };
            if document.get("integration_status").is_some() {
                found.documents.push(serde_json::from_value(document).map_err(read)?);
            } else if document.get("verification_key").is_some() && document.get("proof").is_some() {
                found.exports.push((name.clone(), serde_json::from_value(document).map_err(read)?));
            } else if document.get("pi_a").is_some() {
                twice(&found.proof)?;
                found.proof = Some(document);
            } else if document.get("IC").is_some() {
                twice(&found.key)?;
                found.key = Some(document);
            } else if document.is_array() {
                twice(&found.signals)?;
                found.signals = Some(document);
            } else {
                return Err(format!("{name}: it is no proof, public signals, verification key or document of proofs"));
            }
        }
        Ok(found)
    }
}

fn checked(proof: &Value, signals: &Value, key: &Value) -> Result<(), String> {
    let key = read_key(key).map_err(|fault| format!("the verification key's {fault}"))?;
    let proof = read_proof(proof, signals).map_err(|fault| format!("the proof's {fault}"))?;
    match verify(&key, &proof).map_err(|fault| fault.to_string())? {
        true => Ok(()),
        false => Err("the proof is not valid for these public signals and this key".to_owned()),
    }
}

/// Check an export: that its proof is valid, and that it is of the circuit and the key that it names.
fn check_export(export: &ProofExport) -> Result<(), String> {
    let form = CircuitForm::parse(&export.circuit).map_err(|fault| fault.to_string())?;
    let key = read_key(&export.verification_key).map_err(|fault| format!("the verification key's {fault}"))?;
    if key_hash(&key) != export.key_sha256 {
        return Err("the verification key does not have the hash that is named".to_owned());
    }
    if key.signals() != form.signals().len() {
        return Err(format!(
            "the verification key has {} public signals, {form} has {}",
            key.signals(),
            form.signals().len()
        ));
    }
    checked(&export.proof, &export.public, &export.verification_key)
}

/// Check that an export's public signals are what a document commits to.
fn check_signals(document: &ProofDocument, export: &ProofExport) -> Result<(), String> {
    let proof = document.workflow_proof.as_ref().ok_or("the document has no commitments")?;
    let element = |text: &String| decimal_element(text).ok_or_else(|| format!("{text} is no field element"));
    let pair = |step: &crate::model::CommittedStep| Ok::<_, String>((element(&step.input)?, element(&step.output)?));
    let pairs = proof.commitments.iter().map(pair).collect::<Result<Vec<_>, _>>()?;
    let root = chain_root(&pairs).map_err(|fault| fault.to_string())?;
    if proof.root.as_deref() != Some(&*element_decimal(&root)) {
        return Err("the commitments do not hash to the root".to_owned());
    }
    let signals = read_signals(&export.public).map_err(|fault| fault.to_string())?;
    let form = CircuitForm::parse(&export.circuit).map_err(|fault| fault.to_string())?;
    let known = document
        .zk_proofs_generated
        .iter()
        .any(|made| made.key_sha256 == export.key_sha256 && made.step == export.step);
    if !known {
        return Err("the document names no proof by this key".to_owned());
    }
    match (&form, &export.step) {
        (CircuitForm::Openings { steps, .. }, None) => {
            let expected = openings_publics(*steps, &pairs).map_err(|fault| fault.to_string())?;
            (signals == expected)
                .then_some(())
                .ok_or_else(|| "its public signals are not the document's commitments".to_owned())
        }
        (CircuitForm::Policy { .. }, Some(step)) => {
            let place = proof.commitments.iter().position(|committed| committed.step == *step);
            let (input, output) =
                place.map(|at| pairs[at]).ok_or_else(|| format!("the document commits to no step {step}"))?;
            (signals.first() == Some(&input) && signals.get(1) == Some(&output))
                .then_some(())
                .ok_or_else(|| format!("its public signals are not the commitments of step {step}"))
        }
        _ => Err("its circuit is not for what it says it is about".to_owned()),
    }
}

fn check_document(report: &mut OfflineReport, document: &ProofDocument, keys: &[Ed25519PublicKey]) {
    let name = format!("proof {} of execution {}", document.proof_id, document.execution_id);
    let Some(proof) = &document.workflow_proof else {
        report.refused.push(format!("{name}: it proves nothing of the workflow"));
        return;
    };
    if keys.is_empty() {
        report.not_verified.push(format!("{name}: the signature of its statement, for which a public key is needed"));
    } else {
        report.note(format!("{name}: the signature of its statement"), check_statement(&proof.statement, keys));
    }
    let said = |member: &str| proof.statement.pointer(&format!("/payload/{member}")).cloned().unwrap_or_default();
    let agrees = said("execution_id") == document.execution_id.as_str()
        && said("steps_root") == proof.steps_root.as_str()
        && said("root") == serde_json::json!(proof.root)
        && said("commitments") == serde_json::json!(proof.commitments);
    let differs = || "the statement says something else".to_owned();
    report.note(
        format!("{name}: its roots and commitments are those of the statement"),
        agrees.then_some(()).ok_or_else(differs),
    );
    for step in &document.verification_results {
        let included = step.inclusion.as_ref().is_some_and(|inclusion| {
            inclusion.leaf["step"] == step.step.as_str() && is_included(inclusion, &proof.steps_root)
        });
        let outcome = included.then_some(()).ok_or_else(|| "it does not lead to the root".to_owned());
        report.note(format!("{name}: step {} is in the receipt", step.step), outcome);
    }
}

/// Verify files: a document of this service (by `keys`, which sign receipts), its exported proofs, or snarkjs's three files.
///
/// # Errors
/// A file that is none of these.
pub fn verify_files(files: &[(String, Vec<u8>)], keys: &[Ed25519PublicKey]) -> Result<OfflineReport, String> {
    let found = ProofFiles::read(files)?;
    let mut report = OfflineReport::default();
    for document in &found.documents {
        check_document(&mut report, document, keys);
    }
    for (name, export) in &found.exports {
        report.note(format!("{name}: the proof of {}", export.circuit), check_export(export));
        match found.documents.as_slice() {
            [] => report
                .not_verified
                .push(format!("{name}: which execution it is about, for which the document is needed")),
            documents => {
                let outcomes: Vec<_> = documents.iter().map(|document| check_signals(document, export)).collect();
                let outcome = outcomes.iter().find(|outcome| outcome.is_ok()).or(outcomes.first()).cloned();
                report.note(format!("{name}: it is about what the document commits to"), outcome.unwrap_or(Ok(())));
            }
        }
        report.not_verified.push(format!("{name}: that its keys were made honestly; see the document's setup"));
    }
    match (&found.proof, &found.signals, &found.key) {
        (None, None, None) => {}
        (Some(proof), Some(signals), Some(key)) => {
            report.note(
                "the proof, its public signals and the verification key".to_owned(),
                checked(proof, signals, key),
            );
            report.not_verified.push("what the circuit of the verification key proves".to_owned());
        }
        _ => return Err("a proof, its public signals and a verification key are needed together".to_owned()),
    }
    report.valid = report.refused.is_empty() && !report.verified.is_empty();
    Ok(report)
}

#[cfg(test)]
mod tests {
    use am_zk::{
        ValueOpening,
        circuits::{CircuitWitness, OpeningsWitness, StepOpening},
        json_elements, prove, setup_alone,
        snarkjs::{key_json, proof_json, signals_json},
    };
    use serde_json::json;

    use super::*;

    /// A proof of one step in the three files, and as an export.
    fn made() -> ([Value; 3], ProofExport) {
        let mut state = 1u8;
        let mut entropy = |buffer: &mut [u8]| {
            buffer.iter_mut().for_each(|byte| {
                state = state.wrapping_mul(29).wrapping_add(91);
                *byte = state;
            });
        };
        let form = CircuitForm::parse("openings-v1-1x1").unwrap();
        let keys = setup_alone(&form, &mut entropy).unwrap();
        let opening = |text: &[u8]| ValueOpening {
            elements: json_elements(text),
            salt: am_zk::random_element(&mut |_: &mut [u8]| {}),
        };
        let steps = vec![StepOpening { input: opening(b"1"), output: opening(b"2") }];
        let witness = CircuitWitness::Openings { steps: 1, blocks: 1, witness: OpeningsWitness { steps } };
        let proof = prove(&keys, &witness, &mut entropy).unwrap();
        let key = keys.verifying_key();
        let files = [proof_json(&proof), signals_json(&proof.publics), key_json(&key)];
        let export = ProofExport {
            circuit: form.to_string(),
            circuit_sha256: keys.circuit_sha256().to_owned(),
            key_sha256: key_hash(&key),
            step: None,
            signals: form.signals(),
            proof: files[0].clone(),
            public: files[1].clone(),
            verification_key: files[2].clone(),
        };
        (files, export)
    }

    fn file(name: &str, value: &impl Serialize) -> (String, Vec<u8>) {
        (name.to_owned(), serde_json::to_vec(value).unwrap())
    }

    #[test]
    fn three_files_and_an_export_are_verified() {
        let (files, export) = made();
        let [proof, signals, key] = &files;
        let three = [file("proof.json", proof), file("public.json", signals), file("verification_key.json", key)];
        let report = verify_files(&three, &[]).unwrap();
        assert!(report.valid && report.refused.is_empty(), "{report:?}");
        assert!(verify_files(&[file("export.json", &export)], &[]).unwrap().valid);
        let other = json!(signals.as_array().unwrap().iter().map(|_| "1").collect::<Vec<_>>());
        let three = [file("proof.json", proof), file("public.json", &other), file("verification_key.json", key)];
        assert!(!verify_files(&three, &[]).unwrap().valid);
        let altered =
            ProofExport { circuit: "policy-v1-2-2".to_owned(), key_sha256: "00".to_owned(), ..export.clone() };
        let report = verify_files(&[file("export.json", &altered)], &[]).unwrap();
        assert!(report.refused[0].contains("hash"), "{report:?}");
        let altered = ProofExport { circuit: "openings-v1-2x1".to_owned(), ..export };
        assert!(verify_files(&[file("export.json", &altered)], &[]).unwrap().refused[0].contains("public signals"));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        for (bytes, reason) in [
            (&b"{"[..], "one meaning"),
            (b"{\"pi_a\": 1, \"pi_a\": 2}", "one meaning"),
            (b"{\"a\": 1}", "no proof"),
            (b"{\"pi_a\": []}", "together"),
            (b"{\"integration_status\": 1}", "file: "),
        ] {
            let error = verify_files(&[("file".to_owned(), bytes.to_vec())], &[]).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(!verify_files(&[], &[]).unwrap().valid, "nothing was verified");
    }
}
