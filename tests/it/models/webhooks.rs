//! Deliveries of webhooks: made, sent, sent again.

use std::collections::BTreeMap;

use super::*;
use crate::webhooks::{Receiver, SECRET};

const WEBHOOKS: &str = "/api/v1/agents/security/webhooks";

#[derive(Clone, Debug)]
enum Action {
    Test,
    TestNobody,
    Again(usize),
    AgainNothing,
}

struct Webhooks {
    receiver: Receiver,
    /// Ids of the deliveries, oldest first, with the number of times that each was to be sent.
    all: Vec<(String, usize)>,
}

impl RoomModel for Webhooks {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let at = random.random_range(0..self.all.len().max(1));
        match random.random_range(0..8) {
            0 => Action::TestNobody,
            1 => Action::AgainNothing,
            2..4 if !self.all.is_empty() => Action::Again(at),
            _ => Action::Test,
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        let again = |id: &str| format!("{WEBHOOKS}/deliveries/{id}/redeliver");
        match *action {
            Action::Test => Ask::post(format!("{WEBHOOKS}/ops/test"), json!({}), 201),
            Action::TestNobody => Ask::post(format!("{WEBHOOKS}/nobody/test"), json!({}), 404),
            Action::Again(at) => Ask::post(again(&self.all[at].0), json!({}), 200),
            Action::AgainNothing => Ask::post(again("msg_x"), json!({}), 404),
        }
    }

    async fn before(&self, action: &Action, server: &ApiClient) {
        let Action::Again(at) = *action else { return };
        // It can't be sent again while it is being sent.
        let ask = Ask::get(format!("{WEBHOOKS}/deliveries/{}", self.all[at].0));
        while let Some(found) = send(server, &ask, "").await.filter(|found| found.body["state"] == "pending") {
            assert_eq!(found.status, 200, "{}", found.text);
            poll_interval().await;
        }
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Test => self.all.push((accepted.body.text("id").to_owned(), 1)),
            Action::Again(at) => self.all[at].1 += 1,
            Action::TestNobody | Action::AgainNothing => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let path = format!("{WEBHOOKS}/deliveries");
        until("all are delivered", async || {
            list(server, &path).await.iter().all(|delivery| delivery["state"] == "delivered")
        })
        .await;
        let found = ids(&list(server, &path).await, "id");
        assert_eq!(found, self.all.iter().rev().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        self.receiver.ids(&[SECRET]).into_iter().for_each(|id| *calls.entry(id).or_default() += 1);
        assert_eq!(calls.len(), self.all.len(), "{calls:?}");
        for (id, times) in &self.all {
            // A call that a death cuts off is made again.
            assert!(calls.get(id).is_some_and(|calls| (*times..=times + ROUNDS).contains(calls)), "{id}: {calls:?}");
        }
    }
}

#[tokio::test]
async fn webhook_deliveries_are_as_the_model_has_them() {
    let receiver = Receiver::start([]);
    let builder = receiver.server(&json!({"events": ["test"], "timeout_seconds": 0.5}));
    play(Webhooks { receiver, all: Vec::new() }, builder).await;
}
