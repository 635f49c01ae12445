//! What a small company pays: 150 services in 12 groups ([`crate::subject::Company`]), each with one
//! workload and three others that it calls over connections that stay, two requests a second each.
//!
//! Each kind of proxy is started once, since 150 sidecars take long, in a mesh of its own. The
//! repetitions are spans of time, in turns; the proxies of the other kinds are stopped by a signal
//! meanwhile, so that they keep their memory and take no processor time.
//!
//! A sidecar here is Envoy alone, and knows those that its workload calls. Istio's has an agent beside
//! it, and knows the whole mesh unless told otherwise; it would take more. Ringway knows all of it.
//!
//! `nodes` is how many nodes of 4 vCPU and 16 GiB it comes to when each workload's application is
//! granted 100 mCPU and 256 MiB (a, b), and proxies what they were measured to take (cpu in vCPU,
//! memory in GiB, over 2 hosts):
//!
//! ```text
//! nodes = ⌈max((workloads × a + cpu) / 4,  workloads × b / (16 − memory / 2))⌉     one per node
//!         ⌈max((workloads × a + cpu) / 4, (workloads × b + memory) / 16)⌉          one per workload
//! ```
//!
//! (A proxy of a node is on every node, however many there are.) Clusters are planned by what is
//! reserved, not by what is used: `nodes-reserved` takes what Istio's charts reserve for proxies if
//! nobody changes them, 100 mCPU and 128 MiB for a sidecar, 200 mCPU and 512 MiB for a node's proxy.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;

use super::{Experiment, Point, Settings, Turn};
use crate::measure::{self, Clock};
use crate::subject::{Company, Group, Rules, Subject, make_calls};

const MIB: f64 = 1048576.0;
/// Services of full runs, and of short ones.
const SERVICES: (u32, u32) = (150, 12);
/// Requests a second for each service.
const RATE: u32 = 2;
/// What has to be free for each sidecar before any is started: more than twice what one was seen to
/// take.
const SIDECAR_BYTES: u64 = 40 << 20;
/// How long a mesh that goes on may settle before it is measured.
const SETTLE: Duration = Duration::from_millis(300);

/// Processors and memory of something, in vCPU and GiB.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Room {
    cpu: f64,
    memory: f64,
}

const NODE: Room = Room { cpu: 4.0, memory: 16.0 };
const APPLICATION: Room = Room { cpu: 0.1, memory: 0.25 };
const SIDECAR_RESERVED: Room = Room { cpu: 0.1, memory: 0.125 };
const NODE_PROXY_RESERVED: Room = Room { cpu: 0.2, memory: 0.5 };

/// Where proxies are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Nowhere,
    Workload,
    Node,
}

/// The cost of a small company's mesh.
pub(super) struct Cost {
    services: u32,
    seconds: f64,
    /// The mesh of each subject, or why there is none.
    meshes: RefCell<BTreeMap<String, Result<Company, String>>>,
}

impl Cost {
    pub(super) fn new(settings: &Settings) -> Cost {
        let usual = if settings.full { SERVICES.0 } else { SERVICES.1 };
        Cost {
            services: settings.services.unwrap_or(usual),
            seconds: settings.seconds * 2.0,
            meshes: RefCell::default(),
        }
    }

    fn build(&self, turn: &Turn<'_>) -> Result<Company> {
        let go_on = || turn.bench.go_on();
        if place(turn.subject) == Place::Workload {
            let (free, needed) = (available_bytes()?, u64::from(self.services) * SIDECAR_BYTES);
            ensure!(
                free >= needed,
                "{} MiB of memory are free, {} sidecars need {}: take fewer --services",
                free >> 20,
                self.services,
                needed >> 20
            );
        }
        let mut company = Company::build(self.services, &go_on)?;
        company.populate(turn.subject.populating(), &go_on)?;
        // Until all of it works; what was needed for starting is not measured.
        company.connect(&go_on)?;
        company.signal(Signal::STOP)?;
        Ok(company)
    }

    fn window(&self, turn: &mut Turn<'_>, company: &mut Company, rate: u32) -> Result<()> {
        let bench = turn.bench;
        let mut streams = company.connect(&|| bench.go_on())?;
        bench.sleep(SETTLE)?;
        let beside: Vec<u32> = bench.servers().iter().map(crate::lab::Process::id).collect();
        let ids = company.ids();
        let before = Clock::read([&ids, &[], &[]], &beside)?;
        let time = Duration::from_secs_f64(self.seconds);
        let calls = make_calls(&mut streams, f64::from(rate), time);
        let cost = Clock::read([&ids, &[], &[]], &beside)?.since(&before);
        let bytes: u64 = ids
            .iter()
            .map(|id| Ok(measure::memory(*id)?.proportional_bytes))
            .sum::<Result<u64>>()?;
        if let Some(ended) = company.ended() {
            return Err(anyhow!(ended));
        }
        let elapsed = cost.elapsed.as_secs_f64();
        let (cpu, memory) = (cost.pair().as_secs_f64() / elapsed, bytes as f64 / MIB);
        let place = place(turn.subject);
        let used = Room { cpu, memory: memory / 1024.0 };
        turn.sample("cpu", "CPU-ms/s", cpu * 1e3);
        turn.sample("memory", "MiB", memory);
        turn.sample("processes", "processes", ids.len() as f64);
        turn.sample("nodes", "nodes", nodes(self.services, place, used));
        turn.sample("machine-cpu", "CPU-ms/s", cost.machine.as_secs_f64() * 1e3 / elapsed);
        turn.sample("nodes-reserved", "nodes", nodes_reserved(self.services, place));
        turn.sample("rate-achieved", "1/s", calls.answered as f64 / elapsed);
        if calls.failed > 0 {
            turn.void(&format!("{} of {} requests failed", calls.failed, calls.answered));
        } else if (calls.answered as f64) < 0.98 * f64::from(rate) * self.seconds - 4.0 {
            turn.void(&format!("{} requests were answered, too few for the rate", calls.answered));
        }
        Ok(())
    }
}

