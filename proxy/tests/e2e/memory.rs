//! A node that may have little memory: it serves, or says what it lacks; no limit ends it by a signal.

use crate::support::{Application, Mesh};

/// The exit code that says: no more memory.
const NO_MEMORY: i32 = 71;
/// What is tried, a step apart. Less than the first is refused by the kernel before the program runs, which takes so
/// much of its own in a build with debug information.
const STEP_MIB: u64 = 8;
/// Starts that succeed, each with a step more than the one before.
const SERVING: usize = 3;

#[test]
fn with_little_address_space_a_node_serves_or_says_what_it_lacks() {
    every_limit_is_one_of_two("--as", "RLIMIT_AS", 64);
}

#[test]
fn with_little_data_a_node_serves_or_says_what_it_lacks() {
    every_limit_is_one_of_two("--data", "RLIMIT_DATA", 12);
}

fn every_limit_is_one_of_two(option: &str, name: &str, from_mib: u64) {
    let mut mesh = Mesh::start("auto");
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.b.stop();
    let (mut served, mut refused) = (0, 0);
    for mib in (from_mib..1024).step_by(STEP_MIB as usize) {
        let limit = format!("{option}={}", mib << 20);
        match mesh.try_restart(&["prlimit", &limit]) {
            None => {
                mesh.assert_works(8080);
                mesh.b.stop();
                served += 1;
            }
            Some((status, said)) => {
                assert_eq!(served, 0, "{limit} is too little, and less was not: {said}");
                assert_eq!(status.code(), Some(NO_MEMORY), "{limit}: {status}, {said}");
                let told = |line: &&str| line.contains(name) || line.contains("no more memory");
                assert_eq!(said.lines().filter(told).count(), 1, "{limit}: {said}");
                refused += 1;
            }
        }
        if served == SERVING {
            break;
        }
    }
    assert!(served == SERVING && refused > 0, "{served} served, {refused} were refused");
}
