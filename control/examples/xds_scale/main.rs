//! A control plane with 100,000 workloads, and what its client takes: how long the control thread is busy at a time, how
//! much memory the process needs, how long it takes until everything is known.
//!
//! ```sh
//! cargo run --release -p ringway-control --features test-plane --example xds_scale
//! ```
//!
//! The control plane is a process of its own. It tells everything, then ends the stream, again and again; each time it
//! tells everything anew, whatever the client says it knows, as one that has lost its memory would.

mod client;
mod plane;

use std::env;
use std::process::{Command, Stdio};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams that are begun.
const STREAMS: usize = 8;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("plane") => plane::run(),
        _ => {
            let mut plane = Command::new(&arguments[0])
                .arg("plane")
                .stdout(Stdio::piped())
                .spawn()
                .expect("this program starts again");
            client::run(plane.stdout.take().expect("it is piped"));
            plane.kill().expect("it runs");
            plane.wait().expect("it was started");
        }
    }
}
