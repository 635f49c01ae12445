//! The machine of one tunnel connection.
//!
//! ```text
//! connection     server: AwaitingPreface ─▶ AwaitingSettings ─▶ Ready ─▶ Leaving ─▶ (the engine closes)
//!                client:                    AwaitingSettings ─▶ Ready ─▶ Leaving
//!                any state ─ Err ─▶ Failed: GOAWAY is queued, every later call returns the same error
//!
//! reading        Head ─▶ Payload ─▶ Head          frames that are handled whole; DATA and what is
//!                  └───▶ Data / Skip ─▶ Head      skipped go by in the slices they came in
//!
//! stream         server: Request ─▶ accept ─▶ Open ⇄ Data ─▶ EndOfStream + our END_STREAM ─▶ Ended
//!                             └──▶ refuse ─▶ Ended              reset, on either side ─────▶ Ended
//!                client: open ─▶ Response ─▶ Open ⇄ Data ─▶ the same
//!                Ended ─▶ Gone, once every byte that `Data` gave out is released
//! ```
//!
//! What callers rely on:
//! * A stream can be sent on until the event that says otherwise has been *returned*; data may
//!   always be released.
//! * Whoever takes [`Event::Data`] owes a [`Connection::release`] for each of its bytes, or one
//!   [`Connection::reset`], however the stream ends. Until then the bytes count against the
//!   connection's window: they are somewhere in memory, after all.
//! * The connection's window is the sum of its credit, of what its streams hold unreleased, and of
//!   what waits to be announced. Checked after every call in debug builds.

mod data;
mod event;
mod headers;
mod keep_alive;
mod manage;
mod receive;
mod send;

use std::collections::VecDeque;
use std::time::Instant;

use self::data::DataFrame;
pub use self::event::{Event, OpenError};
use self::headers::OpenBlock;
use self::keep_alive::KeepAlive;
use self::send::{Departure, Output};
use super::budget::{self, Budget};
use super::error::{Error, Silence};
use super::flow::{ReceiveWindow, SendWindow, StreamWindows};
use super::frame::{self, HEAD_BYTES, Head, WINDOW_BYTES_DEFAULT, setting};
use super::hpack;
use super::settings::{PeerSettings, Settings};
use super::stream::{EndedStreams, Streams};

/// One tunnel connection, in either role.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    settings: Settings,
    peer: PeerSettings,
    failed: Option<Error>,

    reading: Reading,
    head: [u8; HEAD_BYTES],
    /// The payload of a frame that did not lie in one slice.
    partial: Vec<u8>,
    /// A header block that goes on in CONTINUATION.
    open_block: Option<OpenBlock>,
    /// When the header block that has begun, with however little of its HEADERS, must be whole.
    block_deadline: Option<Instant>,
    preface_deadline: Option<Instant>,
    queue: VecDeque<Queued>,

    streams: Streams,
    ended: EndedStreams,
    /// Client: the id of the next stream we open. Server: the highest id the client has used.
    stream_mark: u32,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    decoder: hpack::Decoder,
    encoder: hpack::Encoder,

    output: Output,
    departure: Departure,
    peer_last_stream: Option<u32>,
    keep_alive: KeepAlive,
    budget: Budget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Client,
    Server,
}

/// Where in the byte stream the machine is.
#[derive(Clone, Copy, Debug)]
enum Reading {
    /// The client preface, of which so many bytes came.
    Preface(usize),
    /// A frame's head, of which so many bytes came.
    Head(usize),
    /// The first `wanted` bytes of a payload, to be handled together; the rest of it is skipped.
    Payload { head: Head, wanted: usize },
    /// A DATA frame, as it comes.
    Data(DataFrame),
    /// So many bytes nobody needs.
    Skip(usize),
}

/// An event that waits its turn. Its effect on the stream takes place when it is returned.
#[derive(Debug)]
struct Queued {
    event: Event,
    /// The stream ends by our doing, so frames of it may still be under way.
    by_us: bool,
}

