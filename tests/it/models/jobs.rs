//! Jobs of clients: submitted, taken and ended by miners, cancelled.

use super::*;
use crate::{jobs::queue, kit::sql, services::SERVICES};

#[derive(Clone, Debug)]
enum Action {
    Submit(u8),
    SubmitBadly(u8),
    Cancel(usize),
    CancelNothing,
    /// A miner brings a job to this state.
    Mine(usize, &'static str),
}

#[derive(Default)]
struct Jobs {
    /// Ids and states, oldest first.
    all: Vec<(String, &'static str)>,
    canceled: usize,
}

impl RoomModel for Jobs {
    type Action = Action;

    fn choose(&self, random: &mut SmallRng) -> Action {
        let n = random.random_range(0..8);
        let at = random.random_range(0..self.all.len().max(1));
        match random.random_range(0..10) {
            _ if self.all.is_empty() => Action::Submit(n),
            0..3 => Action::Submit(n),
            3 => Action::SubmitBadly(n),
            4..6 => Action::Cancel(at),
            6 => Action::CancelNothing,
            _ => {
                let next = match self.all[at].1 {
                    "QUEUED" => "RUNNING",
                    "RUNNING" if n < 4 => "COMPLETED",
                    "RUNNING" => "FAILED",
                    _ => return Action::Cancel(at),
                };
                Action::Mine(at, next)
            }
        }
    }

    fn ask(&self, action: &Action) -> Ask {
        match *action {
            Action::Submit(n) => {
                let body = json!({"model": "llama-7b", "prompt": format!("prompt {n}")});
                Ask::post(format!("{SERVICES}/llm/inference?max_price={n}"), body, 201)
            }
            Action::SubmitBadly(n) => {
                let (query, body) = match n % 3 {
                    0 => ("", json!({"model": "llama-7b", "prompt": ""})),
                    1 => ("?max_price=-1", json!({"model": "llama-7b", "prompt": "x"})),
                    _ => ("", json!({"model": "llama-7b", "prompt": "x", "max_tokens": -1})),
                };
                Ask::post(format!("{SERVICES}/llm/inference{query}"), body, 422)
            }
            Action::Cancel(at) => {
                let status = if matches!(self.all[at].1, "COMPLETED" | "FAILED") { 400 } else { 200 };
                Ask::delete(format!("{SERVICES}/jobs/{}", self.all[at].0), status, status)
            }
            Action::CancelNothing => Ask::delete(format!("{SERVICES}/jobs/none"), 404, 404),
            Action::Mine(at, _) => Ask::get(format!("{SERVICES}/jobs/{}", self.all[at].0)),
        }
    }

    async fn before(&self, action: &Action, server: &ApiClient) {
        let Action::Mine(at, next) = action else { return };
        let result = if *next == "COMPLETED" { ", result = '{\"text\": \"x\"}'" } else { "" };
        let id = &self.all[*at].0;
        let change = format!("UPDATE job SET state = '{next}', assigned_miner_id = 'm'{result} WHERE id = '{id}'");
        sql(&server.database(), &change).await;
    }

    fn accepted(&mut self, action: &Action, accepted: &Accepted) {
        match *action {
            Action::Submit(_) => self.all.push((accepted.body.text("job_id").to_owned(), "QUEUED")),
            Action::Cancel(at) => {
                self.canceled += usize::from(self.all[at].1 != "CANCELED");
                self.all[at].1 = "CANCELED";
            }
            Action::Mine(at, next) => self.all[at].1 = next,
            Action::SubmitBadly(_) | Action::CancelNothing => panic!("{action:?} was accepted"),
        }
    }

    async fn compare(&self, server: &ApiClient) {
        let found: Vec<(String, String)> = list(server, &format!("{SERVICES}/jobs"))
            .await
            .iter()
            .rev()
            .map(|job| (job.text("job_id").to_owned(), job.text("status").to_owned()))
            .collect();
        let expected: Vec<(String, String)> =
            self.all.iter().map(|(id, state)| (id.clone(), (*state).to_owned())).collect();
        assert_eq!(found, expected);
        let rows: Vec<(String, String)> =
            queue(server).await.iter().map(|row| (row.text("id").to_owned(), row.text("state").to_owned())).collect();
        assert_eq!(rows, expected);
        // What miners end is recorded a moment later.
        let state = |state: &str| self.all.iter().filter(|(_, found)| *found == state).count();
        until("each end is on record once", async || {
            let told = audited(server, "job").await;
            assert_eq!(count(&told, "submitted"), self.all.len(), "{told:?}");
            assert_eq!(count(&told, "canceled"), self.canceled, "{told:?}");
            let ends = ["COMPLETED", "FAILED"].map(|end| (count(&told, &end.to_lowercase()), state(end)));
            assert!(ends.iter().all(|(told, expected)| told <= expected), "{told:?}");
            ends.iter().all(|(told, expected)| told == expected)
        })
        .await;
    }
}

#[tokio::test]
async fn jobs_are_as_the_model_has_them() {
    play(Jobs::default(), Server::builder()).await;
}
