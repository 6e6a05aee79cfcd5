//! Packs Falkenauer's classes of bin packing (`am_performance_math::packing::instances`) and prints, for each class, a row of the table in
//! docs/METHODS.md: bins by first fit, by the best of the rules, and by the whole search, each over the lower bound. The
//! optimum of triplets is the bound. Seeds are 1 to 20; `cargo run --release -p am-performance-math --example packing_bench`.

use std::{
    error::Error,
    io::{self, Write},
    time::Instant,
};

use am_performance_math::packing::{
    HostRoom, PackingEffort, PackingProblem,
    instances::{TRIPLET_BIN, UNIFORM_BIN, triplets, uniform},
    plan_packing,
};

/// Instances of each class: their seeds are 1 to this.
const INSTANCES: u64 = 20;

/// A class of instances.
struct InstanceClass {
    name: &'static str,
    bin: u64,
    items: fn(u64) -> Vec<u64>,
}

const CLASSES: [InstanceClass; 8] = [
    InstanceClass { name: "t60", bin: TRIPLET_BIN, items: |seed| triplets(20, seed) },
    InstanceClass { name: "t120", bin: TRIPLET_BIN, items: |seed| triplets(40, seed) },
    InstanceClass { name: "t249", bin: TRIPLET_BIN, items: |seed| triplets(83, seed) },
    InstanceClass { name: "t501", bin: TRIPLET_BIN, items: |seed| triplets(167, seed) },
    InstanceClass { name: "u120", bin: UNIFORM_BIN, items: |seed| uniform(120, seed) },
    InstanceClass { name: "u250", bin: UNIFORM_BIN, items: |seed| uniform(250, seed) },
    InstanceClass { name: "u500", bin: UNIFORM_BIN, items: |seed| uniform(500, seed) },
    InstanceClass { name: "u1000", bin: UNIFORM_BIN, items: |seed| uniform(1000, seed) },
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = io::stdout().lock();
    writeln!(out, "| class | bound | first fit | best rule | search | at the bound | bins above it | seconds each |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for class in &CLASSES {
        let (mut bound, mut first, mut begun, mut found, mut optimal) = (0, 0, 0, 0, 0);
        let start = Instant::now();
        for seed in 1..=INSTANCES {
            let items: Vec<[u64; 1]> = (class.items)(seed).into_iter().map(|size| [size]).collect();
            let hosts = vec![HostRoom::empty([class.bin]); items.len()];
            let effort = PackingEffort { seed, ..PackingEffort::default() };
            let plan = plan_packing(&PackingProblem { items: &items, hosts: &hosts }, &effort);
            let least = plan.bound.ok_or("the bins are too few")?.hosts_in_use;
            bound += least;
            first += plan.first_fit.hosts_in_use;
            begun += plan.begun.hosts_in_use;
            found += plan.score.hosts_in_use;
            optimal += usize::from(plan.score.hosts_in_use == least);
        }
        let share = |bins: usize| bins as f64 / bound as f64;
        writeln!(
            out,
            "| {} | {bound} | {:.4} | {:.4} | {:.4} | {optimal} of {INSTANCES} | {} | {:.3} |",
            class.name,
            share(first),
            share(begun),
            share(found),
            found - bound,
            start.elapsed().as_secs_f64() / INSTANCES as f64,
        )?;
    }
    Ok(())
}
