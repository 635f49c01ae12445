//! What the two processes of a hand-over say, and how it is written: one JSON object, and for connections the bytes
//! their relays hold behind it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::limits::{HANDOVER_DESCRIPTORS_MAX, HANDOVER_RAW_BYTES_MAX};
use ringway_engine::runtime::DetachedStream;
use ringway_engine::telemetry::Direction;
use ringway_engine::{DirectionState, MovedConnection, RelayState, Way};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Frame};

/// Everything that is said. Descriptors, where there are any, come in the order that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub(crate) enum Message {
    /// The successor's first word.
    Hello {
        /// Its [`PROTOCOL`](super::PROTOCOL).
        protocol: u32,
        /// Its version, for the log.
        version: String,
    },
    /// The predecessor will not hand over to this successor.
    Refused {
        /// Why.
        why: String,
    },
    /// What belongs to the process; one descriptor for each server.
    Inheritance {
        /// The configuration that came by standard input, which can be read once only.
        standard_input: Option<String>,
        /// The listening servers.
        servers: Vec<String>,
        /// What is redirected and how: where it is the same for the successor, the rules stay as they are.
        redirect: String,
        /// Which filter of system calls the successor has with its birth: it must not put the same on top of it, because
        /// the kernel takes a few of them only.
        call_filter: Option<u64>,
    },
    /// What belongs to one workload: a descriptor of its network namespace, then one for each way. A workload with
    /// many shards takes several of these.
    Workload {
        /// Its uid.
        uid: String,
        /// The tool that installed its rules.
        tool: Option<String>,
        /// What comes by each listening socket.
        ways: Vec<WayName>,
    },
    /// That was all.
    Complete,
    /// The successor has taken over these workloads and only waits for the word.
    Ready {
        /// Their uids.
        workloads: Vec<String>,
    },
    /// The word.
    Serve,
    /// The successor accepts.
    Serving,
    /// The predecessor does not accept any more, and the service manager knows.
    Succeeded,
    /// Live connections: two descriptors each, the client's socket first.
    Connections {
        /// Each of them.
        connections: Vec<ConnectionText>,
    },
    /// The successor has the connections, and relays them from here on.
    Taken,
    /// The predecessor has not heard that in time, hears nothing more, and relays the connections itself.
    TakenBack,
}

/// [`Way`] as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WayName {
    Outbound,
    InboundPlaintext,
    Hbone,
    Socks5,
}

/// A [`MovedConnection`] as it is written, without its sockets and without the bytes it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConnectionText {
    workload: String,
    outbound: bool,
    source: SocketAddr,
    original_destination: SocketAddr,
    destination: SocketAddr,
    application_port: Option<u16>,
    source_workload: Option<String>,
    destination_workload: Option<String>,
    service: Option<(String, String)>,
    age_micros: u64,
    received_bytes: u64,
    sent_bytes: u64,
    upload: DirectionText,
    download: DirectionText,
}

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct DirectionText {
    held_bytes: usize,
    ended: bool,
}

impl From<Way> for WayName {
    fn from(way: Way) -> Self {
        match way {
            Way::Outbound => Self::Outbound,
            Way::InboundPlaintext => Self::InboundPlaintext,
            Way::Hbone => Self::Hbone,
            Way::Socks5 => Self::Socks5,
        }
    }
}

impl From<WayName> for Way {
    fn from(name: WayName) -> Self {
        match name {
            WayName::Outbound => Self::Outbound,
            WayName::InboundPlaintext => Self::InboundPlaintext,
            WayName::Hbone => Self::Hbone,
            WayName::Socks5 => Self::Socks5,
        }
    }
}

impl Message {
    /// Says this, with descriptors.
    pub(crate) fn send(&self, channel: &Channel, descriptors: &[OwnedFd]) -> io::Result<()> {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        channel.send(&serde_json::to_vec(self)?, &[], &borrowed)
    }

    /// Hears the next message, with what came with it.
    ///
    /// # Errors
    /// The end of the channel is [`io::ErrorKind::UnexpectedEof`].
    pub(crate) fn receive(channel: &Channel) -> io::Result<(Message, Frame)> {
        let frame = channel.receive()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok((Message::parse(&frame.text)?, frame))
    }

