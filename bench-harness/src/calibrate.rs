//! What the load generator and the null server can do by themselves, without anything between them.
//!
//! A measurement of a proxy is one of the proxy only if what is around it could do a lot more. Rule:
//! five times the rate at which the proxy is measured.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::load::{
    Arrivals, Capacity, ClosedLoop, Cores, Crew, GRACE_SECONDS, Length, OpenLoop, Requests, Timing,
    What,
};
use crate::null_server::NullServer;

/// How many times the requested rate must be possible.
const HEADROOM_MIN: f64 = 5.0;
/// How often the range of the highest rate is halved.
const HALVINGS: u32 = 5;

/// Measures the generator against the null server, on loopback.
#[derive(Clone, Debug, Args)]
pub struct Calibrate {
    /// The rate at which something is to be measured, in requests a second.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[command(flatten)]
    what: What,
    /// Seconds for each step.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    duration: f64,
    /// Threads of the generator.
    #[arg(long)]
    threads: Option<usize>,
    /// Processor cores of the generator.
    #[arg(long, value_name = "LIST")]
    cores: Option<Cores>,
    /// Threads of the null server.
    #[arg(long)]
    server_threads: Option<usize>,
    /// Processor cores of the null server.
    #[arg(long, value_name = "LIST")]
    server_cores: Option<Cores>,
    /// Microseconds before a request is due from which to count down instead of sleeping.
    #[arg(long, value_name = "MICROSECONDS")]
    spin: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// The rate it is for.
    pub rate: f64,
    /// The highest rate that was kept in open loop.
    pub rate_max: f64,
    /// The one divided by the other.
    pub headroom: f64,
    /// What it has to be at least.
    pub headroom_min: f64,
    /// What was spoken.
    pub protocol: String,
    /// As fast as it goes.
    pub capacity: ClosedLoop,
    /// At the rate, at five times the rate, and at the highest rate, in this order.
    pub steps: Vec<OpenLoop>,
}

impl Calibrate {
    /// Measures, prints a table and a line of JSON, and tells whether the headroom is enough.
    pub fn run(&self) -> Result<bool> {
        ensure!(self.rate > 0.0, "--rate {}: requests a second, more than zero", self.rate);
        let server = NullServer {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            threads: self.server_threads,
            cores: self.server_cores.clone(),
        };
        let target = server.start()?;
        let capacity =
            Capacity { crew: self.crew(target), what: self.what.clone(), length: self.length() };
        let capacity = capacity.run()?;
        let mut steps = vec![self.step(target, self.rate)?];
        steps.push(self.step(target, self.rate * HEADROOM_MIN)?);
        if let Some(highest) = self.highest(target, capacity.rate, &steps)? {
            steps.push(highest);
        }
        let rate_max = highest_kept(&steps);
        let calibration = Calibration {
            rate: self.rate,
            rate_max,
            headroom: rate_max / self.rate,
            headroom_min: HEADROOM_MIN,
            protocol: format!("{:?}", self.what.protocol).to_lowercase(),
            capacity,
            steps,
        };
        println!("{}", calibration.table());
        println!("{}", serde_json::to_string(&calibration)?);
        Ok(calibration.is_enough())
    }

    /// The highest rate above those kept already which is kept too, if one is found.
    fn highest(
        &self,
        target: SocketAddr,
        limit: f64,
        steps: &[OpenLoop],
    ) -> Result<Option<OpenLoop>> {
        let voids = steps.iter().filter(|step| step.void.is_some()).map(|step| step.rate_target);
        let (mut low, mut high) = (highest_kept(steps), voids.fold(limit, f64::min));
        let mut highest = None;
        for _ in 0..HALVINGS {
            // By their ratio, as headroom is one.
            let rate = (low.max(1.0) * high).sqrt();
            if rate <= low {
                break;
            }
            let step = self.step(target, rate.round())?;
            if step.void.is_none() {
                low = rate;
                highest = Some(step);
            } else {
                high = rate;
            }
        }
        Ok(highest)
    }

    fn step(&self, target: SocketAddr, rate: f64) -> Result<OpenLoop> {
        let requests = Requests {
            crew: self.crew(target),
            what: self.what.clone(),
            timing: Timing { arrivals: Arrivals::Constant, seed: 1 },
            length: self.length(),
            rate: Some(rate),
        };
        requests.run()
    }

    fn crew(&self, target: SocketAddr) -> Crew {
        Crew {
            target,
            connections: Some(self.connections),
            threads: self.threads,
            cores: self.cores.clone(),
            source: Vec::new(),
            marks: None,
            spin: self.spin,
        }
    }

    fn length(&self) -> Length {
        Length { duration: self.duration, warm_up: 0.3, grace: GRACE_SECONDS }
    }
}

fn highest_kept(steps: &[OpenLoop]) -> f64 {
    let kept = steps.iter().filter(|step| step.void.is_none());
    kept.map(|step| step.rate_target).fold(0.0, f64::max)
}

impl Calibration {
    /// Whether what is measured at the rate is what is between generator and server.
    pub fn is_enough(&self) -> bool {
        self.headroom >= self.headroom_min
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:>10} {:>10} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>6}\n",
            "rate", "achieved", "p50", "p99", "p99.9", "max", "late p99", "CPU/req", "core"
        );
        for step in &self.steps {
            let common = &step.common;
            text += &format!(
                "{:>10.0} {:>10.0} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9.1} {:>5.0}%{}\n",
                step.rate_target,
                step.rate_achieved,
                common.p50_us,
                common.p99_us,
                common.p999_us,
                common.max_us,
                step.lateness_p99_us,
                1e6 * common.cpu_seconds / step.rate_achieved / common.seconds,
                100.0 * common.cpu_share_max,
                step.void.as_ref().map(|why| format!("  void: {why}")).unwrap_or_default()
            );
        }
        let verdict = if self.is_enough() { "enough" } else { "not enough" };
        text += &format!(
            "Times are microseconds. In closed loop {:.0} requests a second. The highest rate kept, \
             {:.0} a second, is {:.1} times {:.0}: {verdict} (needed: {:.0} times).",
            self.capacity.rate, self.rate_max, self.headroom, self.rate, self.headroom_min
        );
        text
    }
}
