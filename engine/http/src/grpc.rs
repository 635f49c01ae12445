//! gRPC, as far as it shows in HTTP: errors of ours, which are HTTP 200 and a status in the only headers there are
//! (Trailers-Only); and one message as a body.

use std::fmt;

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// Whether somebody speaks gRPC: `application/grpc`, with or without what follows it.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some(value) = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes) else {
        return false;
    };
    value.get(..TYPE.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(TYPE))
        && matches!(value.get(TYPE.len()), None | Some(b'+' | b';' | b' '))
}

/// What an answer of ours is in gRPC.
pub fn code(status: StatusCode) -> u8 {
    match status.as_u16() {
        200..=299 => 0,
        400 | 500 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 => 8,
        429 | 502 | 503 => 14,
        408 | 504 => 4,
        _ => 2,
    }
}

/// The headers of an answer with that code; its HTTP status is 200, and it has no body.
pub fn trailers_only(code: u8, message: &str) -> HeaderMap {
    let message = self::message(message);
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (header::HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code))),
        (header::HeaderName::from_static("grpc-message"), message),
    ])
}

/// What went wrong, as a header has it.
pub fn message(text: &str) -> HeaderValue {
    HeaderValue::try_from(escaped(text)).expect("escaped to plain text")
}

/// Bytes before a message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// One message as a body.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("messages of ours are small");
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Why a body is not one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// It ends before its message does, or has none.
    CutOff,
    /// Its message is compressed, which nobody asked for.
    Compressed,
    /// There is more than one message in it.
    TooMuch,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrameError::CutOff => "the message is cut off",
            FrameError::Compressed => "the message is compressed, which nobody asked for",
            FrameError::TooMuch => "there is more than one message",
        })
    }
}

impl std::error::Error for FrameError {}

/// The one message of a body.
///
/// # Errors
/// There is none, or something else.
pub fn unframed(body: &[u8]) -> Result<&[u8], FrameError> {
    let (prefix, message) = body.split_first_chunk::<PREFIX_BYTES>().ok_or(FrameError::CutOff)?;
    let [flag, length @ ..] = *prefix;
    if flag != 0 {
        return Err(FrameError::Compressed);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    match message.len() {
        there if there < length => Err(FrameError::CutOff),
        there if there > length => Err(FrameError::TooMuch),
        _ => Ok(message),
    }
}

/// The status that a head or trailers tell, if they tell one.
pub fn status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Spaces to tildes stay, but for the per cent sign.
fn escaped(message: &str) -> String {
    message.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_codes() {
        for (status, want) in [
            (200, 0),
            (400, 13),
            (401, 16),
            (403, 7),
            (404, 12),
            (429, 14),
            (500, 13),
            (503, 14),
            (504, 4),
            (418, 2),
        ] {
            assert_eq!(code(StatusCode::from_u16(status).expect("a status")), want, "{status}");
        }
    }

    #[test]
    fn grpc_shows_in_its_type() {
        for (value, want) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC; x=y", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
        ] {
            let headers =
                HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_grpc(&headers), want, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_body_is_one_message() {
        assert_eq!(unframed(&framed(b"hello")), Ok(&b"hello"[..]));
        assert_eq!(unframed(&framed(b"")), Ok(&b""[..]));
        #[rustfmt::skip]
        let rows: [(&[u8], FrameError); 5] = [
            (b"",                     FrameError::CutOff),
            (&[0, 0, 0, 0],           FrameError::CutOff),
            (&[0, 0, 0, 0, 2, 7],     FrameError::CutOff),
            (&[1, 0, 0, 0, 1, 7],     FrameError::Compressed),
            (&[0, 0, 0, 0, 1, 7, 0],  FrameError::TooMuch),
        ];
        for (body, want) in rows {
            assert_eq!(unframed(body), Err(want), "{body:?}");
        }
        assert_eq!(unframed(&[0, 255, 255, 255, 255, 1]), Err(FrameError::CutOff));
    }

    #[test]
    fn messages_are_escaped() {
        let headers = trailers_only(14, "no backend: 5 % é\n");
        assert_eq!(headers["grpc-status"], "14");
        assert_eq!(headers["grpc-message"], "no backend: 5 %25 %C3%A9%0A");
        assert_eq!(headers["content-type"], "application/grpc");
    }
}
