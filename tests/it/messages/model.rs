//! Random batches of messages, reads and acknowledgements against a model in memory: what is accepted is there once, in
//! order, and what is refused left no row, no number, no frame and no event.

use std::collections::{BTreeMap, HashMap};

use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, server};
use crate::{
    harness::{PATIENCE, TestApp, poll_interval},
    jobs::open,
    kit::{AGENTS, JsonDocument},
};

/// Where alice's message goes. Bob has a key, carol has none, and dave has blocked alice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    Bob,
    Carol,
    Dave,
    Group,
    Topic,
    Everybody,
}

const GOALS: [Goal; 6] = [Goal::Bob, Goal::Carol, Goal::Dave, Goal::Group, Goal::Topic, Goal::Everybody];

/// What alice sends.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    goal: Goal,
    /// Whether encryption to the recipients' keys is demanded.
    hpke: bool,
    /// Whether the content is long enough to be shared by copies.
    long: bool,
    n: u8,
}

#[derive(Clone, Debug)]
enum Action {
    Send(Option<u8>, Draft),
    /// Read a message of an agent's inbox.
    Read(&'static str, usize),
    /// Acknowledge one of the frames that bob has got.
    Acknowledge(usize),
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let draft = (select(&GOALS[..]), any::<bool>(), any::<bool>(), 0..3u8);
    let draft = draft.prop_map(|(goal, hpke, long, n)| Draft { goal, hpke, long, n });
    let action = prop_oneof![
        8 => (proptest::option::of(0..4u8), draft).prop_map(|(id, draft)| Action::Send(id, draft)),
        1 => (select(&["bob", "carol", "dave"][..]), any::<usize>()).prop_map(|(agent, at)| Action::Read(agent, at)),
        1 => any::<usize>().prop_map(Action::Acknowledge),
    ];
    proptest::collection::vec(action, 1..60)
}

/// What should be there.
#[derive(Default)]
struct Model {
    /// The drafts of each agent's messages, and how far each message got.
    inboxes: BTreeMap<&'static str, Vec<(Draft, &'static str)>>,
    ids: HashMap<u8, Draft>,
    sent: usize,
    to_several: usize,
    reads: usize,
}

impl Model {
    /// The code of the refusal, or whether it is a repetition.
    fn send(&mut self, id: Option<u8>, draft: &Draft) -> Result<bool, &'static str> {
        if let Some(known) = id.and_then(|id| self.ids.get(&id)) {
            return if known == draft { Ok(true) } else { Err("conflict") };
        }
        let (recipients, several): (&[&'static str], bool) = match draft.goal {
            Goal::Bob => (&["bob"], false),
            Goal::Carol => (&["carol"], false),
            Goal::Dave => return Err("message_refused"),
            Goal::Group | Goal::Everybody => (&["bob", "carol"], true),
            Goal::Topic => (&["bob"], true),
        };
        if draft.hpke && recipients.contains(&"carol") {
            return Err("validation_error");
        }
        for recipient in recipients {
            self.inboxes.entry(*recipient).or_default().push((draft.clone(), "pending"));
        }
        if let Some(id) = id {
            self.ids.insert(id, draft.clone());
        }
        self.sent += 1;
        self.to_several += usize::from(several);
        Ok(false)
    }
}

fn payload(id: Option<u8>, draft: &Draft, group: &str) -> Value {
    let mut payload = json!({"content": {"n": draft.n, "text": "x".repeat(if draft.long { 1500 } else { 3 })}});
    if let Some(id) = id {
        payload["message_id"] = json!(format!("id-{id}"));
    }
    if draft.hpke {
        payload["encryption"] = json!("hpke");
    }
    match draft.goal {
        Goal::Bob => payload["recipient_id"] = json!("bob"),
        Goal::Carol => payload["recipient_id"] = json!("carol"),
        Goal::Dave => payload["recipient_id"] = json!("dave"),
        Goal::Group => payload["channel_id"] = json!(group),
        Goal::Topic => payload["topic"] = json!("t"),
        Goal::Everybody => {}
    }
    payload
}

