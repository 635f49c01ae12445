//! Namespaces, routes and the queue of what is under way.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;

use super::super::random::Random;
use super::super::readiness::Readiness;
use super::super::watch::Watch;
use super::connection::{Connection, End, EndId, SERVER, Target};
use super::options::{FaultsMet, WorldOptions};

/// The ports that dials come from.
pub(super) const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

pub(crate) struct Network {
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) options: WorldOptions,
    pub(super) met: FaultsMet,
    pub(super) start: Instant,
    pub(super) clock: Duration,
    /// How many seconds the wall clock is ahead.
    pub(super) wall_clock_error: i64,
    pub(super) digest: u64,
    pub(super) connections: BTreeMap<u64, Connection>,
    /// To be told when the borrow ends.
    pub(super) wakes: Vec<(Rc<Watch>, Readiness)>,
    pub(super) next_connection: u64,
    pub(super) namespaces: Vec<Namespace>,
    pub(super) listeners: Slab<Listener>,
    events: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
}

pub(super) struct Namespace {
    name: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) redirected: bool,
    pub(super) unplugged: bool,
    pub(super) next_port: u16,
}

pub(super) struct Listener {
    pub(super) namespace: usize,
    pub(super) address: SocketAddr,
    reuse_port: bool,
    pub(super) backlog: usize,
    pub(super) queue: VecDeque<u64>,
    pub(super) watch: Rc<Watch>,
}

/// What happens, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A dial reaches the other side, not for the first time perhaps.
    Dial { connection: u64, tries: u32 },
    /// The dialler hears that it is connected, or why not.
    Answered { connection: u64, refusal: Option<ErrorKind> },
    /// A segment reaches an end.
    Arrive { end: EndId, bytes: Vec<u8> },
    /// The peer's end of stream reaches an end.
    End { end: EndId },
    /// A reset reaches an end.
    Reset { end: EndId },
    /// What a short read left behind can be read.
    Reveal { end: EndId },
    /// After a short write there is room again.
    Room { end: EndId },
    /// An end gives up on a peer that is silent.
    Expire { end: EndId },
}

#[derive(Debug, PartialEq, Eq)]
struct Scheduled {
    at: Duration,
    sequence: u64,
    event: Event,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Network {
    pub(super) fn new(seed: u64, options: WorldOptions) -> Network {
        Network {
            seed,
            random: Random::new(seed),
            options,
            met: FaultsMet::default(),
            start: Instant::now(),
            clock: Duration::ZERO,
            wall_clock_error: 0,
            // FNV-1a's start.
            digest: 0xcbf2_9ce4_8422_2325,
            connections: BTreeMap::new(),
            wakes: Vec::new(),
            next_connection: 0,
            namespaces: Vec::new(),
            listeners: Slab::new(),
            events: BinaryHeap::new(),
            sequence: 0,
        }
    }

    pub(super) fn add_namespace(&mut self, name: &str, addresses: &[IpAddr]) -> usize {
        for address in addresses {
            let taken = self.namespaces.iter().any(|other| other.addresses.contains(address));
            assert!(!taken, "{address} has an owner already");
        }
        self.namespaces.push(Namespace {
            name: name.to_owned(),
            addresses: addresses.to_vec(),
            redirected: false,
            unplugged: false,
            next_port: *EPHEMERAL.start(),
        });
        self.namespaces.len() - 1
    }

    pub(super) fn redirect(&mut self, namespace: usize, installed: bool) {
        self.namespaces[namespace].redirected = installed;
    }

    pub(super) fn unplug(&mut self, namespace: usize) {
        self.namespaces[namespace].unplugged = true;
        let cut: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.crosses_from(namespace))
            .map(|(id, _)| *id)
            .collect();
        for connection in cut {
            self.lose(connection);
        }
    }

    pub(super) fn plug_in(&mut self, namespace: usize) {
        self.namespaces[namespace].unplugged = false;
    }

