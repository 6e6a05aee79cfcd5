//! The policies that are loaded, each owned by a thread of its own.

use std::{
    future::Future,
    sync::{Arc, Once},
};

use prometheus_client::registry::Registry;
use tch::TchError;

use super::{
    builtin,
    metrics::Metrics,
    model::{Decision, Error, PolicyReference},
    network::{self, Act, Evaluation, Form},
    state::ACTIONS,
    worker::{Model, Worker},
};

/// The policies that are loaded. Clones are cheap and share them; the threads end with the last clone, or at
/// [`Policies::stop`].
#[derive(Clone)]
pub struct Policies(Arc<Shared>);

struct Shared {
    policies: Vec<Arc<Policy>>,
    metrics: Metrics,
}

/// One version of one policy.
struct Policy {
    name: &'static str,
    version: u32,
    state_length: usize,
    action_names: &'static [&'static str],
    form: Form,
    worker: Worker,
}

impl Policies {
    /// Loads the built-in policy, starts its thread and warms it up. Blocks for that long, a fraction of a second.
    pub fn open() -> Result<Self, Error> {
        let metrics = Metrics::default();
        let network = network::Network::from_safetensors(builtin::BYTES)?;
        let (name, version) = (builtin::BUILTIN_NAME, builtin::BUILTIN_VERSION);
        let (form, bytes) = (network.form(), network.size());
        tracing::info!(
            policy = name,
            version,
            algorithm = form.algorithm,
            parameters = form.parameters,
            bytes,
            "loaded"
        );
        let policy = Policy {
            name,
            version,
            state_length: network.form().state_length,
            action_names: &ACTIONS,
            form: form.clone(),
            worker: Worker::start(Network(network), metrics.of(name, version))?,
        };
        Ok(Self(Arc::new(Shared { policies: vec![Arc::new(policy)], metrics })))
    }

    /// Adds the latency histogram and the queue depth, by policy, to what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The policy and version that `reference` names, always with its version.
    pub fn resolve(&self, reference: &PolicyReference) -> Result<PolicyReference, Error> {
        let policy = self.find(reference)?;
        Ok(PolicyReference { name: policy.name.to_owned(), version: Some(policy.version) })
    }

    /// What the policy does in `state`, greedily. `state` has the length of the policy's input and finite numbers; it is
    /// rounded to 32-bit floats. The request stands in the queue when this returns; dropping the future takes it back.
    ///
    /// # Errors
    /// [`Error::Overloaded`] at once when the queue is full, and as [`Error`] says.
    pub fn act(
        &self,
        reference: &PolicyReference,
        state: Vec<f64>,
    ) -> impl Future<Output = Result<Decision, Error>> + Send + use<> {
        let asked = self.find(reference).and_then(|policy| {
            let answer = policy.worker.ask(policy.input(&state)?)?;
            Ok((Arc::clone(policy), answer))
        });
        async move {
            let (policy, answer) = asked?;
            policy.decide(answer.await.map_err(|_| Error::Stopped)??)
        }
    }

    /// Answers what waits, then ends the threads and returns when they have ended. Later requests get [`Error::Stopped`].
    pub fn stop(&self) {
        self.0.policies.iter().for_each(|policy| policy.worker.stop());
    }

    fn find(&self, reference: &PolicyReference) -> Result<&Arc<Policy>, Error> {
        let named = || self.0.policies.iter().filter(|policy| policy.name == reference.name);
        match reference.version {
            None => named().max_by_key(|policy| policy.version),
            Some(version) => named().find(|policy| policy.version == version),
        }
        .ok_or_else(|| match reference.version {
            Some(version) if named().next().is_some() => {
                Error::UnknownVersion { name: reference.name.clone(), version }
            }
            _ => Error::UnknownPolicy(reference.name.clone()),
        })
    }
}

impl Policy {
    fn input(&self, state: &[f64]) -> Result<Vec<f32>, Error> {
        if state.len() != self.state_length {
            return Err(Error::Dimension { expected: self.state_length, got: state.len() });
        }
        let input: Vec<f32> = state.iter().map(|number| *number as f32).collect();
        match input.iter().position(|number| !number.is_finite()) {
            Some(position) => Err(Error::NotFinite { position }),
            None => Ok(input),
        }
    }

    fn decide(&self, evaluation: Evaluation) -> Result<Decision, Error> {
        if !evaluation.is_finite() {
            return Err(Error::Overflow);
        }
        let (Act::Discrete(action), Evaluation::Probabilities { probabilities, value }) =
            (self.form.greedy(&evaluation), evaluation)
        else {
            return Err(Error::Runtime("it is not a PPO policy".to_owned()));
        };
        Ok(Decision {
            policy: format!("{}@{}", self.name, self.version),
            action,
            action_name: self.action_names[action].to_owned(),
            probabilities: probabilities.into_iter().map(f64::from).collect(),
            value: f64::from(value),
        })
    }
}

