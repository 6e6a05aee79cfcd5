//! Powers of tau of a ceremony (phase 1), as snarkjs's `ptau` files have them.
//!
//! Sections 2 to 6 hold powers of a secret times the generators, in Montgomery form; who took part (section 7) and the prepared
//! forms (12 to 15) are not used: the keys are computed from the powers themselves, after their structure was checked.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, VariableBaseMSM, pairing::Pairing};
use ark_ff::{BigInt, BigInteger, PrimeField};
use sha2::{Digest, Sha256};

use crate::{EntropySource, ProofFault, Result, random_element};

/// Name of the format.
const FORMAT: &str = "ptau";
/// Bytes of a coordinate.
const COORDINATE_BYTES: usize = 32;
/// Largest power that a file may have: keys for more are not made.
const MAX_POWER: u32 = 28;
/// Sections that a file has at most.
const MAX_SECTIONS: u32 = 64;

/// Powers of tau for circuits up to a size.
#[derive(Clone, Debug)]
pub struct PowersOfTau {
    power: u32,
    sha256: String,
    points: TauPoints,
}

/// The points: index i is tau^i times what the name says.
#[derive(Clone, Debug)]
pub(crate) struct TauPoints {
    pub(crate) tau_g1: Vec<G1Affine>,
    pub(crate) tau_g2: Vec<G2Affine>,
    pub(crate) alpha_tau_g1: Vec<G1Affine>,
    pub(crate) beta_tau_g1: Vec<G1Affine>,
    pub(crate) beta_g2: G2Affine,
}

fn fault(reason: impl Into<String>) -> ProofFault {
    ProofFault::file(FORMAT, reason)
}

/// Where a section's content begins and how long it is.
type SectionPlaces = BTreeMap<u32, (u64, u64)>;

struct TauReader<R> {
    source: R,
    hash: Sha256,
}

impl<R: Read + Seek> TauReader<R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut buffer = [0; N];
        self.source.read_exact(&mut buffer).map_err(|_| fault("it is cut off"))?;
        Ok(buffer)
    }

    fn number(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    fn seek(&mut self, place: u64) -> Result<()> {
        self.source.seek(SeekFrom::Start(place)).map(|_| ()).map_err(|error| fault(error.to_string()))
    }

    fn sections(&mut self) -> Result<SectionPlaces> {
        if self.bytes::<4>()? != *b"ptau" || self.number()? != 1 {
            return Err(fault("it does not begin as one of version 1"));
        }
        let count = self.number()?;
        if count > MAX_SECTIONS {
            return Err(fault(format!("it has {count} sections")));
        }
        let mut sections = SectionPlaces::new();
        let mut place = 12u64;
        for _ in 0..count {
            self.seek(place)?;
            let kind = self.number()?;
            let length = u64::from_le_bytes(self.bytes()?);
            if sections.insert(kind, (place + 12, length)).is_some() {
                return Err(fault(format!("section {kind} stands twice")));
            }
            place = place
                .checked_add(12)
                .and_then(|place| place.checked_add(length))
                .ok_or_else(|| fault("a section is too long"))?;
        }
        Ok(sections)
    }

    /// The first `count` points of a section, each of `coordinates` coordinates.
    fn coordinates(
        &mut self,
        sections: &SectionPlaces,
        kind: u32,
        count: usize,
        coordinates: usize,
    ) -> Result<Vec<Fq>> {
        let (place, length) = *sections.get(&kind).ok_or_else(|| fault(format!("it has no section {kind}")))?;
        let wanted = count * coordinates * COORDINATE_BYTES;
        if length < wanted as u64 {
            return Err(fault(format!("section {kind} is too short")));
        }
        self.seek(place)?;
        let mut bytes = vec![0; wanted];
        self.source.read_exact(&mut bytes).map_err(|_| fault("it is cut off"))?;
        self.hash.update(&bytes);
        bytes
            .chunks_exact(COORDINATE_BYTES)
            .map(|chunk| {
                montgomery(chunk).ok_or_else(|| fault(format!("section {kind} has a coordinate beyond the field")))
            })
            .collect()
    }

    fn g1(&mut self, sections: &SectionPlaces, kind: u32, count: usize) -> Result<Vec<G1Affine>> {
        let numbers = self.coordinates(sections, kind, count, 2)?;
        let point = |pair: &[Fq]| {
            let point = G1Affine::new_unchecked(pair[0], pair[1]);
            point
                .is_on_curve()
                .then_some(point)
                .ok_or_else(|| fault(format!("section {kind} has a point that is not on the curve")))
        };
        numbers.chunks_exact(2).map(point).collect()
    }

    fn g2(&mut self, sections: &SectionPlaces, kind: u32, count: usize) -> Result<Vec<G2Affine>> {
        let numbers = self.coordinates(sections, kind, count, 4)?;
        let point = |four: &[Fq]| {
            let point = G2Affine::new_unchecked(Fq2::new(four[0], four[1]), Fq2::new(four[2], four[3]));
            let good = point.is_on_curve() && point.is_in_correct_subgroup_assuming_on_curve();
            good.then_some(point).ok_or_else(|| fault(format!("section {kind} has a point that is not in the group")))
        };
        numbers.chunks_exact(4).map(point).collect()
    }
}

