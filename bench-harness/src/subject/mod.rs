//! What is measured: pairs of proxies between two pods, and how to start each kind.
//!
//! Every subject gets the same two pods, the same cable between them, as many threads ([`WORKERS`],
//! unless [`Options::cores`] says otherwise),
//! the same congestion control and the same cipher suite (TLS_AES_128_GCM_SHA256). Each has the
//! redirect rules that it has where it is used: `ringway` installs its own; what stands in ztunnel's
//! place (`ringway-istio`, `reference`, `ztunnel`, others) has those that Istio installs for ztunnel,
//! sidecars (`envoy-*`) those that it installs for sidecars, and `none` has none.

mod bench;
mod company;
mod envoy;
mod envoy_config;
mod envoy_mesh;
mod none;
mod other;
mod reference;
mod ringway;
mod ringway_mesh;
mod rules;
mod service_mesh;
mod waypoint;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

pub use self::bench::{Bench, ECHO, Measured, NEIGHBOUR_ECHO, allow_descriptors};
pub use self::company::{Company, Populating, SERVICES_MAX, SERVICES_MIN, make_calls};
use self::envoy::Envoy;
use self::none::NoProxy;
use self::other::Other;
use self::reference::Reference;
use self::ringway::{Ringway, Way};
pub use self::rules::{MARK, Rules};
use self::waypoint::Waypoint;
use crate::lab::{Process, Program};
use crate::measure::{self, Clock, Memory};
use crate::mesh::Mesh;
use crate::processors;

/// Threads that each proxy process may use for traffic.
pub const WORKERS: usize = 2;

/// What may be compared with what: only subjects of one group, and `none` beside all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// No proxy: the baseline.
    Baseline,
    /// Carries bytes, knows nothing of what they mean.
    L4,
    /// Understands HTTP.
    L7,
}

/// Which tunnels new connections meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshakes {
    /// As the subject comes: pooled tunnels or none, resumption as it likes it.
    #[default]
    Usual,
    /// No session is ever resumed.
    Full,
}

/// Whether a subject resumes TLS sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// As it is told.
    Optional,
    /// As it likes; it cannot be told not to.
    Always,
    /// It cannot.
    Never,
}

/// How a pair is to be started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Which tunnels new connections meet.
    pub handshakes: Handshakes,
    /// Whether it serves the neighbour's pods as well ([`Bench::pairs`]).
    pub neighbour: bool,
    /// Whether its configuration is to be changed while it runs ([`Changing`]).
    pub changing: bool,
    /// Confines each proxy to the first so many processors that we may use, with as many worker threads;
    /// none: any processor, and [`WORKERS`].
    pub cores: Option<usize>,
}

impl Options {
    /// Threads that each proxy process may use for traffic.
    fn workers(&self) -> usize {
        self.cores.unwrap_or(WORKERS)
    }

    /// The program of a proxy, where it may run.
    fn placed(&self, program: Program) -> Program {
        match self.cores {
            Some(cores) => {
                let usable = processors::usable().unwrap_or_default();
                program.on_processors(&usable[..cores.min(usable.len())])
            }
            None => program,
        }
    }
}

/// A kind of proxy.
pub trait Subject {
    /// The name in samples.
    fn name(&self) -> &str;

    /// What it may be compared with.
    fn group(&self) -> Group;

    /// The programs it runs, for the manifest.
    fn programs(&self) -> Vec<PathBuf>;

    /// The rules in both pods while it runs.
    fn rules(&self) -> Rules;

    /// Whether it resumes sessions, and so which [`Handshakes`] it can be started with.
    fn resumption(&self) -> Resumption {
        Resumption::Always
    }

    /// Starts both sides. The rules are in place, bytes need not pass yet.
    ///
    /// # Errors
    /// When it cannot start, as a sentence for whoever wonders why it is missing from the results.
    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair>;

    /// How its configuration is changed while it runs, if it can be.
    fn changing(&self) -> Option<&dyn Changing> {
        None
    }

    /// How it is replaced by a successor while it works, if it can be.
    fn replacing(&self) -> Option<&dyn Replacing> {
        None
    }

    /// How it is started in a company's mesh, if it is set up for that.
    fn populating(&self) -> Option<&dyn Populating> {
        None
    }

    /// Whether it can serve several workloads of a host, as a host has them.
    fn serves_neighbours(&self) -> bool {
        false
    }

