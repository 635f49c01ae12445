//! The client, and what is measured of it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringway_control::grpc::{Endpoint, Roots};
use ringway_control::xds::{NodeIdentity, Termination, XdsClient, XdsConfig};
use ringway_engine::snapshot::Snapshot;
use rustix::time::{ClockId, clock_gettime};

use crate::STREAMS;

/// Connects to the control plane that says its address here, and prints what a few streams cost.
pub(crate) fn run(plane: impl Read) {
    let mut address = String::new();
    BufReader::new(plane).read_line(&mut address).expect("the control plane says its address");
    let address: SocketAddr = address.trim().parse().expect("it is one");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, measure(address));
}

async fn measure(address: SocketAddr) {
    let busy = Rc::new(Cell::new(Duration::ZERO));
    tokio::task::spawn_local(watch_turns(Rc::clone(&busy)));
    let memory_before = memory("VmRSS");
    println!("at the start: {memory_before} kB");
    let client = XdsClient::start(config(address));
    let mut updates = client.updates();
    for stream in 1..=STREAMS {
        let began = Instant::now();
        let ended = |client: &XdsClient| -> u64 {
            Termination::ALL.iter().map(|reason| client.counts().terminations(*reason)).sum()
        };
        let wanted = ended(&client) + 1;
        let mut synced_after = None;
        // What an engine would hold: the last snapshot it was given.
        let mut published = updates.borrow_and_update().snapshot.clone();
        while ended(&client) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if updates.has_changed().expect("the client runs") {
                let update = updates.borrow_and_update().clone();
                if update.is_synced {
                    synced_after.get_or_insert_with(|| began.elapsed());
                }
                published = update.snapshot;
            }
        }
        println!(
            "stream {stream}: {} workloads, {} services, known after {:.2?}; longest turn {:.2?}; {} kB, at most {} kB",
            published.workload_count(),
            published.service_count(),
            synced_after.unwrap_or_default(),
            busy.take(),
            memory("VmRSS"),
            memory("VmHWM"),
        );
    }
    for (url, messages, bytes) in client.counts().messages() {
        println!("{url}: {messages} responses, {bytes} bytes");
    }
}

fn config(address: SocketAddr) -> XdsConfig {
    let endpoint = Endpoint {
        uri: format!("http://{address}").parse().expect("an address"),
        roots: Roots::System,
        alternative_hostname: None,
        token: None,
        cluster_id: "Kubernetes".to_owned(),
        headers: Vec::new(),
        post_quantum_only: false,
    };
    let node = NodeIdentity {
        node_type: Default::default(),
        ip: [10, 0, 0, 1].into(),
        pod_name: "ztunnel".to_owned(),
        pod_namespace: "istio-system".to_owned(),
        node_name: Some("node-1".to_owned()),
        metadata: BTreeMap::new(),
    };
    XdsConfig { endpoint, node, is_on_demand: false, known: Snapshot::new("") }
}

/// Always wants a turn: what the thread works between two is the longest that anybody has it. Time in which another
/// process has the core does not count.
async fn watch_turns(longest: Rc<Cell<Duration>>) {
    let mut last = worked();
    loop {
        tokio::task::yield_now().await;
        let now = worked();
        longest.set(longest.get().max(now - last));
        last = now;
    }
}

/// The processor time of this thread.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("it is not negative")
}

/// A line of `/proc/self/status`, in kB.
fn memory(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|line| line.starts_with(key)).expect("Linux tells it");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}
