//! `ringway-bench`: applications, load, a reference relay and measurements for trying Ringway.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ringway_bench::app::App;
use ringway_bench::bench::Run;
use ringway_bench::calibrate::Calibrate;
use ringway_bench::capture::Capture;
use ringway_bench::compare::Compare;
use ringway_bench::demo::Demo;
use ringway_bench::get::Get;
use ringway_bench::load::{Cores, Load};
use ringway_bench::mesh::Mesh;
use ringway_bench::null_server::NullServer;
use ringway_bench::pki::Pki;
use ringway_bench::profile::Profile;
use ringway_bench::report::{Report, Verdict};
use ringway_bench::runtimes::{Confine, Runtimes};
use ringway_bench::tcp::{Behaviour, Server, Tcp};
use ringway_bench::torture::Torture;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "ringway-bench", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one of the example applications.
    App(App),
    /// Ask an HTTP server, and count what fails.
    Get(Get),
    /// Run a TCP server with one way of behaving.
    Serve {
        /// The way.
        behaviour: Behaviour,
        #[command(flatten)]
        server: Server,
        /// Threads of the null server; as many as --cores by default, else one.
        #[arg(long)]
        threads: Option<usize>,
        /// Cores to pin the null server's threads to, such as `0,2-3`.
        #[arg(long, value_name = "LIST")]
        cores: Option<Cores>,
    },
    /// Exchange bytes with a TCP server and check them.
    Tcp(Tcp),
    /// Make load.
    #[command(subcommand)]
    Load(Load),
    /// Measure what the load generator and the null server can do by themselves.
    Calibrate(Calibrate),
    /// Watch all packets of this network namespace and judge what they show.
    Capture(Capture),
    /// Show what Ringway does, on a bookstore of two hosts.
    Demo(Demo),
    /// Measure subjects side by side, and leave a folder of results.
    Run(Run),
    /// Load, faults and bad input: try what the node is held to, row by row.
    Torture(Torture),
    /// Record where a subject spends its time while an experiment loads it.
    Profile(Profile),
    /// Say whether one commit, or one folder of results, costs more than another.
    Compare(Compare),
    /// Write the report of a folder of results.
    Report(Report),
    /// Print how the targets stand by a folder of results.
    Verdict(Verdict),
    /// Compare runtimes by the same plain relay on each.
    Runtimes(Runtimes),
    /// Run a program under a system call filter of the size of a container's.
    Confine(Confine),
    /// Make certificates.
    #[command(subcommand)]
    Pki(Pki),
    /// Print the configuration of a large mesh.
    Mesh(Mesh),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        // Its exit code tells more than success or failure.
        Command::Torture(torture) => match torture.run() {
            Ok(exit) => return exit,
            Err(error) => Err(error),
        },
        command => run(command),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringway-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<bool> {
    let one_thread = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match command {
        Command::App(app) => one_thread()?.block_on(app.run())?,
        Command::Get(get) => return one_thread()?.block_on(get.run()),
        Command::Serve { behaviour: Behaviour::Null, server, threads, cores } => {
            NullServer { listen: server.listen, threads, cores }.run()?;
        }
        Command::Serve { behaviour, server, .. } => {
            one_thread()?.block_on(server.run(behaviour))?
        }
        Command::Tcp(tcp) => one_thread()?.block_on(tcp.run())?,
        Command::Load(load) => load.run()?,
        Command::Calibrate(calibrate) => return calibrate.run(),
        Command::Capture(capture) => return capture.run(),
        Command::Demo(demo) => return demo.run(),
        Command::Run(bench) => return bench.run(),
        Command::Torture(_) => unreachable!("taken by main"),
        Command::Profile(profile) => profile.run()?,
        Command::Compare(compare) => return compare.run(),
        Command::Report(report) => report.run()?,
        Command::Verdict(verdict) => verdict.run()?,
        Command::Runtimes(runtimes) => runtimes.run()?,
        Command::Confine(confine) => confine.run()?,
        Command::Pki(pki) => pki.run()?,
        Command::Mesh(mesh) => mesh.run()?,
    }
    Ok(true)
}
