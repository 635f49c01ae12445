//! A packet capture that judges: is everything between these hosts TLS on one port, and does any
//! text that must stay secret show?
//!
//! It sees all interfaces of the network namespace it runs in. TCP streams are put together again
//! in each direction, so a text cut by a packet boundary is found too, and every byte of a tunnel
//! is accounted for as part of a TLS record, from the first one on.

mod flow;
mod packet;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use clap::Args;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};

use self::flow::{Flow, FlowKey};
use self::packet::Segment;
use crate::stop::stop_flag;

/// All protocols, in network byte order as packet(7) wants it.
const ETH_P_ALL: u16 = 0x0003;

/// What to watch for.
#[derive(Clone, Debug, Args)]
pub struct Capture {
    /// Stop after this many seconds; without it, at SIGTERM.
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<f64>,
    /// The port on which everything has to be TLS.
    #[arg(long, default_value_t = 15008)]
    pub tls_port: u16,
    /// A text that must not be seen; may be repeated.
    #[arg(long)]
    pub secret: Vec<String>,
    /// Also write the packets to this file, for Wireshark.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Write what was seen so far to this file twice a second.
    #[arg(long, value_name = "FILE")]
    pub progress: Option<PathBuf>,
}

/// What was seen.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Packets, counted once per interface they crossed.
    pub packets: u64,
    /// TCP streams, one per direction of a connection.
    pub streams: u64,
    /// Streams on the TLS port.
    pub tls_streams: u64,
    /// Their payload bytes.
    pub tls_bytes: u64,
    /// Whole TLS records in them.
    pub tls_records: u64,
    /// Handshakes begun (ClientHello messages).
    pub client_hellos: u64,
    /// Payload bytes on the TLS port that are no part of a TLS record.
    pub not_tls_bytes: u64,
    /// Bytes the capture itself missed: if not zero, the rest is no proof.
    pub missed_bytes: u64,
    /// Payload bytes of TLS streams that had begun before the capture: their records cannot be told
    /// apart, so they are no proof either.
    pub unread_bytes: u64,
    /// Payload bytes on other ports, by source and destination host.
    pub other_bytes: BTreeMap<String, u64>,
    /// Secrets seen: how often, by source and destination.
    pub secrets_seen: BTreeMap<String, u64>,
}

impl Capture {
    /// Captures, prints the report, and tells whether the TLS port showed nothing but TLS.
    pub fn run(&self) -> Result<bool> {
        let report = self.watch()?;
        println!("{}", serde_json::to_string(&report)?);
        let unseen_bytes = report.missed_bytes + report.unread_bytes;
        Ok(report.not_tls_bytes == 0 && unseen_bytes == 0 && report.tls_records > 0)
    }

    fn watch(&self) -> Result<Report> {
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))
            .context("cannot capture packets (needs CAP_NET_RAW)")?;
        // Packets that find no room are lost, and the report will say so.
        let _ = socket.set_recv_buffer_size(64 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut file = self.write.as_deref().map(PcapFile::create).transpose()?;
        let mut end = self.duration.map(|s| Instant::now() + Duration::from_secs_f64(s));
        let stop = stop_flag()?;
        let mut tally = Tally::new(self);
        let mut progress_due = Instant::now();
        let mut room = vec![0; 1 << 17];
        println!("capturing");
        std::io::stdout().flush()?;
        loop {
            match recv(&socket, &mut room[..], RecvFlags::empty()) {
                Ok((count, _)) => {
                    if let Some(file) = &mut file {
                        file.add(&room[..count])?;
                    }
                    tally.take(&room[..count]);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot read packets"),
            }
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) {
                // What waits in the socket is still to be read.
                end = Some(
                    end.unwrap_or(now + Duration::from_millis(200))
                        .min(now + Duration::from_millis(200)),
                );
                stop.store(false, Ordering::Relaxed);
            }
            if end.is_some_and(|end| now >= end) {
                break;
            }
            if now >= progress_due {
                progress_due = now + Duration::from_millis(500);
                self.write_progress(&tally.report())?;
            }
        }
        let report = tally.report();
        self.write_progress(&report)?;
        Ok(report)
    }

    fn write_progress(&self, report: &Report) -> Result<()> {
        let Some(path) = &self.progress else { return Ok(()) };
        // Whoever reads never sees half a line.
        let next = path.with_extension("next");
        std::fs::write(&next, serde_json::to_string(report)?)?;
        std::fs::rename(&next, path).context("cannot write the progress file")
    }
}

/// All streams seen so far.
struct Tally {
    tls_port: u16,
    secrets: Vec<Vec<u8>>,
    packets: u64,
    flows: HashMap<FlowKey, Flow>,
    finished: Report,
}

