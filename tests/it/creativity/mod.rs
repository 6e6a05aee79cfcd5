//! Creativity from outside: capabilities, corpora, evaluation, enhancement, ideas and synthesis.

mod capabilities;
mod enhancement;
mod evaluation;
mod ideas;
mod language_model;

use serde_json::{Value, json};

use crate::{
    harness::ApiClient,
    kit::{JsonDocument, post_as},
};

/// The prefix of the group's paths.
pub const CREATIVITY: &str = "/api/v1/agents/creativity";

/// Works of an agent's own.
const WORKS: [&str; 4] = [
    "The lighthouse keeper paints the weather on old doors. Each door hangs on the tower, and ships read them from afar.",
    "A clock of ice tells the hours of the thaw. When it is gone, the village plants its beans and the children swim.",
    "She weaves ropes from torn maps. Sailors who hold them dream of the ports that the maps have lost.",
    "The orchestra tunes to the hum of the power station. At night the turbines answer, a quarter tone below.",
];

/// What is recorded of a capability of this agent.
pub fn draft_of(agent: &str) -> Value {
    json!({"agent_id": agent, "creative_domain": "storytelling", "capability_type": "writing",
        "generation_models": ["small-model"], "initial_score": 0.9})
}

/// Record a capability of an agent with the server's own key; answers its id.
pub async fn capability(server: &ApiClient, agent: &str) -> String {
    server.post(&format!("{CREATIVITY}/capabilities"), draft_of(agent)).await.ok().text("capability_id").to_owned()
}

/// The works of an agent's own, as a corpus takes them.
pub fn works() -> Value {
    json!({"texts": WORKS.map(|text| json!({"text": text}))})
}

/// A capability with a corpus of four works; answers its path.
pub async fn with_corpus(server: &ApiClient, agent: &str) -> String {
    let path = format!("{CREATIVITY}/capabilities/{}", capability(server, agent).await);
    server.post(&format!("{path}/corpus"), works()).await.ok();
    path
}

/// What to ask of a POST below `/creativity` so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let rest = template.strip_prefix("/creativity").unwrap();
    let agent = "creative-once";
    match rest {
        "/capabilities" => (format!("{CREATIVITY}{rest}"), draft_of(agent)),
        "/ideation/generate" | "/synthesis/cross-domain" => (format!("{CREATIVITY}{rest}"), body_of(agent, rest)),
        other => {
            let verb = other.rsplit('/').next().unwrap();
            let path = match verb {
                "enhance" => with_corpus(server, agent).await,
                _ => format!("{CREATIVITY}/capabilities/{}", capability(server, agent).await),
            };
            (format!("{path}/{verb}"), body_of(agent, other))
        }
    }
}

/// A body that an operation below `/creativity` takes.
pub fn body_of(agent: &str, template: &str) -> Value {
    match template.rsplit('/').next().unwrap() {
        "capabilities" => draft_of(agent),
        "evaluate" => json!({"creation_data": {"text": WORKS[0]}}),
        "enhance" => json!({"training_cycles": 2}),
        "corpus" => works(),
        "generate" => json!({"problem_statement": "Reduce the noise of a washing machine", "domain": "appliances"}),
        "cross-domain" => json!({"agent_id": agent, "primary_domain": "biology", "secondary_domains": ["economics"],
            "synthesis_goal": "Distribute scarce water among many farms"}),
        other => panic!("POST {other} of creativity is not tried: say how it is asked"),
    }
}

/// POST to a path of the group with this key.
pub async fn create(server: &ApiClient, key: &str, agent: &str) -> crate::harness::Answer {
    post_as(server, key, &format!("{CREATIVITY}/capabilities"), draft_of(agent)).await
}
