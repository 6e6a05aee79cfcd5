//! Errors of the configuration.

use std::fmt;

use crate::validation::Violation;

/// All faults of the configuration, so that they can be corrected at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one. The path is the setting's name as the environment has it (`APP_PORT`), or the file; the message says
    /// what would be good, and holds the value unless that is a secret.
    pub violations: Vec<Violation>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.violations.len() == 1 { "" } else { "s" };
        write!(out, "the configuration has {} fault{plural}:", self.violations.len())?;
        self.violations.iter().try_for_each(|violation| write!(out, "\n  {violation}"))
    }
}
