//! The page: its tables go between markers in docs/RL.md, so that what is written around them stays.

use std::{fmt::Write, fs, io, path::Path};

use am_rl::training::Algorithm;
use serde_json::Value;

use crate::{
    chart::{Chart, Line},
    record::{Results, Row, median},
    rows::{self, ALGORITHMS, MARKETS, SHARE},
    run::EPISODES,
};

const PAGE: &str = "docs/RL.md";
const PICTURES: &str = "docs/rl";
/// Times as many steps a second as stable-baselines3 are aimed at.
const TIMES: f64 = 2.0;

/// Write the tables and the pictures.
pub fn write(results: &Results) -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = fs::read_to_string(root.join(PAGE))?;
    let parts = [
        ("scores", scores(results)),
        ("markets", markets(results)),
        ("speed", speed(results)),
        ("settings", settings(results)),
        ("hardware", format!("Measured on: {}.", results.hardware)),
    ];
    for (name, part) in parts {
        text = put(&text, name, &part)?;
    }
    fs::write(root.join(PAGE), text)?;
    let pictures = root.join(PICTURES);
    fs::create_dir_all(&pictures)?;
    for row in rows::rows().iter().filter(|row| row.target != SHARE) {
        if let Some(reached) = results.rows.get(&row.name) {
            fs::write(pictures.join(format!("{}.svg", row.name)), classic(row, reached).svg())?;
        }
    }
    for name in MARKETS {
        if let Some(chart) = market(results, name) {
            fs::write(pictures.join(format!("{}.svg", dashed(name))), chart.svg())?;
        }
    }
    Ok(())
}

/// Put `part` between the markers of its name.
fn put(text: &str, name: &str, part: &str) -> io::Result<String> {
    let (begin, end) = (format!("<!-- measured: {name} -->\n"), "<!-- end -->");
    let missing = || io::Error::other(format!("{PAGE} has no place for '{name}'"));
    let from = text.find(&begin).ok_or_else(missing)? + begin.len();
    let to = from + text[from..].find(end).ok_or_else(missing)?;
    Ok(format!("{}\n{}\n\n{}", &text[..from], part.trim_end(), &text[to..]))
}

fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

fn of_market(results: &Results, market: &str, algorithm: &str) -> Option<(String, f64)> {
    let name = format!("{}-{}", dashed(algorithm), dashed(market));
    let row = results.rows.get(&name)?;
    Some((name, row.median()))
}

fn title(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ppo => "PPO",
        Algorithm::A2c => "A2C",
        Algorithm::RainbowDqn => "Rainbow DQN",
        Algorithm::Dqn => "DQN",
        Algorithm::Sac => "SAC",
    }
}

fn thousands(number: u64) -> String {
    let text = number.to_string();
    let groups: Vec<&str> =
        text.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(" ")
}

fn yes(reached: bool) -> &'static str {
    if reached { "yes" } else { "**no**" }
}

fn scores(results: &Results) -> String {
    let mut out =
        "| | steps | aimed at | reached | | seeds 1, 2, 3 (mean ± standard deviation of the episodes) | minutes \
                   for a seed |\n|---|---|---|---|---|---|---|\n"
            .to_owned();
    for row in rows::rows().iter().filter(|row| row.target != SHARE) {
        let Some(reached) = results.rows.get(&row.name) else { continue };
        let median_score = reached.median();
        let seeds =
            reached.seeds.iter().map(|seed| format!("{:.1} ± {:.1}", seed.evaluated.mean, seed.evaluated.deviation));
        let minutes = median(reached.seeds.iter().map(|seed| seed.seconds)) / 60.0;
        let plan = &reached.plan;
        let (algorithm, reaches) = (title(plan.algorithm), yes(median_score >= row.target));
        let (steps, seeds) = (thousands(plan.steps), seeds.collect::<Vec<_>>().join(", "));
        let (environment, target) = (&plan.environment, row.target);
        let _ = writeln!(
            out,
            "| {algorithm}, {environment} | {steps} | ≥ {target} | **{median_score:.1}** | {reaches} | {seeds} | {minutes:.1} |"
        );
    }
    let _ =
        writeln!(out, "\nThe mean return of {EPISODES} greedy episodes after training, the median of the three seeds.");
    for row in rows::rows().iter().filter(|row| row.target != SHARE && results.rows.contains_key(&row.name)) {
        let _ = writeln!(out, "\n![Returns of {0} while it trains](rl/{0}.svg)", row.name);
    }
    out
}

