//! API keys on the command line: made, rotated, revoked by commands that die.

use std::collections::BTreeMap;

use sqlx::{Connection as _, SqliteConnection};

use crate::{keys::listed, operation::run};

use super::*;

const NAMES: [&str; 4] = ["k-0", "k-1", "k-2", "k-3"];
const COMMANDS: usize = 24;
/// Where a command dies, if it commits as often as that.
const DEATHS: [&str; 4] = ["", "db.before_commit", "db.after_commit", "db.before_commit"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Key {
    rotations: usize,
    revoked: bool,
}

type Keys = BTreeMap<String, Key>;

/// The keys after a command that is accepted; `None`: it is refused.
fn next(keys: &Keys, verb: &str, name: &str) -> Option<Keys> {
    let mut next = keys.clone();
    match (verb, keys.get(name)) {
        ("create", None) => drop(next.insert(name.to_owned(), Key::default())),
        ("revoke", Some(key)) if !key.revoked => next.get_mut(name)?.revoked = true,
        ("rotate", Some(key)) if !key.revoked => next.get_mut(name)?.rotations += 1,
        _ => return None,
    }
    Some(next)
}

/// The keys as the command line lists them and the audit log tells of them.
async fn stored(dir: &std::path::Path) -> Keys {
    let listed = listed(dir);
    let mut conn = SqliteConnection::connect(dir.join("coordinator.db").to_str().unwrap()).await.unwrap();
    let log: Vec<String> =
        sqlx::query_scalar("SELECT event_data FROM agent_audit_logs").fetch_all(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let log: Vec<Value> = log.iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    let told = |name: &str, action: &str| {
        let of = |data: &&Value| {
            (&data["resource"], &data["name"], &data["action"]) == (&json!("api_key"), &json!(name), &json!(action))
        };
        log.iter().filter(of).count()
    };
    let mut keys = Keys::new();
    for key in &listed {
        let (name, revoked) = (key.text("name"), key["state"] == "revoked");
        assert_eq!((told(name, "created"), told(name, "revoked") > 0), (1, revoked), "{name}: {log:?}");
        keys.insert(name.to_owned(), Key { rotations: told(name, "rotated"), revoked });
    }
    let all = NAMES.iter().map(|name| told(name, "created")).sum::<usize>();
    assert_eq!(all, keys.len(), "the log tells of keys that are not there: {log:?}");
    keys
}

#[tokio::test]
async fn api_keys_are_as_the_model_has_them() {
    let seed = super::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let variables = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "warn")];
    assert!(run(folder.path(), &["migrate"], &variables).status.success());
    let mut keys = Keys::new();
    for _ in 0..COMMANDS {
        let name = NAMES[random.random_range(0..NAMES.len())];
        let verb = ["create", "rotate", "rotate", "revoke"][random.random_range(0..4)];
        let death = DEATHS[random.random_range(0..DEATHS.len())];
        let point = format!("{death}={}*off->return", random.random_range(0..3));
        let named = ["keys", "create", "--name", name, "--role", "client"];
        let arguments: &[&str] = if verb == "create" { &named } else { &["keys", verb, name] };
        let dies = [&variables[..], &[("FAILPOINTS", point.as_str())]].concat();
        let output = run(folder.path(), arguments, if death.is_empty() { &variables } else { &dies });
        let (done, said) = (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned());
        let wanted = next(&keys, verb, name);
        let found = stored(folder.path()).await;
        match &wanted {
            Some(wanted) if done => assert_eq!(&found, wanted, "{verb} {name}: {said}"),
            // It died, and is done or not.
            Some(wanted) => assert!(!death.is_empty() && (found == keys || &found == wanted), "{verb} {name}: {said}"),
            None => assert!(!done && found == keys, "{verb} {name} was refused, and left something: {said}"),
        }
        keys = found;
    }
    assert!(!keys.is_empty());
}
