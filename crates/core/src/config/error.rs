//! What is said when the configuration is not good.

use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key as the environment names it (`APP_PORT`), or the file.
    pub key: String,
    /// What is wrong and what would be good; holds the value unless that is a secret.
    pub message: String,
}

/// Everything that is wrong with the configuration, so that it can be put right in one go.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub faults: Vec<Fault>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.faults.len() == 1 { "" } else { "s" };
        write!(out, "the configuration has {} fault{plural}:", self.faults.len())?;
        self.faults.iter().try_for_each(|fault| write!(out, "\n  {}: {}", fault.key, fault.message))
    }
}
