//! `ringway-test-plane`: serves a mesh from files as istiod and istio-cni would, or gives orders to one that does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use ringway_control::source::Source;
use ringway_test_plane::{GatewayCaller, Options, Plane, Rules, tell};
use tokio::signal::unix::{SignalKind, signal};

/// A control plane for tests.
#[derive(Debug, Parser)]
#[command(version, about)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serves a mesh until it is told to stop.
    Serve(Serve),
    /// Gives an order, for example '{"order": "status"}', and prints the answer.
    Tell {
        /// The plane's socket: `orders.sock` in its directory.
        socket: PathBuf,
        /// The order.
        order: String,
    },
}

#[derive(Debug, Args)]
struct Serve {
    /// The mesh: files or folders, as for `ringway run`.
    #[arg(long = "file", required = true)]
    files: Vec<PathBuf>,
    /// Where root, tokens, journal and the orders' socket are kept.
    #[arg(long)]
    directory: PathBuf,
    /// Where xDS and certificates are served.
    #[arg(long, default_value = "127.0.0.1:15012")]
    listen: SocketAddr,
    /// A name or address for the server's certificate.
    #[arg(long = "name", default_values = ["istiod.istio-system.svc", "localhost", "127.0.0.1"])]
    names: Vec<String>,
    /// A node with an agent, as NODE=SOCKET.
    #[arg(long = "agent", value_parser = agent)]
    agents: Vec<(String, PathBuf)>,
    /// A node whose proxy may call, without an agent here.
    #[arg(long = "node")]
    nodes: Vec<String>,
    /// A Gateway whose waypoint or gateway may call, as NAMESPACE/NAME/SERVICE-ACCOUNT.
    #[arg(long = "gateway", value_parser = gateway)]
    gateways: Vec<GatewayCaller>,
    /// Leaves the pods' packet filters alone.
    #[arg(long)]
    no_redirect: bool,
    /// Captures DNS, too.
    #[arg(long)]
    capture_dns: bool,
    /// Tells a proxy of a pod before the rules are put into it. istio-cni does it the other way round, and refuses for a
    /// moment what a pod that runs already is asked.
    #[arg(long)]
    proxy_first: bool,
    /// Seconds a certificate lives at most.
    #[arg(long, default_value_t = 24 * 3600)]
    leaf_seconds_max: u64,
    /// Seconds after which connections are told to go; without it they stay.
    #[arg(long)]
    connection_seconds_max: Option<u64>,
}

fn main() -> Result<()> {
    match CommandLine::parse().verb {
        Verb::Serve(serve) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(serve.into_options()))
        }
        Verb::Tell { socket, order } => {
            println!("{}", tell(&socket, &order)?);
            Ok(())
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let plane = Plane::open(options)?;
    tokio::select! {
        ended = plane.run() => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

impl Serve {
    fn into_options(self) -> Options {
        Options {
            sources: self.files.into_iter().map(Source::Path).collect(),
            directory: self.directory,
            listen: self.listen,
            names: self.names,
            agents: self.agents,
            nodes: self.nodes,
            gateways: self.gateways,
            rules: (!self.no_redirect)
                .then_some(Rules { dns: self.capture_dns, after_the_proxy: self.proxy_first }),
            leaf_lifetime_max: Duration::from_secs(self.leaf_seconds_max),
            connection_age_max: self.connection_seconds_max.map(Duration::from_secs),
        }
    }
}

fn gateway(text: &str) -> Result<GatewayCaller> {
    let parts: Vec<&str> = text.split('/').collect();
    let [namespace, name, service_account] = parts[..] else {
        anyhow::bail!("expected NAMESPACE/NAME/SERVICE-ACCOUNT");
    };
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    Ok(GatewayCaller { namespace, name, service_account: service_account.to_owned() })
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (node, socket) = text.split_once('=').context("expected NODE=SOCKET")?;
    Ok((node.to_owned(), socket.into()))
}
