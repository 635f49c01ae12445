//! `ringway handover`: asks the running node to start its successor, and tells how it went.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_control::handover::control_socket::{self, Answer};

use crate::cli::HandoverArguments;
use crate::exit::{Exit, Failure};

/// A node answers within its own bounds for a successor's start; this is longer than all of them.
const PATIENCE: Duration = Duration::from_secs(90);

/// Hands over.
pub(crate) fn run(arguments: &HandoverArguments) -> Result<Exit, Failure> {
    let socket = socket(arguments)?;
    // The node has another working directory.
    let binary = arguments.binary.as_deref().map(absolute).transpose()?;
    let answer = control_socket::ask(&socket, binary, PATIENCE).map_err(|error| {
        if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            return nobody(&format!(
                "no such node runs here: nobody listens at {}",
                socket.display()
            ));
        }
        let message = format!("the node behind {} gave no answer: {error}", socket.display());
        Failure::new(Exit::Failed, message)
            .next("look at the node's log; it tells how hand-overs went")
    })?;
    match answer {
        Answer::HandedOver { from, to } => {
            println!("handed over: process {from} drains, process {to} serves");
            Ok(Exit::Ok)
        }
        Answer::RolledBack { why } => {
            Err(Failure::new(Exit::Failed, format!("no hand-over, {why}")))
        }
    }
}

fn socket(arguments: &HandoverArguments) -> Result<PathBuf, Failure> {
    let directory = &arguments.state_directory;
    if let Some(node) = &arguments.node {
        return Ok(control_socket::path(directory, node)?);
    }
    let mut sockets = control_socket::paths(directory).unwrap_or_default();
    match sockets.len() {
        1 => Ok(sockets.remove(0)),
        0 => Err(nobody(&format!(
            "no node runs in this network namespace: nobody listens in {}",
            directory.display()
        ))),
        many => Err(Failure::new(
            Exit::Usage,
            format!("{many} nodes run here: say which with `--node`"),
        )),
    }
}

fn nobody(message: &str) -> Failure {
    Failure::new(Exit::Unavailable, message).next(
        "start one with `ringway run`; or run this where it runs, as root or as its user, with `--state-directory` as \
         it was told",
    )
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path)?;
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(Exit::Unavailable, format!("{} is no file", path.display())))
}
