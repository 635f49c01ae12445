//! Waypoints of two tenants: what is wrong with one's process is nobody else's trouble.
//!
//! A waypoint that spins is made of one that is sound: its shards' code is overwritten in its memory, from outside, by a jump
//! to itself. So they burn what processor time they get and come to nothing, as after a defect.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use ringway_bench::lab::{Process, wait_until};

use crate::on_both_reactors;
use crate::support::waypoint::{Load, WEB, WaypointMesh, ask, start_waypoint_of};
use crate::support::{Application, PATIENCE, connect, echo_once, exchange, is_timeout};

on_both_reactors! {
    a_waypoint_that_spins_touches_nobody_else,
}

/// Another tenant's service, behind a waypoint of its own in the pod `legacy`.
const OTHER: &str = "10.96.1.6:80";

const OTHER_TENANT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other-waypoint, namespace: default}
spec:
  gatewayClassName: ringway-waypoint
  listeners:
  - {name: mesh, port: 15008, protocol: HBONE}
---
apiVersion: v1
kind: Pod
metadata:
  name: other-waypoint
  labels: {gateway.networking.k8s.io/gateway-name: other-waypoint}
  annotations: {ambient.istio.io/redirection: enabled}
spec: {nodeName: host-b, serviceAccountName: other-waypoint}
status: {podIP: 10.2.0.99}
---
apiVersion: v1
kind: Service
metadata: {name: other, labels: {istio.io/use-waypoint: other-waypoint}}
spec: {clusterIP: 10.96.1.6, selector: {app: neighbour}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// A service without a waypoint.
const PLAIN: &str = "10.96.1.2:80";

fn a_waypoint_that_spins_touches_nobody_else(reactor: &str) {
    let mut story = WaypointMesh::policed(reactor, "", OTHER_TENANT);
    let mut other = start_waypoint_of(&story.mesh, "other-waypoint", "legacy");
    let _echo = Application::echo(story.mesh.at("server"), 9000);
    let to = story.mesh.address("server", 9000);
    let mut open = connect(story.mesh.at("client"), to);
    let loads = [OTHER, PLAIN].map(|to| Load::start(story.mesh.at("client"), to, 1));
    loads.iter().for_each(|load| load.go_on_for(5));
    // It is its waypoint that is asked.
    other.process.wait_for_log("\"/load\"", PATIENCE).unwrap();
    assert_eq!(story.ask("/", "").0, 200);

    let spinning = Spinning::begin(&story.waypoint.process);
    let mut asking = connect(story.mesh.at("client"), WEB.parse().unwrap());
    asking.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    asking.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").unwrap();
    let read = asking.read(&mut [0]).expect_err("it answers nothing");
    assert!(is_timeout(&read), "{read}");
    spinning.burns_on();
    loads.iter().for_each(|load| load.go_on_for(20));
    echo_once(story.mesh.at("client"), to).unwrap();
    exchange(&mut open, b"still there?").unwrap();
    // The process's own control thread sees it, and says what to look at.
    story.waypoint.process.wait_for_log("a shard is stuck", PATIENCE * 2).unwrap();
    spinning.burns_on();
    loads.iter().for_each(|load| load.go_on_for(5));
    for load in loads {
        assert_eq!(load.failures(), Vec::<String>::new(), "{}", story.logs());
    }

    spinning.end();
    let asked = || ask(story.mesh.at("client"), WEB.parse().unwrap(), "/", "");
    let goes_on = || asked().is_ok_and(|(status, _)| status == 200);
    wait_until("it goes on where it was", PATIENCE, goes_on)
        .unwrap_or_else(|error| panic!("{error}\n{}", story.logs()));
}

/// What a shard does once a turn, between its begin and its end.
const EACH_TURN: &str = "5Local10poll_tasks";

/// A jump to itself.
const JUMP: &[u8] = match cfg!(target_arch = "aarch64") {
    true => &[0x00, 0x00, 0x00, 0x14],
    false => &[0xeb, 0xfe],
};

/// A process whose shards spin, each from its next turn on.
struct Spinning {
    process: u32,
    memory: File,
    /// Where in its memory, and what stood there.
    written: Vec<(u64, Vec<u8>)>,
}

impl Spinning {
    fn begin(process: &Process) -> Self {
        let process = process.id();
        let file = format!("/proc/{process}/mem");
        let memory = OpenOptions::new().read(true).write(true).open(file).unwrap();
        let base = base(process);
        let write = |offset: u64| {
            let mut before = vec![0; JUMP.len()];
            memory.read_exact_at(&mut before, base + offset).unwrap();
            memory.write_all_at(JUMP, base + offset).unwrap();
            (base + offset, before)
        };
        let written = places().into_iter().map(write).collect();
        Self { process, memory, written }
    }

    /// Waits until it has burnt a further half of a second of processor time.
    fn burns_on(&self) {
        let before = self.processor_ticks();
        let is_burnt = || self.processor_ticks() >= before + 50;
        wait_until("the shards burn processor time", PATIENCE, is_burnt).unwrap();
    }

    /// In user space; a hundred are a second.
    fn processor_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process)).unwrap();
        // The second field, a name, may have spaces; this is the fourteenth.
        let behind_name = stat.rsplit_once(") ").unwrap().1;
        behind_name.split(' ').nth(11).unwrap().parse().unwrap()
    }

    /// Puts back what stood there.
    fn end(self) {
        for (at, before) in &self.written {
            self.memory.write_all_at(before, *at).unwrap();
        }
    }
}

/// Where the program's file begins in the process's memory.
fn base(process: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let program = fs::read_link(format!("/proc/{process}/exe")).unwrap();
    let first = maps.lines().find(|line| line.ends_with(program.to_str().unwrap())).unwrap();
    u64::from_str_radix(first.split_once('-').unwrap().0, 16).unwrap()
}

/// Where in the program the function begins, by its symbols.
fn places() -> Vec<u64> {
    let output = Command::new("nm").arg(env!("CARGO_BIN_EXE_ringway")).output();
    let symbols = String::from_utf8(output.expect("binutils are installed").stdout).unwrap();
    let is_wanted = |line: &&str| line.contains(EACH_TURN) && !line.contains("closure");
    let at = |line: &str| u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let places: Vec<u64> = symbols.lines().filter(is_wanted).map(at).collect();
    assert!(!places.is_empty(), "the program was built without symbols");
    places
}
