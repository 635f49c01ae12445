//! A laboratory: hosts and pods as network namespaces, joined as machines in a rack are.
//!
//! ```text
//!             wire  (router; what runs between hosts can be captured here)
//!            /    \
//!       host-a    host-b        10.1.0.0/24, 10.2.0.0/24, ...
//!       /   \     /   \
//!    pod    pod  pod   pod      one address each, default route through the host
//! ```
//!
//! What a laboratory makes, it writes down before it makes it. Dropping it takes everything away;
//! after a kill, the next [`Lab::sweep`] does.

mod namespace;
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

pub use self::namespace::Namespace;
pub use self::process::{Process, Program};
use crate::processors;

/// Where laboratories write down what they made, one folder per namespace of process ids: only
/// there can be told whether an owner still lives.
fn records() -> Result<PathBuf> {
    let namespace = fs::read_link("/proc/self/ns/pid")?;
    let digits: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Ok(Path::new("/tmp/ringway-lab").join(digits))
}

/// The name of the router between the hosts.
const WIRE: &str = "wire";

/// The address every host answers to on the links of its pods.
const GATEWAY: &str = "169.254.1.1";

/// Hosts and pods, and the record of them.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    directory: PathBuf,
    namespaces: BTreeMap<String, Namespace>,
    /// Of hosts and pods that do not have all of them.
    processors: BTreeMap<String, Vec<usize>>,
    hosts: u8,
    links: u32,
}

