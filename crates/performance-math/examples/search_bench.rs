//! Searches three test functions with the tree-structured Parzen estimator, for `benches/search/peer.py`: prints one line of JSON with
//! the regret of each seed and the time that a trial takes.
//!
//! `search_bench TRIALS SEEDS`

use std::{
    io::{self, Write as _},
    time::Instant,
};

use am_performance_math::search::{SearchDimension, SearchSpace, TpeSearch};

/// A test function: its name, its bounds, its minimum.
struct TestFunction {
    name: &'static str,
    bounds: &'static [(f64, f64)],
    least: f64,
    value: fn(&[f64]) -> f64,
}

fn branin(at: &[f64]) -> f64 {
    let pi = std::f64::consts::PI;
    let (x, y) = (at[0], at[1]);
    let square = y - 5.1 / (4.0 * pi * pi) * x * x + 5.0 / pi * x - 6.0;
    square * square + 10.0 * (1.0 - 1.0 / (8.0 * pi)) * x.cos() + 10.0
}

fn rosenbrock(at: &[f64]) -> f64 {
    at.windows(2).map(|pair| 100.0 * (pair[1] - pair[0] * pair[0]).powi(2) + (1.0 - pair[0]).powi(2)).sum()
}

fn hartmann6(at: &[f64]) -> f64 {
    const ALPHA: [f64; 4] = [1.0, 1.2, 3.0, 3.2];
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ];
    let term = |row: usize| {
        let inner: f64 = (0..6).map(|at_of| A[row][at_of] * (at[at_of] - P[row][at_of]).powi(2)).sum();
        ALPHA[row] * (-inner).exp()
    };
    -(0..4).map(term).sum::<f64>()
}

const FUNCTIONS: [TestFunction; 3] = [
    TestFunction { name: "Branin", bounds: &[(-5.0, 10.0), (0.0, 15.0)], least: 0.397_887_357_729_738, value: branin },
    TestFunction { name: "Rosenbrock, 4 dimensions", bounds: &[(-2.0, 2.0); 4], least: 0.0, value: rosenbrock },
    TestFunction {
        name: "Hartmann, 6 dimensions",
        bounds: &[(0.0, 1.0); 6],
        least: -3.322_368_011_415_515,
        value: hartmann6,
    },
];

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let (trials, seeds) = (arguments.next().unwrap_or(100), arguments.next().unwrap_or(50));
    let mut lines = Vec::new();
    for function in &FUNCTIONS {
        let dimension = |(at, (low, high)): (usize, &(f64, f64))| {
            (format!("x{at}"), SearchDimension::Float { low: *low, high: *high, log: false })
        };
        let space = SearchSpace { dimensions: function.bounds.iter().enumerate().map(dimension).collect() };
        let began = Instant::now();
        let regrets: Vec<String> = (0..seeds)
            .map(|seed| {
                let mut search = TpeSearch::new(space.clone(), seed as u64);
                for _ in 0..trials {
                    let point = search.suggest();
                    let loss = (function.value)(&point);
                    search.tell(point, loss);
                }
                let best = search.best().and_then(|trial| trial.loss).unwrap_or(f64::INFINITY);
                format!("{}", best - function.least)
            })
            .collect();
        let seconds = began.elapsed().as_secs_f64() / (trials * seeds) as f64;
        lines.push(format!(
            r#"{{"name": "{}", "regrets": [{}], "seconds": {seconds}}}"#,
            function.name,
            regrets.join(", ")
        ));
    }
    writeln!(io::stdout(), "[{}]", lines.join(", "))
}
