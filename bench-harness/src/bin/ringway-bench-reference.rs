//! `ringway-bench-reference`: one end of the reference relay. A program of its own, because the
//! allocator is part of what it stands for: ztunnel's is jemalloc.

use std::process::ExitCode;

use clap::Parser;
use ringway_bench::relay::Relay;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(name = "ringway-bench-reference", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    end: Relay,
}

/// Runs one end of the reference relay: tokio with `--workers` threads, jemalloc, tokio-rustls, h2.
fn main() -> ExitCode {
    match Arguments::parse().end.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-bench-reference: {error:#}");
            ExitCode::FAILURE
        }
    }
}
