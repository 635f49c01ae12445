//! How the program ends: exit codes after `sysexits.h`, and errors that say what to do next.

use std::io::IsTerminal;
use std::process::ExitCode;

use ringway_control::source::Diagnostics;

/// The exit codes scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// It did not work.
    Failed = 1,
    /// There is no answer yet: too little was seen.
    #[cfg(feature = "waypoint")]
    Undecided = 2,
    /// The command line is wrong.
    Usage = 64,
    /// The configuration or another input is wrong.
    Data = 65,
    /// Something that is needed is missing: a certificate authority, a file.
    Unavailable = 69,
    /// The system has no more memory for it.
    System = ringway_control::run::memory::EXIT as isize,
    /// The process is not allowed to.
    Permission = 77,
    /// Somebody interrupted it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are the codes, all below 256.
        ExitCode::from(exit as u8)
    }
}

/// Why a verb failed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    /// The message is a report of its own and needs no `error:` before it.
    is_report: bool,
    next: Option<String>,
}

impl Failure {
    /// A failure whose message says itself what to do.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), is_report: false, next: None }
    }

    /// Every mistake of a configuration, and how it is checked.
    pub(crate) fn configuration(mistakes: &Diagnostics) -> Self {
        Self::mistakes(mistakes).next(
            "correct the places above; `ringway validate` checks them without starting anything",
        )
    }

    /// Every mistake of a configuration.
    pub(crate) fn mistakes(mistakes: &Diagnostics) -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let message = if colour { mistakes.coloured().to_string() } else { mistakes.to_string() };
        Self { exit: Exit::Data, message, is_report: true, next: None }
    }

    /// Says what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Tells it on standard error.
    pub(crate) fn report(self) -> ExitCode {
        let message = self.message.trim_end();
        if self.is_report {
            eprintln!("{message}");
        } else {
            eprintln!("error: {message}");
        }
        if let Some(next) = &self.next {
            eprintln!("next: {next}");
        }
        self.exit.into()
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}