impl Connection {
    /// The side that opens streams. Preface and SETTINGS are queued at once.
    ///
    /// # Panics
    /// When `settings` are out of the ranges written beside them.
    pub fn client(settings: Settings, now: Instant) -> Self {
        let mut connection = Self::new(Role::Client, settings, now);
        let out = connection.output.unasked();
        out.extend_from_slice(frame::CLIENT_PREFACE);
        frame::write_settings(
            out,
            &[
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW_SIZE, settings.first_window_bytes()),
                (setting::MAX_FRAME_SIZE, settings.frame_bytes_max),
                (setting::MAX_HEADER_LIST_SIZE, settings.header_list_bytes_max),
            ],
        );
        connection.widen_connection_window();
        connection
    }

    /// The side that answers. SETTINGS are queued at once.
    ///
    /// # Panics
    /// When `settings` are out of the ranges written beside them.
    pub fn server(settings: Settings, now: Instant) -> Self {
        let mut connection = Self::new(Role::Server, settings, now);
        frame::write_settings(
            connection.output.unasked(),
            &[
                (setting::MAX_CONCURRENT_STREAMS, settings.streams_max),
                (setting::INITIAL_WINDOW_SIZE, settings.first_window_bytes()),
                (setting::MAX_FRAME_SIZE, settings.frame_bytes_max),
                (setting::MAX_HEADER_LIST_SIZE, settings.header_list_bytes_max),
            ],
        );
        connection.widen_connection_window();
        connection
    }

    /// Reads on in `input`, one opened slice of plaintext, from `cursor` until something happened.
    ///
    /// Begin with `cursor` at 0 and call until `None`; then the slice is used up and nothing of it
    /// is needed any more. Frames may span slices at any byte.
    ///
    /// # Errors
    /// [`Error`] when the connection is lost. GOAWAY is then queued: send the output as far as it
    /// goes, and close.
    pub fn next_event(
        &mut self,
        input: &[u8],
        cursor: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        self.check_not_failed()?;
        if *cursor < input.len() {
            self.keep_alive.heard(now);
        }
        let result = self.receive(input, cursor, now);
        self.check_windows();
        result.map_err(|error| self.fail(error))
    }

    /// When [`Connection::handle_timeout`] is to be called, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.failed.is_some() {
            return None;
        }
        [self.preface_deadline, self.block_deadline, self.keep_alive.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due at `now`: sends PINGs, and notices that the peer is gone.
    ///
    /// # Errors
    /// [`Error::PeerSilent`] when it is. GOAWAY is then queued.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.check_not_failed()?;
        let silence = if self.preface_deadline.is_some_and(|deadline| deadline <= now) {
            Some(Silence::NoPreface)
        } else if self.block_deadline.is_some_and(|deadline| deadline <= now) {
            Some(Silence::HeaderBlockUnfinished)
        } else {
            self.keep_alive.handle_timeout(now, self.output.unasked()).err()
        };
        match silence {
            Some(silence) => Err(self.fail(Error::PeerSilent(silence))),
            None => Ok(()),
        }
    }

    /// Streams that are open.
    pub fn open_streams(&self) -> usize {
        self.streams.open()
    }

    /// Whether no stream is open and no byte unreleased: the connection could be closed without
    /// anybody noticing.
    pub fn is_idle(&self) -> bool {
        self.streams.len() == 0
    }

    /// Whether either side has said that no new streams are wanted, or the connection has failed.
    pub fn is_going_away(&self) -> bool {
        self.failed.is_some()
            || self.departure != Departure::Staying
            || self.peer_last_stream.is_some()
    }

    /// Whether no new stream can come any more: we have named the last one, the peer has said that it
    /// opens none, or the connection has failed. Without streams it can then be closed, and none is lost.
    pub fn has_left(&self) -> bool {
        let left = matches!(self.departure, Departure::Left { .. });
        self.failed.is_some() || left || self.peer_last_stream.is_some()
    }

    /// Heap this connection holds now.
    pub fn retained_bytes(&self) -> usize {
        self.partial.capacity()
            + self.open_block.as_ref().map_or(0, OpenBlock::retained_bytes)
            + self.queue.capacity() * size_of::<Queued>()
            + self.streams.retained_bytes()
            + self.ended.retained_bytes()
            + self.decoder.retained_bytes()
            + self.encoder.retained_bytes()
            + self.output.retained_bytes()
    }

    fn new(role: Role, settings: Settings, now: Instant) -> Self {
        settings.check();
        Self {
            role,
            settings,
            peer: PeerSettings::new(),
            failed: None,
            reading: if role == Role::Server { Reading::Preface(0) } else { Reading::Head(0) },
            head: [0; HEAD_BYTES],
            partial: Vec::new(),
            open_block: None,
            block_deadline: None,
            preface_deadline: Some(now + budget::PREFACE_TIMEOUT),
            queue: VecDeque::new(),
            streams: Streams::new(StreamWindows::new(&settings), now),
            ended: EndedStreams::default(),
            stream_mark: if role == Role::Server { 0 } else { 1 },
            send_window: SendWindow::new(WINDOW_BYTES_DEFAULT),
            receive_window: ReceiveWindow::new(settings.connection_window_bytes),
            decoder: hpack::Decoder::new(),
            encoder: hpack::Encoder::new(),
            output: Output::default(),
            departure: Departure::Staying,
            peer_last_stream: None,
            keep_alive: KeepAlive::new(settings.ping_interval, settings.ping_timeout, now),
            budget: Budget::new(now),
        }
    }

    /// The connection's window can only be set by WINDOW_UPDATE (RFC 9113 §6.9.2).
    fn widen_connection_window(&mut self) {
        let more = self.settings.connection_window_bytes - WINDOW_BYTES_DEFAULT;
        if more > 0 {
            frame::write_window_update(self.output.unasked(), 0, more);
        }
    }

    fn check_not_failed(&self) -> Result<(), Error> {
        self.failed.map_or(Ok(()), Err)
    }

    /// Says goodbye. Nothing but the output is of use afterwards.
    fn fail(&mut self, error: Error) -> Error {
        let last_stream = self.last_processed_stream();
        frame::write_go_away(self.output.unasked(), last_stream, error.code());
        self.failed = Some(error);
        self.partial = Vec::new();
        self.open_block = None;
        self.queue = VecDeque::new();
        error
    }

    /// Settles the connection's window against its streams'.
    fn check_windows(&self) {
        #[cfg(debug_assertions)]
        {
            assert_eq!(self.receive_window.size(), self.settings.connection_window_bytes);
            assert_eq!(u64::from(self.receive_window.unreleased()), self.streams.unreleased());
            let room = StreamWindows::new(&self.settings).room([].into_iter());
            assert_eq!(self.streams.room(), room);
        }
    }
}