impl Tally {
    fn new(capture: &Capture) -> Tally {
        Tally {
            tls_port: capture.tls_port,
            secrets: capture.secret.iter().map(|secret| secret.clone().into_bytes()).collect(),
            packets: 0,
            flows: HashMap::new(),
            finished: Report::default(),
        }
    }

    fn take(&mut self, frame: &[u8]) {
        self.packets += 1;
        let Some(segment) = Segment::parse(frame) else { return };
        let key = FlowKey { source: segment.source, destination: segment.destination };
        let tls = key.source.port() == self.tls_port || key.destination.port() == self.tls_port;
        if let Some(flow) = self.flows.get(&key) {
            // The same two ports again: another connection. What is left of the old one counts.
            if segment.syn && !flow.began_at(segment.sequence) {
                let flow = self.flows.remove(&key).expect("it was just seen");
                flow.report(&key, &mut self.finished);
            }
        }
        let flow = self.flows.entry(key).or_insert_with(|| Flow::new(tls, &segment));
        flow.take(&segment, &self.secrets);
    }

    fn report(&self) -> Report {
        let mut report = self.finished.clone();
        report.packets = self.packets;
        for (key, flow) in &self.flows {
            flow.report(key, &mut report);
        }
        report
    }
}

/// The format Wireshark and tcpdump read.
struct PcapFile(BufWriter<File>);

impl PcapFile {
    fn create(path: &Path) -> Result<PcapFile> {
        let file =
            File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut file = BufWriter::new(file);
        // Magic, version 2.4, zone, accuracy, longest packet, Ethernet.
        for word in [0xa1b2_c3d4_u32, 4 << 16 | 2, 0, 0, 1 << 17, 1] {
            file.write_all(&word.to_le_bytes())?;
        }
        Ok(PcapFile(file))
    }

    fn add(&mut self, frame: &[u8]) -> Result<()> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let bytes = frame.len() as u32;
        for word in [time.as_secs() as u32, time.subsec_micros(), bytes, bytes] {
            self.0.write_all(&word.to_le_bytes())?;
        }
        self.0.write_all(frame)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::packet::frame;
    use super::*;

    fn capture(secret: &str) -> Capture {
        let secret = vec![secret.to_owned()];
        Capture { duration: None, tls_port: 15008, secret, write: None, progress: None }
    }

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 3, 3, 0, body.len() as u8];
        record.extend_from_slice(body);
        record
    }

    #[test]
    fn whole_tls_streams_are_accounted_for_to_the_last_byte() {
        let mut tally = Tally::new(&capture("secret"));
        let mut bytes = record(22, &[1, 2, 3]);
        bytes.extend(record(23, b"0123456789"));
        tally.take(&frame(15008, 100, true, b""));
        // Out of order, repeated, and cut within a record.
        tally.take(&frame(15008, 101 + 7, false, &bytes[7..]));
        tally.take(&frame(15008, 101, false, &bytes[..7]));
        tally.take(&frame(15008, 101, false, &bytes[..7]));
        let report = tally.report();
        assert_eq!((report.tls_records, report.client_hellos), (2, 1));
        assert_eq!(report.tls_bytes, bytes.len() as u64);
        assert_eq!((report.not_tls_bytes, report.missed_bytes), (0, 0));
    }

    #[test]
    fn what_is_no_record_is_counted_against_us() {
        let mut tally = Tally::new(&capture("secret"));
        tally.take(&frame(15008, 100, true, b""));
        tally.take(&frame(15008, 101, false, b"GET / HTTP/1.1\r\n"));
        assert_eq!(tally.report().not_tls_bytes, 16);
    }

    #[test]
    fn a_gap_is_said_and_not_hidden() {
        let mut tally = Tally::new(&capture("secret"));
        tally.take(&frame(15008, 100, true, b""));
        tally.take(&frame(15008, 111, false, &record(23, b"x")));
        assert_eq!(tally.report().missed_bytes, 10);
        // A stream whose beginning was not seen is a gap, too.
        let mut tally = Tally::new(&capture("secret"));
        tally.take(&frame(15008, 500, false, &record(23, b"x")));
        assert_eq!(tally.report().unread_bytes, 6);
    }

    #[test]
    fn a_secret_cut_by_a_packet_boundary_is_found_once() {
        let mut tally = Tally::new(&capture("the secret"));
        tally.take(&frame(9080, 0, true, b""));
        tally.take(&frame(9080, 1, false, b"now the sec"));
        tally.take(&frame(9080, 12, false, b"ret is out"));
        tally.take(&frame(9080, 12, false, b"ret is out"));
        let report = tally.report();
        assert_eq!(report.secrets_seen.values().sum::<u64>(), 1);
        assert_eq!(report.other_bytes["10.1.0.1 -> 10.2.0.2"], 21);
    }
}
