//! The bench itself: what it measures, what it does when a subject is not there, and that nothing of
//! it stays.
//!
//! Needs root, or `scripts/test`, which gives these tests a user namespace of their own.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use ringway_bench::record::{Results, Sample, Void};

fn bench(out: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-bench"));
    command.arg("run").args(arguments).arg("--out").arg(out);
    command.stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Network namespaces of the process `id`, as laboratories name them.
fn left_behind(id: u32) -> Vec<String> {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("rwt{id}-"))).collect()
}

/// Measures, and finds that nothing of it is left behind. What was measured, and what was said.
fn measure(arguments: &[&str]) -> (Results, String) {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let child = bench(&out, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(left_behind(id), Vec::<String>::new());
    (Results::load(&out).unwrap(), text(&output))
}

/// The values of a metric, of samples that `which` accepts.
fn values(results: &Results, metric: &str, which: impl Fn(&Sample) -> bool) -> Vec<f64> {
    let samples = results.samples.iter().filter(|sample| sample.metric == metric && which(sample));
    samples.map(|sample| sample.value).collect()
}

/// What is void of a subject.
fn voids<'r>(results: &'r Results, subject: &str) -> Vec<&'r Void> {
    results.voids.iter().filter(|void| void.origin.subject == subject).collect()
}

#[test]
fn every_subject_is_measured_and_a_missing_one_is_void() {
    let arguments = [
        "capacity,connections",
        "--subjects",
        "none,reference-1,ringway",
        "--ringway",
        "/nowhere/ringway",
        "--repetitions",
        "1",
        "--seconds",
        "0.2",
    ];
    let (results, said) = measure(&arguments);
    let measured: BTreeSet<(&str, &str)> = results
        .samples
        .iter()
        .filter(|sample| sample.metric == "cpu" && sample.value.is_finite())
        .map(|sample| (&*sample.origin.subject, &*sample.origin.point))
        .collect();
    for point in ["connections=1", "connections=64", "connections=1000", "kind=tunnel-live"] {
        assert!(measured.contains(&("none", point)), "{measured:?}\n{said}");
        assert!(measured.contains(&("reference-1", point)), "{measured:?}\n{said}");
    }
    let cost = |subject: &str| {
        let at_64 = |sample: &Sample| {
            (&*sample.origin.subject, &*sample.origin.point) == (subject, "connections=64")
        };
        values(&results, "cpu", at_64)[0]
    };
    assert_eq!(cost("none"), 0.0);
    assert!(cost("reference-1") > 1.0, "two relays cost more than a microsecond a request");

    let void = voids(&results, "ringway");
    assert_eq!(void.len(), 7, "every point of it is void: {void:?}");
    assert!(void.iter().all(|void| void.reason.contains("/nowhere/ringway")), "{void:?}");
    assert!(said.contains("Nothing was measured of ringway."), "{said}");
    assert_eq!(results.manifest["complete"], true);
    assert!(results.manifest["programs"]["ringway-bench"]["sha256"].as_str().unwrap().len() == 64);
}

#[test]
fn idle_connections_are_held_and_counted() {
    let arguments = [
        "idle",
        "--subjects",
        "none,reference-1",
        "--held",
        "0,50",
        "--seconds",
        "0.1",
        "--repetitions",
        "2",
    ];
    let (results, _) = measure(&arguments);
    assert!(results.voids.is_empty(), "{:?}", results.voids);
    let value = |subject: &str, point: &str, metric: &str| {
        let there =
            |sample: &Sample| (&*sample.origin.subject, &*sample.origin.point) == (subject, point);
        let all = values(&results, metric, there);
        assert_eq!(all.len(), 1, "{subject} {point} {metric}: one repetition says it all");
        all[0]
    };
    let (empty, held) = ("connections=0", "connections=50");
    assert_eq!(value("none", held, "sockets-per-connection"), 2.0);
    // A relay on either side has two ends of each, or one and a share of a tunnel.
    assert!(value("reference-1", held, "sockets-per-connection") >= 4.0);
    assert!(value("reference-1", held, "near-per-connection").is_finite());
    assert!(value("reference-1", held, "far-rss-after") > 1.0);
    assert!(value("reference-1", empty, "near-rss") > 1.0);
    assert!(value("none", held, "return-time") < 1.0, "nothing is back at once");
}

