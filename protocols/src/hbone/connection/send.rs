//! What the caller asks of the machine: open, answer, send, release, end.

use std::time::Instant;

use super::{Connection, OpenError, Role};
use crate::hbone::budget::{BUFFER_BYTES_KEPT, PROVOKED_OUTPUT_BYTES_MAX};
use crate::hbone::code::ErrorCode;
use crate::hbone::error::{Abuse, Error};
use crate::hbone::flow::SendWindow;
use crate::hbone::frame::{self, HEAD_BYTES, Head, U31_MAX, flag, kind};
use crate::hbone::headers::{ConnectRequest, ConnectResponse};
use crate::hbone::stream::{Half, StreamId};

/// The payload of the PING whose answer says that the peer has seen our announcement to leave.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";

/// How far our own leaving has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Departure {
    Staying,
    /// GOAWAY with the highest id was sent: new streams are still served until the peer has seen
    /// it.
    Announced,
    /// GOAWAY with the last stream was sent; later ones are ignored.
    Left {
        last_stream: u32,
    },
}

impl Connection {
    /// Client: whether a stream can be opened now.
    pub fn can_open(&self) -> bool {
        self.check_open().is_ok()
    }

    /// Client: asks for a tunnel. DATA may follow at once, though the server may not want it.
    ///
    /// # Errors
    /// [`OpenError`] when this connection has no room, or none any more.
    pub fn open(&mut self, request: &ConnectRequest) -> Result<StreamId, OpenError> {
        self.check_open()?;
        if request.header_list_bytes() > self.peer.header_list_bytes_max as usize {
            return Err(OpenError::RequestTooLarge);
        }
        let id = self.stream_mark;
        self.stream_mark += 2;
        let mut block = Vec::with_capacity(512);
        request.encode(&mut self.encoder, &mut block);
        let frame_bytes_max = self.peer_frame_bytes_max();
        frame::write_headers(self.output.unasked(), id, false, &block, frame_bytes_max);
        let send_window = SendWindow::new(self.peer.stream_window_bytes);
        self.streams.insert(id, send_window, Half::Open, Half::AwaitingHeaders);
        Ok(StreamId(id))
    }

    /// Server: opens the tunnel. Does nothing if the stream has ended meanwhile.
    pub fn accept(&mut self, stream: StreamId, response: &ConnectResponse) {
        debug_assert!(response.is_success(), "a refusal ends the stream");
        let frame_bytes_max = self.peer_frame_bytes_max();
        let Some(entry) = self.streams.get_mut(stream.0) else { return };
        if entry.send != Half::AwaitingHeaders {
            debug_assert!(false, "{stream:?} is answered twice");
            return;
        }
        entry.send = Half::Open;
        let mut block = Vec::with_capacity(256);
        response.encode(&mut self.encoder, &mut block);
        frame::write_headers(self.output.asked(), stream.0, false, &block, frame_bytes_max);
        self.output.answered();
    }

    /// Server: answers with a status other than success, ends the stream, and drops what it left
    /// unreleased. If it has ended meanwhile there is nobody to answer.
    pub fn refuse(&mut self, stream: StreamId, status: u16) {
        let Some(entry) = self.streams.get(stream.0) else {
            return self.drop_stream(stream.0, true);
        };
        if entry.send != Half::AwaitingHeaders {
            debug_assert!(false, "{stream:?} is answered twice");
            return;
        }
        let peer_has_ended = entry.receive == Half::Closed;
        self.write_refusal(stream.0, status, peer_has_ended);
        self.drop_stream(stream.0, !peer_has_ended);
    }

    /// Payload bytes that may be sent on this stream now, by its window and the connection's. At 0,
    /// wait for [`super::Event::SendCapacity`].
    pub fn send_capacity(&self, stream: StreamId) -> usize {
        match self.streams.get(stream.0) {
            Some(entry) if entry.send == Half::Open && self.failed.is_none() => {
                entry.send_window.capacity().min(self.send_window.capacity())
            }
            _ => 0,
        }
    }

    /// The longest payload of one DATA frame.
    pub fn peer_frame_bytes_max(&self) -> usize {
        self.peer.frame_bytes_max as usize
    }

    /// The head of a DATA frame. The caller sends what [`Connection::take_output`] gave before,
    /// then this, then exactly `payload_bytes` of payload.
    ///
    /// An empty payload is for ending the stream only; it is better to end it with the last
    /// payload.
    ///
    /// # Panics
    /// When the caller was told that the stream is over, has ended it, or sends more than
    /// [`Connection::send_capacity`] and [`Connection::peer_frame_bytes_max`] allow.
    pub fn data_header(
        &mut self,
        stream: StreamId,
        payload_bytes: usize,
        end_of_stream: bool,
    ) -> [u8; HEAD_BYTES] {
        assert!(payload_bytes > 0 || end_of_stream, "an empty DATA frame moves nothing");
        assert!(
            payload_bytes <= self.peer_frame_bytes_max(),
            "the frame is longer than the peer accepts"
        );
        let entry = self
            .streams
            .get_mut(stream.0)
            .expect("the stream is open until an event says otherwise");
        assert!(entry.send == Half::Open, "{stream:?} cannot be sent on");
        entry.send_window.consume(payload_bytes);
        self.send_window.consume(payload_bytes);
        let is_cut_short = entry.send_window.capacity() == 0 || self.send_window.capacity() == 0;
        match is_cut_short {
            true => self.budget.earn_cut_short(payload_bytes),
            false => self.budget.earn(payload_bytes),
        }
        if end_of_stream {
            entry.send = Half::Closed;
            self.end_if_closed(stream.0);
        }
        let flags = if end_of_stream { flag::END_STREAM } else { 0 };
        Head { length: payload_bytes as u32, kind: kind::DATA, flags, stream: stream.0 }.encode()
    }

