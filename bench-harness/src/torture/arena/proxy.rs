//! A proxy of one host, as it is seen from outside.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{PATIENCE, Plan};
use crate::http::get_from;
use crate::lab::{Lab, Process, wait_until};
use crate::measure;
use crate::observe::Metrics;

/// A proxy of one host.
pub(in super::super) struct Proxy {
    pub(in super::super) process: Process,
    pub(super) host: &'static str,
    started: Instant,
    ready_after: Duration,
}

/// Starts the proxy of a host.
pub(super) fn launch(plan: &Plan, lab: &Lab, host: &'static str) -> Result<Proxy> {
    let program = plan.program(lab, host);
    let started = Instant::now();
    let process = lab.start(host, &format!("ringway-{host}"), &program)?;
    Ok(Proxy { process, host, started, ready_after: Duration::MAX })
}

impl Proxy {
    /// Waits until it says that it is ready.
    pub(super) fn wait_until_ready(&mut self, lab: &Lab) -> Result<()> {
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        let place = lab.namespace(self.host);
        let process = &mut self.process;
        let waited = wait_until("the proxy is ready", PATIENCE, || {
            !process.is_running()
                || get_from(place, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
        });
        waited.with_context(|| self.tail())?;
        ensure!(self.process.is_running(), "the proxy of {} ended: {}", self.host, self.tail());
        self.ready_after = self.started.elapsed();
        Ok(())
    }

    /// From its start until it said that it was ready.
    pub(in super::super) fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// What it counts at this moment.
    pub(in super::super) fn metrics(&self, lab: &Lab) -> Result<Metrics> {
        let address = SocketAddr::from(([127, 0, 0, 1], 15020));
        let (status, text) = get_from(lab.namespace(self.host), address, "/metrics")?;
        ensure!(status == 200, "the metrics of {} answer {status}", self.host);
        Ok(Metrics::parse(&text))
    }

    /// Its processor time so far.
    pub(in super::super) fn processor_time(&self) -> Result<Duration> {
        measure::processor_time(self.process.id())
    }

    /// Its resident memory now.
    pub(in super::super) fn resident_bytes(&self) -> Result<u64> {
        Ok(measure::memory(self.process.id())?.resident_bytes)
    }

    /// Lines it has logged.
    pub(in super::super) fn log_lines(&self) -> usize {
        self.process.log().lines().count()
    }

    /// The last lines of its log.
    pub(in super::super) fn tail(&self) -> String {
        let log = self.process.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(5);
        format!("\n{} said: {}", self.host, lines[from..].join("\n"))
    }
}
