//! Which waiting assignments a round of dispatch examines, and who of their clients is next.
//!
//! A round looks at the first assignments of each client and type, and at a page further back, from where the last round
//! stopped: so one that no agent can take keeps none from being seen, however many of them there are.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use super::{
    model::{WaitingAssignment, WaitingPosition},
    store,
};
use crate::{
    agents::{RegisteredAgentRecord, TaskType, best_agent},
    error::Result,
};
use am_core::ids::{AgentId, AssignmentId, PrincipalId};
use am_db::Connection;

/// Number of the first assignments of a client and type that each round examines.
const HEAD_ROWS: i64 = 20;
/// Number of those further back.
const PAGE_ROWS: i64 = 200;
/// Number of clients and types that a round examines.
const MAX_GROUPS: usize = 100;

/// Number of clients and types that a round steps over to find these.
const MAX_STEPS: usize = 1000;
/// Number of positions that are remembered; more are forgotten together.
const MAX_POSITIONS: usize = 10_000;
/// Number of requirements that are remembered as those that no agent meets.
const MAX_HOPELESS: usize = 64;

/// A client with a type of task.
type WaitingGroup = (PrincipalId, TaskType);

/// Where the next round goes on.
#[derive(Debug, Default)]
pub struct WaitingCursor {
    /// Group that was examined last; `None`: begin with the first.
    last: Option<WaitingGroup>,
    /// Position in groups with more assignments than their head.
    positions: BTreeMap<WaitingGroup, WaitingPosition>,
}

/// An assignment and the agent that is to get it.
#[derive(Clone, Debug)]
pub struct AssignmentMatch {
    /// Id of the assignment.
    pub id: AssignmentId,
    /// Number of its latest attempt, by which a change since is noticed.
    pub attempt: i64,
    /// Agent that gets it.
    pub agent_id: AgentId,
    /// Score of the agent.
    pub score: f64,
}

impl WaitingCursor {
    /// Read assignments of `types` to examine, and move on.
    pub async fn read_candidates(
        &mut self,
        conn: &mut Connection,
        types: &BTreeSet<TaskType>,
    ) -> Result<Vec<WaitingAssignment>> {
        let mut found = Vec::new();
        for group in self.next_groups(conn, types).await? {
            let (client, task_type) = &group;
            let head = store::list_waiting(conn, client, *task_type, None, HEAD_ROWS).await?;
            let Some(end) = head.last().filter(|_| head.len() as i64 == HEAD_ROWS).map(WaitingAssignment::position)
            else {
                self.positions.remove(&group);
                found.extend(head);
                continue;
            };
            // What was moved into the head since is not read twice.
            let from = self.positions.get(&group).filter(|position| **position > end).unwrap_or(&end);
            let page = store::list_waiting(conn, client, *task_type, Some(from), PAGE_ROWS).await?;
            match page.last().filter(|_| page.len() as i64 == PAGE_ROWS).map(WaitingAssignment::position) {
                Some(position) => self.positions.insert(group, position),
                None => self.positions.remove(&group),
            };
            found.extend(head);
            found.extend(page);
        }
        Ok(found)
    }

    /// The groups of this round, each once. All are examined in turn.
    async fn next_groups(
        &mut self,
        conn: &mut Connection,
        types: &BTreeSet<TaskType>,
    ) -> Result<BTreeSet<WaitingGroup>> {
        let (mut groups, mut begun_anew) = (BTreeSet::new(), self.last.is_none());
        for _ in 0..MAX_STEPS {
            if groups.len() == MAX_GROUPS {
                break;
            }
            self.last = store::next_waiting_group(conn, self.last.as_ref()).await?;
            match &self.last {
                Some(group) if groups.contains(group) => break,
                Some(group) if types.contains(&group.1) => drop(groups.insert(group.clone())),
                Some(_) => {}
                None if begun_anew => break,
                None => begun_anew = true,
            }
        }
        if self.positions.len() > MAX_POSITIONS {
            self.positions.clear();
        }
        Ok(groups)
    }
}

