//! `ringway`: the program. The command line is read here and handed to one file per verb.

mod allocator;
mod cli;
mod exit;
mod output;
mod values;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
#[cfg(feature = "waypoint")]
use ringway_control::run::waypoint::Kind;

use crate::cli::{Cli, Verb};
use crate::exit::{Exit, Failure};

fn main() -> ExitCode {
    let arguments = cli::as_deployed(std::env::args_os());
    let matches = match Cli::command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => return usage(&error),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let done = match &cli.verb {
        Verb::Run(arguments) => {
            let given = matches.subcommand_matches("run").expect("the verb is `run`");
            verbs::run::run(arguments, given)
        }
        #[cfg(feature = "waypoint")]
        Verb::Waypoint(arguments) => {
            let given = matches.subcommand_matches("waypoint").expect("the verb is `waypoint`");
            verbs::waypoint::run(Kind::Waypoint, arguments, given)
        }
        #[cfg(feature = "waypoint")]
        Verb::Gateway(arguments) => {
            let given = matches.subcommand_matches("gateway").expect("the verb is `gateway`");
            verbs::waypoint::run(Kind::Gateway, arguments, given)
        }
        #[cfg(feature = "waypoint")]
        Verb::Canary(arguments) => verbs::canary::run(arguments),
        #[cfg(feature = "waypoint")]
        Verb::Mirrors(arguments) => verbs::mirrors::run(arguments),
        Verb::Proxy(arguments) => verbs::proxy::run(arguments),
        Verb::Handover(arguments) => verbs::handover::run(arguments),
        Verb::Validate(arguments) => verbs::validate::run(arguments),
        Verb::Import(arguments) => verbs::import::run(arguments),
        Verb::Authorize(arguments) => verbs::authorize::run(arguments),
        Verb::Ca(arguments) => verbs::ca::run(arguments),
        Verb::Version(arguments) => verbs::version::run(arguments),
        Verb::Completions(arguments) => verbs::completions::run(arguments),
        Verb::Help => return help(),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(),
    }
}

fn help() -> ExitCode {
    // Nothing to do for an answer nobody reads.
    let _ = Cli::command().print_long_help();
    Exit::Ok.into()
}

/// Help and version are answers; anything else is a mistake in the command line.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing to do for an answer nobody reads.
    let _ = error.print();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => {
            Exit::Ok.into()
        }
        _ => Exit::Usage.into(),
    }
}

impl From<ringway_control::run::RunError> for Failure {
    fn from(error: ringway_control::run::RunError) -> Self {
        use ringway_control::run::RunError;
        let exit = match &error {
            RunError::Configuration(_) | RunError::LogLevel(_) | RunError::Revocation(_) => {
                Exit::Data
            }
            #[cfg(feature = "waypoint")]
            RunError::Routes(_) => Exit::Data,
            RunError::Override(_) => Exit::Usage,
            RunError::Privileges(_) | RunError::Hardening { .. } => Exit::Permission,
            RunError::Authority(_)
            | RunError::Engine(_)
            | RunError::Listen { .. }
            | RunError::HandOver(_)
            | RunError::System(_) => Exit::Failed,
            RunError::Memory(_) => Exit::System,
        };
        match error {
            RunError::Configuration(mistakes) => Failure::configuration(&mistakes),
            other => Failure::new(exit, other.to_string()),
        }
    }
}
