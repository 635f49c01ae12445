//! The demonstration: a bookstore on two hosts, first without a mesh, then with Ringway, while the
//! applications run on and notice nothing.

mod bookstore;
mod client;
mod control_plane;
mod plot;
mod rights;
mod stage;
mod story;
mod table;
mod waypoint;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use self::stage::Stage;
use self::story::Story;
use crate::stop::stop_flag;

/// How to show it.
#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// The program `ringway`.
    #[arg(long)]
    ringway: PathBuf,
    /// The folder with the example's configuration.
    #[arg(long)]
    example: PathBuf,
    /// The folder with the example's waypoint; without it, there is none.
    #[arg(long, value_name = "FOLDER", conflicts_with = "control_plane")]
    waypoint_example: Option<PathBuf>,
    /// Show everything once, check it, and end; the exit code tells whether all of it held.
    #[arg(long)]
    once: bool,
    /// Keep the logs of all programs in this folder.
    #[arg(long, value_name = "FOLDER")]
    logs: Option<PathBuf>,
    /// The reactor of the proxies; without it, what they choose.
    #[arg(long)]
    reactor: Option<String>,
    /// The program `ringway-test-plane`: the mesh has a control plane, and proxies take ztunnel's place.
    #[arg(long, value_name = "PROGRAM")]
    control_plane: Option<PathBuf>,
}

impl Demo {
    /// Shows it. True when everything that was to be shown held.
    pub fn run(&self) -> Result<bool> {
        let stop = stop_flag()?;
        let mut stage = Stage::build(&self.ringway, &self.example, self.reactor.as_deref())
            .context("cannot build the laboratory")?;
        if let Some(program) = &self.control_plane {
            stage.use_control_plane(program)?;
        }
        let mut story = Story::new(stop);
        let told = story.tell(&mut stage, self.waypoint_example.as_deref());
        if told.is_ok() && !self.once {
            story.watch(&stage)?;
        }
        let ended = told.and_then(|()| story.end(&mut stage));
        if let Some(folder) = &self.logs {
            stage.keep_logs(folder)?;
        }
        match ended {
            Err(error) if story.is_stopped() => {
                println!("\nStopped. ({error:#})");
                Ok(false)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(story.held()),
        }
    }
}