impl Experiment for Cost {
    fn name(&self) -> &'static str {
        "cost"
    }

    fn points(&self) -> Vec<Point> {
        let rate = self.services * RATE;
        vec![Point::new().with("services", self.services).with("rate", rate)]
    }

    fn expected(&self) -> Duration {
        // Spans of time, and a tenth of what starting takes.
        Duration::from_secs_f64(self.seconds + 1.0 + f64::from(self.services) * 0.05)
    }

    fn needs_pair(&self) -> bool {
        false
    }

    fn refuses(&self, subject: &dyn Subject) -> Option<String> {
        let baseline = subject.group() == Group::Baseline;
        (!baseline && subject.populating().is_none())
            .then(|| "it is not set up for a mesh of many workloads here".to_owned())
    }

    fn measure(&self, turn: &mut Turn<'_>, point: &Point) -> Result<()> {
        let name = turn.subject.name().to_owned();
        let mut meshes = self.meshes.borrow_mut();
        if !meshes.contains_key(&name) {
            let built = self.build(turn);
            // Stopped by whoever runs this says nothing about the subject.
            turn.bench.go_on()?;
            meshes.insert(name.clone(), built.map_err(|error| format!("{error:#}")));
        }
        let company = match meshes.get_mut(&name).expect("it was inserted") {
            Ok(company) => company,
            Err(reason) => return Err(anyhow!("did not start: {reason}")),
        };
        company.signal(Signal::CONT)?;
        let measured = self.window(turn, company, point.get("rate")?);
        company.signal(Signal::STOP)?;
        measured
    }
}

fn place(subject: &dyn Subject) -> Place {
    match subject.rules() {
        _ if subject.group() == Group::Baseline => Place::Nowhere,
        Rules::Sidecar => Place::Workload,
        _ => Place::Node,
    }
}

/// Nodes for so many workloads and proxies that take, all together, what was measured on two hosts.
fn nodes(workloads: u32, place: Place, used: Room) -> f64 {
    let count = f64::from(workloads);
    let by_cpu = (count * APPLICATION.cpu + used.cpu) / NODE.cpu;
    let by_memory = match place {
        Place::Node => count * APPLICATION.memory / (NODE.memory - used.memory / 2.0),
        _ => (count * APPLICATION.memory + used.memory) / NODE.memory,
    };
    by_cpu.max(by_memory).ceil()
}

/// Nodes for so many workloads by what is reserved.
fn nodes_reserved(workloads: u32, place: Place) -> f64 {
    let (each, on_node) = match place {
        Place::Nowhere => (Room { cpu: 0.0, memory: 0.0 }, Room { cpu: 0.0, memory: 0.0 }),
        Place::Workload => (SIDECAR_RESERVED, Room { cpu: 0.0, memory: 0.0 }),
        Place::Node => (Room { cpu: 0.0, memory: 0.0 }, NODE_PROXY_RESERVED),
    };
    let count = f64::from(workloads);
    let by_cpu = count * (APPLICATION.cpu + each.cpu) / (NODE.cpu - on_node.cpu);
    let by_memory = count * (APPLICATION.memory + each.memory) / (NODE.memory - on_node.memory);
    by_cpu.max(by_memory).ceil()
}

fn available_bytes() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kibibytes: u64 = kibibytes.context("no MemAvailable in /proc/meminfo")?.trim().parse()?;
    Ok(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_follow_from_what_is_used_and_from_what_is_reserved() {
        let used = |cpu, memory| Room { cpu, memory };
        //  name                        where            what proxies take   used  reserved
        let rows = [
            ("none: 15 vCPU are granted", Place::Nowhere, used(0.0, 0.0), 4.0, 4.0),
            ("sidecars: 30 reserved", Place::Workload, used(0.5, 9.0), 4.0, 8.0),
            ("sidecars, 37.5 + 30 GiB", Place::Workload, used(0.5, 30.0), 5.0, 8.0),
            ("a node's, 15 of 3.8 each", Place::Node, used(0.2, 0.1), 4.0, 4.0),
            ("a node's, 8 GiB on each", Place::Node, used(0.2, 16.0), 5.0, 4.0),
            ("a node's, 1.5 vCPU", Place::Node, used(1.5, 0.1), 5.0, 4.0),
        ];
        for (name, place, used, want, want_reserved) in rows {
            assert_eq!(nodes(150, place, used), want, "{name}");
            assert_eq!(nodes_reserved(150, place), want_reserved, "{name}");
        }
    }
}
