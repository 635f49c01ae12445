//! SPIFFE agents for tests, as SPIRE's are: each listens on a socket of its own and gives whoever calls there the
//! identities it holds, with keys, chains and roots, by the SPIFFE Workload API.
//!
//! ```text
//!   orders (unix socket) ─▶ authority ─▶ agents: identities held ─▶ service (HTTP/2) ─▶ node proxies
//! ```
//!
//! All agents of one process have one authority, as those of one trust domain do. Nobody is attested: who can open an
//! agent's socket is given what it holds.

mod agent;
mod held;
mod orders;
mod service;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::agent::SpiffeAgent;
use self::held::Identities;
use crate::authority::Authority;
use crate::journal::Journal;
use crate::orders::{Listener, ORDERS_SOCKET};

/// What the agents are started with.
#[derive(Clone, Debug)]
pub struct SpiffeOptions {
    /// Where everything is kept: root, journal, the orders' socket.
    pub directory: PathBuf,
    /// The agents by name, and where each listens.
    pub agents: Vec<(String, PathBuf)>,
    /// What each holds: agents' names and SPIFFE IDs.
    pub identities: Vec<(String, String)>,
    /// How long certificates live; they are renewed at half of it.
    pub leaf_lifetime: Duration,
}

/// Agents with one authority.
pub struct SpiffeAgents {
    options: SpiffeOptions,
    authority: Mutex<Authority>,
    agents: Vec<Arc<SpiffeAgent>>,
    journal: Arc<Journal>,
}

impl SpiffeAgents {
    /// Reads or makes the root, and issues what the agents hold.
    ///
    /// # Errors
    /// What cannot be read, written or issued.
    pub fn open(options: SpiffeOptions) -> Result<Arc<SpiffeAgents>> {
        let authority = Authority::open(&options.directory)?;
        let journal = Arc::new(Journal::open(&options.directory)?);
        let agents = options.agents.iter().map(|(name, socket)| {
            Arc::new(SpiffeAgent::new(name, socket.clone(), Arc::clone(&journal)))
        });
        let agents = SpiffeAgents {
            agents: agents.collect(),
            authority: Mutex::new(authority),
            journal,
            options,
        };
        ensure!(!agents.agents.is_empty(), "no agent is named");
        for (name, identity) in &agents.options.identities {
            agents.change(agents.agent(name)?, |held| drop(held.insert(identity.clone(), None)))?;
        }
        Ok(Arc::new(agents))
    }

    /// Serves until one of them fails.
    ///
    /// # Errors
    /// When a socket cannot be opened.
    pub async fn run(self: Arc<Self>) -> Result<()> {
        let orders = Listener::bind(&self.options.directory.join(ORDERS_SOCKET))?;
        let mut parts = JoinSet::new();
        for agent in &self.agents {
            // Before it is said that they are there.
            parts.spawn(Arc::clone(agent).run(agent.bind()?));
        }
        parts.spawn(Arc::clone(&self).renew_for_ever());
        parts.spawn(orders.run(move |line| {
            let agents = Arc::clone(&self);
            async move { orders::obey(&agents, &line) }
        }));
        println!("ready");
        parts.join_next().await.context("there are parts")??
    }

    async fn renew_for_ever(self: Arc<Self>) -> Result<()> {
        loop {
            sleep(self.options.leaf_lifetime / 2).await;
            self.push(true)?;
        }
    }

    fn agent(&self, name: &str) -> Result<&Arc<SpiffeAgent>> {
        let found = self.agents.iter().find(|agent| agent.name() == name);
        found.with_context(|| format!("no agent {name}"))
    }

    /// Changes what an agent holds, issues what it lacks then, and has it push.
    fn change(&self, agent: &SpiffeAgent, change: impl FnOnce(&mut Identities)) -> Result<()> {
        let authority = self.authority.lock().expect("no holder of the authority panics");
        agent.change(&authority, self.options.leaf_lifetime, change)
    }

    /// New certificates, or the same with other roots, for all that every agent holds.
    fn push(&self, renewed: bool) -> Result<()> {
        for agent in &self.agents {
            self.change(agent, |held| {
                held.values_mut().for_each(|issued| *issued = issued.take().filter(|_| !renewed));
            })?;
        }
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        let roots = self.authority.lock().expect("no holder of the authority panics").roots();
        let agents: Vec<_> = self.agents.iter().map(|agent| agent.status()).collect();
        json!({ "roots": roots, "agents": agents })
    }
}
