//! Header blocks: requests at the server, responses at the client, trailers at both.

use std::time::Instant;

use super::send::Departure;
use super::{Connection, Event, Role};
use crate::hbone::budget;
use crate::hbone::code::ErrorCode;
use crate::hbone::error::{Abuse, Error, Misbehaviour, StreamViolation};
use crate::hbone::flow::SendWindow;
use crate::hbone::frame::{self, Head, flag};
use crate::hbone::headers::{
    ConnectResponse, MalformedRequest, RequestReader, ResponseReader, check_trailer,
};
use crate::hbone::stream::{Ended, Half, StreamId};

/// A pad length and the deprecated priority, which a HEADERS frame may hold beside its fragment.
const HEADERS_OVERHEAD_BYTES_MAX: usize = 1 + 255 + 5;

/// What HEADERS said about the block it began.
#[derive(Clone, Copy, Debug)]
struct BlockInfo {
    stream: u32,
    end_of_stream: bool,
    depends_on_itself: bool,
}

/// A header block that goes on in CONTINUATION.
#[derive(Debug)]
pub(super) struct OpenBlock {
    pub(super) stream: u32,
    info: BlockInfo,
    continuations: u32,
    bytes: Vec<u8>,
}

impl OpenBlock {
    pub(super) fn retained_bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Connection {
    /// Whether HEADERS may come on this stream (RFC 9113 §5.1.1).
    pub(super) fn check_headers_stream(&self, stream: u32) -> Result<(), Error> {
        if stream.is_multiple_of(2) {
            return Err(Misbehaviour::StreamIdOfOtherRole.into());
        }
        if self.is_idle_stream(stream) {
            let opens = self.role == Role::Server;
            return if opens { Ok(()) } else { Err(Misbehaviour::FrameOnIdleStream.into()) };
        }
        if self.streams.get(stream).is_some() {
            return Ok(());
        }
        match self.ended.how(stream) {
            Ended::NeverOpened => Err(Misbehaviour::StreamIdNotIncreasing.into()),
            _ => self.check_late_frame(stream),
        }
    }

    /// Bounds a header block by the bytes it takes on the wire, before any of them is kept.
    pub(super) fn check_block_length(&self, more: usize) -> Result<(), Error> {
        let so_far = self.open_block.as_ref().map_or(0, |block| block.bytes.len());
        let bound = self.settings.header_list_bytes_max as usize + HEADERS_OVERHEAD_BYTES_MAX;
        if so_far + more > bound { Err(Abuse::HeaderBlockTooLarge.into()) } else { Ok(()) }
    }

    pub(super) fn handle_headers(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let (depends_on, fragment) = split_headers(head, payload)?;
        let info = BlockInfo {
            stream: head.stream,
            end_of_stream: head.has(flag::END_STREAM),
            depends_on_itself: depends_on == Some(head.stream),
        };
        if head.has(flag::END_HEADERS) {
            return self.handle_block(info, fragment, now);
        }
        self.open_block = Some(OpenBlock {
            stream: head.stream,
            info,
            continuations: 0,
            bytes: fragment.to_vec(),
        });
        Ok(None)
    }

    pub(super) fn handle_continuation(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let mut block = self.open_block.take().expect("the order of frames was checked");
        block.continuations += 1;
        if block.continuations > budget::CONTINUATIONS_MAX {
            return Err(Abuse::Continuations.into());
        }
        block.bytes.extend_from_slice(payload);
        if head.has(flag::END_HEADERS) {
            return self.handle_block(block.info, &block.bytes, now);
        }
        self.open_block = Some(block);
        Ok(None)
    }

    /// A whole block. Whatever becomes of it, it is decoded: the tables of both sides must agree.
    fn handle_block(
        &mut self,
        info: BlockInfo,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        self.block_deadline = None;
        match self.streams.get(info.stream).map(|stream| stream.receive) {
            Some(Half::AwaitingHeaders) => self.handle_response(info, block, now),
            Some(receive) => self.handle_trailers(info, receive, block, now),
            None if self.is_idle_stream(info.stream) => self.handle_request(info, block, now),
            None => {
                let list_bytes = self.decoder.decode(block, 0, |_, _| {})?;
                self.charge_list(list_bytes, now)?;
                self.budget.charge(Abuse::FramesOnClosedStreams, now)?;
                Ok(None)
            }
        }
    }

    /// A list that is too large has cost what it costs, whatever becomes of its stream: few bytes of references may unfold to
    /// megabytes.
    fn charge_list(&mut self, list_bytes: usize, now: Instant) -> Result<(), Error> {
        match list_bytes > self.settings.header_list_bytes_max as usize {
            true => self.budget.charge(Abuse::HeaderListTooLarge, now),
            false => Ok(()),
        }
    }

    fn handle_request(
        &mut self,
        info: BlockInfo,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let BlockInfo { stream, end_of_stream, .. } = info;
        self.stream_mark = stream;
        let list_bytes_max = self.settings.header_list_bytes_max as usize;
        let mut reader = RequestReader::default();
        let list_bytes =
            self.decoder.decode(block, list_bytes_max, |name, value| reader.field(name, value))?;
        self.charge_list(list_bytes, now)?;

        if let Departure::Left { .. } = self.departure {
            // Our GOAWAY has told the client that this stream is not processed (RFC 9113 §6.8).
            self.budget.charge(Abuse::RefusedStreams, now)?;
            self.ended.add(stream, true);
            return Ok(None);
        }
        if self.has_no_room() {
            self.budget.charge(Abuse::RefusedStreams, now)?;
            self.reject(stream, ErrorCode::REFUSED_STREAM)?;
            return Ok(None);
        }
        self.output.check_answers()?;
        if info.depends_on_itself {
            self.budget.charge(Abuse::ProvokedReset, now)?;
            self.reject(stream, StreamViolation::DependsOnItself.code())?;
            return Ok(None);
        }
        if list_bytes > list_bytes_max {
            return self.answer_malformed(info, MalformedRequest::HeaderListTooLarge).map(Some);
        }
        let request = match reader.finish() {
            Ok(request) => Box::new(request),
            Err(reason) => {
                self.budget.charge(Abuse::MalformedMessages, now)?;
                return self.answer_malformed(info, reason).map(Some);
            }
        };
        self.budget.earn_stream();
        let send_window = SendWindow::new(self.peer.stream_window_bytes);
        let receive = if end_of_stream { Half::Closed } else { Half::Open };
        self.streams.insert(stream, send_window, Half::AwaitingHeaders, receive);
        Ok(Some(Event::Request { stream: StreamId(stream), request, end_of_stream }))
    }

    fn handle_response(
        &mut self,
        info: BlockInfo,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let BlockInfo { stream, end_of_stream, .. } = info;
        let list_bytes_max = self.settings.header_list_bytes_max as usize;
        let mut reader = ResponseReader::default();
        let list_bytes =
            self.decoder.decode(block, list_bytes_max, |name, value| reader.field(name, value))?;
        self.charge_list(list_bytes, now)?;

        if list_bytes > list_bytes_max {
            self.violate(stream, StreamViolation::MalformedHeaders, now)?;
            return Ok(None);
        }
        let response = match reader.finish() {
            // An informational response cannot end a stream (RFC 9113 §8.1).
            Ok(response) if response.status < 200 && !end_of_stream => {
                self.budget.charge(Abuse::InformationalResponses, now)?;
                return Ok(None);
            }
            Ok(response) if response.status >= 200 && !info.depends_on_itself => response,
            _ => {
                self.violate(stream, StreamViolation::MalformedHeaders, now)?;
                return Ok(None);
            }
        };
        let entry = self.streams.get_mut(stream).expect("the response's stream was found open");
        entry.receive = if end_of_stream { Half::Closed } else { Half::Open };
        self.end_if_closed(stream);
        Ok(Some(Event::Response { stream: StreamId(stream), response, end_of_stream }))
    }

    /// Trailers. A tunnel has none (RFC 9113 §8.5), but a generic peer that ends its stream with
    /// them means its end.
    fn handle_trailers(
        &mut self,
        info: BlockInfo,
        receive: Half,
        block: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let mut malformed = !info.end_of_stream || info.depends_on_itself;
        let list_bytes_max = self.settings.header_list_bytes_max as usize;
        let list_bytes = self.decoder.decode(block, list_bytes_max, |name, value| {
            malformed |= check_trailer(name, value).is_err();
        })?;
        self.charge_list(list_bytes, now)?;
        malformed |= list_bytes > list_bytes_max;
        if receive == Half::Closed {
            self.violate(info.stream, StreamViolation::HalfClosed, now)?;
        } else if malformed {
            self.violate(info.stream, StreamViolation::MalformedHeaders, now)?;
        } else {
            self.peer_ended(info.stream);
        }
        Ok(None)
    }

    /// Whether a further stream would exceed what we announced, or too many ended ones wait for the
    /// application.
    fn has_no_room(&self) -> bool {
        let streams_max = self.settings.streams_max as usize;
        let entries_max = streams_max.saturating_mul(1 + budget::ENDED_STREAMS_UNRELEASED_FACTOR);
        self.streams.open() >= streams_max || self.streams.len() >= entries_max
    }

    /// Resets a stream that never came to be one.
    fn reject(&mut self, stream: u32, code: ErrorCode) -> Result<(), Error> {
        self.ended.add(stream, true);
        self.output.answer_reset(stream, code)
    }

    fn answer_malformed(
        &mut self,
        info: BlockInfo,
        reason: MalformedRequest,
    ) -> Result<Event, Error> {
        let stream = info.stream;
        match reason.status() {
            None => self.reject(stream, StreamViolation::MalformedHeaders.code())?,
            Some(status) => {
                self.write_refusal(stream, status, info.end_of_stream);
                self.ended.add(stream, !info.end_of_stream);
                self.output.check_answers()?;
            }
        }
        Ok(Event::Malformed { stream: StreamId(stream), reason })
    }

    /// Queues an answer without a body, and tells a client that would go on sending that nobody
    /// listens (RFC 9113 §8.1).
    pub(super) fn write_refusal(&mut self, stream: u32, status: u16, peer_has_ended: bool) {
        let frame_bytes_max = self.peer_frame_bytes_max();
        let out = self.output.asked();
        let mut block = Vec::new();
        ConnectResponse::status(status).encode(&mut self.encoder, &mut block);
        frame::write_headers(out, stream, true, &block, frame_bytes_max);
        if !peer_has_ended {
            frame::write_reset(out, stream, ErrorCode::NO_ERROR);
        }
        self.output.answered();
    }
}

/// The parts of a HEADERS payload (RFC 9113 §6.2): the stream it says it depends on, and the
/// fragment.
fn split_headers(head: Head, payload: &[u8]) -> Result<(Option<u32>, &[u8]), Error> {
    let too_short = Error::from(Misbehaviour::FrameLengthWrong);
    let mut rest = payload;
    let mut padding = 0;
    if head.has(flag::PADDED) {
        let (&pad_length, after) = rest.split_first().ok_or(too_short)?;
        (padding, rest) = (usize::from(pad_length), after);
    }
    let mut depends_on = None;
    if head.has(flag::PRIORITY) {
        let (priority, after) = rest.split_at_checked(5).ok_or(too_short)?;
        depends_on = Some(frame::u32_at(priority, 0) & frame::U31_MAX);
        rest = after;
    }
    let fragment_bytes = rest.len().checked_sub(padding).ok_or(Misbehaviour::PaddingTooLong)?;
    Ok((depends_on, &rest[..fragment_bytes]))
}
