use std::{io::Cursor, sync::OnceLock};

use super::*;
use crate::{
    CircuitKeys, PowersOfTau, ValueOpening,
    circuits::{CircuitForm, CircuitWitness, OpeningsWitness, StepOpening},
    field::tests::{MODULUS, test_entropy},
    json_elements, prove, ptau, setup_alone, setup_from_ceremony, verify,
};

fn form() -> CircuitForm {
    CircuitForm::parse("openings-v1-1x1").unwrap()
}

fn witness() -> CircuitWitness {
    let opening =
        |text: &[u8], salt: u64| ValueOpening { elements: json_elements(text), salt: FieldElement::from(salt) };
    let step = StepOpening { input: opening(b"{\"x\":1}", 3), output: opening(b"{\"y\":2}", 4) };
    CircuitWitness::Openings { steps: 1, blocks: 1, witness: OpeningsWitness { steps: vec![step] } }
}

fn keys() -> &'static CircuitKeys {
    static KEYS: OnceLock<CircuitKeys> = OnceLock::new();
    KEYS.get_or_init(|| setup_alone(&form(), &mut test_entropy(1)).unwrap())
}

/// A proof with its signals and its key, as JSON.
fn exported() -> &'static [Value; 3] {
    static EXPORTED: OnceLock<[Value; 3]> = OnceLock::new();
    EXPORTED.get_or_init(|| {
        let proof = prove(keys(), &witness(), &mut test_entropy(2)).unwrap();
        [proof_json(&proof), signals_json(&proof.publics), key_json(&keys().verifying_key())]
    })
}

fn verdict(proof: &Value, signals: &Value, key: &Value) -> Result<bool> {
    verify(&read_key(key)?, &read_proof(proof, signals)?)
}

#[test]
fn what_is_exported_is_read_back_and_valid() {
    let [proof, signals, key] = exported();
    assert_eq!(verdict(proof, signals, key), Ok(true));
    let again = read_key(key).unwrap();
    assert_eq!((key_json(&again), key_hash(&again)), (key.clone(), key_hash(&keys().verifying_key())));
    assert_eq!(again.signals(), 3);
}

/// Replace the text of digits at a JSON pointer.
fn with(document: &Value, pointer: &str, value: impl Into<Value>) -> Value {
    let mut changed = document.clone();
    *changed.pointer_mut(pointer).unwrap() = value.into();
    changed
}

/// Pointers of all texts of digits.
fn numbers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::String(text) if text.len() > 2 && text.bytes().all(|byte| byte.is_ascii_digit()) => found.push(at),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| numbers(value, format!("{at}/{index}"), found))
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| numbers(value, format!("{at}/{name}"), found))
        }
        _ => {}
    }
}

