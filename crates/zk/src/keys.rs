//! Proving and verifying keys of a circuit: made by one party or from a ceremony's powers of tau, and as a file.

use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{CurveGroup, PrimeGroup as _, scalar_mul::BatchMulPreprocessing};
use ark_ff::{AdditiveGroup, Field};
use ark_groth16::ProvingKey;
use ark_poly::{EvaluationDomain, GeneralEvaluationDomain};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    ConstraintRow, EntropySource, FieldElement, PowersOfTau, ProofFault, Result, Synthesis, circuits::CircuitForm,
    iden3, random_element, verifying::VerifyingKey,
};

/// First bytes of a file of keys; the last is the format's version.
const FILE_MARK: &[u8; 8] = b"amzkkey1";
/// Most bytes of a file's header.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// Who made a circuit's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum KeySetup {
    /// One party drew all secrets and threw them away. Who does not trust it, or its machine, can't trust that proofs are sound;
    /// that they tell nothing needs no trust.
    OneParty,
    /// The powers of tau are a ceremony's, of which one honest participant suffices; the circuit's own secret is one party's.
    Ceremony {
        /// SHA-256 of the part of the ptau file that was used, in hexadecimal digits.
        powers_sha256: String,
        /// Two to this power is the largest circuit of the file.
        power: u32,
    },
}

/// The keys of one circuit.
#[derive(Clone, Debug)]
pub struct CircuitKeys {
    form: CircuitForm,
    circuit_sha256: String,
    setup: KeySetup,
    constraints: usize,
    wires: usize,
    proving: ProvingKey<Bn254>,
}

#[derive(Serialize, Deserialize)]
struct KeyFileHeader {
    circuit: String,
    circuit_sha256: String,
    key_sha256: String,
    setup: KeySetup,
    constraints: usize,
    wires: usize,
}

/// SHA-256 of a circuit's constraints in iden3's r1cs format, in hexadecimal digits.
pub fn circuit_hash(synthesis: &Synthesis) -> String {
    hex_hash(&iden3::r1cs_bytes(synthesis))
}

pub(crate) fn hex_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The evaluation domain of a circuit's constraints and public wires.
fn domain_of(circuit: &Synthesis) -> Result<GeneralEvaluationDomain<Fr>> {
    GeneralEvaluationDomain::new(circuit.constraints() + circuit.publics().len() + 1)
        .ok_or_else(|| ProofFault::NotProvable("the circuit is too large for the field".to_owned()))
}

fn affine_pair(g1: G1Projective, g2: G2Projective) -> (G1Affine, G2Affine) {
    (g1.into_affine(), g2.into_affine())
}

/// Draw a circuit's keys. Whoever knows the drawn secrets can prove what is false.
///
/// # Errors
/// [`ProofFault::NotProvable`] for sizes that no circuit has.
pub fn setup_alone(form: &CircuitForm, entropy: EntropySource<'_>) -> Result<CircuitKeys> {
    let circuit = form.example()?;
    let domain = domain_of(&circuit)?;
    let mut nonzero = || loop {
        let drawn = random_element(entropy);
        if drawn != FieldElement::ZERO {
            return drawn;
        }
    };
    let [alpha, beta, gamma, delta] = [nonzero(), nonzero(), nonzero(), nonzero()];
    // Outside of the domain, where the vanishing polynomial is not 0.
    let (tau, vanishing) = loop {
        let tau = nonzero();
        let vanishing = domain.evaluate_vanishing_polynomial(tau);
        if vanishing != FieldElement::ZERO {
            break (tau, vanishing);
        }
    };
    let inverse = |element: FieldElement| element.inverse().unwrap_or_default();
    let lagrange = domain.evaluate_all_lagrange_coefficients(tau);
    let publics = circuit.publics().len() + 1;
    let column = |rows: &[ConstraintRow]| {
        let mut sums = vec![FieldElement::ZERO; circuit.wires()];
        for (row, basis) in rows.iter().zip(&lagrange) {
            row.iter().for_each(|(coefficient, wire)| sums[*wire] += *coefficient * basis);
        }
        sums
    };
    let [mut a, b, c] = [0, 1, 2].map(|matrix| column(&circuit.rows()[matrix]));
    // One row more for each public wire makes their polynomials independent.
    for (sum, basis) in a[..publics].iter_mut().zip(&lagrange[circuit.constraints()..]) {
        *sum += basis;
    }
    let combined: Vec<Fr> = a.iter().zip(&b).zip(&c).map(|((a, b), c)| beta * a + alpha * b + c).collect();
    let scaled = |sums: &[Fr], factor: Fr| sums.iter().map(|sum| *sum * factor).collect::<Vec<Fr>>();
    let mut power = vanishing * inverse(delta);
    let powers: Vec<Fr> = (1..domain.size())
        .map(|_| {
            let now = power;
            power *= tau;
            now
        })
        .collect();
    let (g1, g2) = (G1Projective::generator(), G2Projective::generator());
    let table = BatchMulPreprocessing::new(g1, 3 * circuit.wires() + domain.size());
    let (delta_g1, delta_g2) = affine_pair(g1 * delta, g2 * delta);
    let (beta_g1, beta_g2) = affine_pair(g1 * beta, g2 * beta);
    let proving = ProvingKey {
        vk: ark_groth16::VerifyingKey {
            alpha_g1: (g1 * alpha).into_affine(),
            beta_g2,
            gamma_g2: (g2 * gamma).into_affine(),
            delta_g2,
            gamma_abc_g1: table.batch_mul(&scaled(&combined[..publics], inverse(gamma))),
        },
        beta_g1,
        delta_g1,
        a_query: table.batch_mul(&a),
        b_g1_query: table.batch_mul(&b),
        b_g2_query: BatchMulPreprocessing::new(g2, circuit.wires()).batch_mul(&b),
        h_query: table.batch_mul(&powers),
        l_query: table.batch_mul(&scaled(&combined[publics..], inverse(delta))),
    };
    Ok(CircuitKeys::new(form, &circuit, KeySetup::OneParty, proving))
}