#[test]
fn a_mesh_is_loaded_where_there_is_a_proxy_for_it() {
    let ringway = Path::new(env!("CARGO_BIN_EXE_ringway-bench")).with_file_name("ringway");
    let arguments = [
        "scale",
        "--subjects",
        "reference,ringway,envoy-http",
        "--workloads",
        "10",
        "--seconds",
        "0.1",
        "--repetitions",
        "2",
    ];
    let (results, _) = measure(&arguments);
    let void = |subject: &str| {
        let reasons = voids(&results, subject).into_iter().map(|void| &*void.reason);
        reasons.collect::<Vec<&str>>()
    };
    for (subject, says) in [("reference", "knows no mesh"), ("envoy-http", "envoy-tcp")] {
        let reasons = void(subject);
        assert_eq!(reasons.len(), 2, "both sources, once: {reasons:?}");
        assert!(reasons.iter().all(|reason| reason.contains(says)), "{reasons:?}");
    }
    // The program is another package's: these tests may run without it.
    if ringway.exists() {
        assert_eq!(void("ringway"), Vec::<&str>::new());
        for metric in ["rss", "peak", "load-time", "change-visible"] {
            let values = values(&results, metric, |one| one.origin.subject == "ringway");
            assert!(values.len() == 2 && values.iter().all(|value| *value > 0.0), "{values:?}");
        }
    } else {
        assert!(void("ringway").iter().all(|reason| reason.contains("there is no program")));
    }
}

