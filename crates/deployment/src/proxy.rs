//! Calls to a deployment: each goes to one of its healthy instances, and waits where there is none yet.

use std::time::Duration;

use am_core::boxed;
use am_db::principal::Principal;
use bytes::Bytes;

use crate::{
    DeploymentError, DeploymentService, Result,
    balance::CallEnd,
    configs::{no_deployment, own_deployment},
};

/// Instances that may have taken one call and did not answer, at most.
const MOST_TRIES: u32 = 3;
/// Calls of one deployment that wait for an instance at most.
const MOST_HELD: u32 = 256;
/// Header of an instance's answer with the status of the execution behind it.
const EXECUTION_STATUS: &str = "x-execution-status";

/// A call to a deployment.
#[derive(Clone, Debug)]
pub struct CallRequest {
    /// Body: JSON with `inputs`.
    pub body: Bytes,
    /// Key under which the call has its effect once, if the client gave one: then it may be sent again where its fate is not known.
    pub once: Option<String>,
    /// Seconds to wait for the execution's end; `None`: the instance's default.
    pub wait: Option<f64>,
}

/// What an instance answered.
#[derive(Clone, Debug)]
pub struct CallAnswer {
    /// HTTP status code.
    pub status: u16,
    /// Body, which is JSON.
    pub body: Bytes,
    /// Name of the instance.
    pub instance_id: String,
    /// Whether an earlier call with the same key was answered so.
    pub replayed: bool,
}

/// An instance that a call goes to.
struct ChosenInstance {
    id: String,
    instance_id: String,
    is_target: bool,
    port: u16,
    token: std::sync::Arc<str>,
}

/// What became of one try.
enum TryEnd {
    Answered(CallAnswer),
    /// Nothing was sent: another instance may be asked.
    NotSent,
    /// It may have been carried out.
    Uncertain,
}

/// Counts a call as under way at its instance until it is dropped.
struct CallInFlight<'s> {
    service: &'s DeploymentService,
    deployment: &'s str,
    id: String,
    end: CallEnd,
}

impl Drop for CallInFlight<'_> {
    fn drop(&mut self) {
        let now = self.service.0.parts.clock.elapsed();
        let mut fleet = self.service.0.live.lock();
        if let Some(live) = fleet.deployments.get_mut(self.deployment)
            && live.balance.finish(&self.id, self.end, now)
        {
            self.service.0.metrics.ejections.inc();
        }
    }
}

/// Counts a call as waiting until it is dropped.
struct HeldCall<'s>(&'s DeploymentService, &'s str);

impl Drop for HeldCall<'_> {
    fn drop(&mut self) {
        if let Some(live) = self.0.0.live.lock().deployments.get_mut(self.1) {
            live.held = live.held.saturating_sub(1);
        }
    }
}

