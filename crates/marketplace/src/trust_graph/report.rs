//! The scores of a computation, and what they are made of.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{flow::IncomingEdges, settings::TrustSeeding};

/// Trust in an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentTrust {
    /// Id of the agent.
    pub agent: String,
    /// Share of all trust in agents: the scores of all agents sum to 1, unless no path leads from a seed to any agent.
    pub score: f64,
    /// Place among all agents with rated, paid requests, from 1. Agents with the same score have the same.
    pub rank: u64,
    /// Score relative to the mean score; 1 is the average.
    pub times_average: f64,
}

/// A rater's part in an agent's score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustContribution {
    /// The client who rated the agent.
    pub rater: String,
    /// Trust that the rater has to give, in the unit of the score.
    pub rater_trust: f64,
    /// Share of it that goes to this agent, from 0 to 1.
    pub local_trust: f64,
    /// Part of the score: the product of both.
    pub contribution: f64,
    /// The same as a share of the score, from 0 to 1.
    pub share: f64,
}

/// An agent's score as a sum: `raters`, `others` and `pre_trusted`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = MarketScoreExplanation)]
pub struct ScoreExplanation {
    /// Id of the agent.
    pub agent: String,
    /// Score of the agent, its share of all trust.
    pub score: f64,
    /// The raters who contributed most, largest part first.
    pub raters: Vec<TrustContribution>,
    /// Number of satisfied raters who are not listed, among them those who have no trust to give.
    pub other_raters: u64,
    /// Sum of their contributions.
    pub others: f64,
    /// Part that the agent has as a seed.
    pub pre_trusted: f64,
}

/// Result of a computation.
#[derive(Clone, Debug)]
pub struct TrustReport {
    /// All agents with rated, paid requests and all seeds among agents, by id.
    pub agents: Vec<AgentTrust>,
    /// Where trust came from.
    pub seeding: TrustSeeding,
    /// Rounds of the iteration.
    pub rounds: u32,
    /// Change by the last round (L1 norm of a vector whose sum is 1).
    pub residual: f64,
    /// Moment to which the evidence was decayed.
    pub computed_at: DateTime<Utc>,
    pub(super) parts: ScoreParts,
}

/// What scores are made of, in their unit.
#[derive(Clone, Debug)]
pub(super) struct ScoreParts {
    /// The raters, by the numbers that `ratings` has.
    pub(super) raters: Vec<String>,
    /// What each has to give.
    pub(super) given: Vec<f64>,
    pub(super) ratings: IncomingEdges,
    /// What each agent has as a seed.
    pub(super) pre_trusted: Vec<f64>,
}

/// Scores with ranks; `agents` are by id.
pub(super) fn ranked(agents: Vec<(String, f64)>) -> Vec<AgentTrust> {
    let count = agents.len() as f64;
    let mut scores: Vec<f64> = agents.iter().map(|(_, score)| *score).collect();
    scores.sort_by(|a, b| b.total_cmp(a));
    let trust = |(agent, score): (String, f64)| {
        let better = scores.partition_point(|other| *other > score);
        AgentTrust { agent, score, rank: better as u64 + 1, times_average: score * count }
    };
    agents.into_iter().map(trust).collect()
}

impl TrustReport {
    /// The trust in an agent; `None` if it has no rated, paid request.
    pub fn agent(&self, agent: &str) -> Option<&AgentTrust> {
        self.agents.get(self.position(agent)?)
    }

    fn position(&self, agent: &str) -> Option<usize> {
        self.agents.binary_search_by(|known| known.agent.as_str().cmp(agent)).ok()
    }

    /// What an agent's score is made of, with the `limit` raters who contributed most; `None` if it has no rated, paid
    /// request.
    pub fn explain(&self, agent: &str, limit: usize) -> Option<ScoreExplanation> {
        let position = self.position(agent)?;
        let score = self.agents[position].score;
        let contribution = |(rater, local_trust): (usize, f64)| {
            let rater_trust = self.parts.given[rater];
            let contribution = rater_trust * local_trust;
            let share = if score > 0.0 { contribution / score } else { 0.0 };
            TrustContribution { rater: self.parts.raters[rater].clone(), rater_trust, local_trust, contribution, share }
        };
        let mut raters: Vec<TrustContribution> = self.parts.ratings.of(position).map(contribution).collect();
        // Stable: of equal parts, the rater with the lesser id is first.
        raters.sort_by(|a, b| b.contribution.total_cmp(&a.contribution));
        let listed = raters.iter().take(limit).take_while(|rater| rater.contribution > 0.0).count();
        let rest = raters.split_off(listed);
        Some(ScoreExplanation {
            agent: agent.to_owned(),
            score,
            raters,
            other_raters: rest.len() as u64,
            others: rest.iter().map(|rater| rater.contribution).sum(),
            pre_trusted: self.parts.pre_trusted[position],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_share_a_rank() {
        let scores = [("a", 0.0), ("b", 0.6), ("c", 0.2), ("d", 0.2), ("e", 0.0)];
        let agents = ranked(scores.map(|(agent, score)| (agent.to_owned(), score)).to_vec());
        assert_eq!(agents.iter().map(|agent| agent.rank).collect::<Vec<_>>(), [4, 1, 2, 2, 4]);
        assert_eq!(agents[1].times_average, 3.0);
    }
}