/// Coefficients of a wire by row of a matrix.
fn columns(rows: &[ConstraintRow], wires: usize) -> Vec<Vec<(Fr, usize)>> {
    let mut columns = vec![Vec::new(); wires];
    for (index, row) in rows.iter().enumerate() {
        row.iter().for_each(|(coefficient, wire)| columns[*wire].push((*coefficient, index)));
    }
    columns
}

/// The sum of multiples of a basis.
fn combination<G: CurveGroup<ScalarField = Fr>>(column: &[(Fr, usize)], basis: &[G::Affine]) -> G {
    let bases: Vec<G::Affine> = column.iter().map(|(_, row)| basis[*row]).collect();
    let scalars: Vec<Fr> = column.iter().map(|(coefficient, _)| *coefficient).collect();
    G::msm_unchecked(&bases, &scalars)
}

/// Make a circuit's keys from a ceremony's powers of tau, and one secret of its own.
///
/// # Errors
/// [`ProofFault::File`] when the powers don't reach this circuit.
pub fn setup_from_ceremony(
    form: &CircuitForm,
    powers: &PowersOfTau,
    entropy: EntropySource<'_>,
) -> Result<CircuitKeys> {
    let circuit = form.example()?;
    let domain = domain_of(&circuit)?;
    let (size, wires, publics) = (domain.size(), circuit.wires(), circuit.publics().len() + 1);
    let tau = powers.for_size(size)?;
    let lagrange_g1 = |points: &[G1Affine]| {
        let group: Vec<G1Projective> = points[..size].iter().map(|point| (*point).into()).collect();
        G1Projective::normalize_batch(&domain.ifft(&group))
    };
    let (plain, alpha, beta) =
        (lagrange_g1(&tau.tau_g1), lagrange_g1(&tau.alpha_tau_g1), lagrange_g1(&tau.beta_tau_g1));
    let group: Vec<G2Projective> = tau.tau_g2[..size].iter().map(|point| (*point).into()).collect();
    let plain_g2 = G2Projective::normalize_batch(&domain.ifft(&group));
    let [mut a, b, c] = [0, 1, 2].map(|matrix| columns(&circuit.rows()[matrix], wires));
    for (wire, column) in a[..publics].iter_mut().enumerate() {
        column.push((Fr::ONE, circuit.constraints() + wire));
    }
    let delta = loop {
        let drawn = random_element(entropy);
        if drawn != Fr::ZERO {
            break drawn;
        }
    };
    let inverse = delta.inverse().unwrap_or_default();
    let g1_query = |columns: &[Vec<(Fr, usize)>]| {
        let sums: Vec<G1Projective> = columns.iter().map(|column| combination(column, &plain)).collect();
        G1Projective::normalize_batch(&sums)
    };
    let b_g2: Vec<G2Projective> = b.iter().map(|column| combination(column, &plain_g2)).collect();
    let combined = |wire: usize, factor: Fr| -> G1Projective {
        let sum = |column: &[(Fr, usize)], basis: &[G1Affine]| combination::<G1Projective>(column, basis);
        (sum(&a[wire], &beta) + sum(&b[wire], &alpha) + sum(&c[wire], &plain)) * factor
    };
    let public: Vec<G1Projective> = (0..publics).map(|wire| combined(wire, Fr::ONE)).collect();
    let private: Vec<G1Projective> = (publics..wires).map(|wire| combined(wire, inverse)).collect();
    let vanishing: Vec<G1Projective> = (0..size - 1)
        .map(|index| (G1Projective::from(tau.tau_g1[index + size]) - tau.tau_g1[index]) * inverse)
        .collect();
    let (delta_g1, delta_g2) = affine_pair(G1Projective::generator() * delta, G2Projective::generator() * delta);
    let proving = ProvingKey {
        vk: ark_groth16::VerifyingKey {
            alpha_g1: tau.alpha_tau_g1[0],
            beta_g2: tau.beta_g2,
            gamma_g2: G2Projective::generator().into_affine(),
            delta_g2,
            gamma_abc_g1: G1Projective::normalize_batch(&public),
        },
        beta_g1: tau.beta_tau_g1[0],
        delta_g1,
        a_query: g1_query(&a),
        b_g1_query: g1_query(&b),
        b_g2_query: G2Projective::normalize_batch(&b_g2),
        h_query: G1Projective::normalize_batch(&vanishing),
        l_query: G1Projective::normalize_batch(&private),
    };
    let setup = KeySetup::Ceremony { powers_sha256: powers.sha256().to_owned(), power: powers.power() };
    Ok(CircuitKeys::new(form, &circuit, setup, proving))
}

