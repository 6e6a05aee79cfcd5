//! A rank-1 constraint system and its values, built together: each constraint is (sum) * (sum) = (sum) over wires.
//!
//! Wire 0 is the constant 1, then come the public wires, then the private ones: the order of arkworks and of iden3's files.

use std::{
    collections::BTreeMap,
    ops::{Add, Sub},
};

use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};

use crate::{FieldElement, ProofFault, Result};

/// Index of a wire.
pub type WireIndex = usize;

/// One side of a constraint: coefficients and their wires, each wire once, in their order.
pub type ConstraintRow = Vec<(FieldElement, WireIndex)>;

/// A linear combination of wires.
#[derive(Clone, Debug, Default)]
pub struct LinearSum(Vec<(FieldElement, WireIndex)>);

impl LinearSum {
    /// The sum that is 0.
    pub fn zero() -> Self {
        Self::default()
    }

    /// One constant term.
    pub fn constant(value: FieldElement) -> Self {
        Self(vec![(value, 0)])
    }

    /// One wire alone.
    pub fn wire(index: WireIndex) -> Self {
        Self(vec![(FieldElement::ONE, index)])
    }

    /// Wires with coefficients.
    pub(crate) fn of(terms: Vec<(FieldElement, WireIndex)>) -> Self {
        Self(terms)
    }

    /// The sum times a constant.
    #[must_use]
    pub fn times(mut self, factor: FieldElement) -> Self {
        self.0.iter_mut().for_each(|(coefficient, _)| *coefficient *= factor);
        self
    }

    /// The number that bits stand for, the lowest first.
    pub fn of_bits(bits: &[WireIndex]) -> Self {
        let mut power = FieldElement::ONE;
        let mut term = |wire: &WireIndex| {
            let now = power;
            power.double_in_place();
            (now, *wire)
        };
        Self(bits.iter().map(&mut term).collect())
    }

    fn row(&self) -> ConstraintRow {
        let is_sorted = self.0.windows(2).all(|pair| pair[0].1 < pair[1].1);
        if is_sorted && self.0.iter().all(|(coefficient, _)| *coefficient != FieldElement::ZERO) {
            return self.0.clone();
        }
        let mut merged: BTreeMap<WireIndex, FieldElement> = BTreeMap::new();
        for (coefficient, wire) in &self.0 {
            *merged.entry(*wire).or_default() += coefficient;
        }
        merged.into_iter().filter(|(_, sum)| *sum != FieldElement::ZERO).map(|(wire, sum)| (sum, wire)).collect()
    }
}

impl Add for LinearSum {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

impl Sub for LinearSum {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + other.times(-FieldElement::ONE)
    }
}

/// Builds constraints and the values of their wires.
#[derive(Debug)]
pub struct CircuitBuilder {
    values: Vec<FieldElement>,
    publics: usize,
    rows: [Vec<ConstraintRow>; 3],
    gadgets: Vec<&'static str>,
    gadget: &'static str,
    /// Values that replace those computed, for tests of what the constraints refuse.
    overrides: BTreeMap<WireIndex, FieldElement>,
    /// Whether hashes are left out, for tests of the constraints around them.
    hashes_assumed: bool,
}

impl CircuitBuilder {
    /// A system with `publics` public wires, whose values are set with [`CircuitBuilder::publish`].
    pub fn new(publics: usize) -> Self {
        Self::with_overrides(publics, BTreeMap::new())
    }

    /// The same with wires whose values are not those computed, but what follows from them is: how a prover would cheat.
    pub(crate) fn with_overrides(publics: usize, overrides: BTreeMap<WireIndex, FieldElement>) -> Self {
        let mut values = vec![FieldElement::ZERO; publics + 1];
        values[0] = FieldElement::ONE;
        Self {
            values,
            publics,
            rows: Default::default(),
            gadgets: Vec::new(),
            gadget: "",
            overrides,
            hashes_assumed: false,
        }
    }

    /// Leave hashes out from here on: their results are free, and something that depends on what they hash.
    pub(crate) fn assume_hashes(&mut self, assumed: bool) {
        self.hashes_assumed = assumed;
    }

    /// A stand-in for the hash of some sums, where hashes are left out.
    pub(crate) fn assumed_hash(&mut self, inputs: &[LinearSum]) -> Option<LinearSum> {
        if !self.hashes_assumed {
            return None;
        }
        let factors = (3u64..).step_by(2).map(FieldElement::from);
        let value = inputs.iter().zip(factors).map(|(input, factor)| self.value(input) * factor).sum();
        Some(LinearSum::wire(self.private(value)))
    }

    /// Name the part of the circuit that the next constraints belong to.
    pub(crate) fn part(&mut self, gadget: &'static str) {
        self.gadget = gadget;
    }

