//! What can be ordered of SPIFFE agents while they run.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::SpiffeAgents;

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
enum Order {
    /// Tells what there is.
    Status {},
    /// An agent holds these from now on, and nothing else; what it holds already stays the same.
    Hold {
        /// Which agent.
        agent: String,
        /// SPIFFE IDs. None at all: callers are denied.
        identities: Vec<String>,
    },
    /// Every agent pushes new certificates.
    Renew {},
    /// A root that signs later is trusted from now on, and pushed.
    AnnounceRoot {},
    /// A new root signs from now on, the announced one if there is one; every agent pushes new certificates.
    RotateRoot {
        /// Whether the ones before are trusted as well.
        keep: bool,
    },
    /// An agent goes: its connections end, new ones are refused.
    Stop {
        /// Which.
        agent: String,
    },
    /// It is back.
    Start {
        /// Which.
        agent: String,
    },
}

/// Does what a line says.
///
/// # Errors
/// Why it cannot be done.
pub(super) fn obey(agents: &SpiffeAgents, line: &str) -> Result<Value> {
    let order: Order = serde_json::from_str(line).context("not an order")?;
    agents.journal.record("order", json!({ "order": serde_json::to_value(&order)? }));
    let authority = || agents.authority.lock().expect("no holder of the authority panics");
    match order {
        Order::Status {} => return Ok(agents.status()),
        Order::Hold { agent, identities } => agents.change(agents.agent(&agent)?, |held| {
            let mut before = std::mem::take(held);
            held.extend(identities.into_iter().map(|id| {
                let issued = before.remove(&id).flatten();
                (id, issued)
            }));
        })?,
        Order::Renew {} => agents.push(true)?,
        Order::AnnounceRoot {} => {
            authority().announce()?;
            agents.push(false)?;
        }
        Order::RotateRoot { keep } => {
            authority().rotate(keep)?;
            agents.push(true)?;
        }
        Order::Stop { agent } => agents.agent(&agent)?.set_running(false),
        Order::Start { agent } => agents.agent(&agent)?.set_running(true),
    }
    Ok(Value::Null)
}
