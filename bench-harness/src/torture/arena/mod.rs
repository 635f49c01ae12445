//! Where a row takes place: two hosts with a proxy each, and pods in and beside the mesh.
//!
//! | pod       | host   | address   | in the mesh | serves 8080 |
//! |-----------|--------|-----------|-------------|-------------|
//! | client    | host-a | 10.1.0.10 | yes         |             |
//! | neighbour | host-a | 10.1.0.11 | yes         |             |
//! | stranger  | host-a | 10.1.0.99 | no          |             |
//! | server    | host-b | 10.2.0.10 | yes         | null server |
//! | server-2  | host-b | 10.2.0.11 | yes         | null server |
//! | legacy    | host-b | 10.2.0.99 | no          | null server |

mod plan;
mod plane;
mod proxy;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use self::plane::Plane;
use self::proxy::launch;
pub(super) use self::{plan::Plan, proxy::Proxy};
use super::trial::Trial;
use crate::http::get_from;
use crate::lab::{Lab, Namespace, Process, wait_until};
use crate::measure;
use crate::pki::Leaf;
use crate::relay::Files;

/// Nothing that must happen takes longer, even on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Where the null servers listen.
pub(super) const SERVED: u16 = 8080;
/// The port of tunnels.
pub(super) const TUNNEL: u16 = 15008;
/// The two hosts, and the names of their Nodes.
pub(super) const HOSTS: [&str; 2] = ["host-a", "host-b"];

/// Pods that serve.
const SERVERS: [&str; 3] = ["server", "server-2", "legacy"];

const PODS: [(&str, &str, [u8; 4]); 6] = [
    ("client", "host-a", [10, 1, 0, 10]),
    ("neighbour", "host-a", [10, 1, 0, 11]),
    ("stranger", "host-a", [10, 1, 0, 99]),
    ("server", "host-b", [10, 2, 0, 10]),
    ("server-2", "host-b", [10, 2, 0, 11]),
    ("legacy", "host-b", [10, 2, 0, 99]),
];

/// Two hosts, their pods, servers and proxies.
pub(super) struct Arena {
    pub(super) a: Proxy,
    pub(super) b: Proxy,
    /// The null servers, in the order of [`SERVERS`].
    servers: Vec<Process>,
    plane: Option<Plane>,
    plan: Plan,
    // Last: what runs in it ends before it.
    pub(super) lab: Lab,
}

impl Arena {
    /// With nothing different.
    pub(super) fn usual(trial: &Trial<'_>) -> Result<Arena> {
        Arena::start(Plan::new(trial.settings))
    }

    /// Builds the hosts, starts servers and both proxies, waits until all are ready.
    pub(super) fn start(plan: Plan) -> Result<Arena> {
        let mut lab = Lab::unique()?;
        for host in HOSTS {
            lab.add_host(host)?;
        }
        if plan.apart {
            lab.divide_processors(&HOSTS)?;
        }
        for (pod, host, address) in PODS {
            lab.add_pod(host, pod, address.into())?;
            // Ports of closed connections are free again at once: there are many.
            let place = lab.namespace(pod);
            place.set_sysctl("net/ipv4/tcp_max_tw_buckets", "100")?;
            place.set_sysctl("net/ipv4/ip_local_port_range", "1024 65535")?;
        }
        // A folder of its own: proxies wait until nothing changes beside their file.
        fs::create_dir(lab.directory().join("mesh"))?;
        fs::write(lab.directory().join("mesh/mesh.yaml"), plan.configuration(&lab))?;
        let plane = plan.plane.as_deref().map(|program| Plane::start(program, &mut lab));
        let plane = plane.transpose()?;
        let mut servers = Vec::new();
        for pod in SERVERS {
            servers.push(lab.start(pod, &format!("null-{pod}"), &plan.server(pod))?);
        }
        for server in &mut servers {
            server.wait_for_log("listening", PATIENCE)?;
        }
        let (mut a, mut b) = (launch(&plan, &lab, HOSTS[0])?, launch(&plan, &lab, HOSTS[1])?);
        a.wait_until_ready(&lab)?;
        b.wait_until_ready(&lab)?;
        let arena = Arena { a, b, servers, plane, plan, lab };
        let to = arena.address("server", SERVED);
        wait_until("a request passes", PATIENCE, || arena.ask("client", to).is_ok())
            .with_context(|| format!("{}{}", arena.a.tail(), arena.b.tail()))?;
        Ok(arena)
    }

    /// A pod's or host's namespace.
    pub(super) fn at(&self, name: &str) -> &Namespace {
        self.lab.namespace(name)
    }

    /// A port of a pod.
    pub(super) fn address(&self, name: &str, port: u16) -> SocketAddr {
        SocketAddr::new(self.at(name).address(), port)
    }

    /// What the null server of a pod has used of the processors so far.
    pub(super) fn server_processor_time(&self, pod: &str) -> Result<Duration> {
        let index = SERVERS.iter().position(|server| *server == pod).context("no such server")?;
        measure::processor_time(self.servers[index].id())
    }