    /// Name of the present part.
    pub(crate) fn present_part(&self) -> &'static str {
        self.gadget
    }

    /// Value of a sum.
    pub fn value(&self, sum: &LinearSum) -> FieldElement {
        sum.0.iter().map(|(coefficient, wire)| *coefficient * self.values[*wire]).sum()
    }

    fn overridden(&self, wire: WireIndex, computed: FieldElement) -> FieldElement {
        self.overrides.get(&wire).copied().unwrap_or(computed)
    }

    /// A new private wire. It is free until constraints say otherwise.
    pub fn private(&mut self, value: FieldElement) -> WireIndex {
        let wire = self.values.len();
        self.values.push(self.overridden(wire, value));
        wire
    }

    /// Demand that `left * right = product`.
    pub fn constrain(&mut self, left: &LinearSum, right: &LinearSum, product: &LinearSum) {
        for (rows, sum) in self.rows.iter_mut().zip([left, right, product]) {
            rows.push(sum.row());
        }
        self.gadgets.push(self.gadget);
    }

    /// Demand that two sums are equal.
    pub fn equate(&mut self, left: &LinearSum, right: &LinearSum) {
        self.constrain(left, &LinearSum::constant(FieldElement::ONE), right);
    }

    /// A new wire that is the product of two sums.
    pub fn multiply(&mut self, left: &LinearSum, right: &LinearSum) -> WireIndex {
        let wire = self.private(self.value(left) * self.value(right));
        self.constrain(left, right, &LinearSum::wire(wire));
        wire
    }

    /// A new wire that is equal to a sum.
    pub fn bind(&mut self, sum: &LinearSum) -> WireIndex {
        self.multiply(sum, &LinearSum::constant(FieldElement::ONE))
    }

    /// Give the public wire `index`, from 1, the value of `left * right`, and demand it.
    pub fn publish(&mut self, index: WireIndex, left: &LinearSum, right: &LinearSum) -> LinearSum {
        self.values[index] = self.overridden(index, self.value(left) * self.value(right));
        let public = LinearSum::wire(index);
        self.constrain(left, right, &public);
        public
    }

    /// A new wire that is 0 or 1.
    pub fn boolean(&mut self, value: bool) -> WireIndex {
        let wire = self.private(FieldElement::from(value));
        let bit = LinearSum::wire(wire);
        self.constrain(&bit, &(bit.clone() - LinearSum::constant(FieldElement::ONE)), &LinearSum::zero());
        wire
    }

    /// New wires, each 0 or 1, for the lowest `count` bits of `number`, the lowest first.
    pub(crate) fn free_bits(&mut self, number: FieldElement, count: usize) -> Vec<WireIndex> {
        let integer = number.into_bigint();
        (0..count).map(|bit| self.boolean(integer.get_bit(bit))).collect()
    }

    /// The bits of a sum, the lowest first; it must be below 2^`count`, and `count` below 254.
    pub fn bits(&mut self, sum: &LinearSum, count: usize) -> Vec<WireIndex> {
        let bits = self.free_bits(self.value(sum), count);
        self.equate(&LinearSum::of_bits(&bits), sum);
        bits
    }

    /// The finished system.
    pub fn finish(self) -> Synthesis {
        Synthesis { values: self.values, publics: self.publics, rows: self.rows, gadgets: self.gadgets }
    }
}

/// A constraint system with values for its wires.
#[derive(Clone, Debug)]
pub struct Synthesis {
    values: Vec<FieldElement>,
    publics: usize,
    rows: [Vec<ConstraintRow>; 3],
    gadgets: Vec<&'static str>,
}

impl Synthesis {
    /// Values of all wires.
    pub fn values(&self) -> &[FieldElement] {
        &self.values
    }

    /// Values of the public wires.
    pub fn publics(&self) -> &[FieldElement] {
        &self.values[1..=self.publics]
    }

    /// Number of wires, the constant included.
    pub fn wires(&self) -> usize {
        self.values.len()
    }

    /// Number of constraints.
    pub fn constraints(&self) -> usize {
        self.gadgets.len()
    }

    /// The three matrices, row by row.
    pub fn rows(&self) -> &[Vec<ConstraintRow>; 3] {
        &self.rows
    }

