//! From bytes to frames: finds heads, checks what can be checked before the payload, and collects
//! payloads that must be handled whole.

use std::time::Instant;

use super::{Connection, Event, Queued, Reading, Role};
use crate::hbone::budget::{self, BUFFER_BYTES_KEPT};
use crate::hbone::error::{Abuse, Error, Misbehaviour, StreamViolation};
use crate::hbone::frame::{CLIENT_PREFACE, HEAD_BYTES, Head, flag, kind};
use crate::hbone::stream::{Ended, StreamId};

/// Room for waiting events that is kept; a GOAWAY or SETTINGS can queue one for every stream.
const EVENTS_KEPT: usize = 4;

impl Connection {
    pub(super) fn receive(
        &mut self,
        input: &[u8],
        cursor: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        loop {
            while let Some(queued) = self.queue.pop_front() {
                if let Some(event) = self.emit(queued) {
                    return Ok(Some(event));
                }
            }
            self.queue.shrink_to(EVENTS_KEPT);
            let rest = &input[*cursor..];
            if rest.is_empty() {
                return Ok(None);
            }
            let event = match self.reading {
                Reading::Head(have) => {
                    let taken = (HEAD_BYTES - have).min(rest.len());
                    self.head[have..have + taken].copy_from_slice(&rest[..taken]);
                    *cursor += taken;
                    if have + taken < HEAD_BYTES {
                        self.reading = Reading::Head(have + taken);
                        return Ok(None);
                    }
                    self.begin_frame(Head::parse(&self.head), now)?
                }
                Reading::Data(frame) => self.continue_data(frame, input, cursor, now)?,
                Reading::Payload { head, wanted } => {
                    self.continue_payload(head, wanted, rest, cursor, now)?
                }
                Reading::Skip(left) => {
                    let skipped = left.min(rest.len());
                    *cursor += skipped;
                    self.reading = after_skipping(left - skipped);
                    None
                }
                Reading::Preface(seen) => {
                    let wanted = &CLIENT_PREFACE[seen..];
                    let taken = wanted.len().min(rest.len());
                    if rest[..taken] != wanted[..taken] {
                        return Err(Misbehaviour::PrefaceWrong.into());
                    }
                    *cursor += taken;
                    let seen = seen + taken;
                    self.reading = if seen == CLIENT_PREFACE.len() {
                        Reading::Head(0)
                    } else {
                        Reading::Preface(seen)
                    };
                    None
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Returns a queued event, unless its stream was reset by the caller meanwhile. What it means
    /// for the stream takes place here, so that the caller is never ahead of what it was told.
    fn emit(&mut self, Queued { event, by_us }: Queued) -> Option<Event> {
        match &event {
            Event::Reset { stream, .. } => {
                self.streams.get(stream.0)?;
                self.streams.end(stream.0);
                self.ended.add(stream.0, by_us);
            }
            Event::EndOfStream { stream } => {
                self.streams.get(stream.0)?;
                self.end_if_closed(stream.0);
            }
            Event::SendCapacity { stream: Some(stream) } => {
                self.streams.get(stream.0)?;
            }
            _ => {}
        }
        Some(event)
    }

    pub(super) fn queue(&mut self, event: Event) {
        self.queue.push_back(Queued { event, by_us: false });
    }

    /// Ends one stream because the peer broke a rule on it.
    pub(super) fn violate(
        &mut self,
        stream: u32,
        violation: StreamViolation,
        now: Instant,
    ) -> Result<(), Error> {
        self.budget.charge(Abuse::ProvokedReset, now)?;
        let code = violation.code();
        self.output.answer_reset(stream, code)?;
        self.queue.push_back(Queued {
            event: Event::Reset { stream: StreamId(stream), code },
            by_us: true,
        });
        Ok(())
    }

    /// Checks a frame by its head, and decides how its payload is read. Frames without one are
    /// handled at once.
    fn begin_frame(&mut self, head: Head, now: Instant) -> Result<Option<Event>, Error> {
        self.check_order(head)?;
        let length = head.length as usize;
        if head.kind == kind::DATA {
            return self.begin_data(head, now);
        }
        let wanted = match head.kind {
            kind::HEADERS => {
                require_stream(head)?;
                self.check_headers_stream(head.stream)?;
                self.check_block_length(length)?;
                self.block_deadline = Some(now + budget::HEADER_BLOCK_TIMEOUT);
                length
            }
            kind::CONTINUATION => {
                self.check_block_length(length)?;
                length
            }
            kind::PRIORITY => {
                require_stream(head)?;
                self.budget.charge(Abuse::Priorities, now)?;
                if length != 5 {
                    return self.refuse_priority_length(head, now);
                }
                length
            }
            kind::RST_STREAM => {
                require_stream(head)?;
                require_length(length == 4)?;
                self.require_not_idle(head.stream)?;
                length
            }
            kind::SETTINGS => {
                require_connection(head)?;
                require_length(if head.has(flag::ACK) {
                    length == 0
                } else {
                    length.is_multiple_of(6)
                })?;
                if length > budget::SETTINGS_PER_FRAME_MAX as usize * 6 {
                    return Err(Abuse::Settings.into());
                }
                length
            }
            kind::PUSH_PROMISE => return Err(Misbehaviour::PushPromise.into()),
            kind::PING => {
                require_connection(head)?;
                require_length(length == 8)?;
                length
            }
            kind::GOAWAY => {
                require_connection(head)?;
                require_length(length >= 8)?;
                8
            }
            kind::WINDOW_UPDATE => {
                require_length(length == 4)?;
                length
            }
            // "Implementations MUST ignore and discard frames of unknown types" (RFC 9113 §4.1).
            _ => {
                self.budget.charge(Abuse::UnknownFrames, now)?;
                self.reading = after_skipping(length);
                return Ok(None);
            }
        };
        if wanted == 0 {
            self.reading = Reading::Head(0);
            return self.handle_frame(head, &[], now);
        }
        self.reading = Reading::Payload { head, wanted };
        Ok(None)
    }

    fn continue_payload(
        &mut self,
        head: Head,
        wanted: usize,
        rest: &[u8],
        cursor: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        if self.partial.is_empty() && rest.len() >= wanted {
            *cursor += wanted;
            self.reading = after_skipping(head.length as usize - wanted);
            return self.handle_frame(head, &rest[..wanted], now);
        }
        // What is set aside grows with what came, not with what a head announces.
        let taken = (wanted - self.partial.len()).min(rest.len());
        self.partial.extend_from_slice(&rest[..taken]);
        *cursor += taken;
        if self.partial.len() < wanted {
            self.check_retained()?;
            return Ok(None);
        }
        self.reading = after_skipping(head.length as usize - wanted);
        let mut payload = std::mem::take(&mut self.partial);
        let event = self.handle_frame(head, &payload, now);
        payload.clear();
        payload.shrink_to(BUFFER_BYTES_KEPT);
        self.partial = payload;
        event
    }

    /// What a peer makes us hold is bounded as a whole, whatever it is made of. What waits to be sent is bounded by
    /// itself.
    fn check_retained(&self) -> Result<(), Error> {
        let held = self.retained_bytes() - self.output.retained_bytes();
        if held > self.settings.retained_bytes_max { Err(Abuse::Memory.into()) } else { Ok(()) }
    }

    /// Handles a frame whose payload (or as much of it as is wanted) is here.
    fn handle_frame(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        self.check_retained()?;
        match head.kind {
            kind::HEADERS => self.handle_headers(head, payload, now),
            kind::CONTINUATION => self.handle_continuation(head, payload, now),
            kind::PRIORITY => self.handle_priority(head, payload, now),
            kind::RST_STREAM => self.handle_reset(head, payload, now),
            kind::SETTINGS => self.handle_settings(head, payload, now),
            kind::PING => self.handle_ping(head, payload, now),
            kind::GOAWAY => self.handle_go_away(payload, now),
            kind::WINDOW_UPDATE => self.handle_window_update(head, payload, now),
            _ => unreachable!("other kinds are not collected"),
        }
    }

    /// The rules about which frame may follow which.
    fn check_order(&self, head: Head) -> Result<(), Error> {
        // The first frame must be SETTINGS, and not an acknowledgement (RFC 9113 §3.4).
        if self.preface_deadline.is_some() && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Misbehaviour::SettingsExpected.into());
        }
        match &self.open_block {
            // A header block is contiguous, whatever else there is to say (RFC 9113 §4.3).
            Some(block) if head.kind != kind::CONTINUATION || head.stream != block.stream => {
                return Err(Misbehaviour::ContinuationExpected.into());
            }
            None if head.kind == kind::CONTINUATION => {
                return Err(Misbehaviour::ContinuationWithoutHeaders.into());
            }
            _ => {}
        }
        if head.length > self.settings.frame_bytes_max {
            return Err(Misbehaviour::FrameTooLarge.into());
        }
        Ok(())
    }

    /// Whether nobody has opened this stream yet.
    pub(super) fn is_idle_stream(&self, stream: u32) -> bool {
        let clients = stream % 2 == 1;
        match self.role {
            // A server never opens streams here, so all of its ids stay idle.
            _ if !clients => true,
            Role::Client => stream >= self.stream_mark,
            Role::Server => stream > self.stream_mark,
        }
    }

    pub(super) fn require_not_idle(&self, stream: u32) -> Result<(), Error> {
        if self.is_idle_stream(stream) {
            Err(Misbehaviour::FrameOnIdleStream.into())
        } else {
            Ok(())
        }
    }

    /// A DATA or HEADERS frame on a stream that is gone: allowed only if the peer could not know
    /// (RFC 9113 §5.1).
    pub(super) fn check_late_frame(&self, stream: u32) -> Result<(), Error> {
        match self.ended.how(stream) {
            Ended::ByUs | Ended::Forgotten => Ok(()),
            Ended::ByPeer | Ended::NeverOpened => Err(Misbehaviour::FrameOnClosedStream.into()),
        }
    }
}

fn after_skipping(left: usize) -> Reading {
    if left == 0 { Reading::Head(0) } else { Reading::Skip(left) }
}

fn require_stream(head: Head) -> Result<(), Error> {
    if head.stream == 0 { Err(Misbehaviour::StreamZeroForbidden.into()) } else { Ok(()) }
}

fn require_connection(head: Head) -> Result<(), Error> {
    if head.stream != 0 { Err(Misbehaviour::StreamZeroRequired.into()) } else { Ok(()) }
}

fn require_length(right: bool) -> Result<(), Error> {
    if right { Ok(()) } else { Err(Misbehaviour::FrameLengthWrong.into()) }
}
