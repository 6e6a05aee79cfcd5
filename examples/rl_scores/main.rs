//! Measures what the training algorithms reach, and writes docs/RL.md from what was measured. `make rl-scores` runs all of
//! it; each part can be run by itself:
//!
//! ```text
//! rl_scores train --results FILE [ROW...]   trains rows of the table, and keeps what they reached
//! rl_scores try PLAN                        trains a plan, given as JSON, and prints its median
//! rl_scores speed ROW STEPS                 prints steps a second of a row's training, as JSON
//! rl_scores speeds --results FILE           keeps such lines, from the standard input
//! rl_scores page --results FILE             writes docs/RL.md's tables and docs/rl/*.svg from it, without training
//! rl_scores plan ROW                        prints a row's settings in full
//! ```

mod chart;
mod page;
mod record;
mod rows;
mod run;

use std::{
    error::Error,
    io::{Write, stdin, stdout},
    path::PathBuf,
};

use am_rl::training::TrainingPlan;
use clap::{Parser, Subcommand};

use crate::record::Results;

#[derive(Parser)]
struct Command {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Train rows, three seeds each, and keep what they reached.
    Train {
        /// Where results lie; rows that it has already and that aren't trained now stay.
        #[arg(long)]
        results: PathBuf,
        /// Which ones: beginnings of their names. All, if none is given.
        rows: Vec<String>,
    },
    /// Train a plan given as JSON with each seed, and print what it reached: for finding settings.
    Try {
        /// The plan, as training runs take it.
        plan: String,
    },
    /// Print steps a second of a row's training, as JSON.
    Speed {
        /// The row.
        row: String,
        /// Steps that are measured, after the first part has been.
        steps: u64,
    },
    /// Keep measured speeds, read from the standard input, in place of those that there were.
    Speeds {
        /// Where results lie.
        #[arg(long)]
        results: PathBuf,
    },
    /// Write the page and its pictures.
    Page {
        /// Where results lie.
        #[arg(long)]
        results: PathBuf,
    },
    /// Print a row's settings in full.
    Plan {
        /// The row.
        row: String,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    am_rl::keep_freed_memory();
    match Command::parse().part {
        Part::Train { results, rows } => {
            let mut kept = Results::read(&results)?;
            for row in rows::rows().iter().filter(|row| rows.is_empty() || rows.iter().any(|name| row.is(name))) {
                kept.rows.insert(row.name.clone(), run::train(&row.name, &row.plan(rows::SEEDS[0])?)?);
                kept.hardware = record::hardware()?;
                kept.write(&results)?;
            }
        }
        Part::Try { plan } => {
            let plan = serde_json::from_str::<TrainingPlan>(&plan)?;
            writeln!(stdout(), "{:.3}", run::train("try", &plan)?.median())?;
        }
        Part::Speed { row, steps } => {
            let measured = run::speed(&rows::named(&row)?, steps)?;
            writeln!(stdout(), "{}", serde_json::to_string(&measured)?)?;
        }
        Part::Speeds { results } => {
            let mut kept = Results::read(&results)?;
            let lines: Result<Vec<_>, _> = stdin().lines().collect();
            let measured: Result<_, _> = lines?.iter().map(|line| serde_json::from_str(line)).collect();
            kept.speed = measured?;
            kept.write(&results)?;
        }
        Part::Page { results } => page::write(&Results::read(&results)?)?,
        Part::Plan { row } => {
            let plan = rows::named(&row)?.plan(rows::SEEDS[0])?.whole()?;
            writeln!(stdout(), "{}", serde_json::to_string(&plan)?)?;
        }
    }
    Ok(())
}
