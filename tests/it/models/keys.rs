//! Public keys of agents: registered, revoked.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::*;

const OWNERS: [&str; 3] = ["k-0", "k-1", "k-2"];

#[derive(Clone, Debug)]
enum Action {
    Register(usize, u8),
    RegisterBadly(usize),
    Revoke(usize),
    RevokeOthers(usize),
}

#[derive(Debug)]
struct Key {
    owner: usize,
    seed: u8,
    id: String,
    revoked: bool,
}

#[derive(Default)]
struct Keys(Vec<Key>);

impl Keys {
    fn find(&self, owner: usize, seed: u8) -> Option<&Key> {
        self.0.iter().find(|key| key.owner == owner && key.seed == seed)
    }
}

fn path(owner: usize) -> String {
    format!("{AGENTS}/{}/keys", OWNERS[owner])
}

impl RoomModel for Keys {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let (owner, at) = (random.random_range(0..OWNERS.len()), random.random_range(0..self.0.len().max(1)));
        match random.random_range(0..10) {
            0 => Action::RegisterBadly(owner),
            1..4 if !self.0.is_empty() => Action::Revoke(at),
            4 if !self.0.is_empty() => Action::RevokeOthers(at),
            _ => Action::Register(owner, random.random_range(0..6)),
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        match *action {
            Action::Register(owner, seed) => {
                // One that is registered stays as it is.
                let revoked = self.find(owner, seed).is_some_and(|key| key.revoked);
                let bytes = [16 * (owner as u8 + 1) + seed; 32];
                let body = json!({"kind": "x25519", "public_key": BASE64_STANDARD.encode(bytes)});
                Ask::post(path(owner), body, if revoked { 400 } else { 201 })
            }
            Action::RegisterBadly(owner) => {
                Ask::post(path(owner), json!({"kind": "x25519", "public_key": "AAAA"}), 422)
            }
            Action::Revoke(at) => Ask::delete(format!("{}/{}", path(self.0[at].owner), self.0[at].id), 200, 200),
            Action::RevokeOthers(at) => {
                Ask::delete(format!("{}/{}", path((self.0[at].owner + 1) % OWNERS.len()), self.0[at].id), 404, 404)
            }
        }
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Register(owner, seed) => {
                if let Some(known) = self.find(owner, seed) {
                    return assert_eq!(accepted.body["key_id"], known.id);
                }
                self.0.push(Key { owner, seed, id: accepted.body.text("key_id").to_owned(), revoked: false });
            }
            Action::Revoke(at) => self.0[at].revoked = true,
            Action::RegisterBadly(_) | Action::RevokeOthers(_) => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        for owner in 0..OWNERS.len() {
            let found = list(server, &path(owner)).await;
            let found: Vec<(&str, bool)> =
                found.iter().map(|key| (key.text("key_id"), key["revoked_at"].is_string())).collect();
            let kept = self.0.iter().rev().filter(|key| key.owner == owner);
            assert_eq!(found, kept.map(|key| (key.id.as_str(), key.revoked)).collect::<Vec<_>>());
        }
        let told = audited(server, "agent_key").await;
        let revoked = self.0.iter().filter(|key| key.revoked).count();
        assert_eq!((count(&told, "registered"), count(&told, "revoked")), (self.0.len(), revoked));
    }
}

#[tokio::test]
async fn keys_of_agents_are_as_the_model_has_them() {
    play(Keys::default(), Server::builder()).await;
}
