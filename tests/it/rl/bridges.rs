//! Bridges to environments in other processes: over a WebSocket, and Gymnasium's own.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

use am_rl::environments::{ActionBatch, VectorEnv, make_environment};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::CloseFrame},
};

use super::{RL, place, trained};
use crate::{
    coordinator::python,
    harness::{ADMIN, ApiClient, CLIENT, PATIENCE, TestApp},
    kit::{JsonDocument, get_as},
};

fn cart_pole() -> Value {
    json!({"environment": "CartPole-v1", "observations": 4, "actions": {"type": "discrete", "count": 2}, "horizon": 500})
}

async fn create(server: &ApiClient, steps: u64) -> String {
    let settings = json!({"environments": 3, "rollout": 16, "batch": 48, "hidden": [8, 8]});
    let body = json!({"environment": "bridge", "parameters": cart_pole(), "steps": steps, "seed": 3,
        "evaluation_episodes": 2, "settings": settings});
    server.post(&format!("{RL}/runs"), body).await.is(201).text("id").to_owned()
}

/// The socket of a bridge.
struct Bridge(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Bridge {
    async fn open(server: &ApiClient, key: &str, run: &str) -> Result<Self, u16> {
        let url = format!("ws://127.0.0.1:{}{RL}/runs/{run}/bridge", server.port());
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("x-api-key", key.parse().unwrap());
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// One that has said what it has.
    async fn greeted(server: &ApiClient, run: &str) -> Self {
        let mut bridge = Self::open(server, ADMIN, run).await.unwrap();
        bridge.say(&hello(&[])).await;
        let Some(Message::Text(welcome)) = bridge.next().await else { panic!("no welcome") };
        let welcome: Value = serde_json::from_str(&welcome).unwrap();
        assert_eq!((&welcome["type"], &welcome["run_id"]), (&json!("welcome"), &json!(run)), "{welcome}");
        bridge
    }

    async fn say(&mut self, hello: &Value) {
        self.0.send(Message::text(hello.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Option<Message> {
        loop {
            match timeout(PATIENCE, self.0.next()).await.expect("nothing came")? {
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(frame) => return Some(frame),
                Err(_) => return None,
            }
        }
    }

    async fn closed(&mut self) -> CloseFrame {
        loop {
            match self.next().await {
                Some(Message::Close(Some(frame))) => return frame,
                Some(_) => {}
                None => panic!("closed without a word"),
            }
        }
    }

    /// Step simulated environments until the socket is closed; `change` makes the answer that is sent to a step.
    async fn serve(&mut self, change: impl Fn(Vec<u8>) -> Vec<u8>) -> CloseFrame {
        let mut vectors: HashMap<u32, VectorEnv> = HashMap::new();
        loop {
            let frame = match self.next().await {
                Some(Message::Binary(frame)) => frame,
                Some(Message::Close(Some(frame))) => return frame,
                other => panic!("{other:?}"),
            };
            let number = |at: usize| u32::from_le_bytes(frame[at..at + 4].try_into().unwrap());
            let (vector, count) = (number(8), number(12));
            let mut answer = vec![0, 1, 0, 0];
            answer.extend(&frame[4..16]);
            let floats = |numbers: &[f32]| numbers.iter().flat_map(|one| one.to_le_bytes()).collect::<Vec<u8>>();
            match frame[0] {
                1 => {
                    let all = (0..count).map(|_| make_environment("CartPole-v1", None).unwrap()).collect();
                    let mut made = VectorEnv::new(all).unwrap();
                    made.reset(u64::from_le_bytes(frame[16..24].try_into().unwrap())).unwrap();
                    answer[0] = 129;
                    answer.extend(floats(made.observations()));
                    vectors.insert(vector, made);
                }
                2 => {
                    let stepped = vectors.get_mut(&vector).unwrap();
                    let actions: Vec<i64> = (0..count as usize).map(|at| i64::from(number(16 + 4 * at))).collect();
                    stepped.step(ActionBatch::Discrete(&actions)).unwrap();
                    answer[0] = 130;
                    answer.extend(floats(stepped.observations()));
                    answer.extend(floats(stepped.rewards()));
                    answer.extend(stepped.terminated().iter().map(|flag| u8::from(*flag)));
                    answer.extend(stepped.truncated().iter().map(|flag| u8::from(*flag)));
                    for ended in stepped.ended() {
                        answer.extend(floats(&stepped.final_observations()[4 * ended.index..][..4]));
                    }
                    answer = change(answer);
                }
                3 => {
                    vectors.remove(&vector);
                    continue;
                }
                other => panic!("a command of kind {other}"),
            }
            if self.0.send(Message::binary(answer)).await.is_err() {
                return self.closed().await;
            }
        }
    }
}

/// What the bridge of the run says of itself, with other members.
fn hello(changes: &[(&str, Value)]) -> Value {
    let mut hello = cart_pole();
    (hello["type"], hello["protocol"]) = (json!("hello"), json!(1));
    changes.iter().for_each(|(member, value)| hello[*member] = value.clone());
    hello
}

#[tokio::test]
async fn a_run_is_trained_through_its_bridge() {
    let server = TestApp::start().await;
    let id = create(&server, 960).await;
    let mut bridge = Bridge::greeted(&server, &id).await;
    let end = bridge.serve(|answer| answer).await;
    assert_eq!((u16::from(end.code), end.reason.as_str()), (1000, "the run has ended: completed"));
    let run = trained(&server, &id).await;
    assert_eq!(
        (&run["status"], &run["steps_done"], &run["reference"]),
        (&json!("completed"), &json!(960), &json!("bridge-ppo@1"))
    );
    assert_eq!((&run["scores"]["episodes"], &run["scores"]["reference"]), (&json!(2), &Value::Null));
    assert!(run["episodes"].as_u64().unwrap() > 10, "{run}");
    let act = server.post(&format!("{RL}/policies/bridge-ppo/act"), json!({"state": [0, 0, 0.01, 0]})).await.ok();
    assert!(["action_0", "action_1"].contains(&act.text("action_name")));
    assert!(server.get("/metrics").await.text.contains("rl_training_bridges"));
}

#[tokio::test]
async fn a_bridge_that_is_wrong_is_told_why() {
    let server = TestApp::builder().env("TRAINING_BRIDGES", 1).env("TRAINING_BRIDGE_STEP_SECONDS", 1).start().await;
    let id = create(&server, 5000).await;
    // Whose run it is not, and what is no bridge's.
    assert_eq!(Bridge::open(&server, CLIENT, &id).await.err(), Some(404));
    assert_eq!(Bridge::open(&server, "nobody", &id).await.err(), Some(401));
    let path = format!("{RL}/runs/{id}/bridge");
    server.get(&path).await.is(426);
    get_as(&server, CLIENT, &path).await.is(404);
    let built_in = server.post(&format!("{RL}/runs"), super::small(64)).await.is(201).text("id").to_owned();
    assert_eq!(Bridge::open(&server, ADMIN, &built_in).await.err(), Some(400));
    for (said, why) in [
        (hello(&[("type", json!("hi"))]), "the first frame must be a hello"),
        (hello(&[("protocol", json!(2))]), "protocol: this is 1"),
        (hello(&[("observations", json!(5))]), "observations is not what the run says"),
        (hello(&[("actions", json!({"type": "discrete", "count": 3}))]), "actions is not what the run says"),
        (json!([1]), "a hello is a JSON object"),
    ] {
        let mut bridge = Bridge::open(&server, ADMIN, &id).await.unwrap();
        bridge.say(&said).await;
        let end = bridge.closed().await;
        assert_eq!((u16::from(end.code), end.reason.as_str()), (1008, why));
    }
    let mut bridge = Bridge::open(&server, ADMIN, &id).await.unwrap();
    bridge.0.send(Message::binary(vec![1])).await.unwrap();
    assert_eq!(u16::from(bridge.closed().await.code), 1008);
    // Another bridge of the run takes the place of the first; another run's has none.
    let mut first = Bridge::greeted(&server, &id).await;
    let mut second = Bridge::greeted(&server, &id).await;
    assert_eq!(first.closed().await.reason.as_str(), "another bridge of the run took its place");
    let other = create(&server, 64).await;
    let mut third = Bridge::open(&server, ADMIN, &other).await.unwrap();
    third.say(&hello(&[])).await;
    let end = third.closed().await;
    assert!(u16::from(end.code) == 1013 && end.reason.contains("TRAINING_BRIDGES"), "{end:?}");
    // A number that is none ends the run.
    let end = second.serve(|mut answer| {
        answer[16..20].copy_from_slice(&f32::NAN.to_le_bytes());
        answer
    });
    assert_eq!(end.await.reason.as_str(), "the run has ended: failed");
    let run = trained(&server, &id).await;
    assert_eq!(run["error"], "the bridge: it sent an observation that is NaN, the number 0 of them");
    // One that answers what it was not asked is closed, and its run waits.
    let mut eager = Bridge::greeted(&server, &other).await;
    for _ in 0..64 {
        if eager.0.send(Message::binary(vec![0; 16])).await.is_err() {
            break;
        }
    }
    let end = eager.closed().await;
    assert!([1008, 1000].contains(&u16::from(end.code)), "{end:?}");
    // One that is silent ends its run, too.
    let last = create(&server, 64).await;
    let mut silent = Bridge::greeted(&server, &last).await;
    let run = trained(&server, &last).await;
    assert_eq!(run["error"], "the bridge: it did not answer within 1 s");
    assert_eq!(u16::from(silent.closed().await.code), 1000);
    let faulty = json!({"environment": "bridge", "steps": 64, "parameters": {"environment": "x", "observations": 0,
        "actions": {"type": "discrete", "count": 2}}});
    assert_eq!(place(server.post(&format!("{RL}/runs"), faulty).await), json!(["body", "parameters", "observations"]));
}

/// The bridge of examples/python, with these arguments.
fn gym_bridge(server: &ApiClient, arguments: &[&str]) -> Command {
    let mut command = Command::new(python());
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/python/gym_bridge.py")).args(arguments);
    command.current_dir(server.dir()).env("AGENT_MANAGEMENT_URL", server.url("")).env("AGENT_MANAGEMENT_KEY", ADMIN);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn gymnasium_is_behind_the_bridge_of_the_examples() {
    let server = TestApp::start().await;
    let ppo = r#"{"environments": 4, "rollout": 16, "batch": 64, "hidden": [8, 8]}"#;
    let sac = r#"{"hidden": [8, 8], "warmup": 16, "batch": 8}"#;
    for (environment, algorithm, settings, steps) in [
        ("CartPole-v1", "ppo", ppo, "640"),
        ("FrozenLake-v1", "a2c", "{\"hidden\": [8, 8]}", "200"),
        ("Pendulum-v1", "sac", sac, "64"),
    ] {
        let arguments = [
            "train",
            environment,
            "--algorithm",
            algorithm,
            "--steps",
            steps,
            "--settings",
            settings,
            "--episodes",
            "1",
        ];
        let output = gym_bridge(&server, &arguments).output().unwrap();
        let (text, faults) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{environment}: {text}{faults}");
        assert!(text.contains("the run has ended: completed") && text.contains("over 1 episodes"), "{text}");
    }
    let runs = server.get(&format!("{RL}/runs")).await.ok();
    let actions = |at: usize| runs[at]["parameters"]["actions"].clone();
    assert_eq!(actions(0), json!({"type": "continuous", "low": [-2.0], "high": [2.0]}));
    assert_eq!(
        (actions(1), &runs[1]["parameters"]["observations"]),
        (json!({"type": "discrete", "count": 4}), &json!(16))
    );
    assert_eq!(runs[2]["parameters"], cart_pole());
}