async fn number(server: &TestApp, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(&mut open(&server.database()).await).await.unwrap()
}

/// The server with its agents, and the id of their group.
async fn prepared() -> (TestApp, String) {
    let server = server().start().await;
    let key = json!({"kind": "x25519", "public_key": "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="});
    server.post(&format!("{AGENTS}/bob/keys"), key).await.is(201);
    for (agent, topic) in [("bob", "t"), ("dave", "t"), ("carol", "other")] {
        server.post(&format!("{MESSAGES}/subscribe"), json!({"agent_id": agent, "topic": topic})).await.ok();
    }
    let group = json!({"type": "group", "members": ["bob", "carol", "dave"]});
    let group = server.post(&format!("{AGENTS}/alice/channels"), group).await.is(201).text("channel_id").to_owned();
    server.post(&format!("{AGENTS}/dave/blocks"), json!({"blocked_id": "alice"})).await.is(201);
    (server, group)
}

/// Say all that alice sends at once, and compare the answers with the model's.
async fn say(server: &TestApp, alice: &mut Socket, group: &str, model: &mut Model, batch: &[(Option<u8>, Draft)]) {
    let mut expected = Vec::new();
    // Over a socket there is no way to everybody: those are sent in between, one by one.
    let (mut waiting, mut mark) = (0, 0);
    for (id, draft) in batch {
        if draft.goal == Goal::Everybody {
            check_answers(alice, &mut expected, &mut waiting).await;
            let mut body = payload(*id, draft, group);
            body["sender"] = json!("alice");
            let answer = server.post(&format!("{MESSAGES}/broadcast"), body).await;
            match model.send(*id, draft) {
                Ok(repeated) => assert_eq!(answer.ok()["repeated"], repeated, "{draft:?}"),
                Err(code) => assert_eq!(answer.body["code"], code, "{draft:?}"),
            }
            continue;
        }
        let frame = json!({"type": "message", "ref": mark, "payload": payload(*id, draft, group)});
        alice.send(frame).await;
        expected.push((mark, model.send(*id, draft)));
        (mark, waiting) = (mark + 1, waiting + 1);
    }
    check_answers(alice, &mut expected, &mut waiting).await;
}

async fn check_answers(alice: &mut Socket, expected: &mut Vec<(i64, Result<bool, &str>)>, waiting: &mut usize) {
    for _ in 0..std::mem::take(waiting) {
        let answer = alice.next().await;
        let at = expected.iter().position(|(mark, _)| answer["ref"] == *mark).unwrap();
        match expected.swap_remove(at).1 {
            Ok(repeated) => assert_eq!(answer["repeated"], repeated, "{answer}"),
            Err(code) => assert_eq!(answer["code"], code, "{answer}"),
        }
    }
}