impl CircuitKeys {
    fn new(form: &CircuitForm, circuit: &Synthesis, setup: KeySetup, proving: ProvingKey<Bn254>) -> Self {
        Self {
            form: form.clone(),
            circuit_sha256: circuit_hash(circuit),
            setup,
            constraints: circuit.constraints(),
            wires: circuit.wires(),
            proving,
        }
    }

    /// The circuit that they are for.
    pub fn form(&self) -> &CircuitForm {
        &self.form
    }

    /// SHA-256 of the circuit's constraints ([`circuit_hash`]).
    pub fn circuit_sha256(&self) -> &str {
        &self.circuit_sha256
    }

    /// Who made the keys.
    pub fn setup(&self) -> &KeySetup {
        &self.setup
    }

    /// Number of constraints of the circuit.
    pub fn constraints(&self) -> usize {
        self.constraints
    }

    /// Number of wires of the circuit.
    pub fn wires(&self) -> usize {
        self.wires
    }

    pub(crate) fn proving(&self) -> &ProvingKey<Bn254> {
        &self.proving
    }

    /// The key that verifies.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey::new(self.proving.vk.clone())
    }

    /// The keys as a file's bytes.
    ///
    /// # Errors
    /// [`ProofFault::Internal`] when they can't be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let internal = |error: &dyn std::fmt::Display| ProofFault::Internal(error.to_string());
        let mut key = Vec::with_capacity(self.proving.uncompressed_size());
        self.proving.serialize_uncompressed(&mut key).map_err(|error| internal(&error))?;
        let header = KeyFileHeader {
            circuit: self.form.to_string(),
            circuit_sha256: self.circuit_sha256.clone(),
            key_sha256: hex_hash(&key),
            setup: self.setup.clone(),
            constraints: self.constraints,
            wires: self.wires,
        };
        let header = serde_json::to_vec(&header).map_err(|error| internal(&error))?;
        let mut bytes = FILE_MARK.to_vec();
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        bytes.extend(key);
        Ok(bytes)
    }

    /// Read a file that [`CircuitKeys::to_bytes`] made on a machine that is trusted: its points are not checked, its hash is.
    ///
    /// # Errors
    /// [`ProofFault::File`] for another or a damaged file, [`ProofFault::OtherCircuit`] when its circuit is not what this version
    /// builds under that name.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let fault = |reason: &str| ProofFault::file("circuit key", reason);
        let rest = bytes.strip_prefix(FILE_MARK).ok_or_else(|| fault("it does not begin as one"))?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| fault("it is cut off"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MAX_HEADER_BYTES || length > rest.len() {
            return Err(fault("it is cut off"));
        }
        let (header, key) = rest.split_at(length);
        let header: KeyFileHeader = serde_json::from_slice(header).map_err(|error| fault(&error.to_string()))?;
        if hex_hash(key) != header.key_sha256 {
            return Err(fault("its content does not have the hash that it names"));
        }
        let form = CircuitForm::parse(&header.circuit)?;
        let circuit = form.example()?;
        if circuit_hash(&circuit) != header.circuit_sha256 {
            return Err(ProofFault::OtherCircuit(format!(
                "{form} has other constraints in this version; make its keys anew"
            )));
        }
        let proving = ProvingKey::deserialize_uncompressed_unchecked(key).map_err(|error| fault(&error.to_string()))?;
        let keys = Self::new(&form, &circuit, header.setup, proving);
        if keys.proving.a_query.len() != keys.wires {
            return Err(ProofFault::OtherCircuit(format!(
                "they have {} wires, {form} has {}",
                keys.proving.a_query.len(),
                keys.wires
            )));
        }
        Ok(keys)
    }
}
