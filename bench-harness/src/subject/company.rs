//! A small company's mesh: a workload for each service, on two hosts, and each calls a few others.
//!
//! ```text
//!   host-1: service-0, service-2, ...       host-2: service-1, service-3, ...
//! ```
//!
//! The services are in 12 groups, which are namespaces of the cluster. The applications are in
//! this process, with sockets in the pods: so they cost every kind of proxy the same, and what they
//! cost can be told apart. Programs that are not measured at the moment are stopped by a signal.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;

use super::{Rules, tail};
use crate::http::{self, Peer, Request, Response};
use crate::lab::{Lab, Process};

/// Groups of services.
const GROUPS: usize = 12;
/// Where every application listens.
pub(super) const PORT: u16 = 8080;
/// The hosts, in the order of their numbers.
pub(super) const HOSTS: [&str; 2] = ["host-1", "host-2"];
/// Whom a service calls: those so many places after it. The odd ones are on the other host.
const CALLS: [usize; 3] = [1, 4, 9];
/// Services at least, or one would call itself, and at most, or a host's addresses would not do.
pub const SERVICES_MIN: u32 = 10;
/// See [`SERVICES_MIN`].
pub const SERVICES_MAX: u32 = 400;
/// Bytes of an answer.
const ANSWER_BYTES: usize = 1024;
/// Callers at a time. More than are needed: at 300 requests a second each may take 13 ms.
const CALLERS: usize = 4;
/// How long it may take until every connection has carried its first request.
const PATIENCE: Duration = Duration::from_secs(180);
/// What one answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Starts its proxies in a company's mesh.
pub trait Populating {
    /// Starts all proxies. That bytes pass is found out by whoever sends them.
    fn populate(&self, company: &Company, go_on: &dyn Fn() -> Result<()>) -> Result<Vec<Process>>;
}

/// One service and its workload.
#[derive(Debug)]
pub struct Service {
    /// The name, of the pod and of its account as well.
    pub name: String,
    /// The namespace in the cluster.
    pub group: String,
    /// Which of the hosts.
    pub host: usize,
    /// The address of the pod.
    pub address: IpAddr,
}

impl Service {
    /// What it is called in certificates.
    pub fn identity(&self) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{}", self.group, self.name)
    }
}

/// The hosts, the pods, their applications, and one kind of proxy.
pub struct Company {
    /// The hosts and pods, called as the services are.
    pub lab: Lab,
    services: Vec<Service>,
    proxies: Vec<Process>,
    // Runs the applications for as long as it lives.
    _applications: tokio::runtime::Runtime,
}

/// What came of some seconds of calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    /// Answers that came.
    pub answered: u64,
    /// Calls that failed.
    pub failed: u64,
}

impl Company {
    /// Builds the mesh with nothing but its applications.
    pub fn build(count: u32, go_on: &dyn Fn() -> Result<()>) -> Result<Company> {
        ensure!(
            (SERVICES_MIN..=SERVICES_MAX).contains(&count),
            "{count} services: --services is to be between {SERVICES_MIN} and {SERVICES_MAX}"
        );
        let mut lab = Lab::unique()?;
        for host in HOSTS {
            lab.add_host(host)?;
        }
        let applications = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the applications")?;
        let mut services = Vec::new();
        for number in 0..count as usize {
            go_on()?;
            let host = number % HOSTS.len();
            let last = (number / HOSTS.len() + 10) as u8;
            let address = Ipv4Addr::new(10, host as u8 + 1, 0, last);
            let name = format!("service-{number}");
            lab.add_pod(HOSTS[host], &name, address)?;
            let listener = lab.namespace(&name).listen(PORT)?;
            listener.set_nonblocking(true)?;
            let _inside = applications.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            applications.spawn(http::serve(listener, |_: Peer, _: Request| async {
                Response::new(200, "text/plain", vec![b'x'; ANSWER_BYTES])
            }));
            let group = format!("group-{}", number % GROUPS);
            services.push(Service { name, group, host, address: address.into() });
        }
        Ok(Company { lab, services, proxies: Vec::new(), _applications: applications })
    }

    /// All services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Whom the service of this number calls.
    pub fn calls(&self, number: usize) -> impl Iterator<Item = &Service> {
        CALLS.into_iter().map(move |step| &self.services[(number + step) % self.services.len()])
    }