    pub(super) fn next_event(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse(next)| next.at)
    }

    /// Has everything happen that is due by `until`.
    pub(super) fn advance(&mut self, until: Duration) {
        while self.next_event().is_some_and(|at| at <= until) {
            let Reverse(next) = self.events.pop().expect("just seen");
            self.clock = self.clock.max(next.at);
            self.record(&next);
            self.happen(next.event);
        }
        self.clock = until;
    }

    pub(super) fn schedule(&mut self, delay: Duration, event: Event) {
        self.schedule_at(self.clock + delay, event);
    }

    pub(super) fn schedule_at(&mut self, at: Duration, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse(Scheduled { at, sequence: self.sequence, event }));
    }

    /// FNV-1a over everything that happens: what, where, when and how much. Not over the bytes
    /// themselves, which encryption makes different in every run.
    fn record(&mut self, scheduled: &Scheduled) {
        let mut mix = |bytes: &[u8]| {
            for byte in bytes {
                self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
            }
        };
        mix(&scheduled.at.as_nanos().to_le_bytes());
        match &scheduled.event {
            Event::Arrive { end, bytes } => {
                mix(format!("{end:?}").as_bytes());
                mix(&bytes.len().to_le_bytes());
            }
            other => mix(format!("{other:?}").as_bytes()),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial { connection, tries } => self.dialled(connection, tries),
            Event::Answered { connection, refusal } => self.answered(connection, refusal),
            Event::Arrive { end, bytes } => self.arrive(end, bytes),
            Event::End { end } => self.end_of_stream(end),
            Event::Reset { end } => self.fail(end, ErrorKind::ConnectionReset),
            Event::Reveal { end } => self.reveal(end),
            Event::Room { end } => self.notify(end, Readiness::WRITABLE),
            Event::Expire { end } => self.fail(end, ErrorKind::TimedOut),
        }
    }

    pub(super) fn end(&mut self, id: EndId) -> Option<&mut End> {
        self.connections.get_mut(&id.connection).map(|connection| &mut connection.ends[id.side])
    }

    pub(super) fn notify(&mut self, id: EndId, readiness: Readiness) {
        if let Some(end) = self.end(id) {
            let watch = end.watch.clone();
            self.wakes.push((watch, readiness));
        }
    }

    pub(super) fn listen(
        &mut self,
        namespace: usize,
        wanted: SocketAddr,
        reuse_port: bool,
        backlog: u32,
        watch: &Rc<Watch>,
    ) -> Result<(usize, SocketAddr), ErrorKind> {
        let own = &self.namespaces[namespace];
        let ip = wanted.ip();
        if !ip.is_unspecified() && !ip.is_loopback() && !own.addresses.contains(&ip) {
            return Err(ErrorKind::AddrNotAvailable);
        }
        let port = match wanted.port() {
            0 => self.free_port(namespace),
            port => port,
        };
        let address = SocketAddr::new(ip, port);
        let conflict = self.listeners.iter().any(|(_, other)| {
            other.namespace == namespace
                && other.address.port() == port
                && (other.address.ip() == ip || other.address.ip().is_unspecified())
                && !(reuse_port && other.reuse_port)
        });
        if conflict {
            return Err(ErrorKind::AddrInUse);
        }
        let listener = Listener {
            namespace,
            address,
            reuse_port,
            backlog: backlog as usize,
            queue: VecDeque::new(),
            watch: watch.clone(),
        };
        Ok((self.listeners.insert(listener), address))
    }

    fn free_port(&self, namespace: usize) -> u16 {
        let taken = |port: u16| {
            let mut all = self.listeners.iter();
            all.any(|(_, other)| other.namespace == namespace && other.address.port() == port)
        };
        (20_000..32_000).find(|port| !taken(*port)).expect("not that many listeners")
    }

    /// Whether the process has no descriptor for the connection that waits.
    pub(super) fn is_short(&mut self, listener: usize) -> bool {
        let short =
            !self.listeners[listener].queue.is_empty() && self.random.chance(self.options.shortage);
        self.met.accepts_short += u64::from(short);
        short
    }

    /// The next connection of a listener's queue.
    pub(super) fn accept(&mut self, listener: usize) -> Option<EndId> {
        let connection = self.listeners[listener].queue.pop_front()?;
        self.met.accepted += 1;
        Some(EndId { connection, side: SERVER })
    }

    /// Whoever waits in the queue of a listener that goes away is reset.
    pub(super) fn close_listener(&mut self, listener: usize) {
        let listener = self.listeners.remove(listener);
        for connection in listener.queue {
            self.abort(EndId { connection, side: SERVER });
        }
    }

    pub(super) fn open_sockets(&self) -> Vec<String> {
        let name = |namespace: usize| &self.namespaces[namespace].name;
        let listeners = self
            .listeners
            .iter()
            .map(|(_, open)| format!("{}: listener {}", name(open.namespace), open.address));
        let held = self.connections.iter().flat_map(|(id, connection)| {
            connection.held().map(move |(side, end)| {
                let namespace = connection.namespace_of(side);
                let (local, peer) = (end.local, end.peer);
                format!("{}: connection {id}, {local} to {peer}", name(namespace))
            })
        });
        listeners.chain(held).collect()
    }
}

impl Listener {
    pub(super) fn serves(&self, target: &Target) -> bool {
        let (own, asked) = (self.address.ip(), target.address.ip());
        let covers = match own {
            IpAddr::V4(any) if any.is_unspecified() => asked.is_ipv4(),
            // Dual stack.
            IpAddr::V6(any) if any.is_unspecified() => true,
            own => own == asked,
        };
        self.namespace == target.namespace && self.address.port() == target.address.port() && covers
    }
}
