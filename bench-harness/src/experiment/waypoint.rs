//! What a waypoint costs: requests to a service that has one, in HTTP/1.1, HTTP/2 and calls of gRPC's shape; its memory for
//! connections that do nothing, and with thousands of rules.
//!
//! `waypoint-cpu` is the waypoint's process alone, `cpu` that of all proxies together. The nodes on both hosts are the same
//! for every waypoint. `ringway` is the same service without a waypoint: what L4 alone costs; and `none` speaks to the server.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use rustix::process::Signal;

use super::latency::write_requests;
use super::{Experiment, Point, Settings, Turn};
use crate::subject::{Measured, Subject};

const MIB: f64 = 1048576.0;
/// Rules that no request meets, beside the one that all meet.
const RULES: u32 = 5_000;
/// Connections that are held idle, when nobody says how many.
const HELD: u32 = 1_000;
/// What opening them may take.
const HOLD_PATIENCE: Duration = Duration::from_secs(60);
/// Before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

/// Connections, and requests under way on each, of what is sent without a rate.
const CLOSED: [(&str, u32, u32); 3] = [("http1", 64, 1), ("http2", 16, 4), ("grpc", 16, 4)];

pub(super) struct Waypoint {
    held: u32,
    seconds: f64,
    seed: u64,
}

impl Waypoint {
    pub(super) fn new(settings: &Settings) -> Waypoint {
        let held = settings.held.first().copied().unwrap_or(HELD);
        Waypoint { held, seconds: settings.seconds, seed: settings.seed }
    }

    /// As fast as the connections go.
    fn closed(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let measured = self.load(turn, point, "capacity", &[])?;
        let requests = measured.number("requests")?;
        let per_request = |time: Duration| time.as_secs_f64() * 1e6 / requests.max(1.0);
        turn.sample("cpu", "CPU-us/request", per_request(measured.cost.pair()));
        self.of_waypoint(turn, &measured, requests);
        turn.sample("rate", "requests/s", requests / measured.number("seconds")?);
        turn.sample("machine-cpu", "CPU-us/request", per_request(measured.cost.machine));
        let failures = measured.number("failures")?;
        if failures > 0.0 {
            let first = measured.outcome["first_failure"].as_str().unwrap_or_default();
            turn.void(&format!("{failures} of {requests} requests failed; the first: {first}"));
        }
        Ok(())
    }

    /// At a rate.
    fn open(&self, turn: &mut Turn<'_>, point: &Point, rate: &str) -> Result<()> {
        let seed = (self.seed + u64::from(turn.repetition())).to_string();
        let further = ["--rate", rate, "--arrivals", "poisson", "--seed", &seed];
        let measured = self.load(turn, point, "requests", &further)?;
        let requests = measured.number("requests")?;
        write_requests(turn, &measured)?;
        self.of_waypoint(turn, &measured, requests);
        Ok(())
    }

    fn load(
        &self,
        turn: &Turn<'_>,
        point: &Point,
        kind: &str,
        further: &[&str],
    ) -> Result<Measured> {
        let spoken = point.text("load").unwrap_or("http1");
        let target = turn.bench.service(turn.subject, spoken);
        let seconds = self.seconds.to_string();
        let mut arguments = vec![kind, &target, "--protocol", spoken];
        arguments.extend(["--connections", point.text("connections").unwrap_or("16")]);
        arguments.extend(["--streams", point.text("streams").unwrap_or("1")]);
        arguments.extend(["--size", "1024", "--warm-up", "0.5", "--duration", &seconds]);
        arguments.extend(further);
        turn.bench.measure(&turn.pair, &arguments)
    }

    fn of_waypoint(&self, turn: &mut Turn<'_>, measured: &Measured, requests: f64) {
        if !turn.pair.middle.is_empty() {
            let time = measured.cost.middle.as_secs_f64() * 1e6 / requests.max(1.0);
            turn.sample("waypoint-cpu", "CPU-us/request", time);
        }
    }

