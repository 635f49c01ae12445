//! The conditions of a run: everything that somebody needs who wants to see the same numbers.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Value, json};

use crate::experiment::Plan;
use crate::measure::load_average;

/// What the run was told that the plan does not know.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Congestion control of all namespaces.
    pub congestion_control: String,
    /// Where the generator's randomness begins.
    pub seed: u64,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// Whether the processors are kept from going idle.
    pub awake: bool,
    /// A sentence of the user's.
    pub note: String,
}

/// What the processors do when nobody wants them, if it is not the usual.
pub fn processors(awake: bool) -> Option<&'static str> {
    awake.then_some("kept awake by threads that yield to all others")
}

/// The manifest at the start of a run.
pub fn at_start(plan: &Plan, conditions: &Conditions) -> Result<Value> {
    let experiments: BTreeMap<&str, Vec<String>> = plan
        .experiments
        .iter()
        .map(|one| (one.name(), one.points().iter().map(ToString::to_string).collect()))
        .collect();
    let subjects: Vec<&str> = plan.subjects.iter().map(|subject| subject.name()).collect();
    let groups: BTreeMap<&str, String> = plan
        .subjects
        .iter()
        .map(|subject| (subject.name(), format!("{:?}", subject.group())))
        .collect();
    Ok(json!({
        "commit": output("git", &["rev-parse", "HEAD"]),
        "changed_files": output("git", &["status", "--porcelain"]).lines().collect::<Vec<_>>(),
        "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "machine": machine()?,
        "programs": programs(plan),
        "conditions": {
            "cipher_suite": "TLS_AES_128_GCM_SHA256",
            "congestion_control": conditions.congestion_control,
            "workers": crate::subject::WORKERS,
            "processors": processors(conditions.awake),
            "cores": "all subjects, the generator and the servers share all cores",
            "time_wait": "net.ipv4.tcp_max_tw_buckets=100 in both pods",
            "topology": "two pods as network namespaces, one veth pair; node proxies share one set of \
                         redirect rules, sidecars have Istio's, no proxy has none",
            "cost": "scheduler time of all threads of the proxies; machine: all busy time less that \
                     of generator, servers and laboratory",
            "order": "subjects interleaved, reversed every second repetition; every repetition \
                      starts the proxies afresh",
            "seed": conditions.seed,
            "seconds": conditions.seconds,
            "note": conditions.note,
        },
        "subjects": subjects,
        "groups": groups,
        "experiments": experiments,
        "repetitions": plan.repetitions,
        "arguments": arguments(),
        "load_average": {"start": load_average()},
        "complete": false,
    }))
}

/// What every run has: the commit, the machine, the programs that take part.
pub fn surroundings(programs: &[PathBuf]) -> Result<Value> {
    Ok(json!({
        "commit": output("git", &["rev-parse", "HEAD"]),
        "changed_files": output("git", &["status", "--porcelain"]).lines().collect::<Vec<_>>(),
        "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "machine": machine()?,
        "programs": described(programs.iter().cloned().chain(std::env::current_exe().ok())),
        "arguments": arguments(),
        "load_average": {"start": load_average()},
        "complete": false,
    }))
}

/// The command line. Where the project and the programs of others lie on this machine is nobody's business.
pub fn arguments() -> Vec<String> {
    let project = PathBuf::from(output("git", &["rev-parse", "--show-toplevel"]));
    let here = std::env::current_dir().unwrap_or_default();
    std::env::args().map(|argument| without_machine_paths(&argument, &project, &here)).collect()
}

/// An argument as it would be given in the folder of the project: a path inside it is relative to it, and of one
/// outside only the last name is left. In `--option=PATH` that goes for the path. Without a project, `here` stands for it.
fn without_machine_paths(argument: &str, project: &Path, here: &Path) -> String {
    let option = argument.split_once('=').filter(|(option, _)| option.starts_with("--"));
    if let Some((option, value)) = option {
        return format!("{option}={}", without_machine_paths(value, project, here));
    }
    let path = Path::new(argument);
    if !path.is_absolute() {
        return argument.to_owned();
    }
    let project = if project.is_absolute() { project } else { here };
    let inside = path.strip_prefix(project).ok().filter(|inside| !inside.as_os_str().is_empty());
    let shown = inside.or_else(|| path.file_name().map(Path::new)).unwrap_or(Path::new("."));
    shown.display().to_string()
}

