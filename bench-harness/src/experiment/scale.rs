//! What it costs a proxy to know a mesh, and how soon it acts on a change of it.
//!
//! The client's side alone is started with a mesh of so many workloads, one service for every 25. Read
//! are the time until it says it is ready, what it holds then ([`SETTLE_SECONDS`] later), and the peak
//! up to there. Then one workload is added, the first of a service that had none, by renaming a file
//! into place. **The change is visible when a connection to the address of that service is
//! answered**: connections are tried one after the other from the client's pod, and each is refused at
//! once as long as there is nobody to answer. That holds for every proxy, needs nothing of its own
//! pages, and is what a user of the mesh would see. `refused` says how long a refusal took, which is
//! how finely this clock ticks.
//!
//! `source` is what Ringway reads: documents as a cluster has them, or ztunnel's local file. Envoy
//! reads its own files of the same mesh; they stand under `source=documents`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Experiment, Point, Settings, Turn};
use crate::measure;
use crate::mesh::{Format, Mesh};
use crate::subject::{Group, PROBE, Pair, Subject};

/// Seconds between being loaded and being measured; fewer when less is measured.
const SETTLE_SECONDS: f64 = 3.0;
/// Workloads of a service: 150,000 of 6,000.
const WORKLOADS_PER_SERVICE: u32 = 25;
const HOSTS: u32 = 1000;
/// How long a change may take to be seen.
const CHANGE_PATIENCE: Duration = Duration::from_secs(60);
/// A refusal that takes longer than this is none: the clock would tick too slowly.
const REFUSAL_MAX: Duration = Duration::from_millis(100);
/// Time between two tries, so that they are not what the proxy is busy with.
const TRY_INTERVAL: Duration = Duration::from_millis(1);
const MEGA: f64 = 1e6;

/// Meshes of growing size.
pub(super) struct Scale {
    workloads: Vec<u32>,
    seconds: f64,
    full: bool,
    /// Nobody has said how large, and it is to be over in minutes.
    short: bool,
}

impl Scale {
    pub(super) fn new(settings: &Settings) -> Scale {
        let short = !settings.full && settings.workloads.is_empty();
        let workloads = match &settings.workloads[..] {
            [] if settings.full => vec![10, 1_000, 50_000, 150_000],
            [] => vec![10, 50_000],
            named => named.to_vec(),
        };
        Scale { workloads, seconds: settings.seconds, full: settings.full, short }
    }

    fn loaded(&self, turn: &mut Turn<'_>, mesh: &Mesh) -> Result<()> {
        let started = turn.subject.start_in_mesh(turn.bench, mesh)?;
        let id = started.process.id();
        turn.pair = Pair { near: vec![started.process], ..Pair::default() };
        turn.bench.sleep(Duration::from_secs_f64(self.seconds.min(SETTLE_SECONDS)))?;
        let loaded = measure::memory(id)?;
        turn.sample("rss", "MB", loaded.resident_bytes as f64 / MEGA);
        turn.sample("peak", "MB", loaded.peak_bytes as f64 / MEGA);
        turn.sample("load-time", "s", started.load_time.as_secs_f64());

        let probe = PROBE.parse().context("the probed address")?;
        ensure!(turn.bench.echo_once(probe).is_err(), "the service answers before it can");
        let refused = Instant::now();
        ensure!(turn.bench.echo_once(probe).is_err(), "the service answers before it can");
        let refused = refused.elapsed();
        ensure!(
            refused <= REFUSAL_MAX,
            "a connection nobody can answer is refused only after {refused:?}"
        );
        let (next, now) = &started.change;
        let began = Instant::now();
        fs::rename(next, now)?;
        while let Err(error) = turn.bench.echo_once(probe) {
            turn.bench.go_on()?;
            ensure!(began.elapsed() < CHANGE_PATIENCE, "the change is not seen: {error:#}");
            std::thread::sleep(TRY_INTERVAL);
        }
        turn.sample("change-visible", "ms", began.elapsed().as_secs_f64() * 1e3);
        turn.sample("refused", "ms", refused.as_secs_f64() * 1e3);
        let changed = measure::memory(id)?;
        turn.sample("change-peak", "MB", changed.peak_bytes as f64 / MEGA);
        Ok(())
    }
}

impl Experiment for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn points(&self) -> Vec<Point> {
        let sources = ["documents", "ztunnel"];
        let point =
            |workloads, source| Point::new().with("workloads", workloads).with("source", source);
        self.workloads
            .iter()
            .flat_map(|workloads| sources.map(|source| point(workloads, source)))
            .collect()
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds.min(SETTLE_SECONDS) + 6.0)
    }

    fn repetitions_max(&self) -> u32 {
        if self.full { 3 } else { 1 }
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        let reason = match subject.name() {
            _ if subject.group() == Group::Baseline => "without a proxy nobody knows the mesh",
            "reference" | "reference-1" => "the relay knows no mesh",
            "ringway-epoll" | "ringway-istio" => "it knows the mesh in the same way as ringway",
            "envoy-http" => "its clusters and endpoints would be those of envoy-tcp",
            name if name != "ringway" && self.short => {
                "short runs load meshes into ringway only; name it with --workloads, or run `full`"
            }
            _ => return None,
        };
        Some(reason.to_owned())
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let workloads: u32 = point.get("workloads")?;
        let format = match point.text("source") {
            Some("ztunnel") => Format::Ztunnel,
            _ => Format::Documents,
        };
        if format == Format::Ztunnel && turn.subject.name().starts_with("envoy") {
            turn.void("it reads no file of ztunnel's; see source=documents");
            return Ok(());
        }
        let services = (workloads / WORKLOADS_PER_SERVICE).max(1);
        let mesh = Mesh { workloads, services, hosts: HOSTS, format };
        // A proxy must be asked before the packet reaches the cable; so there must be a way to it.
        let (address, _) = PROBE.split_once(':').context("the probed address")?;
        let (server, _) = crate::subject::ECHO.split_once(':').context("the server's address")?;
        let route = ["route", "replace", address, "via", server];
        turn.bench.tool("near", "ip", &route, None)?;
        let measured = self.loaded(turn, &mesh);
        let measured = measured.map_err(|error| anyhow!("{error:#}{}", turn.pair.logs()));
        turn.bench.end(std::mem::take(&mut turn.pair))?;
        turn.bench.tool("near", "ip", &["route", "del", address], None)?;
        measured
    }
}
