//! A peer's end of a tunnel, on a blocking socket.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Instant,
};

use ringway_protocols::{
    hbone::{Authority, ConnectRequest, Connection, Event, Settings, StreamId},
    identity::Identity,
    tls::{
        Credentials, Handshake, Opened, Progress, RECORD_HEADER_BYTES, RECORD_PLAINTEXT_BYTES_MAX,
        RECORD_TRAILER_BYTES, Records,
    },
};

use crate::PATIENCE;

pub(crate) struct Peer {
    socket: TcpStream,
    records: Records,
    machine: Connection,
    received: Vec<u8>,
    streams: Vec<StreamId>,
    resets: usize,
    echoed: usize,
}

impl Peer {
    /// Opens a tunnel and in it so many streams, all of them answered with 200.
    pub(crate) fn connect(
        to: SocketAddr,
        credentials: &Credentials,
        expected: Identity,
        application: SocketAddr,
        streams: usize,
    ) -> Peer {
        let socket = TcpStream::connect(to).expect("the engine listens");
        socket.set_nodelay(true).expect("a TCP socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        let machine = Handshake::client(credentials, [expected].into()).expect("good credentials");
        let (records, received) = shake_hands(&socket, machine);
        let machine = Connection::client(Settings::client(), Instant::now());
        let streams_wanted = streams;
        let (streams, resets, echoed) = (Vec::new(), 0, 0);
        let mut peer = Peer { socket, records, machine, received, streams, resets, echoed };
        for _ in 0..streams_wanted {
            let request = ConnectRequest::to(Authority::Address(application));
            peer.streams.push(peer.machine.open(&request).expect("room for a stream"));
        }
        peer.flush();
        let mut answered = 0;
        while answered < streams_wanted {
            peer.receive(|event| {
                if let Event::Response { response, .. } = event {
                    assert_eq!(response.status, 200);
                    answered += 1;
                }
            });
        }
        peer
    }

    /// Sends a byte on the first stream and waits for it to come back.
    pub(crate) fn echo(&mut self) {
        self.flush();
        let mut frame = self.machine.data_header(self.streams[0], 1, false).to_vec();
        frame.push(b'.');
        self.send(&frame);
        let wanted = self.echoed + 1;
        while self.echoed < wanted {
            self.receive(|_| {});
        }
    }

    /// Waits until so many streams were reset.
    pub(crate) fn wait_for_resets(&mut self, count: usize) {
        while self.resets < count {
            self.receive(|_| {});
        }
    }

    /// One read and what follows from it.
    fn receive(&mut self, mut handle: impl FnMut(&Event)) {
        let mut buffer = [0; 64 * 1024];
        let read = self.socket.read(&mut buffer).expect("an answer in time");
        assert!(read > 0, "the engine closed the tunnel");
        self.received.extend_from_slice(&buffer[..read]);
        let (mut used, now) = (0, Instant::now());
        loop {
            let plaintext = match self.records.open(&mut self.received[used..]).expect("records") {
                Opened::Incomplete { .. } => break,
                Opened::Data { consumed, plaintext } => {
                    let at = used;
                    used += consumed;
                    at + plaintext.start..at + plaintext.end
                }
                Opened::Control { consumed } | Opened::Closed { consumed } => {
                    used += consumed;
                    continue;
                }
            };
            let (input, mut cursor) = (&self.received[plaintext], 0);
            while let Some(event) =
                self.machine.next_event(input, &mut cursor, now).expect("HTTP/2")
            {
                match &event {
                    Event::Reset { .. } => self.resets += 1,
                    Event::Data { stream, payload, .. } => {
                        self.echoed += payload.len();
                        self.machine.release(*stream, payload.len() as u32, now);
                    }
                    _ => {}
                }
                handle(&event);
            }
        }
        self.received.drain(..used);
        self.flush();
    }

    fn flush(&mut self) {
        let mut frames = Vec::new();
        self.machine.take_output(&mut frames);
        self.send(&frames);
    }

    fn send(&mut self, frames: &[u8]) {
        let mut sealed = Vec::new();
        self.records.take_output(&mut sealed);
        for plaintext in frames.chunks(RECORD_PLAINTEXT_BYTES_MAX) {
            let at = sealed.len();
            sealed.resize(at + RECORD_HEADER_BYTES, 0);
            sealed.extend_from_slice(plaintext);
            sealed.resize(sealed.len() + RECORD_TRAILER_BYTES, 0);
            self.records.seal(&mut sealed[at..]).expect("an open session");
        }
        self.socket.write_all(&sealed).expect("the engine reads");
    }
}

fn shake_hands(mut socket: &TcpStream, mut machine: Handshake) -> (Records, Vec<u8>) {
    let (mut received, mut to_send) = (Vec::new(), Vec::new());
    loop {
        let progress = machine.advance(&mut received, &mut to_send).expect("a handshake");
        socket.write_all(&to_send).expect("the engine reads");
        to_send.clear();
        if let Progress::Complete = progress {
            return (machine.finish().expect("it is complete"), received);
        }
        let mut buffer = [0; 16 * 1024];
        let read = socket.read(&mut buffer).expect("an answer in time");
        assert!(read > 0, "the engine closed during the handshake");
        received.extend_from_slice(&buffer[..read]);
    }
}