    pub(crate) fn parse(text: &[u8]) -> io::Result<Message> {
        serde_json::from_slice(text)
            .map_err(|error| invalid(format!("a hand-over message cannot be read: {error}")))
    }
}

/// How many of these connections fit one frame: at least one does.
pub(crate) fn fitting(connections: &[MovedConnection]) -> usize {
    let mut raw = 0;
    connections
        .iter()
        .take(HANDOVER_DESCRIPTORS_MAX / 2)
        .take_while(|moved| {
            raw += moved.state.upload.held.len() + moved.state.download.held.len();
            raw <= HANDOVER_RAW_BYTES_MAX
        })
        .count()
        .max(1)
}

/// A connection as it is written; what it holds is added to `raw`.
pub(crate) fn write_connection(moved: &MovedConnection, raw: &mut Vec<u8>) -> ConnectionText {
    let mut direction = |state: &DirectionState| {
        raw.extend_from_slice(&state.held);
        DirectionText { held_bytes: state.held.len(), ended: state.ended }
    };
    ConnectionText {
        workload: moved.workload.to_string(),
        outbound: moved.direction == Direction::Outbound,
        source: moved.source,
        original_destination: moved.original_destination,
        destination: moved.destination,
        application_port: moved.application_port,
        source_workload: moved.source_workload.clone(),
        destination_workload: moved.destination_workload.clone(),
        service: moved.service.clone(),
        age_micros: u64::try_from(moved.age.as_micros()).unwrap_or(u64::MAX),
        received_bytes: moved.received_bytes,
        sent_bytes: moved.sent_bytes,
        upload: direction(&moved.state.upload),
        download: direction(&moved.state.download),
    }
}

