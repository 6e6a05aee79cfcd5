use std::collections::HashSet;

use rand::SeedableRng;
use serde_json::{Map, json};

use super::{
    super::{EnvironmentStep, make_environment},
    *,
};

/// So many episodes are simulated, each of a hundred steps or two.
const EPISODES: u32 = 300;
const SEED: u64 = 20;

fn played<const N: usize, M: MarketModel<N>>(parameters: &Value) -> MarketDynamics<N, M> {
    MarketDynamics::new(M::new(M::Parameters::read(Some(parameters)).unwrap()))
}

/// Whatever happens has a probability, and one of them happens; with the defaults in every state, and with each parameter
/// at its least and its most in some.
fn outcomes_have_probabilities<const N: usize, M: MarketModel<N>>() {
    let mut all = vec![(json!({}), 1)];
    for parameter in M::Parameters::default().describe() {
        all.extend([parameter.low, parameter.high].map(|value| (json!({parameter.name: value}), 61)));
    }
    println!("{}", M::NAME);
    for (parameters, every) in all {
        let market = played::<N, M>(&parameters).market;
        let whole = |sum: f64| assert!((sum - 1.0).abs() < 1e-12, "{parameters}: {sum}");
        let likely = |probability: f64| assert!((0.0..=1.0).contains(&probability), "{parameters}: {probability}");
        let mut sum = 0.0;
        market.start(&mut |probability, _| {
            likely(probability);
            sum += probability;
        });
        whole(sum);
        for state in (0..M::STATE_SHAPE.iter().product()).step_by(every) {
            for action in MARKET_ACTIONS {
                let mut sum = 0.0;
                market.outcomes(state_from_index(M::STATE_SHAPE, state), action, &mut |probability, next, reward| {
                    likely(probability);
                    assert!(reward.is_finite(), "{parameters}: {reward}");
                    assert!(next.iter().zip(M::STATE_SHAPE).all(|(digit, values)| *digit < values), "{next:?}");
                    sum += probability;
                });
                whole(sum);
            }
        }
    }
}

/// The mean of `EPISODES` returns, and its standard error.
fn mean_and_error(returns: impl Iterator<Item = f64>) -> (f64, f64) {
    let (sum, squares) = returns.fold((0.0, 0.0), |(sum, squares), one| (sum + one, squares + one * one));
    let mean = sum / f64::from(EPISODES);
    (mean, ((squares / f64::from(EPISODES) - mean * mean) / f64::from(EPISODES - 1)).sqrt())
}

/// What is simulated is what was computed: the optimal plan's episodes return the optimum in the mean.
fn the_optimum_is_right<const N: usize, M: MarketModel<N>>()
where
    [usize; N]: Serialize + DeserializeOwned,
{
    let played = played::<N, M>(&json!({}));
    let process = played.process();
    let (plan, states) = (process.plan(), M::STATE_SHAPE.iter().product::<usize>());
    let mut generator = EnvironmentRng::seed_from_u64(SEED);
    let returns = (0..EPISODES).map(|_| {
        let (mut state, mut total) = (played.begin(&mut generator), 0.0);
        for step in 0..M::HORIZON {
            let action = plan[step as usize * states + state_index(M::STATE_SHAPE, state)];
            total += played.advance(&mut state, step, EnvironmentAction::Discrete(action.into()), &mut generator).0;
        }
        total
    });
    let (mean, error) = mean_and_error(returns);
    let reference = reference_returns(&process);
    println!("seed {SEED}: {mean:.3} +- {error:.3}, computed {:.3}", reference.optimum);
    assert!((mean - reference.optimum).abs() < 4.0 * error);
    println!("{}: {reference:.2?}", M::NAME);
    looking_ahead_pays(&process, &reference);
}

/// There is something to learn, and it can be learned by a policy that doesn't see the step's number.
fn looking_ahead_pays(process: &MarkovProcess, reference: &ReferenceReturns) {
    let ReferenceReturns { optimum, random, myopic, constant, .. } = *reference;
    assert!(optimum > 0.0);
    assert!(random.max(myopic).max(constant) <= 0.92 * optimum);
    let stationary = process.value_of(&process.stationary_policy(0.99));
    println!("without a clock {stationary:.2}");
    assert!((0.97 * optimum..=optimum).contains(&stationary));
}

/// Each state looks different, and within the bounds.
fn states_can_be_told_apart<const N: usize, M: MarketModel<N>>()
where
    [usize; N]: Serialize + DeserializeOwned,
{
    let played = played::<N, M>(&json!({}));
    println!("{}", M::NAME);
    let states = M::STATE_SHAPE.iter().product();
    let mut seen = HashSet::new();
    for state in 0..states {
        let mut observation = [f32::NAN; FEATURE_NAMES.len()];
        played.observe(&state_from_index(M::STATE_SHAPE, state), 0, &mut observation);
        assert!(observation.iter().all(|number| (-MAX_FEATURE..=MAX_FEATURE).contains(number)), "{observation:?}");
        seen.insert(observation.map(f32::to_bits));
        assert_eq!(state_index(M::STATE_SHAPE, state_from_index(M::STATE_SHAPE, state)), state);
    }
    assert_eq!(seen.len(), states);
}

