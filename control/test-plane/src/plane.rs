//! One test plane: its parts, which its services share.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ringway_control::source::Source;
use serde::{Deserialize, Serialize};

use crate::agent::Agent;
use crate::authority::Authority;
use crate::controls::Controls;
use crate::journal::Journal;
use crate::mesh::Mesh;
use crate::redirect::Rules;
use crate::resources;
use crate::tokens::{GatewayCaller, Tokens};
use crate::world::Worlds;

/// What a plane is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The mesh files.
    pub sources: Vec<Source>,
    /// Where everything is kept: root, tokens, journal, the orders' socket.
    pub directory: PathBuf,
    /// Where xDS and certificates are served.
    pub listen: SocketAddr,
    /// The names in the server's certificate.
    pub names: Vec<String>,
    /// The nodes with an agent, and where each listens.
    pub agents: Vec<(String, PathBuf)>,
    /// Nodes without an agent here, whose proxies may call nevertheless.
    pub nodes: Vec<String>,
    /// Gateways whose processes may call.
    pub gateways: Vec<GatewayCaller>,
    /// The rules for pods; `None` when somebody else installs them.
    pub rules: Option<Rules>,
    /// Certificates live no longer than this.
    pub leaf_lifetime_max: Duration,
    /// Connections are told to go after this long.
    pub connection_age_max: Option<Duration>,
}

/// The parts that services share.
pub struct Plane {
    /// What was started.
    pub(crate) options: Options,
    /// Switches.
    pub(crate) controls: Arc<Controls>,
    /// What is told through xDS.
    pub(crate) worlds: Worlds,
    /// Who signs.
    pub(crate) authority: Mutex<Authority>,
    /// Who may call.
    pub(crate) tokens: Tokens,
    /// What clients did.
    pub(crate) journal: Arc<Journal>,
    /// The agents.
    pub(crate) agents: Vec<Arc<Agent>>,
    /// Certificates live no longer than this.
    pub(crate) leaf_lifetime_max: Duration,
    sequence: AtomicU8,
}

/// In how many responses addresses are sent, and which come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Sequence {
    /// In one response.
    #[default]
    Together,
    /// Workloads, then the services they belong to.
    WorkloadsFirst,
    /// Services, then their workloads.
    ServicesFirst,
}

impl Plane {
    /// Reads the mesh and makes everything that serving needs.
    ///
    /// # Errors
    /// What is wrong with the files, or cannot be written.
    pub fn open(options: Options) -> Result<Arc<Plane>> {
        fs::create_dir_all(&options.directory)
            .with_context(|| format!("cannot create {}", options.directory.display()))?;
        let nodes = options.agents.iter().map(|(node, _)| node).chain(&options.nodes);
        let nodes: Vec<String> = nodes.cloned().collect();
        ensure!(!nodes.is_empty(), "no node may call: name one with --agent or --node");
        let controls: Arc<Controls> = Arc::default();
        let journal = Arc::new(Journal::open(&options.directory)?);
        let agents = options.agents.iter().map(|(node, path)| {
            let (journal, controls) = (Arc::clone(&journal), Arc::clone(&controls));
            Agent::new(node, path.clone(), options.rules, journal, controls)
        });
        let plane = Plane {
            agents: agents.collect(),
            worlds: Worlds::default(),
            authority: Mutex::new(Authority::open(&options.directory)?),
            tokens: Tokens::open(&options.directory, &nodes, &options.gateways)?,
            leaf_lifetime_max: options.leaf_lifetime_max,
            sequence: AtomicU8::default(),
            controls,
            journal,
            options,
        };
        plane.load()?;
        Ok(Arc::new(plane))
    }

    /// How addresses are sent.
    pub(crate) fn sequence(&self) -> Sequence {
        match self.sequence.load(Ordering::Relaxed) {
            1 => Sequence::WorkloadsFirst,
            2 => Sequence::ServicesFirst,
            _ => Sequence::Together,
        }
    }

    /// Sends addresses like this from now on.
    pub(crate) fn set_sequence(&self, sequence: Sequence) {
        self.sequence.store(sequence as u8, Ordering::Relaxed);
    }

    /// Reads the files, and has everybody know.
    ///
    /// # Errors
    /// What is wrong with them; then all stays as it was.
    pub(crate) fn load(&self) -> Result<()> {
        let nodes: Vec<String> = self.agents.iter().map(|agent| agent.node().to_owned()).collect();
        let mesh = Mesh::load(&self.options.sources, &nodes)?;
        self.worlds.set_mesh(&mesh.snapshot, &mesh.pods, &mesh.cluster);
        for gateway in &self.options.gateways {
            self.worlds
                .set_gateway(gateway, resources::gateway::of(&mesh.http, &mesh.snapshot, gateway));
        }
        for agent in &self.agents {
            agent.want(mesh.pods.iter().filter(|pod| pod.node == agent.node()).cloned());
        }
        Ok(())
    }
}