    /// The application took `bytes` of what [`super::Event::Data`] gave out: the peer may send as
    /// many again.
    ///
    /// # Panics
    /// When more is released than was given out.
    pub fn release(&mut self, stream: StreamId, bytes: u32, now: Instant) {
        let Some(entry) = self.streams.entry(stream.0) else { return };
        entry.receive_window.release(bytes);
        entry.all_taken = entry.all_taken.saturating_add(bytes);
        self.receive_window.release(bytes);
        if entry.ended && entry.receive_window.unreleased() == 0 {
            self.streams.remove(stream.0);
        }
        self.announce_credit(stream.0, now);
        self.check_windows();
    }

    /// Ends a stream in both directions at once, and drops what it left unreleased.
    /// [`LocalEnd`](crate::hbone::LocalEnd) has the codes. Does nothing more if the stream has
    /// ended already.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        if self.streams.get(stream.0).is_some() {
            frame::write_reset(self.output.asked(), stream.0, code);
            self.output.answered();
        }
        self.drop_stream(stream.0, true);
        self.check_windows();
    }

    /// Stops taking new streams; those that are open go on.
    ///
    /// With NO_ERROR a server leaves in two steps: it announces that it will leave and serves what
    /// the client opens until it has seen that (one round trip), then names the last stream. So no
    /// stream is lost on the way.
    pub fn go_away(&mut self, code: ErrorCode) {
        if self.failed.is_some() {
            return;
        }
        let graceful = code == ErrorCode::NO_ERROR;
        match self.departure {
            Departure::Staying if graceful && self.role == Role::Server => {
                self.departure = Departure::Announced;
                let out = self.output.unasked();
                frame::write_go_away(out, U31_MAX, code);
                frame::write(out, kind::PING, 0, 0, &FAREWELL);
            }
            Departure::Staying => self.leave(code),
            Departure::Announced | Departure::Left { .. } if graceful => {}
            Departure::Announced | Departure::Left { .. } => self.leave(code),
        }
    }

    /// Whether frames wait to be sent.
    pub fn has_output(&self) -> bool {
        !self.output.bytes.is_empty()
    }

    /// Appends the queued frames to `out`, to be sent before any DATA that is asked for afterwards.
    ///
    /// Take it only when the transport has room: what a peer provokes without reading is bounded
    /// here.
    pub fn take_output(&mut self, out: &mut Vec<u8>) {
        self.output.take(out);
    }

    /// Names the last stream and leaves.
    pub(super) fn leave(&mut self, code: ErrorCode) {
        let last_stream = self.last_processed_stream();
        self.departure = Departure::Left { last_stream };
        frame::write_go_away(self.output.unasked(), last_stream, code);
    }

    pub(super) fn last_processed_stream(&self) -> u32 {
        match (self.role, self.departure) {
            (Role::Client, _) => 0,
            (Role::Server, Departure::Left { last_stream }) => last_stream,
            (Role::Server, _) => self.stream_mark,
        }
    }

    /// Forgets a stream, whatever it holds. `by_us`: frames of it may still be under way.
    fn drop_stream(&mut self, id: u32, by_us: bool) {
        let Some(stream) = self.streams.remove(id) else { return };
        if !stream.ended {
            self.ended.add(id, by_us);
        }
        self.receive_window.release(stream.receive_window.unreleased());
        self.announce_credit_of_all();
    }

    fn check_open(&self) -> Result<(), OpenError> {
        debug_assert!(self.role == Role::Client, "a server opens no streams");
        if self.is_going_away() || self.role == Role::Server {
            return Err(OpenError::GoingAway);
        }
        if self.stream_mark > U31_MAX {
            return Err(OpenError::IdsExhausted);
        }
        // Those that have ended and are not taken yet have their windows, too.
        if self.streams.len() >= self.settings.streams_max as usize
            || self.streams.open() >= self.peer.streams_max as usize
        {
            return Err(OpenError::TooManyStreams);
        }
        Ok(())
    }
}

/// Frames the machine wants to send.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    /// How many of them only answer the peer.
    provoked: usize,
    /// Where the answer that is being written began.
    answer_at: usize,
}

impl Output {
    /// For frames that our side wants.
    pub(super) fn unasked(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// For frames that answer the peer; to be followed by [`Output::answered`].
    pub(super) fn asked(&mut self) -> &mut Vec<u8> {
        self.answer_at = self.bytes.len();
        &mut self.bytes
    }

    pub(super) fn answered(&mut self) {
        self.provoked += self.bytes.len() - self.answer_at;
    }

    /// Queues a frame that answers the peer.
    pub(super) fn answer(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> Result<(), Error> {
        frame::write(self.asked(), kind, flags, stream, payload);
        self.answered();
        self.check_answers()
    }

    pub(super) fn answer_reset(&mut self, stream: u32, code: ErrorCode) -> Result<(), Error> {
        self.answer(kind::RST_STREAM, 0, stream, &code.0.to_be_bytes())
    }

    /// A peer that makes us answer has to read the answers.
    pub(super) fn check_answers(&self) -> Result<(), Error> {
        if self.provoked > PROVOKED_OUTPUT_BYTES_MAX {
            Err(Abuse::UnreadAnswers.into())
        } else {
            Ok(())
        }
    }

    fn take(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.bytes);
        self.bytes.shrink_to(BUFFER_BYTES_KEPT);
        self.provoked = 0;
    }

    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}
