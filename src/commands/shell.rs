//! Commands `completions` and `man`: what shells and `man` show of the command line.

use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

use super::CommandError;

/// Name of the program, as it is typed.
const PROGRAM: &str = "agent-management";

/// Print a shell's completions.
pub fn print_completions(mut command: Command, shell: Shell) -> Result<(), CommandError> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, PROGRAM, &mut text);
    // clap_complete 4.6.12 writes the name of a program with a dash in two ways, so that bash finds none of its commands.
    let text = String::from_utf8(text)?.replace("agent__subcmd__management", "agent__management");
    super::print_output(text.trim_end());
    Ok(())
}

/// Write a man page for each command into `directory`, or print the first one.
pub fn write_man_pages(command: Command, directory: Option<PathBuf>) -> Result<(), CommandError> {
    match directory {
        Some(directory) => {
            std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
            clap_mangen::generate_to(command, &directory)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(command).render(&mut text)?;
            super::print_output(String::from_utf8(text)?.trim_end());
        }
    }
    Ok(())
}
