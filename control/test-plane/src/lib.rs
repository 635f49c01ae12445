//! A control plane for tests: what istiod and istio-cni say to a node proxy, and every way they may fail to. Apart from
//! it, the agents of hosts whose identities come by the SPIFFE Workload API.
//!
//! ```text
//!   mesh files ─▶ mesh ─▶ worlds ─▶ discovery ─┐
//!                   │     authority ─▶ certificates ─┴─▶ port (TLS, HTTP/2) ─▶ node proxies
//!                   └──▶ agents (pods, redirect rules) ─▶ SEQPACKET ─────────▶ node proxies
//!   orders (unix socket) ─▶ controls, worlds, authority, agents         journal ◀─ what they all saw
//! ```
//!
//! It is written from what the protocols say, not from what our own client does, and it is for tests and demonstrations
//! only: whoever can open its sockets may order anything.

pub mod agent;
mod authority;
mod certificates;
mod controls;
mod discovery;
mod garbage;
mod journal;
mod mesh;
mod orders;
mod plane;
mod port;
mod redirect;
mod resources;
mod spiffe;
mod start;
mod tokens;
mod world;

pub use authority::ROOT_FILE;
pub use journal::JOURNAL_FILE;
pub use orders::{ORDERS_SOCKET, tell};
pub use plane::{Options, Plane};
pub use redirect::Rules;
pub use resources::{ADDRESS, AGENT, AUTHORIZATION, gateway};
pub use spiffe::{SpiffeAgents, SpiffeOptions};
pub use tokens::{GatewayCaller, TOKENS_FOLDER};
