//! W3C Trace Context.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Received, Span, hexadecimal};

/// Its header.
pub const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// Version, trace, parent and flags, with dashes between.
const BYTES: usize = 55;

/// The flag of a trace that is exported.
const SAMPLED: u8 = 1;

/// What the headers say. Two values, or one that cannot be read, are none (§3.2.4).
pub(super) fn read(headers: &HeaderMap) -> Option<Received> {
    let mut values = headers.get_all(TRACE_PARENT).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    parse(value.as_bytes())
}

fn parse(value: &[u8]) -> Option<Received> {
    let [version] = hexadecimal::read(value.get(..2)?)?;
    let longer = value.len() > BYTES;
    // Later versions may say more, behind a dash; the first says exactly this.
    let well_formed = value.len() >= BYTES
        && version != 0xff
        && (value[2], value[35], value[52]) == (b'-', b'-', b'-')
        && (!longer || (version != 0 && value[BYTES] == b'-'));
    if !well_formed {
        return None;
    }
    let [flags] = hexadecimal::read(&value[53..BYTES])?;
    Some(Received {
        trace_id: hexadecimal::read_id(&value[3..35])?,
        span_id: hexadecimal::read_id(&value[36..52])?,
        sampled: Some(flags & SAMPLED != 0),
        debug: false,
    })
}

/// `goes_on`: the trace came in this dialect, and what vendors noted about it stays. Otherwise their notes are about a
/// trace nobody knows (§3.3.1.1).
pub(super) fn write(headers: &mut HeaderMap, span: &Span, goes_on: bool) {
    let Span { trace_id, span_id, sampled, .. } = span;
    let (trace, parent) = (hexadecimal::write(trace_id), hexadecimal::write(span_id));
    let flags = u8::from(*sampled);
    let value = HeaderValue::try_from(format!("00-{trace}-{parent}-{flags:02x}"));
    headers.insert(TRACE_PARENT, value.expect("digits and dashes"));
    if !goes_on {
        headers.remove(STATE);
    }
}
