//! The circuits: what is proved, as constraints. A circuit's form has a name with its version; keys and proofs belong to one form.

mod openings;
mod policy;

use std::fmt;

use crate::{FieldElement, FixedNetwork, ProofFault, Result, Synthesis};

pub use self::{
    openings::{OpeningsWitness, StepOpening, openings_publics},
    policy::{PolicyWitness, policy_publics, weights_commitment},
};

/// Most steps of an openings circuit.
const MAX_STEPS: usize = 64;
/// Most blocks of a value of an openings circuit.
const MAX_BLOCKS: usize = 64;
/// Most hashes of blocks of an openings circuit: about 800 000 constraints.
const MAX_STEP_BLOCKS: usize = 512;
/// Most layers, and outputs of one, of a policy circuit.
const MAX_WIDTHS: usize = 5;
const MAX_WIDTH: usize = 128;
/// Longest state: it is one block with its header and the digest of its text.
const MAX_STATE: usize = 13;
/// Most parameters of a policy circuit: about 500 000 constraints.
const MAX_PARAMETERS: usize = 16_384;

/// What a circuit proves, and how large it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CircuitForm {
    /// The prover knows values that open the commitments to the inputs and outputs of steps, which hash to the execution's root in
    /// their declared order.
    Openings {
        /// Steps at most.
        steps: usize,
        /// Blocks of 15 elements of each value at most.
        blocks: usize,
    },
    /// The committed action is the largest output of the network with the committed weights on the committed state.
    Policy {
        /// Widths of the network, from the state to the actions.
        widths: Vec<usize>,
    },
}

impl fmt::Display for CircuitForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Openings { steps, blocks } => write!(formatter, "openings-v1-{steps}x{blocks}"),
            Self::Policy { widths } => {
                write!(formatter, "policy-v1")?;
                widths.iter().try_for_each(|width| write!(formatter, "-{width}"))
            }
        }
    }
}

impl CircuitForm {
    /// Read a name such as `openings-v1-8x4` or `policy-v1-9-32-32-4`.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] for another name, or sizes that no circuit has.
    pub fn parse(name: &str) -> Result<Self> {
        let unknown = || {
            ProofFault::NotProvable(format!(
                "{name} is no circuit: circuits are openings-v1-STEPSxBLOCKS and policy-v1-STATE-...-ACTIONS"
            ))
        };
        // Without signs and leading zeros, so that a form has one name.
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| number.to_string() == text);
        let form = if let Some(sizes) = name.strip_prefix("openings-v1-") {
            let (steps, blocks) = sizes.split_once('x').ok_or_else(unknown)?;
            Self::Openings { steps: number(steps).ok_or_else(unknown)?, blocks: number(blocks).ok_or_else(unknown)? }
        } else if let Some(widths) = name.strip_prefix("policy-v1-") {
            Self::Policy {
                widths: widths.split('-').map(|width| number(width).ok_or_else(unknown)).collect::<Result<_>>()?,
            }
        } else {
            return Err(unknown());
        };
        form.check()?;
        Ok(form)
    }

    /// Check that a circuit of these sizes can be made.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] with the bound that it breaks.
    pub fn check(&self) -> Result<()> {
        let fault = match self {
            Self::Openings { steps, blocks } => {
                let fits = (1..=MAX_STEPS).contains(steps)
                    && (1..=MAX_BLOCKS).contains(blocks)
                    && steps * blocks <= MAX_STEP_BLOCKS;
                (!fits).then(|| {
                    format!("{self} is too large or empty: 1 to {MAX_STEPS} steps of 1 to {MAX_BLOCKS} blocks, and at most {MAX_STEP_BLOCKS} of both multiplied")
                })
            }
            Self::Policy { widths } => {
                let parameters: usize =
                    widths.windows(2).map(|pair| pair[0].saturating_add(1).saturating_mul(pair[1])).sum();
                let fits = (2..=MAX_WIDTHS).contains(&widths.len())
                    && widths.iter().all(|width| (1..=MAX_WIDTH).contains(width))
                    && widths.first().is_some_and(|state| *state <= MAX_STATE)
                    && widths.last().is_some_and(|actions| *actions >= 2)
                    && parameters <= MAX_PARAMETERS;
                (!fits).then(|| {
                    format!("{self} is no circuit: a state of 1 to {MAX_STATE} numbers, at most {} layers of at most {MAX_WIDTH} outputs, 2 or more actions, and at most {MAX_PARAMETERS} parameters", MAX_WIDTHS - 1)
                })
            }
        };
        match fault {
            Some(text) => Err(ProofFault::NotProvable(text)),
            None => Ok(()),
        }
    }

    /// The circuit's constraints, with values that fulfil them and mean nothing.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] for sizes that no circuit has.
    pub fn example(&self) -> Result<Synthesis> {
        self.check()?;
        match self {
            Self::Openings { steps, blocks } => OpeningsWitness { steps: Vec::new() }.synthesise(*steps, *blocks),
            Self::Policy { widths } => PolicyWitness::example(widths)?.synthesise(),
        }
    }

    /// Names of the public signals, in their order.
    pub fn signals(&self) -> Vec<String> {
        match self {
            Self::Openings { steps, .. } => {
                let step = |index: usize| [format!("input_commitment_{index}"), format!("output_commitment_{index}")];
                std::iter::once("root".to_owned()).chain((0..*steps).flat_map(step)).collect()
            }
            Self::Policy { .. } => {
                ["input_commitment", "output_commitment", "weights_commitment"].map(str::to_owned).to_vec()
            }
        }
    }

    /// The smallest of `offered` openings circuits for an execution of `steps` steps, the largest value of which has `blocks`
    /// blocks.
    pub fn smallest<'a>(offered: impl IntoIterator<Item = &'a Self>, steps: usize, blocks: usize) -> Option<&'a Self> {
        let size = |form: &Self| match form {
            Self::Openings { steps: most, blocks: largest } if *most >= steps && *largest >= blocks => {
                Some(most * largest)
            }
            _ => None,
        };
        offered.into_iter().filter_map(|form| Some((size(form)?, form))).min().map(|(_, form)| form)
    }
}

