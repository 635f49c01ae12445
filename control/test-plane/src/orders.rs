//! What can be ordered while a plane runs: a line of JSON each, over a unix socket, answered by a line each.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tonic::Code;

use crate::controls::{Cut, Service};
use crate::garbage::Garbage;
use crate::mesh::Pod;
use crate::plane::{Plane, Sequence};
use crate::resources::synthetic;

/// The name of the orders' socket in the plane's directory.
pub const ORDERS_SOCKET: &str = "orders.sock";

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Tells what there is.
    Status {},
    /// A service stops: its connections end, new ones are refused.
    Stop {
        /// Which.
        service: Service,
    },
    /// A service works again.
    Start {
        /// Which.
        service: Service,
        /// For the agent: pods' namespaces are not known any more, so proxies are told to keep what they have.
        #[serde(default)]
        forgetful: bool,
    },
    /// A service thinks this long before each thing it says; 0 ends it at once.
    Delay {
        /// Which.
        service: Service,
        /// How long.
        milliseconds: u64,
    },
    /// All TCP connections end, over and over; the port stays open.
    DropConnections {
        /// How often.
        #[serde(default = "once")]
        times: u32,
        /// The pause between.
        #[serde(default)]
        pause_milliseconds: u64,
    },
    /// All connections get a GOAWAY.
    Goaway {},
    /// All xDS streams end with a status.
    EndStreams {
        /// Its number.
        code: i32,
        /// Its text.
        message: String,
    },
    /// Certificates are refused as if the caller were unknown.
    RefuseCertificates {
        /// For how long.
        milliseconds: u64,
    },
    /// A new root signs from now on.
    RotateRoot {
        /// Whether the ones before are trusted as well.
        keep: bool,
    },
    /// A resource that should be refused is told.
    Inject {
        /// What is wrong with it.
        garbage: Garbage,
    },
    /// What was injected is taken back.
    Withdraw {},
    /// Workloads that do not exist are told, with their services; 0 takes them back.
    Synthetic {
        /// How many.
        count: u32,
        /// Another one changes all of them.
        #[serde(default)]
        generation: u32,
    },
    /// In how many responses addresses are sent, and which come first.
    Sequence {
        /// How.
        how: Sequence,
    },
    /// A pod appears on a node, as far as its agent is concerned.
    AddPod {
        /// Which.
        pod: Pod,
    },
    /// A pod disappears from its node.
    RemovePod {
        /// The node.
        node: String,
        /// Its name.
        name: String,
    },
    /// All pods are let go, and their rules removed.
    RemoveAllPods {},
    /// The files are read again without waiting for the watch.
    Reload {},
}

fn once() -> u32 {
    1
}

/// The socket.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
}

