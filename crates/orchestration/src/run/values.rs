//! Values of a run: the inputs of its steps, and what they may take together.

use serde_json::{Map, Value};

use super::{context::ScopeInputContext, state::RunState};
use crate::{definition::CompiledStep, mapping::ResolveError};
use am_core::value_budget::{ByteLimit, MEMORY_PER_BYTE, SizedValue, ValueBudget, ValueSize};

impl RunState {
    /// Return a full budget for one value.
    pub fn value_budget(&self) -> ValueBudget {
        ValueBudget::new(self.limits.value)
    }

    /// Return the size of all values that the run has: what is stored of it, and the memory that it takes here.
    pub fn size(&self) -> ValueSize {
        let values = self.steps.iter().flat_map(|step| [&step.input, &step.output]).flatten();
        self.inputs.size() + values.map(SizedValue::size).sum()
    }

    /// Return the bytes over which preparing or completing step `at` may work: any number where a path searches.
    pub fn step_effort(&self, at: usize) -> usize {
        if self.plan.steps[at].searches() { usize::MAX } else { self.size().bytes }
    }

    /// Return the memory that driving the run takes, in bytes: its values, and their texts while they are saved and become
    /// its result.
    pub fn memory(&self) -> usize {
        let size = self.size();
        size.memory.saturating_add(size.bytes.saturating_mul(2))
    }

    /// Return the bytes of inputs and outputs that the next save writes.
    pub fn unsaved_bytes(&self) -> usize {
        let unsaved = self.steps.iter().filter(|step| step.dirty);
        unsaved.flat_map(|step| [&step.input, &step.output]).flatten().map(|value| value.size().bytes).sum()
    }

    /// Check that a value which replaces `replaced` fits beside the run's other values.
    ///
    /// # Errors
    /// A message that names the limit.
    pub(super) fn check_room(&self, new: &SizedValue, replaced: Option<&SizedValue>) -> Result<(), String> {
        let size = self.size() - replaced.map(SizedValue::size).unwrap_or_default() + new.size();
        let ByteLimit { name, bytes } = self.limits.values;
        if size.fits(ValueSize::limit(bytes)) {
            Ok(())
        } else {
            Err(format!(
                "inputs and outputs of this execution's steps would take {} bytes as JSON and {} bytes of memory together; \
                 {name} allows {bytes} and {MEMORY_PER_BYTE} times as much",
                size.bytes, size.memory
            ))
        }
    }

    /// Compute the input of step `at`: the result of its mappings; without mappings the run's inputs, the output of its
    /// only dependency, or the outputs of several by key.
    ///
    /// # Errors
    /// The path without a value, or the limit that the input exceeds.
    pub fn input(&self, at: usize) -> Result<SizedValue, String> {
        let input = self.resolve_input(at).map_err(|error| format!("input_mappings: {error}"))?;
        self.check_room(&input, self.steps[at].input.as_ref())?;
        Ok(input)
    }

    fn resolve_input(&self, at: usize) -> Result<SizedValue, ResolveError> {
        let step = &self.plan.steps[at];
        let scope_inputs = self.scope_inputs(step)?;
        let mut budget = self.value_budget();
        if let Some(mapping) = &step.inputs {
            let resolved = mapping.resolve(&self.context(at, scope_inputs.as_deref(), None), &mut budget)?;
            return self.sized(Value::Object(resolved));
        }
        // A group's first steps depend on what precedes the group, but their input is the group's inputs.
        let inside = |other: &&usize| {
            self.plan.steps[**other].scope.as_ref().map(|scope| &scope.name)
                == step.scope.as_ref().map(|scope| &scope.name)
        };
        let gives = |other: &&usize| self.plan.steps[**other].raw.hook_of.is_none();
        let waits_for: Vec<&usize> =
            step.depends_on.iter().filter(gives).filter(|other| step.scope.is_none() || inside(other)).collect();
        let output = |other: &usize| self.steps[*other].output.as_ref();
        match waits_for.as_slice() {
            [] => Ok(scope_inputs.unwrap_or_else(|| self.inputs.share())),
            [only] => Ok(output(only).map(SizedValue::share).unwrap_or_default()),
            several => {
                let mut members = Map::new();
                for other in several {
                    let (key, value) = (&self.plan.steps[**other].key, output(other));
                    value
                        .map_or(Ok(()), |value| budget.draw(value))
                        .map_err(|exceeded| ResolveError::too_large(format!("$.steps['{key}'].output"), exceeded))?;
                    members.insert(key.clone(), value.map(|value| Value::clone(value)).unwrap_or_default());
                }
                self.sized(Value::Object(members))
            }
        }
    }

    pub(super) fn sized(&self, value: Value) -> Result<SizedValue, ResolveError> {
        SizedValue::measure(value, self.limits.value)
            .map_err(|exceeded| ResolveError::too_large("all mappings together", exceeded))
    }

    /// Compute the inputs of the group that `step` belongs to.
    ///
    /// # Errors
    /// The path without a value, or the limit that the inputs exceed.
    pub fn scope_inputs(&self, step: &CompiledStep) -> Result<Option<SizedValue>, ResolveError> {
        let Some(scope) = &step.scope else { return Ok(None) };
        let outer = ScopeInputContext { run: self.planned_steps(), inputs: &self.inputs };
        let members = scope.inputs.resolve(&outer, &mut self.value_budget())?;
        self.sized(Value::Object(members)).map(Some)
    }
}
