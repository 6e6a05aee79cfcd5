//! NativeFilters that call filters and have paths.

use jaq_core::{Exn, PathsPtr, RunPtr, ValX};

use super::ProgramData;
use crate::value::JqValue;

/// Name, parameters, and how values and paths are made.
type PathFilter = (&'static str, &'static [&'static str], RunPtr<ProgramData>, PathsPtr<ProgramData>);

/// Return the filters of this module.
pub fn filters() -> Vec<PathFilter> {
    vec![
        // The last output of `f`, null if it has none: the state of `reduce` after a step.
        (
            "_last_or_null",
            &["f"],
            |mut cv| {
                let (f, context) = cv.0.pop_fun();
                Box::new(std::iter::once(last_of(f.run((context, cv.1)))))
            },
            |mut cv| {
                let (f, context) = cv.0.pop_fun();
                let last = last_of(f.paths((context, cv.1)));
                Box::new(std::iter::once(last))
            },
        ),
    ]
}

fn last_of<'a, T: Default>(values: impl Iterator<Item = ValX<'a, T, JqValue>>) -> Result<T, Exn<'a, JqValue>> {
    let mut last = T::default();
    for value in values {
        last = value?;
    }
    Ok(last)
}
