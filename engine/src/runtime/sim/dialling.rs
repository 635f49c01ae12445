//! Dials: where the rules of the namespaces lead them, and how they are answered.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::super::readiness::Readiness;
use super::super::watch::Watch;
use super::connection::{CLIENT, Connection, Custody, EndId, SERVER, Target};
use super::network::{EPHEMERAL, Event, Network};
use super::options::MARK_MASK;

/// Where captured connections arrive.
const OUTBOUND_CAPTURE: u16 = 15001;
const INBOUND_CAPTURE: u16 = 15006;
/// The one port that is not captured: peers' tunnels.
const TUNNELS: u16 = 15008;
/// The first wait before a dial is tried again, then doubling; and how often.
const RETRY: Duration = Duration::from_secs(1);
const RETRIES_MAX: u32 = 6;

/// What a dial asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dial {
    pub(super) namespace: usize,
    pub(super) mark: Option<u32>,
    pub(super) source: Option<IpAddr>,
    pub(super) destination: SocketAddr,
}

impl Network {
    /// Sends a dial on its way.
    pub(super) fn dial(&mut self, dial: Dial) -> io::Result<(EndId, Rc<Watch>)> {
        if self.random.chance(self.options.shortage) {
            self.met.dials_short += 1;
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let source = self.source_of(&dial).ok_or(ErrorKind::NetworkUnreachable)?;
        let namespace = &mut self.namespaces[dial.namespace];
        let port = namespace.next_port;
        namespace.next_port = if port == *EPHEMERAL.end() { *EPHEMERAL.start() } else { port + 1 };
        let target = self.route(&dial);
        let latency = self.random.duration(&self.options.latency.clone());
        let buffer_bytes = self.random.within(self.options.buffer_bytes.clone()) as usize;
        let id = self.next_connection;
        self.next_connection += 1;
        let local = SocketAddr::new(source, port);
        let mut connection =
            Connection::new(dial.namespace, local, dial.destination, target, latency, buffer_bytes);
        let answerless = dial.source.is_some() && !self.is_ours(dial.mark);
        if dial.source.is_some() {
            self.met.foreign_sources += 1;
        }
        if answerless || target.is_none() || self.random.chance(self.options.blackhole) {
            self.met.blackholed += 1;
            connection.lost = true;
            let silence = RETRY * ((1 << (RETRIES_MAX + 1)) - 1);
            let refusal = Some(ErrorKind::TimedOut);
            self.schedule(silence, Event::Answered { connection: id, refusal });
        } else {
            self.schedule(latency, Event::Dial { connection: id, tries: 0 });
        }
        let watch = connection.ends[CLIENT].watch.clone();
        self.connections.insert(id, connection);
        Ok((EndId { connection: id, side: CLIENT }, watch))
    }

    /// The address a dial comes from: its own wish, or the first of the right family.
    fn source_of(&self, dial: &Dial) -> Option<IpAddr> {
        let to = dial.destination.ip();
        let own = &self.namespaces[dial.namespace].addresses;
        if let Some(source) = dial.source {
            return (source.is_ipv4() == to.is_ipv4()).then_some(source);
        }
        if to.is_loopback() || own.contains(&to) {
            return Some(to);
        }
        own.iter().find(|address| address.is_ipv4() == to.is_ipv4()).copied()
    }

    /// What the rules of the namespaces on the way make of a dial.
    fn route(&mut self, dial: &Dial) -> Option<Target> {
        let from = &self.namespaces[dial.namespace];
        let to = dial.destination;
        let own = to.ip().is_loopback() || from.addresses.contains(&to.ip());
        if own {
            return Some(Target { namespace: dial.namespace, address: to });
        }
        if from.redirected && !self.is_ours(dial.mark) {
            self.met.redirected_outbound += 1;
            let here = loopback(to.ip());
            let address = SocketAddr::new(here, OUTBOUND_CAPTURE);
            return Some(Target { namespace: dial.namespace, address });
        }
        if from.unplugged {
            return None;
        }
        let owner = self.namespaces.iter().position(|other| other.addresses.contains(&to.ip()))?;
        let other = &self.namespaces[owner];
        if other.unplugged {
            return None;
        }
        // Marks do not cross the wire.
        if other.redirected && to.port() != TUNNELS {
            self.met.redirected_inbound += 1;
            let address = SocketAddr::new(to.ip(), INBOUND_CAPTURE);
            return Some(Target { namespace: owner, address });
        }
        Some(Target { namespace: owner, address: to })
    }

    fn is_ours(&self, mark: Option<u32>) -> bool {
        mark.is_some_and(|mark| mark & MARK_MASK == self.options.mark & MARK_MASK)
    }

    pub(super) fn dialled(&mut self, id: u64, tries: u32) {
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.lost || connection.ends[CLIENT].custody == Custody::Nobody {
            return;
        }
        let (latency, target) = (connection.latency, connection.target.expect("routed"));
        let refused = self.random.chance(self.options.refuse);
        let Some(listener) = self.listening(target) else {
            let refusal = Some(ErrorKind::ConnectionRefused);
            return self.schedule(latency, Event::Answered { connection: id, refusal });
        };
        if refused {
            self.met.refused += 1;
            let refusal = Some(ErrorKind::ConnectionRefused);
            return self.schedule(latency, Event::Answered { connection: id, refusal });
        }
        let listener = &mut self.listeners[listener];
        if listener.queue.len() > listener.backlog {
            self.met.queue_full += 1;
            let again = match tries {
                RETRIES_MAX => {
                    Event::Answered { connection: id, refusal: Some(ErrorKind::TimedOut) }
                }
                _ => Event::Dial { connection: id, tries: tries + 1 },
            };
            return self.schedule(RETRY * (1 << tries), again);
        }
        listener.queue.push_back(id);
        self.wakes.push((listener.watch.clone(), Readiness::READABLE));
        let connection = self.connections.get_mut(&id).expect("looked up above");
        connection.ends[SERVER].custody = Custody::Queue;
        self.schedule(latency, Event::Answered { connection: id, refusal: None });
    }

    /// Who listens there; of several, any.
    fn listening(&mut self, target: Target) -> Option<usize> {
        let matches: Vec<usize> = self
            .listeners
            .iter()
            .filter(|(_, listener)| listener.serves(&target))
            .map(|(index, _)| index)
            .collect();
        (!matches.is_empty()).then(|| matches[self.random.below(matches.len())])
    }

    pub(super) fn answered(&mut self, id: u64, refusal: Option<ErrorKind>) {
        let client = EndId { connection: id, side: CLIENT };
        match refusal {
            Some(kind) => self.fail(client, kind),
            None => {
                for side in [CLIENT, SERVER] {
                    let end = EndId { side, ..client };
                    if let Some(end) = self.end(end).filter(|end| !end.dead) {
                        end.connected = true;
                    }
                    self.notify(end, Readiness::WRITABLE);
                    self.pump(end);
                }
            }
        }
    }

    pub(super) fn is_connected(&mut self, id: EndId) -> bool {
        self.end(id).is_some_and(|end| end.connected)
    }
}

fn loopback(family: IpAddr) -> IpAddr {
    if family.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}
