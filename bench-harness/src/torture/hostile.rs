//! Hostile clients: programs in Python, so that what attacks shares no code with what is attacked.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::arena::{Arena, TUNNEL};
use super::traffic::last_json;
use super::trial::{Trial, not_run};
use crate::lab::{Process, Program};

/// A hostile client under way.
pub(super) struct Hostile {
    name: String,
    process: Process,
}

impl Hostile {
    /// Starts a client in a pod, where it leaves the processors to whoever else wants them. It is told the tunnel port of the pod `server` and the files of a
    /// workload of the mesh called `probe`.
    pub(super) fn start(
        arena: &Arena,
        trial: &Trial<'_>,
        (pod, name): (&str, &str),
        script: &str,
        arguments: &[&str],
    ) -> Result<Hostile> {
        let target = arena.address("server", TUNNEL).to_string();
        let arguments = [&["--target", &target], arguments].concat();
        Hostile::start_as("probe", arena, trial, (pod, name), script, &arguments)
    }

    /// Starts a server in a pod: it listens there as the workload of this name.
    pub(super) fn serve(
        arena: &Arena,
        trial: &Trial<'_>,
        (pod, name): (&str, &str),
        script: &str,
        listen: SocketAddr,
        arguments: &[&str],
    ) -> Result<Hostile> {
        let listen = listen.to_string();
        let arguments = [&["--listen", &listen], arguments].concat();
        Hostile::start_as(name, arena, trial, (pod, name), script, &arguments)
    }

    fn start_as(
        account: &str,
        arena: &Arena,
        trial: &Trial<'_>,
        (pod, name): (&str, &str),
        script: &str,
        arguments: &[&str],
    ) -> Result<Hostile> {
        let python = trial.settings.python.as_ref().ok_or_else(|| {
            not_run("the hostile program needs Python and its packages; scripts/torture makes them")
        })?;
        let files = arena.certificate(account)?;
        let client = Program::new(python)
            .argument(trial.settings.clients.join(script))
            .argument("--certificate")
            .argument(&files.certificate)
            .argument("--key")
            .argument(&files.key)
            .argument("--roots")
            .argument(&files.roots)
            .arguments(arguments)
            .environment("PYTHONDONTWRITEBYTECODE", "1");
        let process = arena.lab.start(pod, name, &client.yielding())?;
        Ok(Hostile { name: name.to_owned(), process })
    }

    /// Waits until it says `text`.
    pub(super) fn wait_for(&mut self, text: &str, patience: Duration) -> Result<()> {
        self.process.wait_for_log(text, patience)
    }

    /// Whether it is still under way.
    pub(super) fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Waits for its end and reads the line of JSON it ends with.
    pub(super) fn finish(self, trial: &Trial<'_>, patience: Duration) -> Result<Value> {
        self.finish_while(trial, patience, || Ok(()))
    }

    /// As [`Hostile::finish`], and does something every few milliseconds until then.
    pub(super) fn finish_while(
        mut self,
        trial: &Trial<'_>,
        patience: Duration,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<Value> {
        let began = Instant::now();
        while self.process.is_running() {
            meanwhile()?;
            trial.sleep(Duration::from_millis(10))?;
            ensure!(began.elapsed() < patience, "{} still runs after {patience:?}", self.name);
        }
        let status = self.process.wait(patience)?;
        let log = self.process.log();
        let from = log.len().saturating_sub(400);
        let end = log.get(from..).unwrap_or(&log);
        ensure!(status.success(), "{} failed ({status}): {end}", self.name);
        last_json(&log).with_context(|| format!("{} told nothing: {end}", self.name))
    }
}
