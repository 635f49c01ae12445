//! Frames as they lie on the wire (RFC 9113 §4 and §6): the nine-byte head, and writers for what we
//! send.
//!
//! Nothing here has state or an opinion: the rules of when a frame may come are in `connection`.

use super::code::ErrorCode;

/// Length of a frame's head.
pub const HEAD_BYTES: usize = 9;

/// What a client says first (RFC 9113 §3.4).
pub const CLIENT_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest stream id and window (31 bits).
pub const U31_MAX: u32 = (1 << 31) - 1;

/// SETTINGS_MAX_FRAME_SIZE before anybody says otherwise, and its least value (RFC 9113 §6.5.2).
pub const FRAME_BYTES_DEFAULT: u32 = 16_384;

/// The largest value SETTINGS_MAX_FRAME_SIZE can have.
pub const FRAME_BYTES_LIMIT: u32 = (1 << 24) - 1;

/// Every window before SETTINGS or WINDOW_UPDATE change it (RFC 9113 §6.9.2).
pub const WINDOW_BYTES_DEFAULT: u32 = 65_535;

/// Frame kinds (RFC 9113 §6).
pub mod kind {
    /// Payload of a stream.
    pub const DATA: u8 = 0x0;
    /// Opens a stream, answers it, or ends it with trailers.
    pub const HEADERS: u8 = 0x1;
    /// Deprecated advice; checked and ignored.
    pub const PRIORITY: u8 = 0x2;
    /// Ends a stream at once.
    pub const RST_STREAM: u8 = 0x3;
    /// Parameters of the sender.
    pub const SETTINGS: u8 = 0x4;
    /// Disabled here.
    pub const PUSH_PROMISE: u8 = 0x5;
    /// Liveness.
    pub const PING: u8 = 0x6;
    /// No new streams.
    pub const GOAWAY: u8 = 0x7;
    /// Flow-control credit.
    pub const WINDOW_UPDATE: u8 = 0x8;
    /// The rest of a header block.
    pub const CONTINUATION: u8 = 0x9;
}

/// Frame flags (RFC 9113 §6).
pub mod flag {
    /// The sender's half of the stream ends here.
    pub const END_STREAM: u8 = 0x1;
    /// SETTINGS or PING is an acknowledgement.
    pub const ACK: u8 = 0x1;
    /// The header block ends here.
    pub const END_HEADERS: u8 = 0x4;
    /// A pad length and padding are present.
    pub const PADDED: u8 = 0x8;
    /// HEADERS carries the five priority bytes.
    pub const PRIORITY: u8 = 0x20;
}

/// Setting ids (RFC 9113 §6.5.2, RFC 8441 §3).
pub mod setting {
    /// The size of the table our encoder may use at the sender's decoder.
    pub const HEADER_TABLE_SIZE: u16 = 0x1;
    /// Whether the sender accepts PUSH_PROMISE.
    pub const ENABLE_PUSH: u16 = 0x2;
    /// How many streams we may have open.
    pub const MAX_CONCURRENT_STREAMS: u16 = 0x3;
    /// The window with which our streams begin.
    pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
    /// The longest frame payload we may send.
    pub const MAX_FRAME_SIZE: u16 = 0x5;
    /// The longest header list the sender wants to see.
    pub const MAX_HEADER_LIST_SIZE: u16 = 0x6;
    /// Whether extended CONNECT is understood.
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 0x8;
}

/// A frame's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Payload bytes that follow.
    pub length: u32,
    /// One of [`kind`], or unknown.
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// The stream, or 0 for the connection.
    pub stream: u32,
}

impl Head {
    /// Reads a head; every nine bytes are one. The reserved bit is ignored (RFC 9113 §4.1).
    pub fn parse(bytes: &[u8; HEAD_BYTES]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & U31_MAX,
        }
    }

    /// The bytes of this head. `length` must fit 24 bits and `stream` 31.
    pub fn encode(self) -> [u8; HEAD_BYTES] {
        debug_assert!(self.length <= FRAME_BYTES_LIMIT && self.stream <= U31_MAX);
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind, self.flags, s0, s1, s2, s3]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&Head { length: payload.len() as u32, kind, flags, stream }.encode());
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub(crate) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let length = settings.len() as u32 * 6;
    out.extend_from_slice(&Head { length, kind: kind::SETTINGS, flags: 0, stream: 0 }.encode());
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a header block as HEADERS and, where `frame_bytes_max` asks for it, CONTINUATION.
pub(crate) fn write_headers(
    out: &mut Vec<u8>,
    stream: u32,
    end: bool,
    block: &[u8],
    frame_bytes_max: usize,
) {
    let mut rest = block;
    let mut kind = kind::HEADERS;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    loop {
        let (part, after) = rest.split_at(rest.len().min(frame_bytes_max));
        if after.is_empty() {
            flags |= flag::END_HEADERS;
        }
        write(out, kind, flags, stream, part);
        if after.is_empty() {
            return;
        }
        (rest, kind, flags) = (after, kind::CONTINUATION, 0);
    }
}

/// Appends RST_STREAM.
pub(crate) fn write_reset(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    write(out, kind::RST_STREAM, 0, stream, &code.0.to_be_bytes());
}

/// Appends WINDOW_UPDATE; stream 0 is the connection.
pub(crate) fn write_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    debug_assert!((1..=U31_MAX).contains(&increment));
    write(out, kind::WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

/// Appends GOAWAY without debug data.
pub(crate) fn write_go_away(out: &mut Vec<u8>, last_stream: u32, code: ErrorCode) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&last_stream.to_be_bytes());
    payload[4..].copy_from_slice(&code.0.to_be_bytes());
    write(out, kind::GOAWAY, 0, 0, &payload);
}

/// The settings of a SETTINGS payload, in order. A rest of fewer than six bytes is the caller's to
/// refuse.
pub(crate) fn settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    let (settings, _) = payload.as_chunks::<6>();
    settings.iter().map(|&[i0, i1, v0, v1, v2, v3]| {
        (u16::from_be_bytes([i0, i1]), u32::from_be_bytes([v0, v1, v2, v3]))
    })
}

/// The first four bytes as a number. Callers have checked the length.
pub(crate) fn u32_at(payload: &[u8], at: usize) -> u32 {
    let bytes = payload[at..at + 4].try_into().expect("four bytes were sliced");
    u32::from_be_bytes(bytes)
}