/// A number in Montgomery form, the lowest byte first.
fn montgomery(bytes: &[u8]) -> Option<Fq> {
    let mut limbs = [0; 4];
    for (limb, chunk) in limbs.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*chunk);
    }
    let number = BigInt::new(limbs);
    (number < Fq::MODULUS).then(|| Fq::new_unchecked(number))
}

impl PowersOfTau {
    /// Read the powers that circuits of at most `size` rows need, and check that they are powers: of the same secret in both groups,
    /// from the generators on.
    ///
    /// # Errors
    /// [`ProofFault::File`] for a file that is of another format or curve, too small, damaged, or not made of powers.
    pub fn read(source: impl Read + Seek, size: usize, entropy: EntropySource<'_>) -> Result<Self> {
        let mut reader = TauReader { source, hash: Sha256::new() };
        let sections = reader.sections()?;
        let (header, length) = *sections.get(&1).ok_or_else(|| fault("it has no header"))?;
        if length < 4 + 32 + 4 {
            return Err(fault("its header is too short"));
        }
        reader.seek(header)?;
        let width = reader.number()?;
        let modulus: [u8; 32] = reader.bytes()?;
        if width != 32 || modulus.as_slice() != Fq::MODULUS.to_bytes_le() {
            return Err(fault("it is of another curve than BN254"));
        }
        let power = reader.number()?;
        let size = size.next_power_of_two();
        if power > MAX_POWER || size > 1 << power {
            return Err(fault(format!(
                "its power {power} is for circuits of up to 2^{power} rows, and 2^{} are needed",
                size.trailing_zeros()
            )));
        }
        let points = TauPoints {
            tau_g1: reader.g1(&sections, 2, 2 * size - 1)?,
            tau_g2: reader.g2(&sections, 3, size)?,
            alpha_tau_g1: reader.g1(&sections, 4, size)?,
            beta_tau_g1: reader.g1(&sections, 5, size)?,
            beta_g2: reader.g2(&sections, 6, 1)?.into_iter().next().ok_or_else(|| fault("it has no beta"))?,
        };
        points.check(entropy)?;
        let sha256 = reader.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { power, sha256, points })
    }

    /// Two to this power is the number of rows of the largest circuit that the file is for.
    pub fn power(&self) -> u32 {
        self.power
    }

    /// SHA-256 of the points that were read, in hexadecimal digits.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The powers, when they reach circuits of `size` rows.
    pub(crate) fn for_size(&self, size: usize) -> Result<&TauPoints> {
        let reaches = self.points.tau_g2.len() >= size && self.points.tau_g1.len() >= 2 * size - 1;
        reaches.then_some(&self.points).ok_or_else(|| fault(format!("{size} rows are more than were read")))
    }
}