fn step(environment: &mut dyn Environment, action: usize) -> (EnvironmentStep, [f32; FEATURE_NAMES.len()]) {
    let outcome = environment.step(EnvironmentAction::Discrete(action));
    let mut observation = [0.0; FEATURE_NAMES.len()];
    environment.observe(&mut observation);
    if outcome.truncated {
        environment.reset(None);
    }
    (outcome, observation)
}

/// An environment restored from a snapshot that went through text goes on as the other does, beyond the episode's end.
fn it_goes_on_from_a_snapshot<const N: usize, M: MarketModel<N>>() {
    let name = M::NAME;
    println!("{name}");
    let mut one = make_environment(name, None).unwrap();
    one.reset(Some(SEED));
    for number in 0..37 {
        step(one.as_mut(), number % 3);
    }
    let text = one.snapshot().to_string();
    let mut other = make_environment(name, None).unwrap();
    other.restore(&serde_json::from_str(&text).unwrap()).unwrap();
    for number in 0..300 {
        let (outcome, observation) = step(one.as_mut(), number % 4);
        assert!(outcome.reward.is_finite() && !outcome.terminated);
        assert_eq!((outcome, observation), step(other.as_mut(), number % 4), "step {number}");
    }
    assert_eq!(one.snapshot(), other.snapshot());

    let mut spoilt: Value = serde_json::from_str(&text).unwrap();
    spoilt["state"][0] = json!(1000);
    assert!(other.restore(&spoilt).is_err(), "a state that there is not");
    let first = one.parameters()[0].clone();
    let mut changed = make_environment(name, Some(&json!({first.name: first.high}))).unwrap();
    assert!(changed.restore(&one.snapshot()).is_err(), "a snapshot of other laws");
}

fn parameters_are_refused_by_name<const N: usize, M: MarketModel<N>>() {
    let name = M::NAME;
    let with = |parameters: Value| make_environment(name, Some(&parameters));
    let refused = |parameters: Value| with(parameters).err().unwrap().to_string();
    let all = make_environment(name, None).unwrap().parameters();
    for EnvironmentParameter { name: one, low, high, default, value, meaning } in &all {
        assert!((low..=high).contains(&default) && value == default && !meaning.is_empty(), "{one}");
        for wrong in [low - 1e-3, high * 1.001] {
            let expected = format!("parameters of '{name}': {one} is {wrong}: {low} to {high} is needed");
            assert_eq!(refused(json!({*one: wrong})), expected);
        }
        let expected = format!("parameters of '{name}': {one} is \"1\": a number is needed");
        assert_eq!(refused(json!({*one: "1"})), expected);
        let made = with(json!({*one: high})).unwrap().parameters();
        assert!(made.iter().zip(&all).all(|(made, was)| (made == was) == (made.name != *one || high == default)));
    }
    assert!(refused(json!({"prize": 1})).contains("unknown field `prize`"));
    assert_eq!(refused(json!([1])), format!("parameters of '{name}': they are an object of numbers by name"));
    let given: Map<_, _> = all.iter().map(|one| (one.name.to_owned(), json!(one.value))).collect();
    assert_eq!(with(Value::Object(given)).unwrap().snapshot(), make_environment(name, None).unwrap().snapshot());
}

/// Cheaper than the rival: up; dearer: down; else as it is.
fn follow(observation: &[f32]) -> usize {
    // Both prices are on one ladder, of which the rival's rungs leave out the ends.
    let (price, rival) = (observation[0] * 3.0 / MAX_FEATURE, observation[4] * 2.0 / MAX_FEATURE);
    if price < rival - 0.5 {
        0
    } else if price > rival + 0.5 {
        1
    } else {
        2
    }
}