#[test]
fn any_altered_digit_is_refused() {
    let documents = exported();
    for (which, document) in documents.iter().enumerate() {
        let mut pointers = Vec::new();
        numbers(document, String::new(), &mut pointers);
        assert!(pointers.len() >= 3);
        for (turn, pointer) in pointers.iter().enumerate() {
            let text = document.pointer(pointer).unwrap().as_str().unwrap();
            // Another place of the number each time, the last and the first included.
            let place = [text.len() - 1, 0, text.len() / 2][turn % 3];
            let digit = text.as_bytes()[place];
            let other = if digit == b'1' { '2' } else { '1' };
            let altered = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            let mut changed = documents.clone();
            changed[which] = with(document, pointer, altered);
            let [proof, signals, key] = &changed;
            assert_ne!(verdict(proof, signals, key), Ok(true), "document {which}, {pointer}, digit {place}");
        }
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(ProofFault::Malformed { member, reason }) => format!("{member}: {reason}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn points_off_the_curve_and_out_of_the_group_are_named() {
    let [proof, signals, _] = exported();
    let read = |proof: &Value| reason(read_proof(proof, signals));
    assert_eq!(read(&with(proof, "/pi_a/0", "5")), "pi_a: is not a point on the curve");
    assert_eq!(read(&with(proof, "/pi_b/0/1", "5")), "pi_b: is not a point on the curve");
    assert!(read(&with(proof, "/pi_c/2", "0")).contains("infinity"));
    assert!(
        read(&with(proof, "/pi_a/0", "21888242871839275222246405745257275088696311157297823662689037894645226208583"))
            .contains("modulus")
    );
    assert!(read(&with(proof, "/pi_a/0", 5)).contains("text of digits"));
    assert!(read(&with(proof, "/pi_a", json!(["1", "2"]))).contains("list of 3"));
    assert!(read(&with(proof, "/protocol", "plonk")).contains("groth16"));
    assert!(read(&with(proof, "/curve", "bls12381")).contains("bn128"));
    // The twist has points of other orders: the first x for which there is a point gives one.
    let outside = (1u64..)
        .find_map(|x| G2Affine::get_point_from_x_unchecked(Fq2::new(x.into(), 0u64.into()), false))
        .filter(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap();
    assert_eq!(read(&with(proof, "/pi_b", g2_json(&outside))), "pi_b: is not in the subgroup of prime order");
}

#[test]
fn signals_beyond_the_field_are_refused() {
    let [proof, signals, key] = exported();
    // The same signal plus the modulus would be the same element.
    assert!(reason(read_signals(&with(signals, "/0", MODULUS))).starts_with("public[0]: is not below the modulus"));
    assert!(reason(read_signals(&json!({}))).contains("list"));
    assert!(reason(read_signals(&json!([1]))).contains("text of digits"));
    let fewer = json!([signals[0]]);
    assert!(matches!(verdict(proof, &fewer, key), Err(ProofFault::OtherCircuit(_))));
    assert!(reason(read_key(&with(key, "/nPublic", 4))).contains("IC: must be a list of 5"));
}

#[test]
fn a_proof_of_another_circuit_is_not_valid() {
    let [proof, signals, _] = exported();
    let other = setup_alone(&form(), &mut test_entropy(9)).unwrap();
    assert_eq!(
        verdict(proof, signals, &key_json(&other.verifying_key())),
        Ok(false),
        "of other keys of the same circuit"
    );
    let two = CircuitKeys::from_bytes(
        &setup_alone(&CircuitForm::parse("policy-v1-1-2").unwrap(), &mut test_entropy(9)).unwrap().to_bytes().unwrap(),
    )
    .unwrap();
    assert!(matches!(prove(&two, &witness(), &mut test_entropy(1)), Err(ProofFault::OtherCircuit(_))));
    // It has three signals too.
    assert_eq!(verdict(proof, signals, &key_json(&two.verifying_key())), Ok(false));
}

#[test]
fn two_proofs_of_the_same_differ() {
    let made = |seed| prove(keys(), &witness(), &mut test_entropy(seed)).unwrap();
    assert_ne!(made(1), made(2));
    assert_eq!(made(1).publics, made(2).publics);
}

#[test]
fn keys_are_kept_as_files() {
    let bytes = keys().to_bytes().unwrap();
    let read = CircuitKeys::from_bytes(&bytes).unwrap();
    assert_eq!((read.form(), read.circuit_sha256()), (keys().form(), keys().circuit_sha256()));
    let proof = prove(&read, &witness(), &mut test_entropy(3)).unwrap();
    assert_eq!(verify(&keys().verifying_key(), &proof), Ok(true));
    let mut damaged = bytes.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(CircuitKeys::from_bytes(&damaged), Err(ProofFault::File { .. })));
    assert!(CircuitKeys::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(CircuitKeys::from_bytes(b"amzkkey1\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
    assert!(CircuitKeys::from_bytes(b"").is_err());
}

#[test]
fn keys_from_a_ceremony_prove_too() {
    let circuit = form().example().unwrap();
    let rows = (circuit.constraints() + 4).next_power_of_two();
    let file = ptau::tests::known_file(rows.trailing_zeros(), 4);
    let powers = PowersOfTau::read(Cursor::new(file), rows, &mut test_entropy(6)).unwrap();
    let keys = setup_from_ceremony(&form(), &powers, &mut test_entropy(7)).unwrap();
    let proof = prove(&keys, &witness(), &mut test_entropy(8)).unwrap();
    assert_eq!(verify(&keys.verifying_key(), &proof), Ok(true));
    assert!(matches!(keys.setup(), crate::KeySetup::Ceremony { power, .. } if *power == rows.trailing_zeros()));
    let small = PowersOfTau::read(Cursor::new(ptau::tests::known_file(3, 4)), 8, &mut test_entropy(6)).unwrap();
    assert!(matches!(setup_from_ceremony(&form(), &small, &mut test_entropy(7)), Err(ProofFault::File { .. })));
}
