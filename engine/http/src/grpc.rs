//! Errors of ours in gRPC's way: HTTP 200, and a status in the only headers there are (Trailers-Only).

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
    let message = HeaderValue::try_from(escaped(message)).expect("escaped to plain text");
    HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc")),
        (header::HeaderName::from_static("grpc-status"), HeaderValue::from(u16::from(code))),
        (header::HeaderName::from_static("grpc-message"), message),
    ])
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
    fn messages_are_escaped() {
        let headers = trailers_only(14, "no backend: 5 % é\n");
        assert_eq!(headers["grpc-status"], "14");
        assert_eq!(headers["grpc-message"], "no backend: 5 %25 %C3%A9%0A");
        assert_eq!(headers["content-type"], "application/grpc");
    }
}
