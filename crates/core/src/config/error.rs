//! What is said when the configuration is not good.

use std::fmt;

use crate::validation::Violation;

/// Everything that is wrong with the configuration, so that it can be put right in one go.
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
