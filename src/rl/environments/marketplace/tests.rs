use super::*;

fn report<const N: usize, M: Market<N>>() where [usize; N]: Serialize + DeserializeOwned {
    let begun = std::time::Instant::now();
    let overrides = std::env::var("P").unwrap_or("{}".into());
    if std::env::var("ENV").is_ok_and(|n| n != M::NAME) { return }
    let played = Played::<N, M>(M::new(serde_json::from_str(&overrides).unwrap()));
    let process = played.process();
    let built = begun.elapsed();
    let optimum = process.optimum();
    let percent = |value: f64| format!("{:.1} ({:.1} %)", value, 100.0 * value / optimum);
    println!("{}: optimum {optimum:.2}, random {}, myopic {}, stationary {}", M::NAME, percent(process.value_of(&process.random())), percent(process.value_of(&process.myopic())), percent(process.value_of(&process.stationary(0.99))));
    println!("  stationary 0.95 {} 0.9 {}", percent(process.value_of(&process.stationary(0.95))), percent(process.value_of(&process.stationary(0.9))));
    for action in 0..4 {
        println!("  {}: {}", ACTIONS[action], percent(process.value_of(&process.constant(action))));
    }
    // how the good policy acts
    let good = process.stationary(0.99);
    let mut counts = [0.0; 4];
    let mut occupancy = vec![0.0; process_states(&process)];
    process.start.iter().for_each(|(s, p)| occupancy[*s] += p);
    let mut digit_means = vec![std::collections::BTreeMap::<usize, f64>::new(); N];
    for _ in 0..M::HORIZON {
        let mut next = vec![0.0; occupancy.len()];
        for (s, mass) in occupancy.iter().enumerate() {
            if *mass == 0.0 { continue }
            let a = best(&good[s * 4..s * 4 + 4]);
            counts[a] += mass / f64::from(M::HORIZON);
            for (d, v) in digits(M::SHAPE, s).into_iter().enumerate() { *digit_means[d].entry(v).or_default() += mass / f64::from(M::HORIZON); }
            for b in &process.branches[process.offsets[s * 4 + a]..process.offsets[s * 4 + a + 1]] {
                next[b.next as usize] += mass * b.probability;
            }
        }
        occupancy = next;
    }
    let plan = process.plan();
    let mut g = <Generator as rand::SeedableRng>::seed_from_u64(1);
    let (mut sum, mut sq) = (0.0f64, 0.0f64);
    for _ in 0..2000 {
        let mut st = played.begin(&mut g);
        let mut total = 0.0;
        for step in 0..M::HORIZON {
            let a = plan[step as usize * process_states(&process) + index(M::SHAPE, st)];
            total += played.advance(&mut st, step, Action::Discrete(a as usize), &mut g).0;
        }
        sum += total; sq += total * total;
    }
    let mean = sum / 2000.0;
    println!("  simulated {mean:.2} sd {:.2}", (sq / 2000.0 - mean * mean).sqrt());
    println!("  actions {counts:.2?}");
    for d in &digit_means { println!("  {:?}", d.iter().map(|(k, v)| format!("{k}:{v:.2}")).collect::<Vec<_>>().join(" ")); }
    println!("  {} states, {} branches, built in {built:?}, all in {:?}", process_states(&process), process.branches.len(), begun.elapsed());
}
fn process_states(p: &Process) -> usize { p.rewards.len() / 4 }
use super::super::mdp::best;

#[test]
fn report_all() {
    report::<4, Trading>();
    report::<5, Resources>();
    report::<5, Prices>();
    report::<5, Services>();
    report::<5, Negotiations>();
    report::<5, Portfolio>();
}