    /// What the waypoint keeps of connections that have carried one request each.
    fn held(&self, turn: &mut Turn<'_>) -> Result<()> {
        if turn.pair.middle.is_empty() {
            turn.remark("no waypoint");
            return Ok(());
        }
        turn.restart_before_service(0)?;
        turn.bench.sleep(SETTLE)?;
        let before = turn.pair.middle_memory()?.resident_bytes as f64;
        let (count, target) = (self.held.to_string(), turn.bench.service(turn.subject, "http1"));
        let mut load =
            turn.bench.load(&["hold", &target, "--connections", &count, "--protocol", "http1"])?;
        let began = Instant::now();
        while !load.log().contains("\"held\"") {
            turn.bench.go_on()?;
            if !load.is_running() || began.elapsed() > HOLD_PATIENCE {
                bail!("the connections cannot be held: {}", load.log().trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        turn.bench.sleep(SETTLE)?;
        let held = turn.pair.middle_memory()?.resident_bytes as f64;
        turn.sample("waypoint-per-connection", "B", (held - before) / f64::from(self.held));
        turn.sample("waypoint-rss-idle", "MiB", before / MIB);
        load.signal(Signal::TERM)?;
        let status = load.wait(HOLD_PATIENCE)?;
        ensure!(status.success(), "the load program failed: {}", load.log().trim());
        Ok(())
    }

    /// What thousands of rules cost, and what requests cost then.
    fn ruled(&self, turn: &mut Turn<'_>, point: &Point, rules: u32) -> Result<()> {
        if turn.pair.middle.is_empty() {
            turn.remark("no waypoint");
            return Ok(());
        }
        turn.restart_before_service(rules)?;
        turn.bench.sleep(SETTLE)?;
        let memory = turn.pair.middle_memory()?.resident_bytes as f64;
        turn.sample("waypoint-rss", "MiB", memory / MIB);
        self.closed(turn, point)
    }
}

impl Experiment for Waypoint {
    fn name(&self) -> &'static str {
        "waypoint"
    }

    fn points(&self) -> Vec<Point> {
        let load = |(spoken, connections, streams): (&str, u32, u32)| {
            let point = Point::new().with("load", spoken).with("connections", connections);
            if streams > 1 { point.with("streams", streams) } else { point }
        };
        let mut points: Vec<Point> = CLOSED.map(load).into();
        let at_rate = |(spoken, ..): (&str, u32, u32)| load((spoken, 16, 1)).with("rate", 1000);
        points.extend(CLOSED.map(at_rate));
        points.push(Point::new().with("held", self.held));
        points.push(load(CLOSED[0]).with("rules", RULES));
        points
    }

    fn expected(&self) -> Duration {
        let loads = 2.0 * CLOSED.len() as f64 + 1.0;
        Duration::from_secs_f64(loads * (self.seconds + 1.0) + 15.0)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        let known = ["none", "ringway", "ringway-waypoint", "envoy-waypoint"];
        (!known.contains(&subject.name()))
            .then(|| format!("it stands before no service here; those that do are {known:?}"))
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let is_first = *point == self.points()[0];
        if is_first {
            turn.restart_before_service(0)?;
        }
        match (point.text("held"), point.text("rules"), point.text("rate")) {
            (Some(_), ..) => self.held(turn),
            (_, Some(_), _) => self.ruled(turn, point, point.get("rules")?),
            (.., Some(rate)) => self.open(turn, point, rate),
            _ => self.closed(turn, point),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_measured_on_a_waypoint_that_was_started_so() {
        let settings = Settings {
            full: false,
            seconds: 1.0,
            seed: 1,
            held: vec![7],
            workloads: Vec::new(),
            services: None,
        };
        let points: Vec<String> =
            Waypoint::new(&settings).points().iter().map(ToString::to_string).collect();
        let want = [
            "load=http1 connections=64",
            "load=http2 connections=16 streams=4",
            "load=grpc connections=16 streams=4",
            "load=http1 connections=16 rate=1000",
            "load=http2 connections=16 rate=1000",
            "load=grpc connections=16 rate=1000",
            "held=7",
            // Last: what was started with rules measures nothing else.
            "load=http1 connections=64 rules=5000",
        ];
        assert_eq!(points, want);
    }
}