impl Listener {
    /// Listens at `path`; what an earlier process left there is replaced.
    ///
    /// # Errors
    /// When the path cannot be bound.
    pub(crate) fn bind(path: &Path) -> Result<Listener> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)
            .with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Listener { listener, path: path.to_owned() })
    }

    /// Takes orders until the socket fails.
    ///
    /// # Errors
    /// When it does.
    pub(crate) async fn run<A>(
        self,
        obey: impl Fn(String) -> A + Clone + Send + 'static,
    ) -> Result<()>
    where
        A: Future<Output = Result<Value>> + Send + 'static,
    {
        loop {
            let (stream, _) = self.listener.accept().await.context("the orders' socket")?;
            let obey = obey.clone();
            tokio::spawn(async move {
                let (lines, mut answers) = stream.into_split();
                let mut lines = tokio::io::BufReader::new(lines).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer = match obey(line).await {
                        Ok(answer) => json!({ "done": answer }),
                        Err(error) => json!({ "error": format!("{error:#}") }),
                    };
                    if answers.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Gives an order to the plane whose socket is at `path`; what it answers.
///
/// # Errors
/// When nobody listens there, or the order was refused.
pub fn tell(path: &Path, order: &str) -> Result<Value> {
    let stream = UnixStream::connect(path)
        .with_context(|| format!("no plane listens at {}", path.display()))?;
    writeln!(&stream, "{}", order.replace('\n', " "))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    let mut answer: Value = serde_json::from_str(&line).context("the plane ended meanwhile")?;
    match answer.get("error").and_then(Value::as_str) {
        Some(error) => bail!("{error}"),
        None => Ok(answer["done"].take()),
    }
}

/// Does what a line says.
///
/// # Errors
/// Why it cannot be done.
pub(crate) async fn obey(plane: &Arc<Plane>, line: &str) -> Result<Value> {
    let order: Order = serde_json::from_str(line).context("not an order")?;
    plane.journal.record("order", json!({ "order": serde_json::to_value(&order)? }));
    let controls = &plane.controls;
    match order {
        Order::Status {} => return Ok(status(plane)),
        Order::Stop { service } => controls.change(service, |state| state.running = false),
        Order::Start { service, forgetful } => {
            if forgetful {
                ensure!(service == Service::Agent, "only agents forget");
                plane.agents.iter().for_each(|agent| agent.forget_namespaces());
            }
            controls.change(service, |state| state.running = true);
        }
        Order::Delay { service, milliseconds } => {
            ensure!(service != Service::Port, "delay xds, ca or agent");
            let delay = Duration::from_millis(milliseconds);
            controls.change(service, |state| state.delay = delay);
        }
        Order::DropConnections { times, pause_milliseconds } => {
            for _ in 0..times {
                controls.cut(Cut::Connections);
                tokio::time::sleep(Duration::from_millis(pause_milliseconds)).await;
            }
        }
        Order::Goaway {} => controls.cut(Cut::Goaway),
        Order::EndStreams { code, message } => {
            controls.cut(Cut::Streams(Code::from_i32(code), message));
        }
        Order::RefuseCertificates { milliseconds } => {
            let until = Instant::now() + Duration::from_millis(milliseconds);
            controls.change(Service::Ca, |state| state.refusing_until = Some(until));
        }
        Order::RotateRoot { keep } => {
            plane.authority.lock().expect("no holder of the authority panics").rotate(keep)?;
        }
        Order::Inject { garbage } => plane.worlds.inject(garbage.type_url(), garbage.resource()),
        Order::Withdraw {} => plane.worlds.withdraw_injected(),
        Order::Synthetic { count, generation } => {
            plane.worlds.set_synthetic(synthetic(count, generation));
        }
        Order::Sequence { how } => plane.set_sequence(how),
        Order::AddPod { pod } => {
            let (pod, path) = (pod.clone().with_uid(), pod.network_namespace);
            std::fs::File::open(&path).with_context(|| {
                format!("the network_namespace {} cannot be opened", path.display())
            })?;
            agent(plane, &pod.node)?.change(|pods| drop(pods.insert(pod.uid.clone(), pod)));
        }
        Order::RemovePod { node, name } => {
            let mut known = false;
            agent(plane, &node)?.change(|pods| {
                pods.retain(|_, pod| {
                    known |= pod.name == name;
                    pod.name != name
                });
            });
            ensure!(known, "{node} has no pod {name}");
        }
        Order::RemoveAllPods {} => {
            plane.agents.iter().for_each(|agent| agent.change(std::collections::BTreeMap::clear));
        }
        Order::Reload {} => plane.load()?,
    }
    Ok(Value::Null)
}

fn agent<'p>(plane: &'p Plane, node: &str) -> Result<&'p Arc<crate::agent::Agent>> {
    let found = plane.agents.iter().find(|agent| agent.node() == node);
    found.with_context(|| format!("no agent on {node}"))
}

fn status(plane: &Plane) -> Value {
    let world = plane.worlds.current();
    let roots = plane.authority.lock().expect("no holder of the authority panics").roots();
    json!({
        "addresses": world.of_type(crate::resources::ADDRESS).len(),
        "authorizations": world.of_type(crate::resources::AUTHORIZATION).len(),
        "roots": roots,
        "agents": plane.agents.iter().map(|agent| agent.status()).collect::<Vec<_>>(),
    })
}
