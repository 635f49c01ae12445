//! HTTP/2 abuse by a user of a waypoint: it is cut, little is kept, and others go on.

use std::fs;
use std::path::Path;

use ringway_bench::lab::Program;

use crate::clients::tool;
use crate::on_both_reactors;
use crate::support::PATIENCE;
use crate::support::waypoint::{Load, WEB, WaypointMesh};

on_both_reactors! {
    floods_of_frames_are_cut,
}

/// What one kind may leave behind in the waypoint's process: the goal is 1 MiB where nothing else is in it; here are buffers and
/// log lines of an unoptimised program.
const KEPT_MAX: u64 = 8 << 20;

/// The kinds of `bench-harness/torture/abuse.py` that a user of HTTP has, too.
const FLOODS: [&str; 20] = [
    "rapid-reset",
    "made-you-reset-window-0",
    "made-you-reset-overflow",
    "made-you-reset-data-after-end",
    "made-you-reset-headers-after-end",
    "made-you-reset-priority-length",
    "continuation",
    "empty-continuation",
    "settings",
    "ping",
    "priority",
    "unknown-frames",
    "empty-data-drained",
    "padded-data",
    "hpack-bomb",
    "http2-bomb",
    "http2-bomb-cookie",
    "window-stall",
    "trailers",
    "goaway",
];

fn floods_of_frames_are_cut(reactor: &str) {
    let story = WaypointMesh::start(reactor, "");
    // So that what is allocated once is there.
    flood(&story, "rapid-reset");
    let load = Load::start(story.mesh.at("client"), WEB, 1);
    load.go_on_for(5);
    let mut wrong = Vec::new();
    for name in FLOODS {
        let before = story.resident_bytes();
        let told = flood(&story, name);
        let kept = story.resident_bytes().saturating_sub(before);
        let is_cut = !told["closed"].is_null() && told["sent"].as_u64() < Some(FRAMES);
        if !is_cut || kept > KEPT_MAX {
            wrong.push(format!("{name}: {told}, {kept} bytes kept"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", story.logs());
    load.go_on_for(5);
    assert_eq!(load.failures(), Vec::<String>::new(), "others");
}

const FRAMES: u64 = 100_000;

/// Sends one kind until it is cut; what the client tells of it.
fn flood(story: &WaypointMesh, name: &str) -> serde_json::Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bench-harness/torture");
    let program = Program::new(tool("clients-python/bin/python"))
        .argument(folder.join("abuse.py"))
        .arguments(["--plain", "--target", WEB, "--attack", name, "--frames"])
        .argument(FRAMES.to_string())
        .environment("PYTHONDONTWRITEBYTECODE", "1");
    let mut client = story.mesh.lab.start("client", "flood", &program).unwrap();
    let status = client.wait(PATIENCE * 3).unwrap();
    let told = client.log();
    assert!(status.success(), "{name}: {told}\n{}", story.logs());
    serde_json::from_str(told.lines().last().unwrap()).unwrap()
}

impl WaypointMesh {
    /// Of the waypoint's process.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let file = format!("/proc/{}/status", self.waypoint.process.id());
        let status = fs::read_to_string(file).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }
}