impl Lab {
    /// A laboratory of its own for one test: no name in it clashes with another's.
    pub fn unique() -> Result<Lab> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Lab::named(&format!("rwt{}-{number}-", std::process::id()))
    }

    /// A laboratory whose namespaces are called `prefix` and then the machine's name.
    pub fn named(prefix: &str) -> Result<Lab> {
        Lab::sweep()?;
        let directory = records()?.join(format!("{prefix}{}", std::process::id()));
        fs::create_dir_all(&directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
        let owner = process::Identity::of(std::process::id())?;
        fs::write(directory.join("owner"), owner.to_string())?;
        let mut lab = Lab {
            prefix: prefix.to_owned(),
            directory,
            namespaces: BTreeMap::new(),
            processors: BTreeMap::new(),
            hosts: 0,
            links: 0,
        };
        lab.add_namespace(WIRE, None)?;
        lab.namespace(WIRE).set_sysctl("net/ipv4/ip_forward", "1")?;
        Ok(lab)
    }

    /// Takes away what laboratories left behind whose owner is dead.
    pub fn sweep() -> Result<()> {
        let Ok(entries) = fs::read_dir(records()?) else { return Ok(()) };
        for directory in entries.flatten().map(|entry| entry.path()) {
            let owner = fs::read_to_string(directory.join("owner")).unwrap_or_default();
            let owner: Option<process::Identity> = owner.parse().ok();
            // A directory without an owner is being made at this moment, or lost its owner's file.
            let Some(owner) = owner else { continue };
            if !owner.is_alive() {
                take_away(&directory);
            }
        }
        Ok(())
    }

    /// Adds a host that is reached for every address of `10.<index>.0.0/24`, index counting from 1.
    pub fn add_host(&mut self, name: &str) -> Result<()> {
        self.hosts += 1;
        let index = self.hosts;
        self.add_namespace(name, Some(Ipv4Addr::new(10, 255, index, 2)))?;
        let port = format!("to-{name}");
        self.link((name, "eth0"), (WIRE, &port))?;
        self.ip(
            WIRE,
            &format!(
                "addr add 10.255.{index}.1/30 dev {port}\nlink set {port} up\n\
                 route add 10.{index}.0.0/24 via 10.255.{index}.2\n"
            ),
        )?;
        self.ip(
            name,
            &format!(
                "addr add 10.255.{index}.2/30 dev eth0\nlink set eth0 up\n\
                 route add default via 10.255.{index}.1\n"
            ),
        )?;
        self.namespace(name).set_sysctl("net/ipv4/ip_forward", "1")
    }

    /// Adds a pod on `host`. Its address should be one of the host's.
    pub fn add_pod(&mut self, host: &str, name: &str, address: Ipv4Addr) -> Result<()> {
        self.links += 1;
        let port = format!("pod{}", self.links);
        self.add_namespace(name, Some(address))?;
        if let Some(ids) = self.processors.get(host).cloned() {
            self.processors.insert(name.to_owned(), ids);
        }
        self.link((name, "eth0"), (host, &port))?;
        self.ip(
            host,
            &format!(
                "addr add {GATEWAY}/32 dev {port}\nlink set {port} up\n\
                 route add {address}/32 dev {port}\n"
            ),
        )?;
        self.ip(
            name,
            &format!(
                "addr add {address}/32 dev eth0\nlink set eth0 up\n\
                 route add {GATEWAY} dev eth0\nroute add default via {GATEWAY} dev eth0\n"
            ),
        )
    }

    /// Adds a machine that is connected to nothing.
    pub fn add_island(&mut self, name: &str, address: Option<Ipv4Addr>) -> Result<()> {
        self.add_namespace(name, address)
    }

    /// Joins two islands by a cable of their own; their addresses are in one network.
    pub fn join(&mut self, one: &str, other: &str, prefix_bits: u8) -> Result<()> {
        self.link((one, "eth0"), (other, "eth0"))?;
        for name in [one, other] {
            let address = self.namespace(name).address();
            self.ip(
                name,
                &format!("addr add {address}/{prefix_bits} dev eth0\nlink set eth0 up\n"),
            )?;
        }
        Ok(())
    }

    /// Joins two machines by one more cable, between these ports of theirs: over it each reaches the other's address and
    /// nothing else.
    pub fn cable(&self, one: (&str, &str), other: (&str, &str)) -> Result<()> {
        self.link(one, other)?;
        for ((name, port), (peer, _)) in [(one, other), (other, one)] {
            let (own, to) = (self.namespace(name).address(), self.namespace(peer).address());
            self.ip(
                name,
                &format!(
                    "addr add {own}/32 dev {port}\nlink set {port} up\n\
                     route add {to}/32 dev {port} src {own}\n"
                ),
            )?;
        }
        Ok(())
    }

    /// Every TCP connection of the laboratory uses this congestion control from now on.
    pub fn set_congestion_control(&self, name: &str) -> Result<()> {
        for namespace in self.namespaces.values() {
            namespace.set_sysctl("net/ipv4/tcp_congestion_control", name)?;
        }
        Ok(())
    }

    /// The namespace of a host or pod.
    ///
    /// # Panics
    /// When there is none of that name: the caller's own mistake.
    pub fn namespace(&self, name: &str) -> &Namespace {
        let known = || self.namespaces.keys().cloned().collect::<Vec<_>>().join(", ");
        self.namespaces.get(name).unwrap_or_else(|| panic!("no {name} here, only {}", known()))
    }

    /// The namespace in which what travels between the hosts can be seen.
    pub fn wire(&self) -> &Namespace {
        self.namespace(WIRE)
    }

    /// Where the laboratory keeps its records and logs; gone when it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives each of these hosts its share of the processors, and the pods that it will have: like machines of their own,
    /// none waits for what another computes. Where there are fewer processors than hosts, all share them.
    pub fn divide_processors(&mut self, hosts: &[&str]) -> Result<()> {
        let usable = processors::usable()?;
        let share = usable.len() / hosts.len().max(1);
        if share > 0 {
            let shares = hosts.iter().zip(usable.chunks(share));
            self.processors =
                shares.map(|(host, ids)| ((*host).to_owned(), ids.to_vec())).collect();
        }
        Ok(())
    }

    /// The processors of a host or pod.
    pub fn processors(&self, place: &str) -> Result<Vec<usize>> {
        self.processors.get(place).map_or_else(processors::usable, |ids| Ok(ids.clone()))
    }

    /// Starts a program in the namespace `place`; its output goes to `<name>.log`.
    pub fn start(&self, place: &str, name: &str, program: &Program) -> Result<Process> {
        let mut program = program.clone();
        if let Some(ids) = self.processors.get(place) {
            program = program.on_processors(ids);
        }
        Process::start(self.namespace(place), &self.directory, name, &program)
    }

    /// Cuts a pod off and forgets its namespace; processes in it live on without a network.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        let namespace = self.namespaces.remove(name).context("no such machine")?;
        ip_batch(None, &format!("netns del {}\n", namespace.name()))
    }

    fn add_namespace(&mut self, name: &str, address: Option<Ipv4Addr>) -> Result<()> {
        let full = format!("{}{name}", self.prefix);
        let mut record =
            fs::OpenOptions::new().create(true).append(true).open(self.directory.join("names"))?;
        writeln!(record, "{full}")?;
        ip_batch(None, &format!("netns add {full}\n"))?;
        self.namespaces.insert(name.to_owned(), Namespace::open(&full, address)?);
        self.ip(name, "link set lo up\n")
    }

    fn link(&self, one: (&str, &str), other: (&str, &str)) -> Result<()> {
        let (one_name, other_name) = (self.namespace(one.0).name(), self.namespace(other.0).name());
        ip_batch(
            None,
            &format!(
                "link add {} netns {one_name} type veth peer name {} netns {other_name}\n",
                one.1, other.1
            ),
        )
    }

    fn ip(&self, name: &str, commands: &str) -> Result<()> {
        ip_batch(Some(self.namespace(name).name()), commands)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        take_away(&self.directory);
    }
}

/// Waits until `condition` holds; the error says what was waited for.
pub fn wait_until(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    let start = Instant::now();
    while !condition() {
        ensure!(start.elapsed() < patience, "after {patience:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Ends the processes and deletes the namespaces that a record names, then the record.
fn take_away(directory: &Path) {
    let processes = fs::read_to_string(directory.join("processes")).unwrap_or_default();
    for identity in processes.lines().filter_map(|line| line.parse::<process::Identity>().ok()) {
        identity.kill();
    }
    let names = fs::read_to_string(directory.join("names")).unwrap_or_default();
    // One by one: in a batch, one name that is already gone would keep the rest.
    for name in names.lines() {
        let _ = ip_batch(None, &format!("netns del {name}\n"));
    }
    let _ = fs::remove_dir_all(directory);
}

fn ip_batch(namespace: Option<&str>, commands: &str) -> Result<()> {
    let mut command = Command::new("ip");
    if let Some(namespace) = namespace {
        command.args(["-n", namespace]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`; on Debian it comes with iproute2")?;
    child.stdin.take().expect("stdin is piped").write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let hint = if rustix::process::geteuid().is_root() {
            ""
        } else {
            "\nNetwork namespaces need root; without it: unshare -Urnmp --fork --mount-proc <program>"
        };
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}{hint}", commands.trim().replace('\n', "; "), error.trim());
    }
    Ok(())
}
