//! What we ask of a tunnel, and what the peer asks.

use std::time::Duration;

use super::budget::RETAINED_BYTES_MAX;
use super::error::{Error, Misbehaviour};
use super::frame::{
    self, FRAME_BYTES_DEFAULT, FRAME_BYTES_LIMIT, U31_MAX, WINDOW_BYTES_DEFAULT, setting,
};

/// Our side's settings. The defaults are those of ztunnel, but for the window with which a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What the peer may send on a stream before the application takes it, at most: each begins with
    /// [`first_window_bytes`](Settings::first_window_bytes). At least 65,535.
    pub stream_window_bytes: u32,
    /// The same for all streams together. As long as it has room for the first windows of `streams_max` streams, those that
    /// are not taken cannot stall others. At least 65,535.
    pub connection_window_bytes: u32,
    /// The longest frame we take, from 16,384 to 16,777,215.
    pub frame_bytes_max: u32,
    /// The longest header list we take, counted with 32 bytes for each field.
    pub header_list_bytes_max: u32,
    /// Server: streams the client may have open. Client: streams we open, whatever the server
    /// allows.
    pub streams_max: u32,
    /// Heap that may be held for the peer, but for what waits to be sent.
    pub retained_bytes_max: usize,
    /// From the start, or from the last answer, to the next PING. Zero: none are sent.
    pub ping_interval: Duration,
    /// How long the peer may be silent after a PING.
    pub ping_timeout: Duration,
}

impl Settings {
    /// The defaults of the side that opens streams.
    pub fn client() -> Self {
        Self { header_list_bytes_max: 16 * 1024, streams_max: 100, ..Self::server() }
    }

    /// The defaults of the side that answers.
    pub fn server() -> Self {
        Self {
            stream_window_bytes: 4 * 1024 * 1024,
            connection_window_bytes: 16 * 1024 * 1024,
            frame_bytes_max: 1024 * 1024,
            header_list_bytes_max: 64 * 1024,
            streams_max: 200,
            retained_bytes_max: RETAINED_BYTES_MAX,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
        }
    }

    /// Panics on settings that could not be announced: they come from our own program, checked
    /// where it reads them.
    pub(super) fn check(&self) {
        // Not less than what the peer may assume before it reads our SETTINGS: then no window ever
        // has to shrink.
        let windows = WINDOW_BYTES_DEFAULT..=U31_MAX;
        assert!(windows.contains(&self.stream_window_bytes), "stream_window_bytes is out of range");
        assert!(
            windows.contains(&self.connection_window_bytes),
            "connection_window_bytes is out of range"
        );
        let frames = FRAME_BYTES_DEFAULT..=FRAME_BYTES_LIMIT;
        assert!(frames.contains(&self.frame_bytes_max), "frame_bytes_max is out of range");
    }
}

/// What the peer has announced, or the defaults of RFC 9113 §6.5.2 until then.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    pub(super) header_table_bytes: u32,
    pub(super) streams_max: u32,
    pub(super) stream_window_bytes: u32,
    pub(super) frame_bytes_max: u32,
    pub(super) header_list_bytes_max: u32,
}

impl PeerSettings {
    pub(super) fn new() -> Self {
        Self {
            header_table_bytes: 4096,
            streams_max: u32::MAX,
            stream_window_bytes: WINDOW_BYTES_DEFAULT,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            header_list_bytes_max: u32::MAX,
        }
    }

    /// Takes a SETTINGS payload, in order. `from_server` says who sent it.
    pub(super) fn apply(&mut self, payload: &[u8], from_server: bool) -> Result<(), Error> {
        for (id, value) in frame::settings(payload) {
            match id {
                setting::HEADER_TABLE_SIZE => self.header_table_bytes = value,
                // A server cannot accept pushes, so it may only say 0 (RFC 9113 §6.5.2).
                setting::ENABLE_PUSH if value > u32::from(!from_server) => {
                    return Err(Misbehaviour::SettingOutOfRange.into());
                }
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value,
                setting::INITIAL_WINDOW_SIZE if value > U31_MAX => {
                    return Err(Misbehaviour::InitialWindowTooLarge.into());
                }
                setting::INITIAL_WINDOW_SIZE => self.stream_window_bytes = value,
                setting::MAX_FRAME_SIZE
                    if !(FRAME_BYTES_DEFAULT..=FRAME_BYTES_LIMIT).contains(&value) =>
                {
                    return Err(Misbehaviour::SettingOutOfRange.into());
                }
                setting::MAX_FRAME_SIZE => self.frame_bytes_max = value,
                setting::MAX_HEADER_LIST_SIZE => self.header_list_bytes_max = value,
                setting::ENABLE_CONNECT_PROTOCOL if value > 1 => {
                    return Err(Misbehaviour::SettingOutOfRange.into());
                }
                // Unknown ones are ignored (RFC 9113 §6.5.2).
                _ => {}
            }
        }
        Ok(())
    }
}