async fn run(actions: Vec<Action>) {
    let (server, group) = prepared().await;
    let unused = "SELECT count(*) FROM am_channels AS c
         WHERE NOT EXISTS (SELECT 1 FROM am_messages AS m WHERE m.channel_id = c.id)
             AND NOT EXISTS (SELECT 1 FROM am_broadcasts AS b WHERE b.channel_id = c.id) AND c.place IS NOT NULL";
    let (mut alice, mut bob) = (Socket::open(&server, "alice").await, Socket::open(&server, "bob").await);
    let (mut model, mut frames, mut batch) = (Model::default(), Vec::new(), Vec::new());
    for action in actions {
        if let Action::Send(id, draft) = action {
            batch.push((id, draft));
            continue;
        }
        say(&server, &mut alice, &group, &mut model, &std::mem::take(&mut batch)).await;
        match action {
            Action::Send(..) => {}
            Action::Read(agent, at) => {
                let found = inbox(&server, agent, "&unread_only=true&limit=500").await;
                let Some(messages) = model.inboxes.get_mut(agent).filter(|_| !found.is_empty()) else { continue };
                messages
                    .iter_mut()
                    .filter(|(_, status)| *status == "pending")
                    .for_each(|(_, status)| *status = "delivered");
                let unread: Vec<usize> = (0..messages.len()).filter(|at| messages[*at].1 != "read").collect();
                assert_eq!(found.len(), unread.len());
                let at = at % found.len();
                let path = format!("{MESSAGES}/id/{}/read", found[at].text("message_id"));
                server.post(&path, json!({"agent_id": agent, "sender_id": "alice"})).await.ok();
                messages[unread[at]].1 = "read";
                model.reads += 1;
            }
            Action::Acknowledge(at) => {
                let Some(messages) = model.inboxes.get_mut("bob") else { continue };
                while frames.len() < messages.len() {
                    frames.push(bob.message().await);
                }
                let at = at % frames.len();
                bob.ack(&frames[at]).await;
                if messages[at].1 == "pending" {
                    messages[at].1 = "delivered";
                }
            }
        }
    }
    say(&server, &mut alice, &group, &mut model, &batch).await;
    let all: usize = model.inboxes.values().map(Vec::len).sum();
    assert_eq!(number(&server, "SELECT count(*) FROM am_messages").await, all as i64);
    assert_eq!(number(&server, "SELECT coalesce(max(id), 0) FROM am_messages").await, all as i64);
    assert_eq!(number(&server, "SELECT count(*) FROM am_broadcasts").await, model.to_several as i64);
    let gaps = "SELECT count(*) FROM am_channels AS c WHERE c.last_seq <>
         (SELECT count(*) FROM am_messages AS m WHERE m.channel_id = c.id AND m.seq BETWEEN 1 AND c.last_seq)";
    assert_eq!(number(&server, gaps).await, 0);
    assert_eq!(number(&server, unused).await, 0);
    let stray = "SELECT count(*) FROM am_message_contents AS c
         WHERE NOT EXISTS (SELECT 1 FROM am_messages AS m WHERE m.content_id = c.id)";
    assert_eq!(number(&server, stray).await, 0);
    let expected = model.inboxes.get("bob").map_or(0, Vec::len);
    while frames.len() < expected {
        frames.push(bob.message().await);
    }
    assert!(bob.is_silent().await && alice.is_silent().await);
    check_stored(&server, &model).await;
    let ids: Vec<String> = sqlx::query_scalar("SELECT message_id FROM am_messages WHERE recipient = 'bob' ORDER BY id")
        .fetch_all(&mut open(&server.database()).await)
        .await
        .unwrap();
    assert_eq!(
        each(&frames, "message_id"),
        ids.iter().map(|id| json!(id)).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
    let trail = server.get(&format!("{AGENTS}/security/audit-logs?event_type=workflow_updated&limit=500")).await.ok();
    let told = each(trail.as_array().unwrap(), "event_data");
    let count =
        |action: &str| told.iter().filter(|data| data["resource"] == "message" && data["action"] == action).count();
    assert_eq!((count("sent"), count("read")), (model.sent, model.reads));
}

/// Each agent's messages are those of the model, in its order and in its states. Acknowledgements are recorded a moment
/// after they came.
async fn check_stored(server: &TestApp, model: &Model) {
    let stored = "SELECT recipient, bytes, lower(status) FROM am_messages ORDER BY id";
    let expected: BTreeMap<&str, Vec<(bool, &str)>> = model
        .inboxes
        .iter()
        .map(|(agent, all)| (*agent, all.iter().map(|(draft, status)| (draft.long, *status)).collect()))
        .collect();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let rows: Vec<(String, i64, String)> =
            sqlx::query_as(stored).fetch_all(&mut open(&server.database()).await).await.unwrap();
        let mut found: BTreeMap<&str, Vec<(bool, &str)>> = BTreeMap::new();
        for (recipient, bytes, status) in &rows {
            found.entry(recipient).or_default().push((*bytes > 1000, status.as_str()));
        }
        if found == expected {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}\n is not\n{expected:?}");
        poll_interval().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_is_refused_left_nothing(actions in actions()) {
        tokio::runtime::Runtime::new().unwrap().block_on(run(actions));
    }
}
