//! What every other crate stands on and no subject owns: time, ids, money, configuration, cryptography, addresses, validation.

/// Clock, identifier generator and randomness, injected so that tests set them.
pub mod ambient;
/// Settings: defaults, then file, then environment; secrets typed as secrets.
pub mod config;
/// Canonical JSON, keys, signatures.
pub mod crypto;
/// Identifiers as types.
pub mod ids;
/// Amounts of money.
pub mod money;
/// Public and private addresses, and a client that reaches public ones only.
pub mod public_address;
/// Background tasks that run as long as the process does.
pub mod supervisor;
/// What is wrong with a value that was sent: paths, violations and how they are collected.
pub mod validation;

/// Evaluates the crash point `name`. Called by [`crash_point!`] only.
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub fn evaluate_crash_point(name: &str) {
    fail::eval(name, |_| ambient::kill_self());
}

/// A named point where the tests that kill a real process do so (feature `failpoints`; docs/FAILURES.md).
#[cfg(feature = "failpoints")]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        $crate::evaluate_crash_point($name)
    };
}

/// A named point where the tests that kill a real process do so; nothing without feature `failpoints`.
#[cfg(not(feature = "failpoints"))]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {};
}