/// A circuit's private values.
#[derive(Clone, Debug)]
pub enum CircuitWitness {
    /// Of an openings circuit of these sizes.
    Openings {
        /// The circuit's steps.
        steps: usize,
        /// The circuit's blocks.
        blocks: usize,
        /// Values that open the commitments.
        witness: OpeningsWitness,
    },
    /// Of a policy circuit.
    Policy(PolicyWitness),
}

impl CircuitWitness {
    /// The circuit that the values are for.
    pub fn form(&self) -> CircuitForm {
        match self {
            Self::Openings { steps, blocks, .. } => CircuitForm::Openings { steps: *steps, blocks: *blocks },
            Self::Policy(witness) => CircuitForm::Policy { widths: witness.network.widths() },
        }
    }

    /// The constraints with these values, which need not fulfil them.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] when they don't fit the circuit's sizes.
    pub fn synthesise(&self) -> Result<Synthesis> {
        match self {
            Self::Openings { steps, blocks, witness } => witness.synthesise(*steps, *blocks),
            Self::Policy(witness) => witness.synthesise(),
        }
    }
}

/// Whether a network can be proved: its widths make a circuit.
///
/// # Errors
/// [`ProofFault::NotProvable`] with the reason.
pub fn policy_form(network: &FixedNetwork) -> Result<CircuitForm> {
    let form = CircuitForm::Policy { widths: network.widths() };
    form.check()?;
    Ok(form)
}

/// Names with the values of public signals.
pub fn named_signals(form: &CircuitForm, signals: &[FieldElement]) -> Vec<(String, String)> {
    form.signals().into_iter().zip(signals.iter().map(crate::element_decimal)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["openings-v1-8x4", "policy-v1-9-32-32-4", "policy-v1-3-2"] {
            let form = CircuitForm::parse(name).unwrap();
            assert_eq!(form.to_string(), name);
            assert!(form.check().is_ok());
        }
        for bad in [
            "",
            "openings",
            "openings-v2-8x4",
            "openings-v1-8",
            "openings-v1-08x4",
            "openings-v1-0x4",
            "openings-v1-64x64",
            "openings-v1-+8x4",
            "policy-v1-9",
            "policy-v1-9-1",
            "policy-v1-14-4",
            "policy-v1-9-129-4",
            "policy-v1-9--4",
            "policy-v1-9-128-128-4",
            "policy-v1-9-2-2-2-2-4",
        ] {
            assert!(CircuitForm::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_smallest_circuit_that_fits_is_taken() {
        let forms = ["openings-v1-4x1", "openings-v1-8x4", "openings-v1-16x1", "policy-v1-3-2"]
            .map(|name| CircuitForm::parse(name).unwrap());
        let chosen = |steps, blocks| CircuitForm::smallest(&forms, steps, blocks).map(ToString::to_string);
        assert_eq!(chosen(4, 1).as_deref(), Some("openings-v1-4x1"));
        assert_eq!(chosen(5, 1).as_deref(), Some("openings-v1-16x1"));
        assert_eq!(chosen(2, 2).as_deref(), Some("openings-v1-8x4"));
        assert_eq!(chosen(17, 1), None);
    }

    #[test]
    fn examples_are_fulfilled() {
        for name in ["openings-v1-2x2", "policy-v1-3-4-3"] {
            let form = CircuitForm::parse(name).unwrap();
            let example = form.example().unwrap();
            example.check().unwrap();
            assert_eq!(example.publics().len(), form.signals().len());
        }
    }
}
