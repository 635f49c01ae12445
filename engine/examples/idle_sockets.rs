//! Prints what an idle connection costs on the runtime: resident memory per task with its socket.
//!
//! `cargo run --release -p ringway-engine --example idle_sockets [ring|epoll] [CONNECTIONS]`
//!
//! The clients are a second process. Each connection is one task that waits for bytes, as the relay
//! of an idle connection does. Tables double as they grow, so the average and the slope of the
//! second half differ.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::runtime::{
    ListenOptions, NetNamespace, ReactorChoice, Runtime, TcpListener, sleep, spawn,
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, count] = &arguments[..]
        && role == "clients"
    {
        return hold(address.parse().expect("an address"), count.parse().expect("a number"));
    }
    let choice = match arguments.first().map(String::as_str) {
        Some("epoll") => ReactorChoice::Epoll,
        _ => ReactorChoice::Ring,
    };
    let connections = arguments.get(1).map_or(9_000, |text| text.parse().expect("a number"));
    let (runtime, report) = Runtime::new(choice).expect("a runtime");
    println!("{report}");
    runtime.block_on(measure(connections));
}

async fn measure(connections: usize) {
    let here = NetNamespace::current().expect("our own");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let listener = TcpListener::bind(&here, any, &ListenOptions::default()).expect("a listener");
    let address = listener.local_addr().expect("bound").to_string();
    let program = std::env::current_exe().expect("this program");
    let mut half = None;
    let mut children = Vec::new();
    let empty = resident_bytes();
    for part in [connections / 2, connections - connections / 2] {
        let count = part.to_string();
        let child = Command::new(&program).args(["clients", &address, &count]).spawn();
        children.push(child.expect("this program runs"));
        for _ in 0..part {
            let (stream, _) = listener.accept().await.expect("a working listener");
            let stream = Rc::new(stream);
            spawn(async move {
                stream.readable().await;
                while stream.try_read(&mut [0; 1]).is_err() {
                    stream.readable().await;
                }
            });
        }
        sleep(Duration::from_millis(500)).await;
        half.get_or_insert_with(resident_bytes);
    }
    let (half, all) = (half.expect("measured"), resident_bytes());
    let slope = all.saturating_sub(half) / (connections - connections / 2);
    let average = all.saturating_sub(empty) / connections;
    println!("empty {} KiB, {connections} connections {} KiB", empty / 1024, all / 1024);
    println!("one task, one socket: {average} bytes on average, {slope} in the second half");
    for mut child in children {
        child.kill().expect("still there");
        child.wait().expect("gone");
    }
}

fn hold(address: SocketAddr, count: usize) {
    let _connections: Vec<_> = (0..count)
        .map(|_| std::net::TcpStream::connect(address).expect("the queue has room"))
        .collect();
    std::thread::park();
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a field");
    let kibibytes: usize =
        line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    kibibytes * 1024
}
