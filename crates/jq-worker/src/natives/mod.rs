//! NativeFilters that are written in Rust: those of which jaq's answer otherwise than jq's.

use jaq_core::{
    Bind, Ctx, Exn, Native, RunPtr, ValXs,
    data::JustLut,
    native::{Filter, Fun, run},
};

mod basic;
mod folding;
mod formats;
mod json;
mod paths;
mod regex;
mod time;
mod time_reader;

use super::value::{JqResult, JqValue};

/// What programs run with: only their lookup table.
pub type ProgramData = JustLut<JqValue>;
type NativeFilters = Vec<Filter<RunPtr<ProgramData>>>;

/// Return the filters of this module.
pub fn native_filters() -> impl Iterator<Item = Fun<ProgramData>> {
    let plain =
        [basic::filters(), formats::filters(), json::filters(), paths::filters(), regex::filters(), time::filters()];
    plain.into_iter().flatten().map(|filter| run::<ProgramData>(filter)).chain(with_paths())
}

fn with_paths() -> impl Iterator<Item = Fun<ProgramData>> {
    folding::filters().into_iter().map(|(name, parameters, run, paths)| {
        (name, bound(parameters), Native::<ProgramData>::new(run).with_paths(paths))
    })
}

/// Return the parameters of a filter: `$x` takes a value, others a filter.
fn bound(names: &[&str]) -> Box<[Bind]> {
    names.iter().map(|name| if name.starts_with('$') { Bind::Var(()) } else { Bind::Fun(()) }).collect()
}

/// Return the output of a filter with one.
fn one_value<'a>(value: JqResult) -> ValXs<'a, JqValue> {
    Box::new(std::iter::once(value.map_err(Exn::from)))
}

/// Remove the last two arguments, which are values, in the order in which they are written.
fn pop_two(context: &mut Ctx<'_, ProgramData>) -> (JqValue, JqValue) {
    let last = context.pop_var();
    (context.pop_var(), last)
}