    /// Starts everything that stands between a client and the service [`SERVICE`], which has so many rules for its
    /// requests where it can have rules.
    ///
    /// # Errors
    /// When it cannot start so, or nobody has written its configuration.
    fn start_before_service(&self, bench: &Bench, rules: u32) -> Result<Pair> {
        let _ = (bench, rules);
        bail!("its configuration before a service is not written here")
    }

    /// Starts the client's side alone, with a mesh to know. It returns when the mesh is loaded.
    ///
    /// # Errors
    /// When it cannot start so, or nobody has written its configuration.
    fn start_in_mesh(&self, bench: &Bench, mesh: &Mesh) -> Result<InMesh> {
        let _ = (bench, mesh);
        bail!("its configuration of a large mesh is not written here")
    }
}

/// A configuration that changes while the subject runs, as files are changed: by renaming.
pub trait Changing {
    /// Puts the configuration of this number in place. It differs from the one before in the labels
    /// of a workload that is used, and in whether there is one more workload.
    fn swap(&self, bench: &Bench, number: u32) -> Result<()>;

    /// How many configurations both sides have taken since they started, by their own account.
    fn taken(&self, bench: &Bench) -> Result<u64>;
}

/// A proxy that hands over to a successor.
pub trait Replacing {
    /// Has a successor begun in the place of `process`, which is the successor from then on. Returns the
    /// one before, which drains.
    fn replace(&self, process: &mut Process) -> Result<Process>;
}

/// A service of a mesh that has no workload until [`InMesh::change`] brings one: the null server. It
/// stands outside of what [`Mesh`] numbers.
pub const PROBE: &str = "10.97.0.1:80";

/// A service whose only endpoint is the null server.
pub const SERVICE: &str = "10.9.0.80";

/// Its ports: what is spoken there, as the names of ports say it.
pub const SERVICE_PORTS: [(&str, u16); 3] = [("http1", 80), ("http2", 81), ("grpc", 82)];

/// The client's side of a subject that knows a mesh.
#[derive(Debug)]
pub struct InMesh {
    /// The proxy.
    pub process: Process,
    /// From its start until it said that it was ready.
    pub load_time: Duration,
    /// A file, ready to be renamed, and the one of the configuration in whose place it then stands.
    pub change: (PathBuf, PathBuf),
}

/// The names of all subjects that need nothing from the environment.
pub const NAMES: [&str; 8] = [
    "none",
    "ringway",
    "ringway-epoll",
    "ringway-istio",
    "envoy-tcp",
    "envoy-http",
    "reference",
    "reference-1",
];

/// The names of those that only the experiment `waypoint` measures, which stand before a service.
pub const BEFORE_SERVICES: [&str; 2] = ["ringway-waypoint", "envoy-waypoint"];

/// The names of all subjects there are, those that the environment names included.
pub fn names() -> Vec<String> {
    let others = Other::all().into_iter().map(|other| other.name().to_owned());
    NAMES.iter().map(ToString::to_string).chain(others).collect()
}

/// Where the programs are that subjects run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// This program.
    pub own: PathBuf,
    /// `ringway`.
    pub ringway: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
}

impl Programs {
    /// The programs that are named, and those beside this one or fetched for it where none is.
    pub fn find(ringway: Option<PathBuf>, envoy: Option<PathBuf>) -> Result<Programs> {
        let own = std::env::current_exe()?;
        let ringway = ringway.unwrap_or_else(|| own.with_file_name("ringway"));
        // This program is in target/release, the tools are in target/tools.
        let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
        let envoy = envoy.unwrap_or_else(|| target.join("tools/envoy"));
        Ok(Programs { own, ringway, envoy })
    }
}

/// The subject called `name`.
///
/// # Errors
/// When there is none of that name; lists those that exist.
pub fn by_name(name: &str, programs: &Programs) -> Result<Box<dyn Subject>> {
    Ok(match name {
        "none" => Box::new(NoProxy),
        "ringway" => Box::new(Ringway::new(programs, Way::Alone)),
        "ringway-epoll" => Box::new(Ringway::new(programs, Way::AloneOnEpoll)),
        "ringway-istio" => Box::new(Ringway::new(programs, Way::InIstio)),
        "reference" => Box::new(Reference::new(programs, WORKERS)),
        "reference-1" => Box::new(Reference::new(programs, 1)),
        "envoy-tcp" => Box::new(Envoy::new(programs, false)),
        "envoy-http" => Box::new(Envoy::new(programs, true)),
        "ringway-waypoint" => Box::new(Waypoint::ringway(programs)),
        "envoy-waypoint" => Box::new(Waypoint::envoy(programs)),
        _ => match Other::find(name) {
            Some(other) => Box::new(other),
            None => bail!(
                "no subject is called {name:?}; there are {}, for the experiment waypoint {}, and what \
                 RINGWAY_BENCH_ZTUNNEL or RINGWAY_BENCH_SUBJECT_<NAME> name",
                names().join(", "),
                BEFORE_SERVICES.join(" and ")
            ),
        },
    })
}

