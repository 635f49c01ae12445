//! New connections: over a tunnel that is there, with a handshake each, and as a storm.
//!
//! Proxies with tunnels are brought to a handshake per connection by cutting the tunnel before each
//! one (`ss --kill`, in the near pod). A sidecar makes a handshake for every connection anyway.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::latency::protocol;
use super::{Experiment, Point, Settings, Turn};
use crate::subject::{ECHO, Group, Handshakes, Options, Resumption, Rules};

/// Connections a second of the storm: 72,000 a minute, as ztunnel's users have reported.
const STORM: u32 = 1200;
/// What a proxy may take to notice that a tunnel is cut.
const NOTICE: Duration = Duration::from_millis(4);

/// New connections of four kinds.
pub(super) struct Connections {
    seconds: f64,
    seed: u64,
}

impl Connections {
    pub(super) fn new(settings: &Settings) -> Connections {
        Connections { seconds: settings.seconds, seed: settings.seed }
    }

    /// As many as go one after the other over 16 lanes, or at a rate.
    fn row(&self, turn: &mut Turn<'_>, rate: Option<u32>) -> Result<()> {
        let seed = (self.seed + u64::from(turn.repetition())).to_string();
        let (seconds, rate_text) = (self.seconds.to_string(), rate.unwrap_or(0).to_string());
        let lanes = if rate.is_some() { "512" } else { "16" };
        let protocol = protocol(turn.subject);
        let mut arguments = vec![
            "connect",
            ECHO,
            "--connections",
            lanes,
            "--duration",
            &seconds,
            "--protocol",
            protocol,
        ];
        if rate.is_some() {
            arguments.extend(["--rate", &rate_text, "--arrivals", "poisson", "--seed", &seed]);
        }
        let measured = turn.bench.measure(&turn.pair, &arguments)?;
        let (connections, failures) =
            (measured.number("connections")?, measured.number("failures")?);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / connections.max(1.0);
        turn.sample("cpu", "CPU-us/connection", each(measured.cost.pair()));
        turn.sample("rate", "connections/s", connections / measured.number("seconds")?);
        turn.sample("failures", "connections", failures);
        turn.sample("cpu-near", "CPU-us/connection", each(measured.cost.near));
        turn.sample("cpu-far", "CPU-us/connection", each(measured.cost.far));
        turn.sample("machine-cpu", "CPU-us/connection", each(measured.cost.machine));
        turn.energy(&measured.cost, "J/connection", connections.max(1.0));
        turn.sample("p99", "us", measured.number("p99_us")?);
        if let Some(reason) = measured.outcome["void"].as_str() {
            turn.void(reason);
        }
        if failures > 0.0 {
            turn.void(&format!("{failures} of {connections} connections failed"));
        }
        Ok(())
    }

    /// One after the other, with a handshake each.
    fn handshakes(&self, turn: &mut Turn<'_>, wanted: &str) -> Result<()> {
        let pooled = matches!(turn.subject.rules(), Rules::Node | Rules::Own);
        let resumption = turn.subject.resumption();
        let cannot = match (turn.subject.group(), wanted, resumption) {
            (Group::Baseline, ..) => Some("without a proxy there are no handshakes"),
            (Group::L7, ..) => Some("its connections to the other side outlive the client's"),
            (_, "full", Resumption::Always) => Some("it cannot be told not to resume sessions"),
            (_, "resumed", Resumption::Never) => Some("it resumes no sessions"),
            _ => None,
        };
        if let Some(reason) = cannot {
            turn.void(reason);
            return Ok(());
        }
        let full = wanted == "full" && resumption == Resumption::Optional;
        let handshakes = if full { Handshakes::Full } else { Handshakes::Usual };
        turn.restart(&Options { handshakes, ..Options::default() })?;
        // The first one is what a resumption resumes.
        self.one(turn)?;
        let beside: Vec<u32> = turn.bench.servers().iter().map(|server| server.id()).collect();
        let before = turn.pair.clock(&beside)?;
        let until = Instant::now() + Duration::from_secs_f64(self.seconds);
        let mut connections = 0_u32;
        while Instant::now() < until {
            if pooled {
                turn.bench.tool("near", "ss", &["--kill", "dport", "=", "15008"], None)?;
                std::thread::sleep(NOTICE);
            }
            self.one(turn).with_context(|| format!("connection {}", connections + 1))?;
            connections += 1;
        }
        let cost = turn.pair.clock(&beside)?.since(&before);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(connections.max(1));
        turn.sample("cpu", "CPU-us/connection", each(cost.pair()));
        turn.sample("connections", "connections", f64::from(connections));
        turn.sample("cpu-near", "CPU-us/connection", each(cost.near));
        turn.sample("cpu-far", "CPU-us/connection", each(cost.far));
        Ok(())
    }

    /// One connection with one message.
    fn one(&self, turn: &Turn<'_>) -> Result<()> {
        turn.bench.go_on()?;
        let to: SocketAddr = ECHO.parse().expect("an address");
        let near = turn.bench.lab.namespace("near");
        let mut stream = near.connect_timeout(to, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /bytes/1 HTTP/1.1\r\nHost: far\r\n\r\n")?;
        stream.read_exact(&mut [0; 12])?;
        stream.shutdown(Shutdown::Write)?;
        while stream.read(&mut [0; 512])? > 0 {}
        Ok(())
    }
}

impl Experiment for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn points(&self) -> Vec<Point> {
        let kind = |kind| Point::new().with("kind", kind);
        vec![
            kind("tunnel-live"),
            kind("storm").with("rate", STORM),
            kind("handshake-resumed"),
            kind("handshake-full"),
        ]
    }

    fn expected(&self) -> Duration {
        Duration::from_secs_f64(self.seconds + 0.6)
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        match point.text("kind") {
            Some("tunnel-live") => self.row(turn, None),
            Some("storm") => self.row(turn, Some(point.get("rate")?)),
            Some("handshake-full") => self.handshakes(turn, "full"),
            _ => self.handshakes(turn, "resumed"),
        }
    }
}
