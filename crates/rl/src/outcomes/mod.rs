//! Outcomes of calls of policies, as their callers report them: what versions are really compared by.

mod call_id;
mod store;

use serde::{Deserialize, Serialize};

pub use self::call_id::CallSigner;
use self::store::NewOutcome;
use crate::{
    error::{Result, RlError},
    interval::{SampleSums, difference_interval},
    library::PolicyLibrary,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Days after a call within which its outcome is taken.
const MAX_DAYS: i64 = 7;
/// Largest absolute reward, whose square is finite.
const MAX_REWARD: f64 = 1e100;

/// A reward that was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ActOutcome)]
pub struct CallOutcome {
    /// Name of the policy.
    pub policy: String,
    /// Id of the call, as its answer had it.
    pub call_id: String,
    /// Version that answered the call.
    pub version: u32,
    /// Reward that the call earned.
    pub reward: f64,
    /// Whether the same reward had been reported before.
    pub known: bool,
}

/// Rewards of the calls that one version answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = VersionOutcomes)]
pub struct VersionOutcomes {
    /// Number of the version.
    pub version: u32,
    /// Number of calls whose reward was reported.
    pub count: u64,
    /// Mean of the rewards; null without any.
    pub mean_reward: Option<f64>,
    /// Standard deviation of the rewards; null with fewer than two.
    pub deviation: Option<f64>,
}

/// Comparison of the serving version with the canary by the rewards that were reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = OutcomeComparison)]
pub struct OutcomeComparison {
    /// Rewards of the serving version.
    pub serving: VersionOutcomes,
    /// Rewards of the canary; null: there is none.
    pub canary: Option<VersionOutcomes>,
    /// Mean reward of the canary less that of the serving version; null until both have two.
    pub difference: Option<f64>,
    /// Lower end of its 95 % interval.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub high: Option<f64>,
}

/// Service for outcomes. Cheap to clone.
#[derive(Clone)]
pub struct OutcomeService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    library: PolicyLibrary,
    signer: CallSigner,
}

impl OutcomeService {
    /// Create the service on `db`; `signer` makes the ids of calls.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, library: PolicyLibrary, signer: CallSigner) -> Self {
        Self { db, clock, ids, library, signer }
    }

    /// Make the id of a call that this version of a policy answered now.
    pub fn new_call(&self, policy: &str, version: u32) -> String {
        self.signer.issue(policy, version, Timestamp(self.clock.now()), self.ids.number())
    }

    /// Store the reward of a call of `policy`, once.
    ///
    /// # Errors
    /// [`RlError::NotFound`] when no such call was answered; [`RlError::Invalid`] for a reward that cannot be summed;
    /// [`RlError::InvalidState`] for a call that is too old or has another reward.
    #[boxed]
    pub async fn record(
        &self,
        caller: &Principal,
        policy: &str,
        call_id: &str,
        reward: f64,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<CallOutcome>> {
        if !reward.is_finite() || reward.abs() > MAX_REWARD {
            return Err(RlError::invalid("reward", format!("must be from -{MAX_REWARD:e} to {MAX_REWARD:e}")));
        }
        let Some((version, called_at)) = self.signer.read(policy, call_id) else {
            return Err(RlError::NotFound(format!("policy '{policy}' has answered no call '{call_id}'")));
        };
        let now = Timestamp(self.clock.now());
        let oldest = Timestamp(now.0 - std::time::Duration::from_secs(MAX_DAYS.unsigned_abs() * 86_400));
        if called_at < oldest {
            return Err(RlError::InvalidState(format!("the call is older than {MAX_DAYS} days")));
        }
        let (policy, call_id, reported_by) = (policy.to_owned(), call_id.to_owned(), caller.id());
        let new = NewOutcome { policy, call_id, version, reward, called_at, reported_by };
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                let known = store::get_reward(tx.conn().await?, &new.policy, &new.call_id).await?;
                if known.is_some_and(|known| known.total_cmp(&new.reward).is_ne()) {
                    return Err(RlError::InvalidState("another reward of this call was reported before".into()));
                }
                if known.is_none() {
                    store::prune(tx, oldest).await?;
                    store::insert(tx, &new, now).await?;
                    add_to_sums(tx, &new).await?;
                }
                let NewOutcome { policy, call_id, version, reward, .. } = new;
                Ok(CallOutcome { policy, call_id, version, reward, known: known.is_some() })
            })
            .await
    }

    /// Compare the serving version of a policy with its canary by the rewards of calls since either is what it is.
    ///
    /// # Errors
    /// When the policy does not exist.
    #[boxed]
    pub async fn comparison(&self, name: &str) -> Result<OutcomeComparison> {
        let policy = self.library.get(name).await?;
        let mut conn = self.db.read().await?;
        let since = crate::library::serving_since(&mut conn, name).await?;
        let sums = store::sums(&mut conn, name, &since).await?;
        let of = |version: u32| sums.iter().find(|(of, _)| *of == version).map(|(_, sums)| *sums).unwrap_or_default();
        let shown = |version: u32| {
            let sums = of(version);
            let mean_reward = (sums.count > 0).then_some(sums.mean);
            VersionOutcomes { version, count: sums.count, mean_reward, deviation: sums.deviation() }
        };
        let canary = policy.split.canary.map(|canary| canary.version);
        let enough = |version: u32| of(version).count > 1;
        let compared = canary.filter(|canary| enough(*canary) && enough(policy.serving));
        let interval = compared.map(|canary| difference_interval(&of(policy.serving), &of(canary)));
        Ok(OutcomeComparison {
            serving: shown(policy.serving),
            canary: canary.map(shown),
            difference: compared.map(|canary| of(canary).mean - of(policy.serving).mean),
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
        })
    }
}

/// Add a reward to the sums, if its call came since the policy serves what it serves now.
async fn add_to_sums(tx: &mut Tx, new: &NewOutcome) -> Result<()> {
    let since = crate::library::serving_since(tx.conn().await?, &new.policy).await?;
    if new.called_at.stored() < since {
        return Ok(());
    }
    let present = store::sums(tx.conn().await?, &new.policy, &since).await?;
    let mut sums: SampleSums =
        present.into_iter().find(|(version, _)| *version == new.version).map(|(_, sums)| sums).unwrap_or_default();
    sums.add(new.reward);
    store::save_sums(tx, &new.policy, &since, new.version, &sums).await
}
