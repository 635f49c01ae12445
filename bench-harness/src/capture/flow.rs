//! One direction of one TCP connection, put together again.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use super::Report;
use super::packet::Segment;

/// Payload kept while something before it has not been seen; above it, the gap is given up.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// The largest TLS record: 2^14 bytes and what encryption may add (RFC 8446 §5.2).
const RECORD_BODY_BYTES_MAX: usize = (1 << 14) + 256;

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FlowKey {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
}

/// What was seen of it.
#[derive(Debug)]
pub(super) struct Flow {
    /// The sequence number of the first byte.
    start: u32,
    /// Bytes taken in order so far.
    taken: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    missed_bytes: u64,
    tls: Option<Records>,
    tail: Vec<u8>,
    secrets_seen: u64,
}

impl Flow {
    pub(super) fn new(tls: bool, first: &Segment<'_>) -> Flow {
        Flow {
            start: first.sequence.wrapping_add(u32::from(first.syn)),
            taken: 0,
            waiting: BTreeMap::new(),
            waiting_bytes: 0,
            missed_bytes: 0,
            // Without its beginning a stream cannot be read as records.
            tls: tls.then(|| Records { joined_late: !first.syn, ..Records::default() }),
            tail: Vec::new(),
            secrets_seen: 0,
        }
    }

    /// Whether the SYN with this number is the one it began with.
    pub(super) fn began_at(&self, sequence: u32) -> bool {
        self.start == sequence.wrapping_add(1)
    }

    pub(super) fn take(&mut self, segment: &Segment<'_>, secrets: &[Vec<u8>]) {
        if segment.payload.is_empty() {
            return;
        }
        let next = self.start.wrapping_add(self.taken as u32);
        // Signed distance: what lies before `next` was seen already (on another interface, or
        // sent again).
        let ahead = i64::from(segment.sequence.wrapping_sub(next) as i32);
        let position = self.taken as i64 + ahead;
        let skip = (-ahead).max(0) as usize;
        let Some(fresh) = segment.payload.get(skip..).filter(|fresh| !fresh.is_empty()) else {
            return;
        };
        if ahead > 0 {
            self.waiting_bytes += fresh.len();
            self.waiting.insert(position as u64, fresh.to_vec());
            if self.waiting_bytes > WAITING_BYTES_MAX {
                self.give_up_gap(secrets);
            }
            return;
        }
        self.accept(fresh, secrets);
        self.accept_waiting(secrets);
    }

    pub(super) fn report(&self, key: &FlowKey, report: &mut Report) {
        let label = format!("{} -> {}", key.source.ip(), key.destination.ip());
        report.streams += 1;
        report.missed_bytes += self.missed_bytes;
        if let Some((first, _)) = self.waiting.first_key_value() {
            report.missed_bytes += first - self.taken;
        }
        match &self.tls {
            Some(records) => {
                report.tls_streams += 1;
                report.tls_bytes += self.taken;
                report.tls_records += records.whole;
                report.client_hellos += records.client_hellos;
                report.not_tls_bytes += records.not_tls_bytes;
                report.unread_bytes += records.unread_bytes;
            }
            None if self.taken > 0 => {
                *report.other_bytes.entry(label.clone()).or_default() += self.taken;
            }
            None => {}
        }
        if self.secrets_seen > 0 {
            *report.secrets_seen.entry(label).or_default() += self.secrets_seen;
        }
    }

    fn accept_waiting(&mut self, secrets: &[Vec<u8>]) {
        while let Some((position, bytes)) = self.waiting.pop_first() {
            if position > self.taken {
                self.waiting.insert(position, bytes);
                return;
            }
            self.waiting_bytes -= bytes.len();
            let skip = (self.taken - position) as usize;
            if let Some(fresh) = bytes.get(skip..) {
                self.accept(fresh, secrets);
            }
        }
    }

    fn give_up_gap(&mut self, secrets: &[Vec<u8>]) {
        if let Some((first, _)) = self.waiting.first_key_value() {
            self.missed_bytes += first - self.taken;
            self.taken = *first;
            if let Some(records) = &mut self.tls {
                records.joined_late = true;
            }
        }
        self.accept_waiting(secrets);
    }

    fn accept(&mut self, bytes: &[u8], secrets: &[Vec<u8>]) {
        self.taken += bytes.len() as u64;
        if let Some(records) = &mut self.tls {
            records.read(bytes);
        }
        let longest = secrets.iter().map(Vec::len).max().unwrap_or(0);
        if longest == 0 {
            return;
        }
        let old = self.tail.len();
        self.tail.extend_from_slice(bytes);
        for secret in secrets {
            // One that ends within the old part was counted when that came.
            self.secrets_seen += self
                .tail
                .windows(secret.len())
                .enumerate()
                .filter(|(at, window)| at + secret.len() > old && window == secret)
                .count() as u64;
        }
        let keep = self.tail.len().min(longest - 1);
        self.tail.drain(..self.tail.len() - keep);
    }
}

/// A stream read as TLS records.
#[derive(Debug, Default)]
struct Records {
    header: Vec<u8>,
    body_left: usize,
    body_begins: bool,
    whole: u64,
    client_hellos: u64,
    not_tls_bytes: u64,
    unread_bytes: u64,
    joined_late: bool,
}

impl Records {
    fn read(&mut self, mut bytes: &[u8]) {
        if self.joined_late {
            self.unread_bytes += bytes.len() as u64;
            return;
        }
        while !bytes.is_empty() {
            if self.not_tls_bytes > 0 {
                self.not_tls_bytes += bytes.len() as u64;
                return;
            }
            if self.body_left > 0 {
                if std::mem::take(&mut self.body_begins) && self.header[0] == 22 && bytes[0] == 1 {
                    self.client_hellos += 1;
                }
                let count = self.body_left.min(bytes.len());
                self.body_left -= count;
                bytes = &bytes[count..];
                if self.body_left == 0 {
                    self.whole += 1;
                    self.header.clear();
                }
                continue;
            }
            self.header.push(bytes[0]);
            bytes = &bytes[1..];
            if let [kind, major, minor, high, low] = self.header[..] {
                let length = usize::from(u16::from_be_bytes([high, low]));
                let known = (20..=23).contains(&kind) && major == 3 && (1..=3).contains(&minor);
                if known && (1..=RECORD_BODY_BYTES_MAX).contains(&length) {
                    self.body_left = length;
                    self.body_begins = true;
                } else {
                    self.not_tls_bytes = self.header.len() as u64;
                }
            }
        }
    }
}
