//! Node proxies that are not ours and not fetched by us: a real ztunnel, and any other that comes
//! with a command of its user's.
//!
//! `RINGWAY_BENCH_ZTUNNEL` names the program of a ztunnel. `RINGWAY_BENCH_SUBJECT_<NAME>` is a shell
//! command that runs the subject `<name>`. It is run once in each pod's network namespace, under the
//! rules of node proxies (outbound to 15001, inbound plaintext to 15006, tunnels on 15008), and gets
//!
//! ```text
//!   BENCH_SIDE                near or far
//!   BENCH_ADDRESS, BENCH_PEER_ADDRESS      the pod's own address and the other's
//!   BENCH_IDENTITY, BENCH_PEER_IDENTITY    SPIFFE URIs
//!   BENCH_CERTIFICATE, BENCH_KEY, BENCH_ROOTS   PEM files
//!   BENCH_MARK, BENCH_WORKERS   the mark that rules leave alone; how many threads it may use
//! ```
//!
//! It has to stay in the foreground. All it starts is counted.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, Group, MARK, Options, Pair, Rules, Subject};
use crate::lab::{Process, Program};

const COMMAND: &str = "RINGWAY_BENCH_SUBJECT_";
const ZTUNNEL: &str = "RINGWAY_BENCH_ZTUNNEL";

/// A subject named by the environment.
pub(super) enum Other {
    /// A ztunnel at this path.
    Ztunnel(PathBuf),
    /// A name and a shell command.
    Command(String, String),
}

impl Other {
    /// The subject called `name`, if the environment names it.
    pub(super) fn find(name: &str) -> Option<Other> {
        Other::all().into_iter().find(|other| other.name() == name)
    }

    /// Everything the environment names.
    pub(super) fn all() -> Vec<Other> {
        let ztunnel = std::env::var_os(ZTUNNEL).map(|path| Other::Ztunnel(path.into()));
        let commands = std::env::vars().filter_map(|(key, command)| {
            let name = key.strip_prefix(COMMAND)?.to_lowercase().replace('_', "-");
            Some(Other::Command(name, command))
        });
        ztunnel.into_iter().chain(commands).collect()
    }

    fn program(&self, bench: &Bench, side: &str, options: &Options) -> Result<Program> {
        let peer = if side == "near" { "far" } else { "near" };
        let folder = bench.lab.directory();
        let address = |name: &str| bench.lab.namespace(name).address().to_string();
        Ok(match self {
            Other::Ztunnel(path) => {
                let file = folder.join("ztunnel.yaml");
                fs::write(&file, local_file(bench))?;
                Program::new(path)
                    .arguments(["proxy", "ztunnel"])
                    .environment("LOCAL_XDS_PATH", file)
                    .environment("XDS_ADDRESS", "")
                    .environment("FAKE_CA", "true")
                    .environment("PROXY_MODE", "dedicated")
                    .environment("PROXY_WORKLOAD_INFO", format!("default/{side}/{side}"))
                    .environment("NODE_NAME", side)
                    .environment("INSTANCE_IP", address(side))
                    .environment("PACKET_MARK", MARK.to_string())
                    .environment("ENABLE_ORIG_SRC", "true")
                    .environment("ISTIO_META_DNS_CAPTURE", "false")
                    .environment("IPV6_ENABLED", "false")
                    .environment("RUST_LOG", "warn")
                    .environment("ZTUNNEL_WORKER_THREADS", options.workers().to_string())
            }
            Other::Command(_, command) => Program::new("sh")
                .arguments(["-c", command])
                .environment("BENCH_SIDE", side)
                .environment("BENCH_ADDRESS", address(side))
                .environment("BENCH_PEER_ADDRESS", address(peer))
                .environment("BENCH_IDENTITY", bench.identity(side))
                .environment("BENCH_PEER_IDENTITY", bench.identity(peer))
                .environment("BENCH_CERTIFICATE", folder.join(format!("{side}.pem")))
                .environment("BENCH_KEY", folder.join(format!("{side}.key")))
                .environment("BENCH_ROOTS", folder.join("root.pem"))
                .environment("BENCH_MARK", MARK.to_string())
                .environment("BENCH_WORKERS", options.workers().to_string()),
        })
    }

    fn start_side(&self, bench: &Bench, side: &str, options: &Options) -> Result<Process> {
        let program = options.placed(self.program(bench, side, options)?);
        let mut process = bench.lab.start(side, &format!("{}-{side}", self.name()), &program)?;
        let port = if side == "near" { 15001 } else { 15008 };
        bench.wait_for_port(side, port, &mut process, Duration::from_secs(30))?;
        Ok(process)
    }
}

impl Subject for Other {
    fn name(&self) -> &str {
        match self {
            Other::Ztunnel(_) => "ztunnel",
            Other::Command(name, _) => name,
        }
    }

    fn group(&self) -> Group {
        Group::L4
    }

    fn programs(&self) -> Vec<PathBuf> {
        match self {
            Other::Ztunnel(path) => vec![path.clone()],
            Other::Command(..) => Vec::new(),
        }
    }

    fn rules(&self) -> Rules {
        Rules::Node
    }

    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair> {
        if let Other::Ztunnel(path) = self {
            ensure!(path.exists(), "{ZTUNNEL} names {}, which is not there", path.display());
        }
        let far = vec![self.start_side(bench, "far", options)?];
        let near = vec![self.start_side(bench, "near", options)?];
        let configurations = match self {
            Other::Ztunnel(_) => vec![("ztunnel.yaml".to_owned(), local_file(bench))],
            Other::Command(_, command) => vec![("command".to_owned(), command.clone())],
        };
        Ok(Pair { near, far, configurations, ..Pair::default() })
    }
}

/// Both pods as ztunnel's local file tells them.
fn local_file(bench: &Bench) -> String {
    let mut text = "workloads:\n".to_owned();
    for name in ["near", "far"] {
        text.push_str(&format!(
            "- uid: cluster1//v1/Pod/default/{name}\n  name: {name}\n  namespace: default\n  \
             serviceAccount: {name}\n  trustDomain: cluster.local\n  node: {name}\n  \
             protocol: HBONE\n  status: Healthy\n  workloadIps: [\"{}\"]\n",
            bench.lab.namespace(name).address()
        ));
    }
    text + "services: []\npolicies: []\n"
}