impl DeploymentService {
    /// Send a call to an instance of a deployment, and return its answer.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::Conflict`] where nothing is deployed; [`DeploymentError::Unavailable`] where no
    /// instance could take it, or one took it and did not answer.
    #[boxed]
    pub async fn invoke(&self, caller: &Principal, id: &str, call: CallRequest) -> Result<CallAnswer> {
        self.check_called(caller, id).await?;
        self.0.metrics.calls.inc();
        let (mut tried, mut uncertain): (Vec<String>, u32) = (Vec::new(), 0);
        let hold_until = self.0.parts.clock.elapsed() + self.0.parts.settings.hold;
        loop {
            let Some(chosen) = self.choose(id, &tried) else {
                // The next look knows which of those that could not be reached are gone, and which came in their place.
                match self.hold(id, hold_until).await {
                    Ok(()) => tried.clear(),
                    Err(_) if !tried.is_empty() => {
                        self.0.metrics.failed_calls.inc();
                        let text = "The instances that were asked could not be reached".to_owned();
                        return Err(DeploymentError::Unavailable("instances_unreachable", text));
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            let name = chosen.id.clone();
            match self.try_one(id, chosen, &call).await {
                TryEnd::Answered(answer) => return Ok(answer),
                end => {
                    tried.push(name);
                    let unsent = matches!(end, TryEnd::NotSent);
                    uncertain += u32::from(!unsent);
                    if !unsent && (call.once.is_none() || uncertain >= MOST_TRIES) {
                        self.0.metrics.failed_calls.inc();
                        let text =
                            "An instance took the call and did not answer; it may have been carried out".to_owned();
                        return Err(DeploymentError::Unavailable("instance_failed", text));
                    }
                    self.0.metrics.retried_calls.inc();
                }
            }
        }
    }

    /// Check that the caller may call the deployment, and that it takes calls. Asks the database for those only that are not live.
    async fn check_called(&self, caller: &Principal, id: &str) -> Result<()> {
        let known = {
            let fleet = self.0.live.lock();
            fleet.deployments.get(id).map(|live| (caller.owns(&live.owner_id), live.takes_calls))
        };
        match known {
            Some((false, _)) => Err(no_deployment(id)),
            Some((true, true)) => Ok(()),
            Some((true, false)) | None => {
                let record = own_deployment(&mut *self.db().read().await?, caller, id).await?;
                if record.live && record.document.rollout.is_some() {
                    return Ok(());
                }
                let text = format!("It is {}: there is nothing to call", record.document.status);
                Err(DeploymentError::Conflict("not_deployed", text))
            }
        }
    }

    fn choose(&self, id: &str, tried: &[String]) -> Option<ChosenInstance> {
        let draws = [(); 3].map(|()| self.0.parts.ids.fraction());
        let now = self.0.parts.clock.elapsed();
        let mut fleet = self.0.live.lock();
        let live = fleet.deployments.get_mut(id)?;
        let share = live.share;
        let (chosen, is_target) = live.balance.choose(share, draws, now, tried)?;
        let known = live.instances.get(&chosen).map(|one| (one.instance_id.clone(), one.port, one.token.clone()));
        let Some((instance_id, port, token)) = known else {
            live.balance.finish(&chosen, CallEnd::Abandoned, now);
            return None;
        };
        Some(ChosenInstance { id: chosen, instance_id, is_target, port, token })
    }

    /// Wait until where calls may go has changed.
    async fn hold(&self, id: &str, until: Duration) -> Result<()> {
        let left = until.saturating_sub(self.0.parts.clock.elapsed());
        let mut routes = self.0.routes.subscribe();
        let held = {
            let mut fleet = self.0.live.lock();
            match fleet.deployments.get_mut(id) {
                Some(live) if live.held < MOST_HELD && live.takes_calls => {
                    live.held += 1;
                    Ok(true)
                }
                Some(_) => Err(()),
                // It is not looked at yet.
                None => Ok(false),
            }
        };
        let _held = held.unwrap_or(false).then(|| HeldCall(self, id));
        if left.is_zero() || held.is_err() {
            let text = "No instance is ready to take the call; try again later".to_owned();
            return Err(DeploymentError::Unavailable("no_instance", text));
        }
        self.0.metrics.held_calls.inc();
        self.0.wake.notify_one();
        let _ = tokio::time::timeout(left, routes.changed()).await;
        Ok(())
    }

    async fn try_one(&self, deployment: &str, chosen: ChosenInstance, call: &CallRequest) -> TryEnd {
        let ChosenInstance { id, instance_id, is_target, port, token } = chosen;
        let mut under_way = CallInFlight { service: self, deployment, id: id.clone(), end: CallEnd::Abandoned };
        let begun = self.0.parts.clock.elapsed();
        let url = match call.wait {
            Some(wait) => format!("http://127.0.0.1:{port}/invoke?wait={wait}"),
            None => format!("http://127.0.0.1:{port}/invoke"),
        };
        let mut request = self
            .0
            .client
            .post(url)
            .bearer_auth(&token)
            .header("content-type", "application/json")
            .body(call.body.clone());
        if let Some(once) = &call.once {
            request = request.header("idempotency-key", once);
        }
        let done = async {
            let answer = request.send().await?;
            let said = |name: &str, word: &str| answer.headers().get(name).is_some_and(|value| value == word);
            let (failed_run, replayed) = (said(EXECUTION_STATUS, "failed"), said("idempotency-replayed", "true"));
            Ok::<_, reqwest::Error>((answer.status().as_u16(), failed_run, replayed, answer.bytes().await?))
        };
        let done = done.await;
        let took = self.0.parts.clock.elapsed().saturating_sub(begun).as_secs_f64();
        self.0.metrics.call_seconds.observe(took);
        let (end, failed, result) = match done {
            Ok((status, failed_run, replayed, body)) => {
                let down = matches!(status, 502..=504);
                let answer = CallAnswer { status, body, instance_id, replayed };
                let end = if down { CallEnd::Failed } else { CallEnd::Answered };
                (end, failed_run || status >= 500, TryEnd::Answered(answer))
            }
            Err(error) if error.is_connect() => (CallEnd::Failed, true, TryEnd::NotSent),
            Err(_) => (CallEnd::Failed, true, TryEnd::Uncertain),
        };
        under_way.end = end;
        if let Some(live) = self.0.live.lock().deployments.get_mut(deployment) {
            live.note_call(&id, is_target, failed, took);
        }
        result
    }
}
