//! One simulated TCP connection: two ends, where they are, and what each of them holds.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::super::readiness::Readiness;
use super::super::watch::Watch;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// One end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndId {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl EndId {
    pub(super) fn other(self) -> EndId {
        EndId { side: 1 - self.side, ..self }
    }
}

/// Who holds an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Custody {
    /// Closed, or not there yet: the kernel alone goes on with it.
    Nobody,
    /// A listener's queue.
    Queue,
    /// A socket of the program.
    Program,
}

/// Where a dial leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: usize,
    /// The address a listener must have.
    pub(super) address: SocketAddr,
}

pub(super) struct Connection {
    pub(super) ends: [End; 2],
    pub(super) target: Option<Target>,
    pub(super) latency: Duration,
    /// Nothing arrives any more, on either side.
    pub(super) lost: bool,
    namespace: usize,
    pub(super) buffer_bytes: usize,
}

pub(super) struct End {
    pub(super) watch: Rc<Watch>,
    pub(super) custody: Custody,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    /// Where the dialler wanted to go.
    pub(super) original: SocketAddr,
    pub(super) connected: bool,
    /// To be told once.
    pub(super) error: Option<ErrorKind>,
    /// Failed, or reset by ourselves: nothing goes in or out.
    pub(super) dead: bool,
    /// Taken from the program, not yet sent.
    pub(super) outgoing: VecDeque<u8>,
    pub(super) in_flight: usize,
    /// Arrived; the first `visible` of it can be read.
    pub(super) received: VecDeque<u8>,
    pub(super) visible: usize,
    pub(super) revealing: bool,
    pub(super) ending: bool,
    pub(super) end_sent: bool,
    pub(super) end_acknowledged: bool,
    pub(super) ended: bool,
    pub(super) last_departure: Duration,
}

impl End {
    fn new(local: SocketAddr, peer: SocketAddr, original: SocketAddr) -> End {
        End {
            watch: Rc::new(Watch::new(Readiness::READABLE)),
            custody: Custody::Nobody,
            local,
            peer,
            original,
            connected: false,
            error: None,
            dead: false,
            outgoing: VecDeque::new(),
            in_flight: 0,
            received: VecDeque::new(),
            visible: 0,
            revealing: false,
            ending: false,
            end_sent: false,
            end_acknowledged: false,
            ended: false,
            last_departure: Duration::ZERO,
        }
    }

    /// Everything that has arrived can be read.
    pub(super) fn reveal(&mut self) {
        self.revealing = false;
        self.visible = self.received.len();
    }
}

impl Connection {
    pub(super) fn new(
        namespace: usize,
        local: SocketAddr,
        destination: SocketAddr,
        target: Option<Target>,
        latency: Duration,
        buffer_bytes: usize,
    ) -> Connection {
        let mut client = End::new(local, destination, local);
        client.custody = Custody::Program;
        let arrived_at = target.map_or(destination, |target| target.address);
        let server = End::new(arrived_at, local, destination);
        let ends = [client, server];
        Connection { ends, target, latency, lost: false, namespace, buffer_bytes }
    }

    /// Whether it leaves, or enters, that namespace.
    pub(super) fn crosses_from(&self, namespace: usize) -> bool {
        let to = self.target.map(|target| target.namespace);
        to != Some(self.namespace) && (self.namespace == namespace || to == Some(namespace))
    }

    pub(super) fn namespace_of(&self, side: usize) -> usize {
        let target = self.target.map_or(self.namespace, |target| target.namespace);
        if side == CLIENT { self.namespace } else { target }
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (usize, &End)> {
        self.ends.iter().enumerate().filter(|(_, end)| end.custody == Custody::Program)
    }

    pub(super) fn is_over(&self) -> bool {
        let over = |end: &End| {
            let finished = end.dead || self.lost || (end.end_sent && end.outgoing.is_empty());
            end.custody == Custody::Nobody && finished
        };
        self.ends.iter().all(over)
    }
}
