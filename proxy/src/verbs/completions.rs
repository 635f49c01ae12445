//! `ringway completions`

use clap::CommandFactory;

use crate::cli::{Cli, CompletionsArguments};
use crate::exit::{Exit, Failure};
use crate::output;

/// Prints the completions of a shell.
pub(crate) fn run(arguments: &CompletionsArguments) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "ringway", &mut script);
    output::print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
