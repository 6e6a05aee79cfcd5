//! Whether an alias may be moved, which other parts of the service may have a say in.

use std::sync::Arc;

use am_db::Tx;
use futures_util::future::BoxFuture;

use super::PolicyLibrary;
use crate::error::{Result, RlError};

/// Part of the service that may refuse that an alias is moved.
pub trait AliasCheck: Send + Sync {
    /// Why `alias` of `policy` may not point to `version` (`None`: a version that is made in this transaction) instead of `current`;
    /// `None`: it may.
    fn refusal<'a>(
        &'a self,
        tx: &'a mut Tx,
        policy: &'a str,
        alias: &'a str,
        version: Option<u32>,
        current: Option<u32>,
    ) -> BoxFuture<'a, am_db::Result<Option<String>>>;
}

impl PolicyLibrary {
    /// Ask `check` from now on before an alias is moved. Only the first is asked.
    pub fn check_aliases_by(&self, check: Arc<dyn AliasCheck>) {
        drop(self.0.alias_check.set(check));
    }

    /// Why an alias may not be moved; `None`: it may.
    pub(crate) async fn alias_refusal(
        &self,
        tx: &mut Tx,
        (policy, alias): (&str, &str),
        version: Option<u32>,
        current: Option<u32>,
    ) -> Result<Option<String>> {
        match self.0.alias_check.get() {
            Some(check) => Ok(check.refusal(tx, policy, alias, version, current).await?),
            None => Ok(None),
        }
    }

    /// Check that aliases may point to a version that is made in this transaction.
    pub(super) async fn check_new_aliases(&self, tx: &mut Tx, policy: &str, aliases: &[String]) -> Result<()> {
        for alias in aliases {
            if let Some(reason) = self.alias_refusal(tx, (policy, alias), None, None).await? {
                return Err(RlError::InvalidState(reason));
            }
        }
        Ok(())
    }
}
