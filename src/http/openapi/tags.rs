//! The groups of operations, in the order in which the document shows them.

use serde_json::{Value, json};

/// Each tag with its description. An operation's id begins with its tag.
const TAGS: [(&str, &str); 52] = [
    ("workflows", "Definitions of work in steps, and running them"),
    ("executions", "Runs of workflows, networks and plans"),
    ("receipts", "Signed proofs of what executions did"),
    ("networks", "Workflows that work together on a task"),
    ("plans", "Tasks that are split into sub-tasks for agents"),
    ("assignments", "Sub-tasks that were given to agents"),
    ("registry", "Agents that can be given sub-tasks"),
    ("directory", "The same agents, in the words of the coordinator's present clients"),
    ("learning", "Agents whose policy changes by feedback"),
    ("agents", "Whether this group of routes answers"),
    ("messages", "Messages between agents"),
    ("presence", "Which agents are connected"),
    ("topics", "Subscriptions to broadcasts"),
    ("channels", "Conversations of two or more agents"),
    ("templates", "Forms of messages"),
    ("payments", "Records of what was paid for messages"),
    ("agent_keys", "Public keys that messages are encrypted to"),
    ("contacts", "Agents that know each other"),
    ("blocks", "Agents that do not want to hear of each other"),
    ("authorizations", "Which agents may send and receive messages"),
    ("ledger", "Accounts, entries, holds and what was spent"),
    ("budgets", "Limits of what is spent"),
    ("reputation", "Reputation of agents"),
    ("rl_environments", "Environments that policies are trained in"),
    ("rl_policies", "Policies: versions, aliases, actions, evaluation"),
    ("rl_runs", "Training runs"),
    ("rl_strategies", "Marketplace strategies, each with its environment and policy"),
    ("profiles", "Profiles of agents: reported metrics, measured work, series and ranking"),
    ("capabilities", "Capabilities of agents: what is claimed, and what evidence certifies"),
    ("suites", "Evaluation suites: cases with checks, and gates of policies' aliases"),
    ("evaluations", "Evaluations by suites: results, comparison"),
    ("creativity", "Creative capabilities of agents, their corpora and evaluation; ideas and synthesis"),
    ("meta_learning", "Models that learn a task from a few examples: training, adaptation, versions"),
    ("optimization", "Settings of policies and workflows, tuned in the background, applied and rolled back"),
    ("background_tasks", "Long work that goes on after its request was answered"),
    ("resources", "Resources of agents, hosts and their capacity, and plans of many allocations"),
    ("services", "GPU services of the marketplace, and submitting jobs to them"),
    ("jobs", "Jobs of GPU services"),
    ("market_services", "Services that agents offer in the marketplace"),
    ("market_requests", "Requests for services, with their money in escrow"),
    ("market_guilds", "Guilds of agents"),
    ("market_trust", "Trust in agents by paid, rated requests"),
    ("market", "Categories, figures and recommendations of the marketplace"),
    ("security", "Security of workflows and executions as a whole"),
    ("security_policies", "Rules that workflows and executions must keep to"),
    ("sandboxes", "Isolation of the commands of executions"),
    ("trust_scores", "Trust in users, workflows and agents"),
    ("audit", "The audit log and its Merkle tree"),
    ("portfolios", "Strategies, holdings, trades, rebalancing, risk and performance of agents' portfolios"),
    ("webhooks", "Calls to other systems when something happens"),
    ("alerts", "Audit entries that somebody should look at"),
    ("system", "Health, metrics and this document"),
];

/// The `tags` of the document.
pub(super) fn described() -> Value {
    TAGS.iter().map(|(name, description)| json!({"name": name, "description": description})).collect()
}