/// Match assignments to agents with capacity: clients whose assignments fewest agents have (`held`) are next, each client's
/// by priority, and each assignment gets the best agent. `tried` are the agents that had an assignment before.
pub fn match_agents(
    waiting: Vec<WaitingAssignment>,
    agents: &mut [RegisteredAgentRecord],
    fastest: &BTreeMap<TaskType, f64>,
    tried: &BTreeMap<AssignmentId, BTreeSet<AgentId>>,
    mut held: BTreeMap<PrincipalId, i64>,
) -> Vec<AssignmentMatch> {
    let (nobody, mut found) = (BTreeSet::new(), Vec::new());
    let mut queues: BTreeMap<PrincipalId, BinaryHeap<Reverse<(WaitingPosition, usize)>>> = BTreeMap::new();
    for (index, one) in waiting.iter().enumerate() {
        queues.entry(one.client_id.clone()).or_default().push(Reverse((one.position(), index)));
    }
    let front = |queue: Option<&BinaryHeap<Reverse<(WaitingPosition, usize)>>>| Some(queue?.peek()?.0.clone());
    let mut turns: BinaryHeap<_> = queues
        .iter()
        .filter_map(|(client, queue)| {
            let (position, _) = front(Some(queue))?;
            Some(Reverse((held.get(client).copied().unwrap_or(0), position, client.clone())))
        })
        .collect();
    // Agents only lose capacity here: what nobody can take stays so.
    let mut hopeless = Vec::new();
    while let Some(Reverse((_, _, client))) = turns.pop() {
        if !agents.iter().any(|agent| agent.is_online() && agent.has_capacity()) {
            break;
        }
        let Some(Reverse((_, index))) = queues.get_mut(&client).and_then(BinaryHeap::pop) else { continue };
        let (one, has) = (&waiting[index], held.entry(client.clone()).or_default());
        let had = tried.get(&one.id).unwrap_or(&nobody);
        if !hopeless.contains(&one.need) {
            match best_agent(&one.need, agents, fastest, had) {
                Ok((agent, score)) => {
                    let agent_id = agent.id.clone();
                    if let Some(taken) = agents.iter_mut().find(|other| other.id == agent_id) {
                        taken.open += 1;
                    }
                    *has += 1;
                    found.push(AssignmentMatch { id: one.id.clone(), attempt: one.attempt, agent_id, score });
                }
                Err(_) if hopeless.len() < MAX_HOPELESS => hopeless.push(one.need.clone()),
                Err(_) => {}
            }
        }
        if let Some((position, _)) = front(queues.get(&client)) {
            turns.push(Reverse((*has, position, client)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::{TaskRequirements, tests::sample_agent};
    use am_core::money::Money;
    use am_db::codec::Timestamp;

    fn waiting(client: &str, number: i64, max_price: Option<f64>) -> WaitingAssignment {
        WaitingAssignment {
            id: format!("assign_{client}{number:04}").into(),
            client_id: client.into(),
            need: TaskRequirements {
                only_agent: None,
                task_type: TaskType::DataAnalysis,
                gpu_tier: None,
                agent_type: None,
                max_price: max_price.map(Money::from_f64),
                estimated_seconds: Some(3600.0),
            },
            priority: 1,
            placed_at: Timestamp::from_stored("2026-01-02 03:04:05.000000").unwrap(),
            attempt: 0,
        }
    }

    fn matched(waiting: Vec<WaitingAssignment>, places: i64, held: &[(&str, i64)]) -> Vec<String> {
        let mut agent = sample_agent("worker", 0.9, 1.0);
        agent.max_concurrent_tasks = places;
        let held = held.iter().map(|(client, count)| ((*client).into(), *count)).collect();
        let found = match_agents(waiting, &mut [agent], &BTreeMap::new(), &BTreeMap::new(), held);
        found.into_iter().map(|one| one.id.to_string()).collect()
    }

    #[test]
    fn clients_take_turns_whatever_one_has_placed() {
        let mut all: Vec<_> = (0..50).map(|number| waiting("a", number, None)).collect();
        all.extend([waiting("b", 0, None), waiting("b", 1, None)]);
        let order = ["assign_a0000", "assign_b0000", "assign_a0001", "assign_b0001", "assign_a0002"];
        assert_eq!(matched(all.clone(), 5, &[]), order);
        assert_eq!(matched(all, 3, &[("a", 2)]), ["assign_b0000", "assign_b0001", "assign_a0000"]);
    }

    #[test]
    fn what_nobody_can_take_is_passed_over() {
        let mut all: Vec<_> = (0..500).map(|number| waiting("a", number, Some(0.001))).collect();
        all.push(waiting("a", 900, None));
        assert_eq!(matched(all, 5, &[]), ["assign_a0900"]);
    }
}