    /// The rules in all pods.
    pub(super) fn install(&self, rules: Rules) -> Result<()> {
        for service in &self.services {
            let mut command = Command::new("nft");
            command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = self
                .lab
                .namespace(&service.name)
                .enter(|| command.spawn())?
                .context("cannot run `nft`; on Debian: apt-get install nftables")?;
            child.stdin.take().expect("stdin is piped").write_all(rules.script().as_bytes())?;
            let output = child.wait_with_output()?;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "nft failed in {}: {}", service.name, error.trim());
        }
        Ok(())
    }

    /// Starts the proxies, if there are any.
    pub fn populate(
        &mut self,
        kind: Option<&dyn Populating>,
        go_on: &dyn Fn() -> Result<()>,
    ) -> Result<()> {
        if let Some(kind) = kind {
            self.proxies = kind.populate(self, go_on)?;
        }
        Ok(())
    }

    /// The processes of the proxies.
    pub fn ids(&self) -> Vec<u32> {
        self.proxies.iter().map(Process::id).collect()
    }

    /// Stops all proxies where they are, or has them go on.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.proxies.iter().try_for_each(|proxy| proxy.signal(signal))
    }

    /// The first proxy that has ended although it should not, with the end of its log.
    pub fn ended(&mut self) -> Option<String> {
        let ended = self.proxies.iter_mut().find_map(|proxy| {
            let running = proxy.is_running();
            (!running).then(|| tail(&proxy.log()))
        })?;
        Some(format!("a proxy has ended; its log: {ended}"))
    }

    /// Opens every connection and makes one call over it; tries again while proxies start.
    pub fn connect(&mut self, go_on: &dyn Fn() -> Result<()>) -> Result<Vec<TcpStream>> {
        let began = Instant::now();
        let mut streams = Vec::new();
        for number in 0..self.services.len() {
            let mut step = 0;
            while step < CALLS.len() {
                go_on()?;
                match self.connect_one(number, step) {
                    Ok(stream) => {
                        streams.push(stream);
                        step += 1;
                    }
                    Err(error) => {
                        if let Some(ended) = self.ended() {
                            return Err(anyhow!(ended));
                        }
                        let name = &self.services[number].name;
                        ensure!(began.elapsed() < PATIENCE, "{name} reaches nobody: {error:#}");
                        thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        }
        Ok(streams)
    }

    fn connect_one(&self, number: usize, step: usize) -> Result<TcpStream> {
        let to = &self.services[(number + CALLS[step]) % self.services.len()];
        let from = self.lab.namespace(&self.services[number].name);
        let to = SocketAddr::new(to.address, PORT);
        let mut stream = from.connect_timeout(to, ANSWER_PATIENCE)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        stream.set_nodelay(true)?;
        call(&mut stream)?;
        Ok(stream)
    }
}

impl Drop for Company {
    fn drop(&mut self) {
        // All at once, not one after the other; what is stopped goes on only to end.
        for signal in [Signal::KILL, Signal::CONT] {
            let _ = self.signal(signal);
        }
    }
}

/// Calls over all connections in turn for some time, so many a second in total.
pub fn make_calls(streams: &mut [TcpStream], rate: f64, time: Duration) -> Calls {
    let share = streams.len().div_ceil(CALLERS).max(1);
    let began = Instant::now();
    thread::scope(|scope| {
        let total = streams.len() as f64;
        let callers: Vec<_> = streams
            .chunks_mut(share)
            .map(|own| {
                let rate = rate * own.len() as f64 / total;
                scope.spawn(move || make_own_calls(own, rate, began, time))
            })
            .collect();
        callers.into_iter().fold(Calls::default(), |sum, caller| {
            let own = caller.join().expect("calling does not panic");
            Calls { answered: sum.answered + own.answered, failed: sum.failed + own.failed }
        })
    })
}

fn make_own_calls(own: &mut [TcpStream], rate: f64, began: Instant, time: Duration) -> Calls {
    let mut calls = Calls::default();
    for number in 0_u32.. {
        let due = Duration::from_secs_f64(f64::from(number) / rate);
        if due >= time || began.elapsed() >= time {
            break;
        }
        thread::sleep((began + due).saturating_duration_since(Instant::now()));
        let at = number as usize % own.len();
        match call(&mut own[at]) {
            Ok(()) => calls.answered += 1,
            Err(_) => calls.failed += 1,
        }
    }
    thread::sleep((began + time).saturating_duration_since(Instant::now()));
    calls
}

/// One call over a connection that stays.
fn call(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: service\r\n\r\n")?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Err(anyhow!("the connection ended")),
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        let head = bytes.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| bytes.len() >= head + 4 + ANSWER_BYTES) {
            ensure!(bytes.starts_with(b"HTTP/1.1 200"), "the answer is not 200");
            return Ok(());
        }
    }
}