/// A running pair. Dropping it ends it.
#[derive(Debug, Default)]
pub struct Pair {
    /// The processes on the client's side; none without a proxy.
    pub near: Vec<Process>,
    /// The processes between the two sides: a waypoint, where there is one.
    pub middle: Vec<Process>,
    /// The processes on the server's side.
    pub far: Vec<Process>,
    /// Configurations it was started with and what it said to them, by file name; they are published with the results.
    pub configurations: Vec<(String, String)>,
}

impl Pair {
    /// The ids of the processes on the client's side, with all they started.
    pub fn near_ids(&self) -> Vec<u32> {
        self.near.iter().flat_map(|process| measure::family(process.id())).collect()
    }

    /// The ids of the processes between the two sides, with all they started.
    pub fn middle_ids(&self) -> Vec<u32> {
        self.middle.iter().flat_map(|process| measure::family(process.id())).collect()
    }

    /// The ids of the processes on the server's side, with all they started.
    pub fn far_ids(&self) -> Vec<u32> {
        self.far.iter().flat_map(|process| measure::family(process.id())).collect()
    }

    /// The processor clocks of both sides; `beside` are processes that do not belong to them.
    pub fn clock(&self, beside: &[u32]) -> Result<Clock> {
        Clock::read([&self.near_ids(), &self.middle_ids(), &self.far_ids()], beside)
    }

    /// The memory of the near and of the far side.
    pub fn memory(&self) -> Result<[Memory; 2]> {
        Ok([memory_of(self.near_ids())?, memory_of(self.far_ids())?])
    }

    /// The memory of what stands between the two sides.
    pub fn middle_memory(&self) -> Result<Memory> {
        memory_of(self.middle_ids())
    }

    /// How often threads of both sides have been woken so far.
    pub fn wake_ups(&self) -> Result<u64> {
        self.near_ids().into_iter().chain(self.far_ids()).map(measure::wake_ups).sum()
    }

    /// The first process that has ended although it should not.
    pub fn ended(&mut self) -> Option<String> {
        let near = self.near.iter_mut().map(|process| ("near", process));
        let middle = self.middle.iter_mut().map(|process| ("middle", process));
        let far = self.far.iter_mut().map(|process| ("far", process));
        let running = |(side, process): (_, &mut Process)| (side, process.is_running());
        let (side, _) = near.chain(middle).chain(far).map(running).find(|(_, running)| !running)?;
        Some(format!("the proxy on the {side} side has ended"))
    }

    /// The ends of all logs, for when something fails.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for (side, processes) in
            [("near", &self.near), ("middle", &self.middle), ("far", &self.far)]
        {
            for process in processes {
                text.push_str(&format!("; log, {side} side: {}", tail(&process.log())));
            }
        }
        text
    }

    /// Asks all processes to end, and makes them.
    pub fn stop(mut self) {
        for process in self.near.iter_mut().chain(&mut self.middle).chain(&mut self.far) {
            let _ = process.signal(rustix::process::Signal::TERM);
        }
        for process in self.near.iter_mut().chain(&mut self.middle).chain(&mut self.far) {
            let _ = process.wait(Duration::from_secs(2));
        }
    }
}

fn memory_of(ids: Vec<u32>) -> Result<Memory> {
    ids.into_iter().try_fold(Memory::default(), |sum, id| {
        let more = measure::memory(id)?;
        Ok(Memory {
            resident_bytes: sum.resident_bytes + more.resident_bytes,
            peak_bytes: sum.peak_bytes + more.peak_bytes,
            anonymous_bytes: sum.anonymous_bytes + more.anonymous_bytes,
            proportional_bytes: sum.proportional_bytes + more.proportional_bytes,
        })
    })
}

/// The last lines of a log, as one line.
pub(crate) fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(6).collect();
    let text = lines.into_iter().rev().collect::<Vec<_>>().join(" | ");
    let from = text.char_indices().rev().nth(1200).map_or(0, |(at, _)| at);
    text[from..].to_owned()
}