/// The connections of one frame.
///
/// # Errors
/// When sockets or held bytes are missing or left over.
pub(crate) fn read_connections(
    texts: Vec<ConnectionText>,
    frame: Frame,
) -> io::Result<Vec<MovedConnection>> {
    if frame.descriptors.len() != 2 * texts.len() {
        return Err(invalid("each connection has two sockets".to_owned()));
    }
    let mut sockets = frame.descriptors.into_iter().map(DetachedStream::from_fd);
    let mut raw = &frame.raw[..];
    let mut connections = Vec::with_capacity(texts.len());
    for text in texts {
        let mut direction = |text: &DirectionText| {
            let (held, rest) = raw
                .split_at_checked(text.held_bytes)
                .ok_or_else(|| invalid("bytes that a connection holds are missing".to_owned()))?;
            raw = rest;
            Ok::<_, io::Error>(DirectionState { held: held.to_vec(), ended: text.ended })
        };
        let state =
            RelayState { upload: direction(&text.upload)?, download: direction(&text.download)? };
        let (Some(client), Some(server)) = (sockets.next(), sockets.next()) else {
            unreachable!("they were counted");
        };
        connections.push(MovedConnection {
            workload: Arc::from(text.workload),
            direction: if text.outbound { Direction::Outbound } else { Direction::Inbound },
            source: text.source,
            original_destination: text.original_destination,
            destination: text.destination,
            application_port: text.application_port,
            source_workload: text.source_workload,
            destination_workload: text.destination_workload,
            service: text.service,
            age: Duration::from_micros(text.age_micros),
            received_bytes: text.received_bytes,
            sent_bytes: text.sent_bytes,
            state,
            client,
            server,
        });
    }
    if raw.is_empty() {
        Ok(connections)
    } else {
        Err(invalid("bytes that no connection holds are left over".to_owned()))
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn moved(
        upload: &[u8],
        download: &[u8],
        ended: bool,
    ) -> (MovedConnection, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let (other, _) = UnixStream::pair().unwrap();
        let moved = MovedConnection {
            workload: "cluster/pod/a".into(),
            direction: Direction::Inbound,
            source: "10.0.0.1:4000".parse().unwrap(),
            original_destination: "10.0.0.2:80".parse().unwrap(),
            destination: "[fd00::2]:8080".parse().unwrap(),
            application_port: Some(8080),
            source_workload: None,
            destination_workload: Some("cluster/pod/b".to_owned()),
            service: Some(("shop".to_owned(), "web.shop".to_owned())),
            age: Duration::from_millis(1500),
            received_bytes: u64::MAX,
            sent_bytes: 7,
            state: RelayState {
                upload: DirectionState { held: upload.to_vec(), ended },
                download: DirectionState { held: download.to_vec(), ended: false },
            },
            client: DetachedStream::from_fd(near.into()),
            server: DetachedStream::from_fd(other.into()),
        };
        (moved, far)
    }

    /// Written and read again, as over the channel.
    fn pass(connections: Vec<MovedConnection>) -> io::Result<Vec<MovedConnection>> {
        let mut raw = Vec::new();
        let texts = connections.iter().map(|one| write_connection(one, &mut raw)).collect();
        let text = serde_json::to_vec(&Message::Connections { connections: texts }).unwrap();
        let descriptors = connections
            .into_iter()
            .flat_map(|one| [one.client, one.server])
            .map(|socket| socket.into_fd().unwrap())
            .collect();
        let Message::Connections { connections: texts } = Message::parse(&text)? else {
            panic!("another message");
        };
        read_connections(texts, Frame { text, raw, descriptors })
    }

    #[test]
    fn a_connection_arrives_as_it_left_each_with_its_own_sockets_and_bytes() {
        let ((first, mut first_far), (second, mut second_far)) =
            (moved(b"up", b"", true), moved(b"", b"down", false));
        let (text, age, state) = (format!("{:?}", first.service), first.age, first.state.clone());
        let mut arrived = pass(vec![first, second]).unwrap();
        assert_eq!(format!("{:?}", arrived[0].service), text);
        assert_eq!((arrived[0].age, &arrived[0].state), (age, &state));
        assert_eq!(arrived[0].received_bytes, u64::MAX);
        assert_eq!(arrived[1].state.download.held, b"down");
        for (arrived, far) in arrived.drain(..).zip([&mut first_far, &mut second_far]) {
            let mut near = UnixStream::from(arrived.client.into_fd().unwrap());
            near.write_all(b"x").unwrap();
            far.read_exact(&mut [0; 1]).unwrap();
        }
    }

    #[test]
    fn what_does_not_add_up_is_refused() {
        let frame = |raw: &[u8], sockets: usize| Frame {
            text: Vec::new(),
            raw: raw.to_vec(),
            descriptors: (0..sockets)
                .map(|_| std::fs::File::open("/dev/null").unwrap().into())
                .collect(),
        };
        let text = write_connection(&moved(b"1234", b"56", false).0, &mut Vec::new());
        //  name                     raw          sockets  fits
        for (name, raw, sockets, fits) in [
            ("as announced", &b"123456"[..], 2, true),
            ("a socket is missing", b"123456", 1, false),
            ("a socket too many", b"123456", 3, false),
            ("bytes are missing", b"12345", 2, false),
            ("bytes are left over", b"1234567", 2, false),
        ] {
            let read = read_connections(vec![text.clone()], frame(raw, sockets));
            assert_eq!(read.is_ok(), fits, "{name}");
        }
    }

    #[test]
    fn frames_are_cut_before_they_are_too_long() {
        let large = vec![0; HANDOVER_RAW_BYTES_MAX / 2 - 1];
        let connections: Vec<_> = (0..3).map(|_| moved(&large, &[], false).0).collect();
        assert_eq!(fitting(&connections), 2);
        let huge = vec![0; HANDOVER_RAW_BYTES_MAX + 1];
        assert_eq!(fitting(&[moved(&huge, &[], false).0]), 1, "never none");
    }

    #[test]
    fn a_connections_own_length_cannot_overflow() {
        let mut text = write_connection(&moved(b"", b"", false).0, &mut Vec::new());
        text.upload.held_bytes = usize::MAX;
        let sockets = (0..2).map(|_| std::fs::File::open("/dev/null").unwrap().into()).collect();
        let frame = Frame { text: Vec::new(), raw: vec![1], descriptors: sockets };
        assert!(read_connections(vec![text], frame).is_err());
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(&text);
        }

        /// One byte changed in an honest message: read, or refused.
        #[test]
        fn a_changed_byte_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let text = write_connection(&moved(b"ab", b"c", true).0, &mut Vec::new());
            let mut text = serde_json::to_vec(&Message::Connections { connections: vec![text] }).unwrap();
            let at = at.index(text.len());
            text[at] = byte;
            if let Ok(Message::Connections { connections }) = Message::parse(&text) {
                let frame = Frame { text, raw: b"abc".to_vec(), descriptors: Vec::new() };
                let _ = read_connections(connections, frame);
            }
        }
    }
}
