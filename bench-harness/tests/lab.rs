//! The laboratory itself: what it builds can be reached, and nothing of it stays.
//!
//! Needs root, or `scripts/test`, which gives these tests a user namespace of their own.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ringway_bench::lab::{Lab, Program, wait_until};

const PATIENCE: Duration = Duration::from_secs(10);

fn two_hosts() -> Lab {
    let mut lab = Lab::unique().unwrap();
    lab.add_host("host-a").unwrap();
    lab.add_host("host-b").unwrap();
    lab.add_pod("host-a", "client", Ipv4Addr::new(10, 1, 0, 10)).unwrap();
    lab.add_pod("host-b", "server", Ipv4Addr::new(10, 2, 0, 10)).unwrap();
    lab
}

#[test]
fn pods_reach_each_other_across_hosts_with_their_own_addresses() {
    let lab = two_hosts();
    let listener = lab.namespace("server").listen(9080).unwrap();
    let to = SocketAddr::new(lab.namespace("server").address(), 9080);
    let mut client = lab.namespace("client").connect(to).unwrap();
    let (mut server, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), lab.namespace("client").address());
    client.write_all(b"hello").unwrap();
    let mut text = [0; 5];
    server.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");
}

/// How many processors a program in `place` sees.
fn seen(lab: &Lab, place: &str, program: &Program) -> usize {
    let mut nproc = lab.start(place, "nproc", program).unwrap();
    assert!(nproc.wait(PATIENCE).unwrap().success(), "{}", nproc.log());
    nproc.log().lines().last().unwrap().parse().unwrap()
}

#[test]
fn a_program_sees_the_processors_it_is_given() {
    let lab = two_hosts();
    let first = lab.processors("client").unwrap()[0];
    assert_eq!(seen(&lab, "client", &Program::new("nproc").on_processors(&[first])), 1);
}

#[test]
fn hosts_have_processors_of_their_own_when_they_are_divided() {
    let mut lab = Lab::unique().unwrap();
    lab.add_host("host-a").unwrap();
    let all = lab.processors("host-a").unwrap().len();
    lab.divide_processors(&["host-a", "host-b"]).unwrap();
    lab.add_pod("host-a", "client", Ipv4Addr::new(10, 1, 0, 10)).unwrap();
    // With one processor there is nothing to divide.
    let share = (all / 2).max(1);
    for place in ["host-a", "client"] {
        assert_eq!(lab.processors(place).unwrap().len(), share, "{place}");
        assert_eq!(seen(&lab, place, &Program::new("nproc")), share, "{place}");
    }
    if all > 1 {
        let (a, b) = (lab.processors("host-a").unwrap(), lab.processors("host-b").unwrap());
        assert!(a.iter().all(|id| !b.contains(id)), "{a:?} and {b:?}");
    }
}

#[test]
fn nothing_stays_when_it_goes() {
    let lab = two_hosts();
    let mut sleeper =
        lab.start("client", "sleeper", &Program::new("sleep").argument("1000")).unwrap();
    assert!(sleeper.is_running());
    let path = lab.namespace("client").path().to_owned();
    let directory = lab.directory().to_owned();
    drop(lab);
    assert!(!path.exists() && !directory.exists());
    wait_until("the process has ended", PATIENCE, || !sleeper.is_running()).unwrap();
}

#[test]
fn the_next_one_cleans_up_after_a_killed_one() {
    let lab = two_hosts();
    let path = lab.namespace("server").path().to_owned();
    let directory = lab.directory().to_owned();
    let mut sleeper =
        lab.start("server", "sleeper", &Program::new("sleep").argument("1000")).unwrap();
    // As after a kill: nobody drops it, and the owner on record is no living process.
    std::mem::forget(lab);
    std::fs::write(directory.join("owner"), "4194304 1").unwrap();
    Lab::sweep().unwrap();
    assert!(!path.exists() && !directory.exists());
    wait_until("the process has ended", PATIENCE, || !sleeper.is_running()).unwrap();
}

#[test]
fn a_living_laboratory_is_left_alone() {
    let lab = two_hosts();
    Lab::sweep().unwrap();
    assert!(lab.namespace("client").path().exists() && Path::new(lab.directory()).exists());
}