fn markets(results: &Results) -> String {
    let mut out =
        "| | best | of the optimum | ≥ 95 % | PPO | Rainbow DQN | SAC | optimum | greedy for the next reward | best \
                   fixed action | random |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for name in MARKETS {
        let all: Vec<_> = ALGORITHMS.iter().filter_map(|algorithm| of_market(results, name, algorithm)).collect();
        let Some((best, share)) = all.iter().max_by(|one, other| one.1.total_cmp(&other.1)) else { continue };
        let row = &results.rows[best];
        let Some(reference) = &row.reference else { continue };
        let percent = |algorithm: &str| {
            of_market(results, name, algorithm).map_or("not run".into(), |(_, share)| format!("{:.1} %", 100.0 * share))
        };
        let of = |number: f64| format!("{:.1} %", 100.0 * number / reference.optimum);
        let _ = writeln!(
            out,
            "| {name} | {} | **{:.1} %** | {} | {} | {} | {} | {:.2} | {} | {} | {} |",
            title(row.plan.algorithm),
            100.0 * share,
            yes(*share >= SHARE),
            percent("ppo"),
            percent("rainbow_dqn"),
            percent("sac"),
            reference.optimum,
            of(reference.myopic),
            of(reference.constant),
            of(reference.random),
        );
    }
    for name in MARKETS.iter().filter(|name| market(results, name).is_some()) {
        let _ = writeln!(out, "\n![Returns in {name} while it is trained on](rl/{}.svg)", dashed(name));
    }
    out
}

fn speed(results: &Results) -> String {
    let mut out =
        "| | ours, steps a second | stable-baselines3, steps a second | times | ≥ 2 |\n|---|---|---|---|---|\n"
            .to_owned();
    for row in rows::rows() {
        let of = |ours: bool| {
            let measured = results.speed.iter().filter(|one| one.row == row.name && (one.who == "ours") == ours);
            measured.map(|one| one.rate()).collect::<Vec<_>>()
        };
        let (ours, theirs) = (of(true), of(false));
        if ours.is_empty() || theirs.is_empty() {
            continue;
        }
        let list = |all: &[f64]| all.iter().map(|rate| thousands(rate.round() as u64)).collect::<Vec<_>>().join(", ");
        let middle = |all: &[f64]| median(all.iter().copied());
        let times = middle(&ours) / middle(&theirs);
        let _ = writeln!(
            out,
            "| {} | **{}** ({}) | **{}** ({}) | **{times:.2}** | {} |",
            row.name,
            thousands(middle(&ours).round() as u64),
            list(&ours),
            thousands(middle(&theirs).round() as u64),
            list(&theirs),
            yes(times >= TIMES)
        );
    }
    if let Some(other) = results.speed.iter().find(|one| one.who != "ours") {
        let _ = writeln!(out, "\nMedians of the runs in brackets, which took turns; {}.", other.who);
    }
    out
}

fn settings(results: &Results) -> String {
    let mut out = String::new();
    for row in rows::rows().iter().filter(|row| results.rows.contains_key(&row.name)) {
        let plan = &results.rows[&row.name].plan;
        let shown = plan.settings.as_ref().and_then(Value::as_object).map(|all| {
            let each = all.iter().map(|(name, value)| format!("{name} {value}"));
            each.collect::<Vec<_>>().join(", ")
        });
        let _ = writeln!(out, "- `{}` ({} steps): {}", row.name, thousands(plan.steps), shown.unwrap_or_default());
    }
    out
}

fn classic(row: &rows::Row, reached: &Row) -> Chart {
    let line = |seed: &crate::record::Seed| Line {
        name: format!("seed {}", seed.seed),
        points: seed.curve.iter().map(|(step, mean)| (*step as f64, *mean)).collect(),
    };
    Chart {
        title: format!("{}, {}", title(reached.plan.algorithm), reached.plan.environment),
        x: "environment steps",
        y: "return while training",
        lines: reached.seeds.iter().map(line).collect(),
        levels: vec![(format!("aimed at: {}", row.target), row.target)],
        least: None,
    }
}

/// Each algorithm's returns, as shares of the optimum, over its own part of the run, since runs differ in length.
fn market(results: &Results, name: &str) -> Option<Chart> {
    let mut levels = Vec::new();
    let mut lines = Vec::new();
    for algorithm in ALGORITHMS {
        let Some((row, _)) = of_market(results, name, algorithm) else { continue };
        let row = &results.rows[&row];
        let reference = row.reference.as_ref()?;
        let count = row.seeds.iter().map(|seed| seed.curve.len()).min().unwrap_or(0);
        let mean = |at: usize| {
            let sum: f64 = row.seeds.iter().map(|seed| seed.curve[at].1).sum();
            100.0 * sum / row.seeds.len() as f64 / reference.optimum
        };
        let part = |at: usize| 100.0 * row.seeds[0].curve[at].0 as f64 / row.plan.steps as f64;
        lines.push(Line {
            name: format!("{}, {} steps", title(row.plan.algorithm), thousands(row.plan.steps)),
            points: (0..count).map(|at| (part(at), mean(at))).collect(),
        });
        let next = 100.0 * reference.myopic / reference.optimum;
        levels = vec![("optimum".to_owned(), 100.0), ("greedy for the next reward".to_owned(), next)];
    }
    (!lines.is_empty()).then(|| Chart {
        title: format!("{name}, mean of three seeds"),
        x: "part of the run (%)",
        y: "return while training (% of the optimum)",
        lines,
        levels,
        least: Some(-60.0),
    })
}
