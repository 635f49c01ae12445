//! How fast open connections are cut when a policy denies them, and what everybody else notices of it.
//!
//! `cargo run --release -p ringway-engine --example policy_swap [ring|epoll] [CONNECTIONS]`
//!
//! One shard; `bob` has CONNECTIONS streams open to an application, 100 in a tunnel, and `alice` one on which a
//! byte goes to and fro all the time. Three snapshots are published, one after the other: an unrelated policy
//! changes; a policy for the workload comes that denies nobody, so that everything is judged; one comes that
//! denies `bob`. Applications are processes of their own. Prints one line of JSON, times in milliseconds from the call
//! that publishes:
//!
//! * `closed_ms`: until the last record of a cut connection was written;
//! * `told_ms`: until the last of bob's streams was reset at his end;
//! * `shard_cpu_ms`: what of that the shard's thread was running, for a machine that has other things to do;
//! * `quiet_ms`, `unrelated_ms`, `judged_ms`, `cut_ms`: alice's slowest answer before, and within each step.

mod application;
mod mesh;
mod peer;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use ringway_engine::{Engine, close::CloseReason, runtime::ReactorChoice};

use self::{
    application::Application,
    mesh::{Mesh, deny},
    peer::Peer,
};

const STREAMS_PER_TUNNEL: usize = 100;
/// What a step has to end in; beyond it something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "application") {
        return application::run();
    }
    let reactor = arguments.first().map_or("ring", String::as_str);
    let choice = if reactor == "epoll" { ReactorChoice::Epoll } else { ReactorChoice::Ring };
    let connections = arguments.get(1).map_or(10_000, |text| text.parse().expect("a number"));

    // Alice's is another, so that the end of bob's connections is not its work.
    let (bobs, alices) = (Application::start(), Application::start());
    let mesh = Mesh::new(choice);
    let mut peers: Vec<Peer> = (0..connections / STREAMS_PER_TUNNEL)
        .map(|_| mesh.open("bob", bobs.port, STREAMS_PER_TUNNEL))
        .collect();
    let alice = Pulse::start(mesh.open("alice", alices.port, 1));
    alice.slowest_of(Duration::from_millis(500));
    let quiet = alice.slowest_of(Duration::from_millis(500));

    mesh.publish(|snapshot| snapshot.upsert_policy(deny("elsewhere", "bob")));
    let unrelated = alice.slowest_of(Duration::from_millis(500));
    mesh.publish(|snapshot| snapshot.upsert_policy(deny("shop", "nobody")));
    let judged = alice.slowest_of(Duration::from_millis(500));

    let (began, began_at, used) = (Instant::now(), SystemTime::now(), shard_cpu());
    mesh.publish(|snapshot| snapshot.upsert_policy(deny("shop", "bob")));
    peers.iter_mut().for_each(|peer| peer.wait_for_resets(STREAMS_PER_TUNNEL));
    let told = began.elapsed();
    let cpu = shard_cpu().saturating_sub(used);
    let closed = last_record(&mesh.engine, peers.len() * STREAMS_PER_TUNNEL)
        .duration_since(began_at)
        .expect("cut after it was published");
    let cut = alice.slowest_of(Duration::from_millis(500));
    alice.stop();

    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{{\"id\":\"G4\",\"reactor\":\"{reactor}\",\"connections\":{},\"closed_ms\":{:.1},\
         \"told_ms\":{:.1},\"shard_cpu_ms\":{:.1},\"quiet_ms\":{:.1},\"unrelated_ms\":{:.1},\"judged_ms\":{:.1},\
         \"cut_ms\":{:.1}}}",
        peers.len() * STREAMS_PER_TUNNEL,
        ms(closed),
        ms(told),
        ms(cpu),
        ms(quiet),
        ms(unrelated),
        ms(judged),
        ms(cut),
    );
}

/// How long the shard's thread has been running.
fn shard_cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc is mounted");
    let ran = tasks.filter_map(Result::ok).find_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds = times.split(' ').next()?.parse().ok()?;
        (name.trim() == "shard-0").then_some(nanoseconds)
    });
    Duration::from_nanos(ran.expect("the shard has a thread"))
}

/// When the last of so many cut connections ended.
fn last_record(engine: &Engine, mut count: usize) -> SystemTime {
    let (deadline, mut last) = (Instant::now() + PATIENCE, SystemTime::UNIX_EPOCH);
    while count > 0 {
        assert!(Instant::now() < deadline, "{count} connections were not cut");
        let Some(record) = engine.telemetry().next_record() else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        if matches!(record.reason, CloseReason::PolicyChanged(_)) {
            last = last.max(record.opened_at + record.duration);
            count -= 1;
        }
    }
    last
}

/// A stream on which a byte goes to and fro all the time.
struct Pulse {
    slowest_us: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
    beating: JoinHandle<()>,
}

impl Pulse {
    fn start(mut peer: Peer) -> Pulse {
        let (slowest_us, stopped) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (slowest, ends) = (slowest_us.clone(), stopped.clone());
        let beating = std::thread::spawn(move || {
            while !ends.load(Relaxed) {
                let began = Instant::now();
                peer.echo();
                slowest.fetch_max(began.elapsed().as_micros() as u64, Relaxed);
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        Pulse { slowest_us, stopped, beating }
    }

    /// The slowest answer since this was asked last, after so much more time.
    fn slowest_of(&self, time: Duration) -> Duration {
        std::thread::sleep(time);
        Duration::from_micros(self.slowest_us.swap(0, Relaxed))
    }

    fn stop(self) {
        self.stopped.store(true, Relaxed);
        self.beating.join().expect("alice is never cut");
    }
}
