//! Prints figures of docs/ECONOMY.md that come from simulated markets: how trust ranks honest agents beside colluding ones, and
//! how often recommendations hit. `make bench-economy` runs both.
//!
//! ```text
//! economy_figures trust             the table of colluding rings
//! economy_figures recommendations   the table of hit rates
//! ```

mod rings;
mod shoppers;

use std::{
    env::args,
    error::Error,
    io::{Write, stdout},
};

fn main() -> Result<(), Box<dyn Error>> {
    let table = match args().nth(1).as_deref() {
        Some("trust") => rings::table(),
        Some("recommendations") => shoppers::table(),
        _ => return Err("say what to print: trust or recommendations".into()),
    };
    Ok(stdout().write_all(table.as_bytes())?)
}