#[test]
fn what_is_finished_is_kept_when_it_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let arguments = ["capacity", "--subjects", "none", "--repetitions", "50", "--seconds", "0.1"];
    let mut child = bench(&out, &arguments).stdout(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let samples = || std::fs::read_to_string(out.join("samples.csv")).unwrap_or_default();
    while !samples().contains("connections=64") {
        assert!(began.elapsed() < Duration::from_secs(30), "nothing was measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(1), "stopped is not finished");
    let results = Results::load(&out).unwrap();
    assert_eq!(results.manifest["complete"], false);
    assert!(results.samples.iter().any(|sample| sample.origin.point == "connections=64"));
    assert!(results.voids.is_empty(), "what was cut short is no void: {:?}", results.voids);
    assert_eq!(left_behind(child.id()), Vec::<String>::new());
}

#[test]
fn a_neighbour_is_told_with_what_it_did_and_who_has_none_is_void() {
    let subjects = ["noisy-neighbour", "--subjects", "none,reference-1", "--repetitions", "1"];
    let (results, said) = measure(&[&subjects[..], &["--seconds", "0.3"]].concat());
    let value = |does: &str, metric: &str| {
        let point = format!("neighbour={does}");
        let found = values(&results, metric, |sample| *sample.origin.point == *point);
        *found.first().unwrap_or_else(|| panic!("no {metric} at {point}: {said}"))
    };
    for does in ["quiet", "elephants", "storm"] {
        assert!(value(does, "p50") > 0.0 && value(does, "p99") >= value(does, "p50"));
    }
    assert!(value("elephants", "neighbour-moves") > 0.1, "elephants move");
    assert!(value("storm", "neighbour-opens") > 100.0, "a storm opens connections");
    assert!(results.samples.iter().all(|sample| sample.origin.subject == "none"));
    assert_eq!(voids(&results, "reference-1").len(), 3, "{:?}", results.voids);
}

#[test]
fn changes_of_the_configuration_are_taken_and_fail_no_request() {
    let ringway = Path::new(env!("CARGO_BIN_EXE_ringway-bench")).with_file_name("ringway");
    assert!(ringway.exists(), "this needs the program: cargo build -p ringway");
    let subjects = ["config-swap", "--subjects", "none,ringway", "--repetitions", "1"];
    let (results, said) = measure(&[&subjects[..], &["--seconds", "0.3"]].concat());
    let values = |metric: &str| values(&results, metric, |_| true);
    let swaps = values("swaps");
    assert_eq!(swaps[0], 0.0, "{said}");
    assert!(swaps[1] >= 2.0, "{swaps:?} {said}");
    assert_eq!(values("failed"), [0.0, 0.0], "{said}");
    assert_eq!(
        voids(&results, "none").len(),
        2,
        "what has no configuration is void: {:?}",
        results.voids
    );
}

#[test]
fn no_new_connection_fails_while_proxies_are_replaced() {
    let ringway = Path::new(env!("CARGO_BIN_EXE_ringway-bench")).with_file_name("ringway");
    assert!(ringway.exists(), "this needs the program: cargo build -p ringway");
    let subjects = ["hand-over", "--subjects", "none,ringway", "--repetitions", "1"];
    let (results, said) = measure(&[&subjects[..], &["--seconds", "0.3"]].concat());
    let values = |metric: &str| values(&results, metric, |_| true);
    let hand_overs = values("hand-overs");
    assert!(hand_overs[0] == 0.0 && hand_overs[1] >= 1.0, "{hand_overs:?} {said}");
    assert_eq!(values("failed"), [0.0, 0.0], "{said}");
    assert!(values("connections").iter().all(|opened| *opened > 100.0), "{said}");
    assert_eq!(voids(&results, "none").len(), 2, "{:?}", results.voids);
}

#[test]
fn proxies_get_as_many_processors_as_the_point_says() {
    let subjects = ["cores", "--subjects", "none,reference,reference-1", "--repetitions", "1"];
    let (results, said) = measure(&[&subjects[..], &["--seconds", "0.2"]].concat());
    let rates = values(&results, "rate", |sample| sample.origin.subject == "reference");
    let points = results.manifest["experiments"]["cores"].as_array().unwrap();
    assert_eq!(points[0], "cores=1 connections=64");
    let points = points.len();
    assert_eq!(rates.len(), points, "{said}");
    assert!(rates.iter().all(|rate| *rate > 0.0), "{rates:?}");
    assert_eq!(voids(&results, "none").len(), points, "{:?}", results.voids);
    assert_eq!(voids(&results, "reference-1").len(), points, "{:?}", results.voids);
}

#[test]
fn a_full_disk_ends_the_run_with_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    // A mount of its own, which goes with the process.
    let run = bench(&folder.path().join("results"), &["latency", "--subjects", "none"]);
    let script = "mount -t tmpfs -o size=28k tmpfs \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(folder.path())
        .arg(run.get_program())
        .args(run.get_args())
        .args(["--repetitions", "200", "--seconds", "0.1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = text(&output);
    assert!(!output.status.success(), "{said}");
    for says in ["what was written is kept", "No space left on device", "not measured here"] {
        assert!(said.contains(says), "{says}: {said}");
    }
    let namespaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    assert_eq!(namespaces.filter(|one| is_orphan(&one.file_name().to_string_lossy())).count(), 0);
}

/// Whether a namespace is a laboratory's whose owner is gone.
fn is_orphan(name: &str) -> bool {
    let owner = name.strip_prefix("rwt").and_then(|rest| rest.split('-').next());
    owner.is_some_and(|id| !Path::new("/proc").join(id).exists())
}

#[test]
fn a_company_is_started_once_and_measured_in_turns() {
    let ringway = Path::new(env!("CARGO_BIN_EXE_ringway-bench")).with_file_name("ringway");
    assert!(ringway.exists(), "this needs the program: cargo build -p ringway");
    let subjects = ["cost", "--subjects", "none,ringway,reference-1", "--repetitions", "2"];
    let size = ["--services", "10", "--seconds", "0.3"];
    let (results, said) = measure(&[&subjects[..], &size].concat());
    let values = |subject: &str, metric: &str| {
        values(&results, metric, |sample| sample.origin.subject == subject)
    };
    assert_eq!(values("ringway", "processes"), [2.0, 2.0], "{said}");
    assert!(values("ringway", "memory").iter().all(|memory| *memory > 1.0));
    assert!(values("ringway", "cpu").iter().all(|cpu| *cpu > 0.0));
    assert_eq!(values("none", "cpu"), [0.0, 0.0], "{said}");
    assert_eq!(values("none", "nodes"), [1.0, 1.0]);
    assert_eq!(results.voids.len(), voids(&results, "reference-1").len(), "{:?}", results.voids);
    assert_eq!(results.voids.len(), 2, "what is not set up for it is void: {:?}", results.voids);
}

#[test]
fn mistakes_are_named_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    //  name                       arguments                                   what it says
    for (name, arguments, says) in [
        ("an unknown experiment", &["latencies"][..], "latency, capacity"),
        ("an unknown subject", &["latency", "--subjects", "envoy"][..], "envoy-tcp"),
        ("nothing", &["short", "--experiments", "latncy"][..], "latency, capacity"),
        ("a tiny company", &["cost", "--services", "3"][..], "10..=400"),
        ("no time", &["latency", "--seconds", "0"][..], "--seconds"),
    ] {
        let output = bench(&out, arguments).output().unwrap();
        assert!(!output.status.success(), "{name}");
        assert!(text(&output).contains(says), "{name}: {}", text(&output));
        assert!(!out.exists(), "{name} left a folder");
    }
}