impl TauPoints {
    /// Check that all are powers of one secret. A random combination of each list must be tau times the combination of the same list
    /// one place before, by pairings; a list that is not made of powers passes with probability 2^-250.
    fn check(&self, entropy: EntropySource<'_>) -> Result<()> {
        let (g1, g2) = (G1Affine::generator(), G2Affine::generator());
        let tau_g2 = *self.tau_g2.get(1).ok_or_else(|| fault("it has one power only"))?;
        if self.tau_g1[0] != g1 || self.tau_g2[0] != g2 {
            return Err(fault("its first powers are not the generators"));
        }
        if tau_g2.is_zero() || self.alpha_tau_g1[0].is_zero() || self.beta_g2.is_zero() {
            return Err(fault("one of its secrets is 0"));
        }
        let wrong = |list: &str| fault(format!("{list} are not the powers of one secret"));
        for (name, list) in [("tau", &self.tau_g1), ("alpha tau", &self.alpha_tau_g1), ("beta tau", &self.beta_tau_g1)]
        {
            let factors: Vec<Fr> = (1..list.len()).map(|_| random_element(entropy)).collect();
            let before = G1Projective::msm_unchecked(&list[..list.len() - 1], &factors).into_affine();
            let after = G1Projective::msm_unchecked(&list[1..], &factors).into_affine();
            if Bn254::pairing(before, tau_g2) != Bn254::pairing(after, g2) {
                return Err(wrong(name));
            }
        }
        let factors: Vec<Fr> = (1..self.tau_g2.len()).map(|_| random_element(entropy)).collect();
        let before = G2Projective::msm_unchecked(&self.tau_g2[..self.tau_g2.len() - 1], &factors).into_affine();
        let after = G2Projective::msm_unchecked(&self.tau_g2[1..], &factors).into_affine();
        if Bn254::pairing(self.tau_g1[1], before) != Bn254::pairing(g1, after) {
            return Err(wrong("tau in the second group"));
        }
        if Bn254::pairing(self.beta_tau_g1[0], g2) != Bn254::pairing(g1, self.beta_g2) {
            return Err(wrong("beta in both groups"));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Cursor;

    use ark_ff::Field;

    use super::*;
    use crate::field::tests::test_entropy;

    fn g1_bytes(point: G1Affine) -> Vec<u8> {
        [point.x, point.y].iter().flat_map(coordinate).collect()
    }

    fn g2_bytes(point: G2Affine) -> Vec<u8> {
        [point.x.c0, point.x.c1, point.y.c0, point.y.c1].iter().flat_map(coordinate).collect()
    }

    /// The Montgomery form: the number times 2^256.
    fn coordinate(number: &Fq) -> Vec<u8> {
        (*number * Fq::from(2u64).pow([256u64])).into_bigint().to_bytes_le()
    }

    /// A file of secrets that are known, which snarkjs would read too.
    pub(crate) fn known_file(power: u32, seed: u64) -> Vec<u8> {
        let mut entropy = test_entropy(seed);
        let [tau, alpha, beta] = [(); 3].map(|()| random_element(&mut entropy));
        let size = 1usize << power;
        let powers: Vec<Fr> = (0..2 * size as u64 - 1).map(|exponent| tau.pow([exponent])).collect();
        let g1 = |factor: Fr, powers: &[Fr]| -> Vec<u8> {
            powers.iter().flat_map(|power| g1_bytes((G1Affine::generator() * (factor * power)).into_affine())).collect()
        };
        let g2 = |factor: Fr, powers: &[Fr]| -> Vec<u8> {
            powers.iter().flat_map(|power| g2_bytes((G2Affine::generator() * (factor * power)).into_affine())).collect()
        };
        let mut header = 32u32.to_le_bytes().to_vec();
        header.extend(Fq::MODULUS.to_bytes_le());
        header.extend(power.to_le_bytes());
        header.extend(power.to_le_bytes());
        let one = Fr::from(1u64);
        let sections = [
            (1u32, header),
            (2, g1(one, &powers)),
            (3, g2(one, &powers[..size])),
            (4, g1(alpha, &powers[..size])),
            (5, g1(beta, &powers[..size])),
            (6, g2(beta, &powers[..1])),
            (7, vec![0; 4]),
        ];
        let mut bytes = b"ptau\x01\0\0\0\x07\0\0\0".to_vec();
        for (kind, content) in sections {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((content.len() as u64).to_le_bytes());
            bytes.extend(content);
        }
        bytes
    }

    fn read(bytes: &[u8], size: usize) -> Result<PowersOfTau> {
        PowersOfTau::read(Cursor::new(bytes), size, &mut test_entropy(5))
    }

    #[test]
    fn powers_are_read_and_checked() {
        let bytes = known_file(3, 1);
        let powers = read(&bytes, 8).unwrap();
        assert_eq!((powers.power(), powers.sha256().len()), (3, 64));
        assert!(powers.for_size(8).is_ok() && powers.for_size(16).is_err());
        assert!(read(&bytes, 4).is_ok(), "a smaller circuit needs fewer");
        assert!(matches!(read(&bytes, 9), Err(ProofFault::File { reason, .. }) if reason.contains("2^4 are needed")));
    }

    #[test]
    fn other_files_are_refused() {
        let good = known_file(2, 2);
        let reason = |bytes: &[u8]| match read(bytes, 4) {
            Err(ProofFault::File { reason, .. }) => reason,
            other => format!("{other:?}"),
        };
        assert!(reason(b"").contains("cut off") && reason(b"PK\x03\x04aaaaaaaa").contains("begin"));
        assert!(reason(&good[..good.len() / 2]).contains("cut off"));
        // Content of the sections: header at 24, tau in the first group at 24 + 44 + 12, seven points of 64 bytes.
        let changed = |place: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[place] ^= byte;
            reason(&bytes)
        };
        assert!(changed(30, 1).contains("another curve"));
        let tau = 24 + 44 + 12;
        assert!(changed(tau, 1).contains("not on the curve"));
        assert!(changed(tau + 31, 0xc0).contains("beyond the field"));
        let swapped = |one: usize, other: usize, length: usize| {
            let mut bytes = good.clone();
            (0..length).for_each(|byte| bytes.swap(one + byte, other + byte));
            reason(&bytes)
        };
        assert!(swapped(tau, tau + 64, 64).contains("not the generators"));
        assert!(swapped(tau + 128, tau + 192, 64).contains("tau are not the powers"));
        let tau_g2 = tau + 7 * 64 + 12;
        assert!(swapped(tau_g2 + 256, tau_g2 + 384, 128).contains("second group"));
        let alpha = tau_g2 + 4 * 128 + 12;
        assert!(swapped(alpha, alpha + 64, 64).contains("alpha tau"));
        let beta = alpha + 4 * 64 + 12;
        assert!(swapped(beta, beta + 64, 64).contains("beta tau"));
        let beta_g2 = beta + 4 * 64 + 12;
        assert!(swapped(tau_g2, beta_g2, 128).contains("generators"));
    }
}