#[test]
fn a_policys_expected_return_is_what_it_gets() {
    let mut market = make_environment("price_optimization", None).unwrap();
    let width = FEATURE_NAMES.len();
    let expected = market.expected_return(&mut |observations| {
        let row = |taken| (0..ACTION_NAMES.len()).map(move |action| f64::from(action == taken));
        observations.chunks(width).flat_map(|observation| row(follow(observation))).collect()
    });
    let expected = expected.unwrap();
    market.reset(Some(SEED));
    let returns = (0..EPISODES).map(|_| {
        let mut total = 0.0;
        loop {
            let mut observation = [0.0; FEATURE_NAMES.len()];
            market.observe(&mut observation);
            let outcome = market.step(EnvironmentAction::Discrete(follow(&observation)));
            total += outcome.reward;
            if outcome.truncated {
                market.reset(None);
                return total;
            }
        }
    });
    let (mean, error) = mean_and_error(returns);
    println!("seed {SEED}: {mean:.3} +- {error:.3}, computed {expected:.3}");
    assert!((mean - expected).abs() < 4.0 * error);

    let always = |action| move |all: &[f32]| (0..all.len() / 9 * 4).map(|pair| f64::from(pair % 4 == action)).collect();
    let ReferenceReturns { constant, constant_action, .. } = market.reference().unwrap();
    let action = ACTION_NAMES.iter().position(|name| *name == constant_action).unwrap();
    assert_eq!(market.expected_return(&mut always(action)), Some(constant));
    assert_eq!(market.expected_return(&mut |_| vec![1.0; 4]), None);
    assert_eq!(make_environment("CartPole-v1", None).unwrap().expected_return(&mut |_| vec![]), None);
}

macro_rules! of_each_market {
    ($check:ident) => {
        $check::<4, TradingMarket>();
        $check::<5, ResourceMarket>();
        $check::<5, PricingMarket>();
        $check::<5, ServiceMarket>();
        $check::<5, NegotiationMarket>();
        $check::<5, PortfolioMarket>();
    };
}

#[test]
fn whatever_happens_has_a_probability() {
    of_each_market!(outcomes_have_probabilities);
}

#[test]
fn each_state_looks_different() {
    of_each_market!(states_can_be_told_apart);
}

#[test]
fn a_restored_market_goes_on_as_the_other_does() {
    of_each_market!(it_goes_on_from_a_snapshot);
}

#[test]
fn wrong_parameters_are_refused_by_name() {
    of_each_market!(parameters_are_refused_by_name);
}

/// A test for each, since they take a second.
mod the_optimum_is_known_and_takes_foresight {
    use super::{super::*, the_optimum_is_right};

    #[test]
    fn in_marketplace_trading() {
        the_optimum_is_right::<4, TradingMarket>();
    }

    #[test]
    fn in_resource_allocation() {
        the_optimum_is_right::<5, ResourceMarket>();
    }

    #[test]
    fn in_price_optimization() {
        the_optimum_is_right::<5, PricingMarket>();
    }

    #[test]
    fn in_service_selection() {
        the_optimum_is_right::<5, ServiceMarket>();
    }

    #[test]
    fn in_negotiation_strategy() {
        the_optimum_is_right::<5, NegotiationMarket>();
    }

    #[test]
    fn in_portfolio_management() {
        the_optimum_is_right::<5, PortfolioMarket>();
    }
}

#[test]
fn actions_are_in_the_wires_order() {
    assert_eq!(MARKET_ACTIONS.map(|one| format!("{one:?}").to_lowercase()), ACTION_NAMES);
}

#[test]
fn a_poisson_count_has_its_tail_in_the_last() {
    let [none, one, more] = poisson_probabilities(0.5);
    assert!((none - (-0.5f64).exp()).abs() < 1e-15 && (one - 0.5 * none).abs() < 1e-15);
    assert!((none + one + more - 1.0).abs() < 1e-15);
    assert_eq!(poisson_probabilities(1e6), [0.0, 0.0, 1.0]);
}

#[test]
fn a_walk_stays_at_an_end_instead_of_leaving() {
    assert_eq!(walk_transitions(1, 3, 0.25, 0.5), [(0.25, 0), (0.25, 1), (0.5, 2)]);
    assert_eq!(walk_transitions(0, 3, 0.25, 0.5), [(0.0, 0), (0.5, 0), (0.5, 1)]);
    assert_eq!(walk_transitions(2, 3, 0.25, 0.5), [(0.25, 1), (0.75, 2), (0.0, 2)]);
}

#[test]
fn levels_elsewhere_are_seen_as_those_of_the_environment() {
    let market = MarketDynamics::new(PortfolioMarket::new(PortfolioManagement::default()));
    for state in [[0, 0, 0, 0, 0], [2, 1, 2, 0, 0], [5, 2, 4, 1, 3], [3, 0, 1, 1, 2]] {
        let mut seen = vec![0.0_f32; FEATURE_NAMES.len()];
        market.observe(&state, 0, &mut seen);
        let seen: Vec<f64> = seen.into_iter().map(f64::from).collect();
        assert_eq!(PortfolioLevels(state).observation(), seen, "{state:?}");
        for (index, action) in MARKET_ACTIONS.into_iter().enumerate() {
            let mut reached = Vec::new();
            market.market.outcomes(state, action, &mut |_, next, _| reached.push(next[0]));
            reached.dedup();
            assert_eq!(PortfolioLevels(state).exposure_after(index), Some(reached[0]), "{state:?} {action:?}");
            assert_eq!(reached.len(), 1);
        }
    }
    assert_eq!(PortfolioLevels([9; 5]).exposure_after(4), None);
}