    /// The part of the circuit that made a constraint.
    pub fn gadget(&self, constraint: usize) -> &'static str {
        self.gadgets.get(constraint).copied().unwrap_or_default()
    }

    /// Whether a constraint holds for `values`.
    pub(crate) fn holds(&self, constraint: usize, values: &[FieldElement]) -> bool {
        let side = |matrix: usize| -> FieldElement {
            self.rows[matrix][constraint].iter().map(|(coefficient, wire)| *coefficient * values[*wire]).sum()
        };
        side(0) * side(1) == side(2)
    }

    /// The constraints that the values break.
    pub fn broken(&self) -> Vec<usize> {
        (0..self.constraints()).filter(|constraint| !self.holds(*constraint, &self.values)).collect()
    }

    /// Check that the values fulfil all constraints.
    ///
    /// # Errors
    /// [`ProofFault::Unsatisfied`] with the first that they break.
    pub fn check(&self) -> Result<()> {
        match (0..self.constraints()).find(|constraint| !self.holds(*constraint, &self.values)) {
            None => Ok(()),
            Some(constraint) => Err(ProofFault::Unsatisfied { constraint, gadget: self.gadget(constraint) }),
        }
    }

    /// The private wires of which another value breaks nothing; a circuit must have none.
    #[cfg(test)]
    pub(crate) fn unconstrained_wires(&self) -> Vec<WireIndex> {
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.wires()];
        for rows in &self.rows {
            for (constraint, row) in rows.iter().enumerate() {
                row.iter().for_each(|(_, wire)| users[*wire].push(constraint));
            }
        }
        let mut values = self.values.clone();
        let mut free = Vec::new();
        for wire in self.publics + 1..self.wires() {
            values[wire] += FieldElement::ONE;
            if users[wire].iter().all(|constraint| self.holds(*constraint, &values)) {
                free.push(wire);
            }
            values[wire] = self.values[wire];
        }
        free
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Demand that each constraint of `gadgets` (all where it is empty) is refused alone: for each there is a way to cheat in `synthesise`
    /// that breaks it and no other. Cheats are single wires with other values, neighbours that carry each other's weight, and
    /// those in `crafted`; each is gone on from honestly.
    pub(crate) fn assert_each_breaks_alone(
        synthesise: &dyn Fn(BTreeMap<WireIndex, FieldElement>) -> Synthesis,
        skipped: &[&str],
        crafted: &[BTreeMap<WireIndex, FieldElement>],
    ) -> BTreeSet<usize> {
        let honest = synthesise(BTreeMap::new());
        assert_eq!(honest.broken(), Vec::<usize>::new(), "the honest values are taken");
        let relevant = |constraint: usize| !skipped.contains(&honest.gadget(constraint));
        // A wire is of the part of the first constraint that has it.
        let mut parts = vec![None; honest.wires()];
        for constraint in 0..honest.constraints() {
            for rows in honest.rows() {
                rows[constraint].iter().for_each(|(_, wire)| {
                    parts[*wire].get_or_insert(honest.gadget(constraint));
                });
            }
        }
        let one = FieldElement::ONE;
        let value = |wire: usize| honest.values()[wire];
        let mut alone = BTreeSet::new();
        let mut attempt = |cheat: BTreeMap<WireIndex, FieldElement>| {
            if let [only] = synthesise(cheat).broken()[..] {
                alone.insert(only);
            }
        };
        for (wire, part) in parts.into_iter().enumerate().skip(1) {
            if part.is_some_and(|part| skipped.contains(&part)) {
                continue;
            }
            for other in [value(wire) + one, value(wire) + one.double(), one - value(wire)] {
                attempt(BTreeMap::from([(wire, other)]));
            }
            let bits = [wire, wire + 1]
                .iter()
                .all(|bit| *bit < honest.wires() && (value(*bit) == one || value(*bit).is_zero()));
            if bits {
                // The next bit flips and this one pays for it, or this one flips and the next one pays.
                let (low, high) = (value(wire), value(wire + 1));
                let flipped = one - high;
                attempt(BTreeMap::from([(wire + 1, flipped), (wire, low - (flipped - high).double())]));
                let half = FieldElement::from(2u64).inverse().unwrap();
                let turned = one - low;
                attempt(BTreeMap::from([(wire, turned), (wire + 1, high - (turned - low) * half)]));
            }
        }
        crafted.iter().cloned().for_each(&mut attempt);
        alone.retain(|constraint| relevant(*constraint));
        alone
    }

    use ark_ff::Zero;

    #[test]
    fn broken_constraints_are_found() {
        let mut builder = CircuitBuilder::new(1);
        builder.part("product");
        let factor = LinearSum::wire(builder.private(FieldElement::from(6u64)));
        let bits = builder.bits(&factor, 3);
        builder.publish(1, &factor, &LinearSum::of_bits(&bits));
        let honest = builder.finish();
        assert_eq!(honest.publics(), [FieldElement::from(36u64)]);
        assert!(honest.check().is_ok() && honest.unconstrained_wires().is_empty());
        let mut wrong = honest.clone();
        wrong.values[1] = FieldElement::from(35u64);
        assert_eq!(wrong.check(), Err(ProofFault::Unsatisfied { constraint: 4, gadget: "product" }));
    }

    #[test]
    fn a_free_wire_is_found() {
        let mut builder = CircuitBuilder::new(0);
        let free = builder.private(FieldElement::ZERO);
        builder.bind(&LinearSum::constant(FieldElement::ONE));
        assert_eq!(builder.finish().unconstrained_wires(), [free]);
    }

    #[test]
    fn sums_are_merged() {
        let sum = LinearSum::wire(2) + LinearSum::wire(1).times(FieldElement::from(3u64)) - LinearSum::wire(2);
        assert_eq!(sum.row(), [(FieldElement::from(3u64), 1)]);
    }
}
