//! The frames that manage: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY.

use std::time::Instant;

use super::send::{Departure, FAREWELL};
use super::{Connection, Event, Queued, Reading, Role};
use crate::hbone::code::ErrorCode;
use crate::hbone::error::{Abuse, Error, Misbehaviour, StreamViolation};
use crate::hbone::frame::{self, Head, flag, kind};
use crate::hbone::stream::{Half, StreamId};

impl Connection {
    pub(super) fn handle_settings(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        // An acknowledgement needs no action: nothing of ours ever becomes smaller than the peer
        // assumes at first.
        self.budget.charge(Abuse::Settings, now)?;
        if head.has(flag::ACK) {
            return Ok(None);
        }
        self.preface_deadline = None;
        let window_before = self.peer.stream_window_bytes;
        self.peer.apply(payload, self.role == Role::Client)?;
        self.encoder.set_table_bytes_max(self.peer.header_table_bytes);
        self.queue(Event::Settings);
        self.move_stream_windows(
            i64::from(self.peer.stream_window_bytes) - i64::from(window_before),
        )?;
        self.output.answer(kind::SETTINGS, flag::ACK, 0, &[])?;
        Ok(None)
    }

    /// A changed initial window changes every open stream's by the difference (RFC 9113 §6.9.2).
    fn move_stream_windows(&mut self, by: i64) -> Result<(), Error> {
        if by == 0 {
            return Ok(());
        }
        for id in self.streams.open_ids() {
            let stream = self.streams.get_mut(id).expect("the stream was just listed");
            let opened =
                stream.send_window.adjust(by).map_err(|_| Misbehaviour::InitialWindowTooLarge)?;
            if opened {
                self.queue(Event::SendCapacity { stream: Some(StreamId(id)) });
            }
        }
        Ok(())
    }

    pub(super) fn handle_ping(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let payload: [u8; 8] = payload.try_into().expect("the length was checked");
        if !head.has(flag::ACK) {
            self.budget.charge(Abuse::Pings, now)?;
            self.output.answer(kind::PING, flag::ACK, 0, &payload)?;
        } else if payload == FAREWELL && self.departure == Departure::Announced {
            // The peer has seen the announcement: what it sends from now on, it sends knowing.
            self.leave(ErrorCode::NO_ERROR);
        } else if !self.keep_alive.pong(payload, now) {
            self.budget.charge(Abuse::Pings, now)?;
        }
        Ok(None)
    }

    pub(super) fn handle_go_away(
        &mut self,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        self.budget.charge(Abuse::GoAways, now)?;
        let last_stream = frame::u32_at(payload, 0) & frame::U31_MAX;
        let code = ErrorCode(frame::u32_at(payload, 4));
        if self.peer_last_stream.is_some_and(|before| last_stream > before) {
            return Err(Misbehaviour::GoAwayRaised.into());
        }
        self.peer_last_stream = Some(last_stream);
        if self.role == Role::Client {
            for id in self.streams.open_ids().into_iter().filter(|&id| id > last_stream) {
                // Nothing was done with them, so they may be tried elsewhere (RFC 9113 §6.8).
                let event = Event::Reset { stream: StreamId(id), code: ErrorCode::REFUSED_STREAM };
                self.queue.push_back(Queued { event, by_us: true });
            }
        }
        Ok(Some(Event::GoAway { last_stream: StreamId(last_stream), code }))
    }

    pub(super) fn handle_window_update(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        self.budget.charge(Abuse::WindowUpdates, now)?;
        let increment = i64::from(frame::u32_at(payload, 0) & frame::U31_MAX);
        if head.stream == 0 {
            if increment == 0 {
                return Err(Misbehaviour::WindowIncrementZero.into());
            }
            let opened =
                self.send_window.adjust(increment).map_err(|_| Misbehaviour::WindowOverflow)?;
            return Ok(opened.then_some(Event::SendCapacity { stream: None }));
        }
        self.require_not_idle(head.stream)?;
        let Some(stream) = self.streams.get_mut(head.stream) else {
            // It crossed the end of the stream, which is no fault (RFC 9113 §5.1).
            self.budget.charge(Abuse::FramesOnClosedStreams, now)?;
            return Ok(None);
        };
        let violation = if increment == 0 {
            StreamViolation::WindowIncrementZero
        } else {
            match stream.send_window.adjust(increment) {
                Ok(opened) => {
                    let id = StreamId(head.stream);
                    return Ok(opened.then_some(Event::SendCapacity { stream: Some(id) }));
                }
                Err(_) => StreamViolation::WindowOverflow,
            }
        };
        self.violate(head.stream, violation, now)?;
        Ok(None)
    }

    pub(super) fn handle_reset(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let code = ErrorCode(frame::u32_at(payload, 0));
        let Some(stream) = self.streams.get(head.stream) else {
            self.budget.charge(Abuse::FramesOnClosedStreams, now)?;
            return Ok(None);
        };
        if self.role == Role::Server && stream.send == Half::AwaitingHeaders {
            self.budget.charge(Abuse::RapidReset, now)?;
        }
        self.queue(Event::Reset { stream: StreamId(head.stream), code });
        Ok(None)
    }

    /// Priorities are deprecated (RFC 9113 §5.3.2): checked, counted and ignored.
    pub(super) fn handle_priority(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        let depends_on = frame::u32_at(payload, 0) & frame::U31_MAX;
        if depends_on != head.stream {
            return Ok(None);
        }
        if self.streams.get(head.stream).is_some() {
            self.violate(head.stream, StreamViolation::DependsOnItself, now)?;
            return Ok(None);
        }
        // A stream nobody has opened cannot be reset, so the connection has to answer for it.
        if self.is_idle_stream(head.stream) {
            Err(Misbehaviour::DependsOnItself.into())
        } else {
            Ok(None)
        }
    }

    /// PRIORITY of a wrong length is an error of its stream, if there is one (RFC 9113 §6.3).
    pub(super) fn refuse_priority_length(
        &mut self,
        head: Head,
        now: Instant,
    ) -> Result<Option<Event>, Error> {
        if self.streams.get(head.stream).is_none() {
            return Err(Misbehaviour::FrameLengthWrong.into());
        }
        self.violate(head.stream, StreamViolation::PriorityLength, now)?;
        let length = head.length as usize;
        self.reading = if length == 0 { Reading::Head(0) } else { Reading::Skip(length) };
        Ok(None)
    }
}
