//! Every way a simulated connection can end.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::super::readiness::Readiness;
use super::connection::{CLIENT, Connection, Custody, EndId, SERVER};
use super::network::{Event, Network};

/// A silent peer is given up after 180 s and nine probes, as in ztunnel's place; one that leaves bytes unanswered after
/// about fifteen minutes (`tcp_retries2`).
const KEEPALIVE: Duration = Duration::from_secs(180 + 9 * 180);
pub(super) const RETRANSMISSION: Duration = Duration::from_secs(924);

impl Network {
    pub(super) fn end_of_stream(&mut self, id: EndId) {
        if self.is_lost(id) {
            return;
        }
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let (here, there) = (id.side, id.other().side);
        if connection.ends[here].dead {
            return;
        }
        connection.ends[here].ended = true;
        connection.ends[here].reveal();
        connection.ends[there].end_acknowledged = true;
        self.notify(id, Readiness::READABLE.or(Readiness::READ_CLOSED));
        for end in [id, id.other()] {
            let both = self.end(end).is_some_and(|end| end.ended && end.end_acknowledged);
            if both {
                self.notify(end, Readiness::HUNG_UP);
            }
        }
        self.sweep(id.connection);
    }

    /// The connection of this end is over, by an error.
    pub(super) fn fail(&mut self, id: EndId, kind: ErrorKind) {
        let Some(end) = self.end(id) else { return };
        if std::mem::replace(&mut end.dead, true) {
            return;
        }
        // After the peer's end of stream its reset only means that it took no more (RFC 9293
        // §3.10.7.4).
        let kind = match kind {
            ErrorKind::ConnectionReset if end.ended => ErrorKind::BrokenPipe,
            kind => kind,
        };
        end.error = Some(kind);
        end.outgoing.clear();
        end.reveal();
        let all = Readiness::READABLE
            .or(Readiness::WRITABLE)
            .or(Readiness::READ_CLOSED)
            .or(Readiness::HUNG_UP)
            .or(Readiness::ERROR);
        self.notify(id, all);
        self.sweep(id.connection);
    }

    pub(super) fn shutdown_write(&mut self, id: EndId) -> io::Result<()> {
        let Some(end) = self.end(id).filter(|end| !end.dead) else {
            return Err(ErrorKind::NotConnected.into());
        };
        end.ending = true;
        self.pump(id);
        Ok(())
    }

    /// The program lets go of an end: a clean end, unless bytes are left unread.
    pub(super) fn close(&mut self, id: EndId) {
        let Some(end) = self.end(id) else { return };
        if !end.received.is_empty() || !end.connected {
            return self.abort(id);
        }
        end.custody = Custody::Nobody;
        end.ending = true;
        self.pump(id);
        self.sweep(id.connection);
    }

    /// The program lets go of an end with a reset.
    pub(super) fn abort(&mut self, id: EndId) {
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let (latency, lost) = (connection.latency, connection.lost);
        let end = &mut connection.ends[id.side];
        end.custody = Custody::Nobody;
        end.outgoing.clear();
        end.received.clear();
        if !std::mem::replace(&mut end.dead, true) && !lost {
            self.send(id, latency, |end| Event::Reset { end });
        }
        self.sweep(id.connection);
    }

    /// From here on nothing arrives; both ends find out in their own time.
    pub(super) fn lose(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if std::mem::replace(&mut connection.lost, true) {
            return;
        }
        self.met.lost += 1;
        for side in [CLIENT, SERVER] {
            let end = &self.connections[&id].ends[side];
            let waiting = end.in_flight > 0 || !end.outgoing.is_empty() || end.ending;
            let patience = if waiting { RETRANSMISSION } else { KEEPALIVE };
            self.schedule(patience, Event::Expire { end: EndId { connection: id, side } });
        }
    }

    pub(super) fn is_lost(&self, id: EndId) -> bool {
        self.connections.get(&id.connection).is_none_or(|connection| connection.lost)
    }

    /// Forgets a connection that neither a program nor the kernel needs any more.
    fn sweep(&mut self, id: u64) {
        if self.connections.get(&id).is_some_and(Connection::is_over) {
            self.connections.remove(&id);
        }
    }
}
