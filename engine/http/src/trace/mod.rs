//! The trace that a request belongs to: read from its headers, gone on with, written for the backend.
//!
//! Applications of one mesh speak different dialects, and a trace is only whole if each hears its own. So all are read, and
//! what goes on is written in the dialects that came; where none came, in W3C's.
//!
//! | dialect | headers |
//! |---|---|
//! | W3C Trace Context | `traceparent`, `tracestate` |
//! | B3, one header | `b3` |
//! | B3, several | `x-b3-traceid`, `x-b3-spanid`, `x-b3-parentspanid`, `x-b3-sampled`, `x-b3-flags` |
//!
//! Of several the W3C's is believed, then the one header, then the several. `baggage` is the applications' alone and
//! passes as it came.
//!
//! **Invariant:** without tracing, the headers leave as they came: a trace with a hop in it that nobody exports would be
//! broken in two.

mod b3;
mod hexadecimal;
mod request_id;
mod w3c;

use http::{HeaderMap, HeaderName};

use self::b3::B3;
pub use self::{
    request_id::{REQUEST_ID, ensure_request_id},
    w3c::TRACE_PARENT,
};

/// Asks that one request be traced, whatever the share of traced requests is.
const FORCE: HeaderName = HeaderName::from_static("x-envoy-force-trace");

/// Parts of a whole in which a share of requests is counted.
pub const WHOLE: u32 = 1_000_000;

/// What is done about traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tracing {
    /// Nobody exports: traces pass.
    #[default]
    Pass,
    /// Requests get spans of ours. Who began a trace says whether it is exported; of those that begin here, this share
    /// is, in parts of [`WHOLE`].
    Spans {
        /// At most [`WHOLE`].
        share: u32,
    },
}

/// A request's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The whole trace's.
    pub trace_id: [u8; 16],
    /// Our span's; where traces only pass, the sender's.
    pub span_id: [u8; 8],
    /// That of the span ours is a part of; none where the trace begins here, or passes.
    pub parent_id: Option<[u8; 8]>,
    /// Whether it is to be exported.
    pub sampled: bool,
}

/// What the headers of a request said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Received {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    sampled: Option<bool>,
    /// B3's flag for a request that must be traced everywhere.
    debug: bool,
}

/// Goes on with the trace of a request, or begins one. `random` gives as many numbers as are asked of it.
///
/// Returns the request's place, where it has one.
pub fn proceed(
    headers: &mut HeaderMap,
    tracing: Tracing,
    mut random: impl FnMut() -> u64,
) -> Option<Span> {
    let w3c = w3c::read(headers);
    // Most requests speak neither form of B3, and one look tells.
    let (b3, several) = match headers.keys().any(b3::is_its_own) {
        true => (b3::read_one(headers), b3::read_several(headers)),
        false => (B3::None, B3::None),
    };
    let received = w3c.or(b3.position()).or(several.position());
    let Tracing::Spans { share } = tracing else {
        return received.map(|received| Span {
            trace_id: received.trace_id,
            span_id: received.span_id,
            parent_id: None,
            sampled: false,
        });
    };
    let decided = received.and_then(|received| received.sampled);
    let decided = decided.or(b3.sampled()).or(several.sampled());
    let debug =
        received.is_some_and(|received| received.debug) || b3.is_debug() || several.is_debug();
    let sampled = debug
        || decided.unwrap_or_else(|| {
            headers.contains_key(FORCE) || (random() % u64::from(WHOLE)) < u64::from(share)
        });
    let span = Span {
        trace_id: received.map_or_else(|| trace_id(&mut random), |received| received.trace_id),
        span_id: span_id(&mut random),
        parent_id: received.map(|received| received.span_id),
        sampled,
    };
    let (has_one, has_several) = (b3.is_there(), several.is_there());
    // A `traceparent` that cannot be read is replaced, too.
    if headers.contains_key(w3c::TRACE_PARENT) || !(has_one || has_several) {
        w3c::write(headers, &span, w3c.is_some());
    }
    if has_one {
        b3::write_one(headers, &span, debug);
    }
    if has_several {
        b3::write_several(headers, &span, debug);
    }
    Some(span)
}

/// All zeros mean "none", so they become ones.
fn trace_id(random: &mut impl FnMut() -> u64) -> [u8; 16] {
    let id = u128::from(random()) << 64 | u128::from(random());
    id.max(1).to_be_bytes()
}

fn span_id(random: &mut impl FnMut() -> u64) -> [u8; 8] {
    random().max(1).to_be_bytes()
}

#[cfg(test)]
mod tests;
