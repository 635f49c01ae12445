//! Where what comes before an answer goes.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, StatusCode};
use ringway_http::head::{hops, is_framing};

use super::{Http1Interims, Http2Interims};

/// Tells the client of one request what comes before its answer, in the way of its connection.
#[derive(Clone)]
pub(crate) enum InterimSink {
    /// Between two messages.
    Http1(Rc<Http1Interims>),
    /// On the request's stream.
    Http2(Rc<Http2Interims>),
}

impl InterimSink {
    /// Asks the client for its body, unless it has been asked. On a connection of HTTP/1, hyper does when that is read.
    pub(super) fn ask(&self) {
        if let Self::Http2(interims) = self {
            interims.ask();
        }
    }

    /// Sends a head before the answer. 101 is none: what follows it is another protocol.
    pub(super) fn put(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let mut headers = headers.clone();
        hops::strip(&mut headers);
        let framing: Vec<HeaderName> =
            headers.keys().filter(|name| is_framing(name)).cloned().collect();
        framing.iter().for_each(|name| drop(headers.remove(name)));
        match self {
            Self::Http1(interims) => interims.put(status, &headers),
            Self::Http2(interims) => interims.put(status, headers),
        }
    }
}
