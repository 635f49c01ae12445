//! `ringway-bench compare` on folders of made-up results.

use std::path::Path;
use std::process::{Command, Output};

use ringway_bench::record::{Origin, Recorder};
use serde_json::json;

/// A folder in which a request costs about `cost`, on a machine.
fn folder(path: &Path, processor: &str, cost: f64, seed: u64) {
    let mut recorder = Recorder::create(path).unwrap();
    recorder.manifest(&json!({"machine": {"processor": processor}})).unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for repetition in 1..=10 {
        let origin = Origin {
            experiment: "capacity".to_owned(),
            subject: "ringway".to_owned(),
            repetition,
            point: "connections=64".to_owned(),
        };
        let noise = 1.0 + 0.1 * random.f64();
        recorder.sample(&origin, "cpu", "CPU-us/request", cost * noise).unwrap();
        recorder.sample(&origin, "rate", "requests/s", 1e6 / (cost * noise)).unwrap();
    }
}

fn compare(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let program = env!("CARGO_BIN_EXE_ringway-bench");
    let command = Command::new(program).current_dir(folder).arg("compare").args(arguments).output();
    let Output { status, stdout, stderr } = command.unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn what_costs_more_is_called_worse_and_nothing_else_is() {
    let guard = tempfile::tempdir().unwrap();
    folder(&guard.path().join("before"), "x", 20.0, 1);
    folder(&guard.path().join("same"), "x", 20.0, 2);
    folder(&guard.path().join("slower"), "x", 40.0, 3);

    let (passed, text) = compare(guard.path(), &["before", "same", "--fail-if-slower"]);
    assert!(passed && text.matches("no difference shown").count() == 2, "{text}");

    let (passed, text) = compare(guard.path(), &["before", "slower"]);
    assert!(passed, "told, but not a failure unless it is asked for: {text}");
    assert!(text.contains("higher, worse") && text.contains("lower, worse"), "{text}");
    let (passed, _) = compare(guard.path(), &["before", "slower", "--fail-if-slower"]);
    assert!(!passed);

    let (passed, text) = compare(guard.path(), &["slower", "before", "--fail-if-slower"]);
    assert!(passed && text.contains("lower, better"), "{text}");
    let (_, text) = compare(guard.path(), &["before", "slower", "--metrics", "cpu"]);
    assert!(text.contains("1 compared, 1 shown to be worse"), "{text}");
}

#[test]
fn other_conditions_are_refused_and_named() {
    let guard = tempfile::tempdir().unwrap();
    folder(&guard.path().join("here"), "EPYC", 20.0, 1);
    folder(&guard.path().join("there"), "Xeon", 20.0, 2);
    let (passed, text) = compare(guard.path(), &["here", "there"]);
    assert!(!passed && text.contains("machine.processor: \"EPYC\" and \"Xeon\""), "{text}");
    let (passed, text) = compare(guard.path(), &["here", "there", "--anyway"]);
    assert!(passed && text.contains("EPYC") && text.contains("2 compared"), "{text}");
}

#[test]
fn what_is_neither_folder_nor_commit_is_named() {
    let guard = tempfile::tempdir().unwrap();
    folder(&guard.path().join("here"), "EPYC", 20.0, 1);
    let (passed, text) = compare(guard.path(), &["here", "nowhere"]);
    assert!(!passed && text.contains("nowhere"), "{text}");
    let (passed, text) = compare(guard.path(), &["nowhere", "elsewhere"]);
    assert!(!passed && text.contains("neither a folder of results nor a commit"), "{text}");
}