    /// Connects from a pod, with deadlines on reads and writes.
    pub(super) fn connect(&self, from: &str, to: SocketAddr) -> Result<TcpStream> {
        let stream = self
            .at(from)
            .connect_timeout(to, PATIENCE)
            .with_context(|| format!("cannot connect from {from} to {to}"))?;
        prepare(&stream)?;
        Ok(stream)
    }

    /// Asks a null server for one byte over a connection of its own.
    pub(super) fn ask(&self, from: &str, to: SocketAddr) -> Result<()> {
        let (status, body) = get_from(self.at(from), to, "/bytes/1")?;
        ensure!(status == 200 && body.len() == 1, "{to} answers {status} and {body:?}");
        Ok(())
    }

    /// Puts a configuration in place of the one before, the way editors do.
    pub(super) fn rewrite(&self, plan: &Plan) -> Result<()> {
        let file = self.file();
        let next = file.with_extension("next");
        fs::write(&next, plan.configuration(&self.lab))?;
        fs::rename(next, file).context("cannot rename the configuration")
    }

    /// The configuration of both proxies.
    pub(super) fn file(&self) -> PathBuf {
        self.lab.directory().join("mesh/mesh.yaml")
    }

    /// The folder of the mesh's certificate authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.lab.directory().join("ca")
    }

    /// Takes the pod `neighbour` away as a host does, and starts another, `newcomer`, with its address.
    /// Nobody tells the proxy.
    pub(super) fn replace_neighbour(&mut self) -> Result<()> {
        let index = PODS.iter().position(|(pod, ..)| *pod == "neighbour").context("it is there")?;
        let (_, host, address) = PODS[index];
        let mut ip = Command::new("ip");
        // The hosts number the links of their pods in the order in which they were added.
        ip.args(["-n", self.at(host).name(), "link", "del", &format!("pod{}", index + 1)]);
        ensure!(ip.status()?.success(), "the neighbour's link cannot be taken away");
        self.lab.remove("neighbour")?;
        self.lab.add_pod(host, "newcomer", address.into())
    }

    /// What both proxies were started with.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts the proxy of a host again, after it has ended.
    pub(super) fn restart(&mut self, host: &str) -> Result<()> {
        let known = HOSTS.into_iter().find(|known| *known == host).context("no such host")?;
        let mut proxy = launch(&self.plan, &self.lab, known)?;
        proxy.wait_until_ready(&self.lab)?;
        *(if known == HOSTS[0] { &mut self.a } else { &mut self.b }) = proxy;
        Ok(())
    }

    /// Starts the proxy of a host by another plan, after it has ended. When this one ends before it is ready: how, and what
    /// it said.
    pub(super) fn try_start(
        &mut self,
        host: &str,
        plan: &Plan,
    ) -> Result<Option<(ExitStatus, String)>> {
        let known = HOSTS.into_iter().find(|known| *known == host).context("no such host")?;
        let mut proxy = launch(plan, &self.lab, known)?;
        let ready = proxy.wait_until_ready(&self.lab);
        if !proxy.process.is_running() {
            return Ok(Some((proxy.process.wait(PATIENCE)?, proxy.process.log())));
        }
        ready?;
        *(if known == HOSTS[0] { &mut self.a } else { &mut self.b }) = proxy;
        Ok(None)
    }

    /// The control plane.
    pub(super) fn plane(&mut self) -> Result<&mut Plane> {
        self.plane.as_mut().context("this arena has no control plane")
    }

    /// Starts the control plane again after it was killed.
    pub(super) fn restart_plane(&mut self) -> Result<()> {
        let plane = self.plane.as_mut().context("this arena has no control plane")?;
        plane.restart(&self.lab)
    }

    /// What the control plane has written down since it was last started.
    pub(super) fn plane_journal(&self) -> Result<Vec<serde_json::Value>> {
        self.plane.as_ref().context("this arena has no control plane")?.journal(&self.lab)
    }

    /// Certificate files of a workload under the mesh's root, for something that is not Ringway.
    pub(super) fn certificate(&self, account: &str) -> Result<Files> {
        let authority = self.authority();
        let name = self.lab.directory().join(format!("{account}-leaf"));
        let leaf = Leaf {
            name: name.clone(),
            root: authority.join("root-cert.pem"),
            root_key: authority.join("root-key.pem"),
            identity: format!("spiffe://cluster.local/ns/default/sa/{account}"),
        };
        leaf.write()?;
        Ok(Files {
            certificate: name.with_extension("pem"),
            key: name.with_extension("key"),
            roots: authority.join("root-cert.pem"),
        })
    }

    /// Fails unless both proxies still run and carry requests.
    pub(super) fn must_work(&mut self) -> Result<()> {
        for proxy in [&mut self.a, &mut self.b] {
            let host = proxy.host;
            ensure!(proxy.process.is_running(), "the proxy of {host} has ended: {}", proxy.tail());
        }
        self.ask("client", self.address("server", SERVED)).context("no request passes any more")
    }
}

/// Puts deadlines on a stream, so that a defect ends a row instead of hanging it.
pub(super) fn prepare(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream.set_nodelay(true)?)
}
