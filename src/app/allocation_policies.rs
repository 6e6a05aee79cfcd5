//! Learned policies that choose the weights of portfolios.

use am_portfolio::{AllocationPolicies, BookLevels, PolicyAnswer, PolicyFault};
use am_rl::{
    ActError, ActionMode, PolicyAction, PolicyReference, RlError,
    environments::PortfolioLevels,
    library::PolicyLibrary,
    serving::{MAX_STATES, PolicyQuery},
};

/// Environment whose policies choose weights.
const ENVIRONMENT: &str = "portfolio_management";

/// The library's policies of [`ENVIRONMENT`].
pub(super) struct LibraryPolicies(pub(super) PolicyLibrary);

fn asked(error: ActError) -> PolicyFault {
    match error {
        error @ (ActError::Overloaded | ActError::Stopped) => PolicyFault::Unavailable(error.to_string()),
        error => PolicyFault::Unusable(error.to_string()),
    }
}

impl AllocationPolicies for LibraryPolicies {
    fn find_version<'a>(&'a self, reference: &'a str) -> PolicyAnswer<'a, String> {
        Box::pin(async move {
            let parsed: PolicyReference =
                reference.parse().map_err(|error: am_rl::ReferenceError| PolicyFault::Unusable(error.to_string()))?;
            let version = self.0.version(&parsed).await.map_err(|error| match error {
                RlError::Act(error) => asked(error),
                RlError::NotFound(text) => PolicyFault::Unusable(text),
                error => {
                    tracing::warn!(%error, "a policy could not be looked up");
                    PolicyFault::Unavailable("The policies can't be read now".to_owned())
                }
            })?;
            if version.environment.as_deref() != Some(ENVIRONMENT) {
                return Err(PolicyFault::Unusable(format!("is no policy of {ENVIRONMENT}")));
            }
            Ok(format!("{}@{}", version.name, version.version))
        })
    }

    fn next_exposures<'a>(&'a self, version: &'a str, books: Vec<BookLevels>) -> PolicyAnswer<'a, Vec<usize>> {
        Box::pin(async move {
            let parsed: PolicyReference =
                version.parse().map_err(|error: am_rl::ReferenceError| PolicyFault::Unusable(error.to_string()))?;
            let levels: Vec<PortfolioLevels> = books
                .into_iter()
                .map(|book| {
                    let BookLevels { exposure, regime, valuation, volatility, drawdown } = book;
                    PortfolioLevels([exposure, regime, valuation, volatility, drawdown])
                })
                .collect();
            let mut next = Vec::with_capacity(levels.len());
            for part in levels.chunks(MAX_STATES) {
                let states = part.iter().map(|levels| levels.observation()).collect();
                let ask = PolicyQuery { states, mode: ActionMode::Greedy, exact: Some(true) };
                let decisions = self.0.policies().act_all(&parsed, ask).await.map_err(asked)?;
                for (levels, decision) in part.iter().zip(decisions) {
                    let exposure = match decision.action {
                        PolicyAction::Index(action) => levels.exposure_after(action),
                        PolicyAction::Vector(_) => None,
                    };
                    let other = || PolicyFault::Unusable(format!("has other actions than {ENVIRONMENT}"));
                    next.push(exposure.ok_or_else(other)?);
                }
            }
            Ok(next)
        })
    }
}
