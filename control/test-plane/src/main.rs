//! `ringway-test-plane`: serves a mesh from files as istiod and istio-cni would, or identities as SPIFFE agents would, or
//! gives orders to one that does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use ringway_control::source::Source;
use ringway_test_plane::{GatewayCaller, Options, Plane, Rules, SpiffeAgents, SpiffeOptions, tell};
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
    /// Gives identities by the SPIFFE Workload API until it is told to stop.
    Spiffe(Spiffe),
    /// Gives an order, for example '{"order": "status"}', and prints the answer.
    Tell {
        /// Where orders are taken: `orders.sock` in the directory.
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

#[derive(Debug, Args)]
struct Spiffe {
    /// Where root, journal and the orders' socket are kept.
    #[arg(long)]
    directory: PathBuf,
    /// An agent, as NAME=SOCKET.
    #[arg(long = "agent", value_parser = agent)]
    agents: Vec<(String, PathBuf)>,
    /// What an agent holds, as NAME=SPIFFE-ID.
    #[arg(long = "identity", value_parser = identity)]
    identities: Vec<(String, String)>,
    /// Seconds a certificate lives.
    #[arg(long, default_value_t = 3600)]
    leaf_seconds: u64,
}

fn main() -> Result<()> {
    let verb = CommandLine::parse().verb;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match verb {
        Verb::Serve(serve) => runtime.block_on(async {
            let plane = Plane::open(serve.into_options())?;
            until_told(plane.run()).await
        }),
        Verb::Spiffe(spiffe) => runtime.block_on(async {
            let agents = SpiffeAgents::open(spiffe.into_options())?;
            until_told(agents.run()).await
        }),
        Verb::Tell { socket, order } => {
            println!("{}", tell(&socket, &order)?);
            Ok(())
        }
    }
}

async fn until_told(run: impl Future<Output = Result<()>>) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        ended = run => ended,
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

impl Spiffe {
    fn into_options(self) -> SpiffeOptions {
        SpiffeOptions {
            directory: self.directory,
            agents: self.agents,
            identities: self.identities,
            leaf_lifetime: Duration::from_secs(self.leaf_seconds),
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

fn identity(text: &str) -> Result<(String, String)> {
    let (agent, id) = text.split_once('=').context("expected NAME=SPIFFE-ID")?;
    Ok((agent.to_owned(), id.to_owned()))
}

fn agent(text: &str) -> Result<(String, PathBuf)> {
    let (name, socket) = text.split_once('=').context("expected NAME=SOCKET")?;
    Ok((name.to_owned(), socket.into()))
}