/// Adds what is known at the end.
pub fn at_end(manifest: &mut Value, complete: bool) {
    manifest["load_average"]["end"] = load_average().into();
    manifest["complete"] = complete.into();
    manifest["end"] = output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]).into();
}

/// `results/<date>-<name>-<machine>`, with a number where that is taken.
pub fn results_folder(name: &str) -> PathBuf {
    let now = time::OffsetDateTime::now_utc();
    let first = format!("results/{}-{name}-{}", now.date(), machine_name());
    let mut folder = PathBuf::from(&first);
    let mut number = 2;
    while folder.exists() {
        folder = PathBuf::from(format!("{first}-{number}"));
        number += 1;
    }
    folder
}

/// The machine's name in folders of results.
pub fn machine_name() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{}-{cores}cpu", output("uname", &["-n"]))
}

fn machine() -> Result<Value> {
    let mut mitigations = BTreeMap::new();
    for entry in
        fs::read_dir("/sys/devices/system/cpu/vulnerabilities").into_iter().flatten().flatten()
    {
        let state = fs::read_to_string(entry.path()).unwrap_or_default().trim().to_owned();
        mitigations.insert(entry.file_name().to_string_lossy().into_owned(), state);
    }
    Ok(json!({
        "processor": line_of("/proc/cpuinfo", "model name"),
        "cores": std::thread::available_parallelism()?.get(),
        "memory": line_of("/proc/meminfo", "MemTotal"),
        "kernel": output("uname", &["-srvm"]),
        "mitigations": mitigations,
    }))
}

/// Every program that takes part, with its version and hash.
fn programs(plan: &Plan) -> BTreeMap<String, Value> {
    let own = std::env::current_exe().ok();
    described(plan.subjects.iter().flat_map(|subject| subject.programs()).chain(own))
}

fn described(used: impl Iterator<Item = PathBuf>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for path in used {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        all.entry(name).or_insert_with(|| {
            json!({ "version": version(&path), "sha256": hash(&path), "present": path.exists() })
        });
    }
    all.insert("rustc".to_owned(), json!({ "version": output("rustc", &["--version"]) }));
    all
}

fn version(path: &Path) -> String {
    let text = output(&path.display().to_string(), &["--version"]);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

fn hash(path: &Path) -> String {
    let text = output("sha256sum", &[&path.display().to_string()]);
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn line_of(path: &str, key: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map_or(line, |(_, value)| value).trim().to_owned()
}

/// What a program prints; nothing when it fails.
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_do_not_tell_where_things_lie_on_the_machine() {
        let project = Path::new("/home/someone/ringway");
        //   name, argument, recorded
        for (name, argument, recorded) in [
            ("no path", "latency,capacity", "latency,capacity"),
            ("relative", "results/a", "results/a"),
            (
                "inside",
                "/home/someone/ringway/target/release/ringway-bench",
                "target/release/ringway-bench",
            ),
            ("inside, of an option", "--out=/home/someone/ringway/results/a", "--out=results/a"),
            ("outside", "/opt/secret/bin/envoy", "envoy"),
            ("outside, of an option", "--envoy=/opt/secret/bin/envoy", "--envoy=envoy"),
            ("beside, with the same beginning", "/home/someone/ringway-2/a", "a"),
            ("the project itself", "/home/someone/ringway", "ringway"),
            ("the root", "/", "."),
            ("a sentence with a slash", "rate=1/s, quiet", "rate=1/s, quiet"),
        ] {
            let here = Path::new("/elsewhere");
            assert_eq!(without_machine_paths(argument, project, here), recorded, "{name}");
        }
        let unknown = Path::new("");
        let here = Path::new("/srv/unpacked");
        let argument = "/srv/unpacked/target/release/ringway";
        assert_eq!(without_machine_paths(argument, unknown, here), "target/release/ringway");
    }

    #[test]
    fn what_every_run_has_names_no_folder_of_the_machine() {
        let recorded = surroundings(&[]).expect("this machine can be described");
        let arguments = recorded["arguments"].as_array().expect("a list");
        assert!(!arguments.is_empty());
        for argument in arguments {
            let argument = argument.as_str().expect("text");
            assert!(!argument.starts_with('/'), "{argument}");
        }
    }
}
