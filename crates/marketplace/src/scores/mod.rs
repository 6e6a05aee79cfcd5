//! Trust between agents: the evidence of each rating is kept by pair, and the scores are computed from all of it at intervals.

mod store;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use am_core::{
    boxed,
    ids::{AgentId, PrincipalId},
    money::Money,
};
use am_db::{
    Tx,
    bulk_insert::RowBatch,
    codec::{JsonText, Timestamp},
    page::PageRequest,
};

use crate::{
    Marketplace,
    error::{MarketError, Result},
    trust_graph::{RatedPayment, ScoreExplanation, TrustNetwork, TrustReport, TrustSeeds, TrustSettings},
};

/// Pairs that are read together.
const PAIR_BATCH: i64 = 1000;
/// Scores that are written together.
const SCORE_BATCH: usize = 500;
/// Raters that an explanation names.
const SHOWN_RATERS: usize = 10;
/// Time after which scores are computed anew though nothing changed, since ratings lose weight.
const MAX_SCORE_AGE: chrono::TimeDelta = chrono::TimeDelta::days(1);

/// What this process knows of the evidence.
#[derive(Default)]
pub(crate) struct TrustWork {
    network: TrustNetwork,
    /// Revision up to which pairs were read.
    revision: i64,
}

/// A score as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredScore {
    agent_id: AgentId,
    score: f64,
    place: i64,
    times_average: f64,
    explanation: JsonText,
    computed_at: Timestamp,
}

/// How scores were computed.
#[derive(Clone, Debug)]
pub(crate) struct TrustRunRow {
    seeding: String,
    rounds: i64,
    residual: f64,
    agents: i64,
    revision: i64,
    computed_at: Timestamp,
}

/// Trust in an agent, by EigenTrust over ratings of paid requests.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MarketAgentTrust)]
pub struct AgentTrustAnswer {
    /// Agent that the score is about.
    pub agent_id: AgentId,
    /// Its share of the trust in all agents, 0 to 1; null: it has no score.
    pub score: Option<f64>,
    /// Its rank, 1 for the most trusted; equal scores share one; null: it has no score.
    pub rank: Option<i64>,
    /// Its score as a multiple of the mean; null: it has no score.
    pub times_average: Option<f64>,
    /// What the score is made of; null: it has no score, and in lists.
    #[schema(value_type = Option<ScoreExplanation>)]
    pub explanation: Option<Value>,
    /// Where the trust begins: `named`: at configured clients and agents; `every_rater`: at all who rated, so that rings of accounts
    /// are not held back; null: nothing was computed yet, and in lists.
    pub seeding: Option<String>,
    /// Rounds of the iteration; null: nothing was computed yet, and in lists.
    pub rounds: Option<i64>,
    /// Change of the last round; null: nothing was computed yet, and in lists.
    pub residual: Option<f64>,
    /// When it was computed; later ratings are not in it; null: nothing was computed yet.
    pub computed_at: Option<Timestamp>,
    /// Why there is no score; null: there is one.
    pub reason: Option<&'static str>,
}

/// A page of agents by trust.
#[derive(Clone, Debug)]
pub struct TrustRanking {
    /// The agents, the most trusted first.
    pub rows: Vec<AgentTrustAnswer>,
    /// How many have a score.
    pub total: u64,
}

fn answer_of(score: &StoredScore, run: Option<&TrustRunRow>) -> AgentTrustAnswer {
    AgentTrustAnswer {
        agent_id: score.agent_id.clone(),
        score: Some(score.score),
        rank: Some(score.place),
        times_average: Some(score.times_average),
        explanation: run.and_then(|_| score.explanation.parse().unwrap_or_default()),
        seeding: run.map(|run| run.seeding.clone()),
        rounds: run.map(|run| run.rounds),
        residual: run.map(|run| run.residual),
        computed_at: Some(score.computed_at),
        reason: None,
    }
}

