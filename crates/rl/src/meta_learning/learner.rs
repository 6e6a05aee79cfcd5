//! Learning inside tasks: gradient steps, or means of classes.

use tch::{Kind, TchError, Tensor};

use super::{
    network::TaskNetwork,
    tasks::{ExampleBatch, TaskBatch, WantedOutputs},
};

/// Step sizes of the gradient steps inside a task.
pub(super) enum StepSizes {
    /// One for all parameters.
    One(f64),
    /// One for each.
    Each(Tensor),
}

/// What a gradient step keeps for the gradient through it.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum StepMemory {
    /// Everything: its own derivative too.
    Second,
    /// Where it began, as if the step itself did not depend on it.
    First,
    /// Nothing: the step is a new beginning.
    Nothing,
}

impl StepSizes {
    fn times(&self, gradient: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::One(size) => gradient.f_mul_scalar(*size),
            Self::Each(sizes) => gradient.f_mul(sizes),
        }
    }
}

/// One parameter vector for each of `tasks` tasks.
pub(super) fn copies(parameters: &Tensor, tasks: i64) -> Result<Tensor, TchError> {
    let count = parameters.numel() as i64;
    parameters.f_unsqueeze(0)?.f_expand([tasks, count], false)
}

/// A number's gradient by a tensor.
pub(super) fn gradient(of: &Tensor, by: &Tensor, memory: StepMemory) -> Result<Tensor, TchError> {
    let keep = memory == StepMemory::Second;
    let mut found = Tensor::f_run_backward(&[of], &[by], keep, keep)?;
    found.pop().ok_or_else(|| TchError::Torch("there is no gradient".to_owned()))
}

/// Take one gradient step in each task on `examples`; tasks do not touch each other, since each has its own copy.
pub(super) fn step(
    network: &TaskNetwork,
    at: &Tensor,
    examples: &ExampleBatch,
    sizes: &StepSizes,
    memory: StepMemory,
) -> Result<Tensor, TchError> {
    let from = match memory {
        StepMemory::Nothing => at.f_detach()?.f_set_requires_grad(true)?,
        _ => at.shallow_clone(),
    };
    let loss = examples.losses(&network.forward(&from, &examples.inputs)?)?.f_sum(None)?;
    let by = gradient(&loss, &from, memory)?;
    let next = from.f_sub(&sizes.times(&by)?)?;
    if memory == StepMemory::Nothing { next.f_detach() } else { Ok(next) }
}

/// Scores of the classes of the query examples: the negative squared distance to the mean of each class's support examples, in the
/// space of the network's outputs.
pub(super) fn prototype_scores(
    network: &TaskNetwork,
    parameters: &Tensor,
    batch: &TaskBatch,
    classes: i64,
) -> Result<Tensor, TchError> {
    let WantedOutputs::Classes(labels) = &batch.support.wanted else {
        return Err(TchError::Torch("prototypes need classes".to_owned()));
    };
    let parameters = parameters.f_unsqueeze(0)?;
    let points = |examples: &ExampleBatch| -> Result<Tensor, TchError> {
        let size = examples.inputs.size();
        let all = network.forward(&parameters, &examples.inputs.f_reshape([1, -1, size[2]])?)?;
        all.f_view([size[0], size[1], -1])
    };
    let members = labels.f_one_hot(classes)?.f_to_kind(Kind::Float)?;
    let counts = members.f_sum_dim_intlist(&[1i64][..], false, Kind::Float)?.f_clamp_min(1.0)?;
    let sums = members.f_transpose(1, 2)?.f_bmm(&points(&batch.support)?)?;
    let means = sums.f_div(&counts.f_unsqueeze(-1)?)?;
    let queries = points(&batch.query)?;
    // |q - m|^2 = |q|^2 - 2 q m + |m|^2, of which the first is the same for all classes.
    let products = queries.f_bmm(&means.f_transpose(1, 2)?)?;
    let lengths = means.f_square()?.f_sum_dim_intlist(&[-1i64][..], false, Kind::Float)?.f_unsqueeze(1)?;
    products.f_mul_scalar(2.0)?.f_sub(&lengths)
}
