//! Makes keys and a proof of circuits, and writes what other tools need to verify them and to prove the same: for each circuit a folder
//! with `proof.json`, `public.json`, `verification_key.json`, `circuit.r1cs` and `witness.wtns`. Prints a line of JSON for each, with
//! times in seconds and sizes in bytes.
//!
//!     cargo run --release -p am-zk --example prove -- FOLDER CIRCUIT...

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that a person runs: what goes wrong ends it, and is told there"
)]

use std::{fs, path::Path, time::Instant};

use am_zk::{
    FixedLayer, FixedNetwork, ValueOpening,
    circuits::{CircuitForm, CircuitWitness, OpeningsWitness, PolicyWitness, StepOpening},
    iden3, json_elements, prove, random_element, setup_alone,
    snarkjs::{key_json, proof_json, signals_json},
    value_digest, verify,
};
use serde_json::json;

/// Bytes that are the same in each run: what is measured must not vary.
fn fixed_bytes(seed: u64) -> impl FnMut(&mut [u8]) {
    let mut state = seed;
    move |buffer: &mut [u8]| {
        for byte in buffer {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
    }
}

/// A number below 2^17 in magnitude: half of one in fixed point.
fn small(bytes: &mut dyn FnMut(&mut [u8])) -> i64 {
    let mut buffer = [0; 4];
    bytes(&mut buffer);
    i64::from(i32::from_le_bytes(buffer) >> 14)
}

fn witness(form: &CircuitForm) -> CircuitWitness {
    let mut bytes = fixed_bytes(5);
    match form {
        CircuitForm::Openings { steps, blocks } => {
            let text = vec![b'7'; (blocks * 15 - 1) * 31];
            let mut opening = || ValueOpening { elements: json_elements(&text), salt: random_element(&mut bytes) };
            let opened = (0..*steps).map(|_| StepOpening { input: opening(), output: opening() }).collect();
            CircuitWitness::Openings { steps: *steps, blocks: *blocks, witness: OpeningsWitness { steps: opened } }
        }
        CircuitForm::Policy { widths } => {
            let mut layer = |pair: &[usize]| FixedLayer {
                weights: (0..pair[1]).map(|_| (0..pair[0]).map(|_| small(&mut bytes)).collect()).collect(),
                biases: (0..pair[1]).map(|_| small(&mut bytes)).collect(),
            };
            let network = FixedNetwork::new(widths.windows(2).map(&mut layer).collect()).expect("a network");
            let digest = value_digest(&json_elements(b"{}")).expect("a digest");
            CircuitWitness::Policy(PolicyWitness {
                state: (0..widths[0]).map(|_| small(&mut bytes)).collect(),
                network,
                input_text: digest,
                input_salt: random_element(&mut bytes),
                output_text: digest,
                output_salt: random_element(&mut bytes),
            })
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    for name in arguments {
        let form = CircuitForm::parse(&name).expect("a circuit");
        let to = Path::new(&folder).join(&name);
        fs::create_dir_all(&to).expect("the folder can be made");
        let witness = witness(&form);
        let started = Instant::now();
        let keys = setup_alone(&form, &mut fixed_bytes(1)).expect("keys");
        let setup = started.elapsed().as_secs_f64();
        let circuit = witness.synthesise().expect("a circuit");
        // The first proof touches the keys' memory; of the others the fastest counts.
        let mut times = Vec::new();
        let mut proof = None;
        for turn in 0..4 {
            let started = Instant::now();
            proof = Some(prove(&keys, &witness, &mut fixed_bytes(2 + turn)).expect("a proof"));
            times.push(started.elapsed().as_secs_f64());
        }
        let proof = proof.unwrap();
        let key = keys.verifying_key();
        let started = Instant::now();
        assert_eq!(verify(&key, &proof), Ok(true));
        let verified = started.elapsed().as_secs_f64();
        let files = [
            ("proof.json", proof_json(&proof)),
            ("public.json", signals_json(&proof.publics)),
            ("verification_key.json", key_json(&key)),
        ];
        for (file, value) in &files {
            fs::write(to.join(file), value.to_string()).expect("the file can be written");
        }
        fs::write(to.join("circuit.r1cs"), iden3::r1cs_bytes(&circuit)).expect("the file can be written");
        fs::write(to.join("witness.wtns"), iden3::wtns_bytes(&circuit)).expect("the file can be written");
        let fastest = times[1..].iter().copied().fold(f64::INFINITY, f64::min);
        println!(
            "{}",
            json!({"circuit": name, "constraints": circuit.constraints(), "wires": circuit.wires(), "signals": proof.publics.len(),
                "setup_seconds": setup, "first_proof_seconds": times[0], "proof_seconds": fastest, "verify_seconds": verified,
                "key_bytes": keys.to_bytes().expect("bytes").len(), "proof_bytes": files[0].1.to_string().len(),
                "verification_key_bytes": files[2].1.to_string().len()})
        );
    }
}
