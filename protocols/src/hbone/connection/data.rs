//! DATA: passed on in the slices it comes in, counted against both windows as it comes.

use std::ops::Range;
use std::time::Instant;

use super::{Connection, Event, Reading};
use crate::hbone::error::{Abuse, Error, Misbehaviour, StreamViolation};
use crate::hbone::frame::{self, Head, flag};
use crate::hbone::stream::{Half, Stream, StreamId};

/// A DATA frame that is going by.
#[derive(Clone, Copy, Debug)]
pub(super) struct DataFrame {
    stream: u32,
    /// Bytes of the frame still to come, padding included.
    left: u32,
    /// How many of them are padding, once that is known.
    padding: u32,
    /// The byte that says so is still to come.
    pad_length_due: bool,
    /// More payload than padding, so it pays for other frames.
    is_work: bool,
    end_of_stream: bool,
}

impl Connection {
    /// Checks a DATA frame. Its whole length counts against the windows, padding included (RFC 9113
    /// §6.9.1).
    pub(super) fn begin_data(&mut self, head: Head, now: Instant) -> Result<Option<Event>, Error> {
        if head.stream == 0 {
            return Err(Misbehaviour::StreamZeroForbidden.into());
        }
        self.require_not_idle(head.stream)?;
        if head.length > self.receive_window.credit() {
            return Err(Misbehaviour::WindowExceeded.into());
        }
        let padded = head.has(flag::PADDED);
        if padded && head.length == 0 {
            return Err(Misbehaviour::FrameLengthWrong.into());
        }
        let violation = match self.streams.get(head.stream) {
            None => {
                self.check_late_frame(head.stream)?;
                self.budget.charge_late_data(head.length, now)?;
                None
            }
            Some(stream) => match stream.receive {
                Half::Closed => Some(StreamViolation::HalfClosed),
                Half::AwaitingHeaders => Some(StreamViolation::DataBeforeHeaders),
                Half::Open if head.length > stream.receive_window.credit() => {
                    Some(StreamViolation::WindowExceeded)
                }
                Half::Open => None,
            },
        };
        let frame = DataFrame {
            stream: head.stream,
            left: head.length,
            padding: 0,
            pad_length_due: padded,
            is_work: true,
            end_of_stream: head.has(flag::END_STREAM),
        };
        self.reading = Reading::Data(frame);
        if let Some(violation) = violation {
            // The stream is reset, and its frame goes by like every frame of a stream that is gone.
            self.violate(head.stream, violation, now)?;
        }
        if !padded {
            self.charge_data(head.length, 0, frame.end_of_stream, now)?;
        }
        if frame.left == 0 {
            self.finish_data(frame);
        }
        Ok(None)
    }

    /// Takes as much of the frame as one event can tell.
    pub(super) fn continue_data(
        &mut self,
        mut frame: DataFrame,
        input: &[u8],
        cursor: &mut usize,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let available = (input.len() - *cursor) as u32;
        let mut event = None;
        if frame.pad_length_due {
            frame.pad_length_due = false;
            frame.padding = u32::from(input[*cursor]);
            *cursor += 1;
            frame.left -= 1;
            if frame.padding > frame.left {
                return Err(Misbehaviour::PaddingTooLong.into());
            }
            frame.is_work = frame.left - frame.padding > frame.padding;
            self.give_back(frame.stream, 1, now);
            self.charge_data(
                frame.left - frame.padding,
                frame.padding + 1,
                frame.end_of_stream,
                now,
            )?;
        } else if frame.left > frame.padding {
            let taken = available.min(frame.left - frame.padding);
            let start = *cursor;
            *cursor += taken as usize;
            frame.left -= taken;
            event = self.deliver(frame, start..*cursor, now);
        } else {
            let taken = available.min(frame.left);
            *cursor += taken as usize;
            frame.left -= taken;
            self.give_back(frame.stream, taken, now);
        }
        self.reading = Reading::Data(frame);
        if frame.left == 0 {
            self.finish_data(frame);
        }
        Ok(event)
    }

    /// Lends payload to the caller, or swallows it if nobody wants it any more.
    fn deliver(&mut self, frame: DataFrame, payload: Range<usize>, now: Instant) -> Option<Event> {
        let bytes = payload.len() as u32;
        if !self.streams.receive(frame.stream, bytes, now) {
            self.give_back(frame.stream, bytes, now);
            return None;
        }
        self.receive_window.receive(bytes);
        if frame.is_work {
            self.budget.earn(payload.len());
        }
        let stream = StreamId(frame.stream);
        Some(Event::Data { stream, payload, flow_controlled_bytes: bytes })
    }

    /// Counts bytes that nobody will take, and returns them to the windows at once.
    fn give_back(&mut self, stream: u32, bytes: u32, now: Instant) {
        if let Some(entry) = self.streams.get_mut(stream) {
            entry.receive_window.receive(bytes);
            entry.receive_window.release(bytes);
        }
        self.receive_window.receive(bytes);
        self.receive_window.release(bytes);
        self.announce_credit(stream, now);
    }

    /// Queues WINDOW_UPDATE where half a window waits for it.
    pub(super) fn announce_credit(&mut self, stream: u32, now: Instant) {
        if let Some(increment) = self.streams.announce(stream, now) {
            frame::write_window_update(self.output.unasked(), stream, increment);
        }
        self.announce_credit_of_all();
    }

    /// The same for the connection's window alone.
    pub(super) fn announce_credit_of_all(&mut self) {
        if self.receive_window.is_half_taken_of_the_rest() {
            let increment = self.receive_window.announce();
            frame::write_window_update(self.output.unasked(), 0, increment);
        }
    }

    /// Frames that carry more padding than payload, or nothing, have to stay in proportion to those
    /// that carry some.
    fn charge_data(
        &mut self,
        payload: u32,
        padding: u32,
        end_of_stream: bool,
        now: Instant,
    ) -> Result<(), Error> {
        if padding > payload {
            self.budget.charge(Abuse::Padding, now)?;
        }
        if payload == 0 && !end_of_stream {
            self.budget.charge(Abuse::EmptyData, now)?;
        }
        Ok(())
    }

    fn finish_data(&mut self, frame: DataFrame) {
        self.reading = Reading::Head(0);
        if frame.end_of_stream {
            self.peer_ended(frame.stream);
        }
    }

    /// END_STREAM has come, with DATA or with trailers.
    pub(super) fn peer_ended(&mut self, stream: u32) {
        if let Some(entry) = self.streams.get_mut(stream)
            && entry.receive != Half::Closed
        {
            entry.receive = Half::Closed;
            self.queue(Event::EndOfStream { stream: StreamId(stream) });
        }
    }

    /// Takes a stream off the wire when both sides have ended it.
    pub(super) fn end_if_closed(&mut self, stream: u32) {
        let closed =
            |stream: &Stream| stream.send == Half::Closed && stream.receive == Half::Closed;
        if self.streams.get(stream).is_some_and(closed) {
            self.streams.end(stream);
            self.ended.add(stream, false);
        }
    }
}