struct Network(network::Network);

impl Model for Network {
    fn prepare(&mut self) -> Result<(), Error> {
        // libtorch refuses to be told of its pool between operations a second time.
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tch::set_num_interop_threads(1));
        // Threads inside one operation cost these small matrices more than they save. OpenMP keeps this by thread.
        tch::set_num_threads(1);
        let torch = |error: TchError| Error::Runtime(error.to_string());
        if self.0.settle().map_err(torch)? {
            tracing::warn!("this processor's matrix kernel is not the same for each row: one state at a time");
        }
        Ok(())
    }

    fn evaluate(&mut self, states: &[Vec<f32>]) -> Result<Vec<Evaluation>, Error> {
        self.0.evaluate(&states.concat(), true).map_err(|error: TchError| Error::Runtime(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    fn reference(text: &str) -> PolicyReference {
        text.parse().unwrap()
    }

    fn states(count: usize) -> Vec<Vec<f64>> {
        (0..count).map(|row| (0..9).map(|column| ((row * 9 + column) as f64 * 0.7).sin() * 3.0).collect()).collect()
    }

    #[tokio::test]
    async fn the_built_in_policy_answers() {
        let policies = Policies::open().unwrap();
        for name in ["marketplace-ppo", "marketplace-ppo@1"] {
            let decision = policies.act(&reference(name), vec![0.5; 9]).await.unwrap();
            assert_eq!(decision.policy, "marketplace-ppo@1");
            assert_eq!(decision.probabilities.len(), 4);
            assert!((decision.probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6);
            assert!(decision.probabilities.iter().all(|p| *p <= decision.probabilities[decision.action]));
            assert_eq!(decision.action_name, ACTIONS[decision.action]);
        }
        assert_eq!(policies.resolve(&reference("marketplace-ppo")).unwrap(), reference("marketplace-ppo@1"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn the_same_state_gets_the_same_bits_alone_and_in_a_crowd() {
        let policies = Policies::open().unwrap();
        let reference = reference("marketplace-ppo");
        let mut alone = Vec::new();
        for state in states(200) {
            alone.push(policies.act(&reference, state).await.unwrap());
        }
        let crowd = join_all(states(200).into_iter().map(|state| tokio::spawn(policies.act(&reference, state)))).await;
        let crowd: Vec<_> = crowd.into_iter().map(|answer| answer.unwrap().unwrap()).collect();
        assert_eq!(crowd, alone);
    }

    #[tokio::test]
    async fn what_cannot_be_answered_says_why() {
        let policies = Policies::open().unwrap();
        let act = |name: &str, state: Vec<f64>| policies.act(&reference(name), state);
        assert_eq!(act("nobody", vec![0.0; 9]).await, Err(Error::UnknownPolicy("nobody".into())));
        let missing = Error::UnknownVersion { name: "marketplace-ppo".into(), version: 2 };
        assert_eq!(act("marketplace-ppo@2", vec![0.0; 9]).await, Err(missing));
        for got in [0, 8, 10] {
            assert_eq!(act("marketplace-ppo", vec![0.0; got]).await, Err(Error::Dimension { expected: 9, got }));
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e39] {
            let mut state = vec![0.0; 9];
            state[7] = bad;
            assert_eq!(act("marketplace-ppo", state).await, Err(Error::NotFinite { position: 7 }));
        }
        let overflown = Evaluation::Probabilities { probabilities: vec![f32::NAN; 4], value: 0.0 };
        assert_eq!(policies.find(&reference("marketplace-ppo")).unwrap().decide(overflown), Err(Error::Overflow));
    }

    #[tokio::test]
    async fn a_stopped_room_refuses_and_metrics_have_counted() {
        let policies = Policies::open().unwrap();
        let mut registry = Registry::default();
        policies.register(&mut registry);
        policies.act(&reference("marketplace-ppo"), vec![0.0; 9]).await.unwrap();
        policies.clone().stop();
        assert_eq!(policies.act(&reference("marketplace-ppo"), vec![0.0; 9]).await, Err(Error::Stopped));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("rl_act_duration_seconds_count{policy=\"marketplace-ppo@1\"} 1"), "{text}");
        assert!(text.contains("rl_act_waiting{policy=\"marketplace-ppo@1\"} 0"), "{text}");
    }
}