impl Marketplace {
    /// Return the trust in an agent, and what it is made of.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn agent_trust(&self, agent: &AgentId) -> Result<AgentTrustAnswer> {
        let mut conn = self.0.db.read().await?;
        let run = store::last_run(&mut conn).await?;
        if let Some(score) = store::find_score(&mut conn, agent).await? {
            return Ok(answer_of(&score, run.as_ref()));
        }
        let computed_at = run.as_ref().map(|run| run.computed_at);
        Ok(AgentTrustAnswer {
            agent_id: agent.clone(),
            score: None,
            rank: None,
            times_average: None,
            explanation: None,
            rounds: run.as_ref().map(|run| run.rounds),
            residual: run.as_ref().map(|run| run.residual),
            seeding: run.map(|run| run.seeding),
            computed_at,
            reason: Some("no paid request of this agent has been rated, or not before the scores were computed"),
        })
    }

    /// Return a page of agents by trust, the most trusted first.
    ///
    /// # Errors
    /// [`MarketError::Invalid`] for a page after an agent without a score.
    #[boxed]
    pub async fn trust_ranking(&self, page: &PageRequest) -> Result<TrustRanking> {
        let mut conn = self.0.db.read_list().await?;
        let after = match &page.after {
            Some((_, agent)) => {
                let unknown = || MarketError::field("cursor", "names an agent without a score: begin anew");
                Some(store::find_score(&mut conn, &agent.as_str().into()).await?.ok_or_else(unknown)?)
            }
            None => None,
        };
        let rows = store::ranked(&mut conn, after.as_ref(), i64::from(page.limit)).await?;
        let total = store::last_run(&mut conn).await?.map_or(0, |run| run.agents.unsigned_abs());
        Ok(TrustRanking { rows, total })
    }

    /// Keep the evidence of a rating, in its transaction.
    pub(crate) async fn note_evidence(
        &self,
        tx: &mut Tx,
        rater: &PrincipalId,
        agent: &AgentId,
        (paid, rating): (Money, i64),
        now: Timestamp,
    ) -> Result<()> {
        let stored = store::find_pair(tx.conn().await?, rater, agent).await?;
        let mut evidence = stored.map(|pair| pair.evidence()).unwrap_or_default();
        let payment = RatedPayment { paid, rating: rating as f64, at: now.0 };
        evidence.add(payment, TrustSettings::default().half_life_days);
        Ok(store::save_pair(tx, rater, agent, &evidence).await?)
    }

    /// Compute the scores anew, if ratings were added since, or they are a day old. Returns whether they were.
    pub(crate) async fn refresh_trust(&self) -> Result<bool> {
        let mut work = self.0.trust.lock().await;
        loop {
            let pairs = store::changed_pairs(&mut *self.0.db.read().await?, work.revision, PAIR_BATCH).await?;
            for pair in &pairs {
                work.network.set(&pair.rater, &pair.agent_id, pair.evidence());
                work.revision = pair.revision;
            }
            if (pairs.len() as i64) < PAIR_BATCH {
                break;
            }
        }
        let now = self.now();
        let last = store::last_run(&mut *self.0.db.read().await?).await?;
        let is_fresh =
            last.is_some_and(|run| run.revision >= work.revision && now.0 - run.computed_at.0 < MAX_SCORE_AGE);
        if work.network.is_empty() || is_fresh {
            return Ok(false);
        }
        let revision = work.revision;
        // What is lost with a computation that fails is read again.
        let TrustWork { network, .. } = std::mem::take(&mut *work);
        let settings = &self.0.settings;
        let seeds = TrustSeeds { raters: settings.trusted_raters.clone(), agents: settings.trusted_agents.clone() };
        let computed = tokio::task::spawn_blocking(move || {
            let report = network.compute(&seeds, &TrustSettings::default(), now.0);
            let scores = scores_of(&report, now);
            (network, report, scores)
        });
        let computed = computed.await.map_err(|error| MarketError::Unavailable(format!("trust: {error}")))?;
        let (network, report, scores) = computed;
        *work = TrustWork { network, revision };
        self.store_trust(&report, scores?, revision).await?;
        Ok(true)
    }

    async fn store_trust(&self, report: &TrustReport, scores: Vec<StoredScore>, revision: i64) -> Result<()> {
        let run = TrustRunRow {
            seeding: store::seeding_word(report.seeding),
            rounds: i64::from(report.rounds),
            residual: report.residual,
            agents: scores.len() as i64,
            revision,
            computed_at: Timestamp(report.computed_at),
        };
        let mut left = scores.into_iter().peekable();
        loop {
            let part: Vec<StoredScore> = left.by_ref().take(SCORE_BATCH).collect();
            // With the last of the scores it is known how they were computed.
            let done = left.peek().is_none().then(|| run.clone());
            let is_last = done.is_some();
            let work = async move |tx: &mut Tx| {
                let mut rows = RowBatch::default();
                part.iter().for_each(|score| store::save_score(&mut rows, score));
                if !part.is_empty() {
                    rows.execute(tx).await?;
                }
                match &done {
                    Some(run) => store::save_run(tx, run).await,
                    None => Ok(()),
                }
            };
            self.0.db.write(work).await?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The rows of a report, each with what it is made of.
fn scores_of(report: &TrustReport, now: Timestamp) -> Result<Vec<StoredScore>> {
    let scores = report.agents.iter().map(|agent| {
        Ok(StoredScore {
            agent_id: agent.agent.as_str().into(),
            score: agent.score,
            place: i64::try_from(agent.rank).unwrap_or(i64::MAX),
            times_average: agent.times_average,
            explanation: store::json_text(&report.explain(&agent.agent, SHOWN_RATERS))?,
            computed_at: now,
        })
    });
    scores.collect()
}
