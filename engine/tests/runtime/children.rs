//! This program as a child of itself: what a test needs done in another process.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ROLE: &str = "RINGWAY_TEST_ROLE";

/// Plays the role this process was started for, if it was started for one.
pub(crate) fn play() -> bool {
    let Ok(role) = std::env::var(ROLE) else { return false };
    let arguments: Vec<&str> = role.split_whitespace().collect();
    match arguments[..] {
        ["clients", address, count] => {
            let address = address.parse().expect("an address");
            hold_connections(address, count.parse().expect("a number"));
        }
        ["served-under-injection"] => super::rules::injection::serve(),
        _ => panic!("no such role: {role}"),
    }
    true
}

/// This program in the given role.
pub(crate) fn command(role: &str) -> (std::path::PathBuf, String, &'static str) {
    let program = std::env::current_exe().expect("this program");
    (program, role.to_owned(), ROLE)
}

/// A process that opens `count` connections, each of which sends one byte, answers one, and stays.
pub(crate) fn clients(address: SocketAddr, count: usize) -> Child {
    let (program, role, variable) = command(&format!("clients {address} {count}"));
    let child = Command::new(program).env(variable, role).stdin(Stdio::null()).spawn();
    child.expect("this program runs")
}

fn hold_connections(address: SocketAddr, count: usize) {
    // The parent may have lowered the limit for itself.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to the hard one");
    let mut connections: Vec<_> = (0..count)
        .map(|_| {
            let mut connection = TcpStream::connect(address).expect("the queue has room");
            // Whoever found no room has been reset by now.
            let _ = connection.write_all(b"x");
            connection
        })
        .collect();
    // A byte is answered by a byte; then until the other end closes.
    for connection in &mut connections {
        if connection.read(&mut [0]).is_ok_and(|got| got > 0) {
            let _ = connection.write_all(b"y");
        }
    }
    for mut connection in connections {
        let _ = connection.read(&mut [0]);
    }
}
