//! B3, Zipkin's headers: one, or several.
//!
//! Both may carry a decision without a trace: "trace what you begin", or "trace nothing".

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Received, Span, hexadecimal};

const ONE: HeaderName = HeaderName::from_static("b3");
const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// Whether a header belongs to one of the two forms.
pub(super) fn is_its_own(name: &HeaderName) -> bool {
    *name == ONE || name.as_str().starts_with("x-b3-")
}

/// What one of the two forms said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum B3 {
    /// Nothing, or nothing that can be read.
    None,
    /// A decision without a trace.
    Decision(Decision),
    /// A trace.
    Position(Received),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Drop,
    Trace,
    Debug,
}

impl B3 {
    pub(super) fn is_there(self) -> bool {
        self != Self::None
    }

    pub(super) fn position(self) -> Option<Received> {
        match self {
            Self::Position(received) => Some(received),
            Self::None | Self::Decision(_) => None,
        }
    }

    pub(super) fn sampled(self) -> Option<bool> {
        match self {
            Self::None => None,
            Self::Decision(decision) => Some(decision != Decision::Drop),
            Self::Position(received) => received.sampled,
        }
    }

    pub(super) fn is_debug(self) -> bool {
        match self {
            Self::None => false,
            Self::Decision(decision) => decision == Decision::Debug,
            Self::Position(received) => received.debug,
        }
    }
}

/// `<trace>-<span>[-<decision>[-<parent>]]`, or the decision alone.
pub(super) fn read_one(headers: &HeaderMap) -> B3 {
    let mut values = headers.get_all(ONE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return B3::None };
    let mut parts = value.as_bytes().split(|byte| *byte == b'-');
    let (first, second, third) = (parts.next(), parts.next(), parts.next());
    match (first, second) {
        (Some(alone), None) => decision(alone).map_or(B3::None, B3::Decision),
        (Some(trace), Some(span)) => {
            let decided = match third {
                None => Some(None),
                Some(word) => decision(word).map(Some),
            };
            let position = decided.and_then(|decided| position(trace, span, decided));
            position.map_or(B3::None, B3::Position)
        }
        (None, _) => B3::None,
    }
}

pub(super) fn read_several(headers: &HeaderMap) -> B3 {
    let of = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    let decided = match (of(FLAGS), of(SAMPLED)) {
        (Some(b"1"), _) => Some(Decision::Debug),
        (_, Some(b"1" | b"true")) => Some(Decision::Trace),
        (_, Some(b"0" | b"false")) => Some(Decision::Drop),
        _ => None,
    };
    match (of(TRACE), of(SPAN)) {
        (Some(trace), Some(span)) => position(trace, span, decided).map_or(B3::None, B3::Position),
        _ => decided.map_or(B3::None, B3::Decision),
    }
}

pub(super) fn write_one(headers: &mut HeaderMap, span: &Span, debug: bool) {
    let (trace, own) = (hexadecimal::write(&span.trace_id), hexadecimal::write(&span.span_id));
    let decision = match (debug, span.sampled) {
        (true, _) => "d",
        (false, true) => "1",
        (false, false) => "0",
    };
    let mut value = format!("{trace}-{own}-{decision}");
    if let Some(parent) = &span.parent_id {
        value.push('-');
        value.push_str(&hexadecimal::write(parent));
    }
    set(headers, ONE, value);
}

pub(super) fn write_several(headers: &mut HeaderMap, span: &Span, debug: bool) {
    set(headers, TRACE, hexadecimal::write(&span.trace_id));
    set(headers, SPAN, hexadecimal::write(&span.span_id));
    match &span.parent_id {
        Some(parent) => set(headers, PARENT, hexadecimal::write(parent)),
        None => drop(headers.remove(PARENT)),
    }
    // Debug means sampled; both at once would be said twice.
    if debug {
        headers.remove(SAMPLED);
        headers.insert(FLAGS, HeaderValue::from_static("1"));
    } else {
        headers.remove(FLAGS);
        headers.insert(SAMPLED, HeaderValue::from_static(if span.sampled { "1" } else { "0" }));
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    headers.insert(name, HeaderValue::try_from(value).expect("digits and dashes"));
}

fn decision(word: &[u8]) -> Option<Decision> {
    match word {
        b"0" => Some(Decision::Drop),
        b"1" => Some(Decision::Trace),
        b"d" => Some(Decision::Debug),
        _ => None,
    }
}

/// Ids of traces have 16 or 32 digits; the shorter are filled up with zeros in front.
fn position(trace: &[u8], span: &[u8], decided: Option<Decision>) -> Option<Received> {
    let trace_id = hexadecimal::read_id::<16>(trace).or_else(|| {
        let short: [u8; 8] = hexadecimal::read_id(trace)?;
        Some(u128::from(u64::from_be_bytes(short)).to_be_bytes())
    })?;
    Some(Received {
        trace_id,
        span_id: hexadecimal::read_id(span)?,
        sampled: decided.map(|decided| decided != Decision::Drop),
        debug: decided == Some(Decision::Debug),
    })
}
