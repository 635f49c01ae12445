//! What a connection speaks, by its first bytes.

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    /// HTTP/1.0 or 1.1.
    Http1,
    /// HTTP/2 that begins with its preface.
    Http2,
    /// Anything else.
    Other,
}

/// How an HTTP/2 connection begins (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method that is looked for; the longest there is has 17 letters.
const METHOD_BYTES_MAX: usize = 24;

/// A request line that is longer than this is no sign of HTTP.
const LINE_BYTES_MAX: usize = 16 * 1024;

/// Judges the first bytes of a connection; none: more must come.
pub(crate) fn judge(bytes: &[u8]) -> Option<Speech> {
    if bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes) {
        return None;
    }
    if bytes.starts_with(PREFACE) {
        return Some(Speech::Http2);
    }
    // RFC 9112 §2.2: an empty line before the request line is passed over.
    let bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    judge_line(bytes)
}

fn judge_line(bytes: &[u8]) -> Option<Speech> {
    let method = bytes.iter().position(|byte| !is_method(*byte)).unwrap_or(bytes.len());
    if method > METHOD_BYTES_MAX || (method == 0 && !bytes.is_empty()) {
        return Some(Speech::Other);
    }
    match bytes.get(method) {
        None => return None,
        Some(b' ') => {}
        Some(_) => return Some(Speech::Other),
    }
    let line = &bytes[method + 1..];
    let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
        return (line.len() > LINE_BYTES_MAX).then_some(Speech::Other);
    };
    let line = line[..end].strip_suffix(b"\r").unwrap_or(&line[..end]);
    let is_http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
    Some(if is_http { Speech::Http1 } else { Speech::Other })
}

/// Methods in use are of upper-case letters, and a few have a hyphen.
fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_shows_in_the_first_bytes() {
        let rows: [(&str, &[u8], Option<Speech>); 14] = [
            ("nothing yet", b"", None),
            ("a method that may go on", b"GE", None),
            ("a line that may go on", b"GET /some", None),
            ("a request", b"GET / HTTP/1.1\r\n", Some(Speech::Http1)),
            ("an old one", b"POST /x HTTP/1.0\r\nHost", Some(Speech::Http1)),
            ("after an empty line", b"\r\nGET / HTTP/1.1\r\n", Some(Speech::Http1)),
            ("a lone line feed is HTTP's to refuse", b"GET / HTTP/1.1\n", Some(Speech::Http1)),
            ("begins like the preface", b"PRI * HT", None),
            ("the preface", PREFACE, Some(Speech::Http2)),
            ("a method like it", b"PRIX / HTTP/1.1\r\n", Some(Speech::Http1)),
            ("TLS", &[22, 3, 1, 2, 0, 1], Some(Speech::Other)),
            ("SMTP's client", b"EHLO there\r\n", Some(Speech::Other)),
            ("Redis", b"*1\r\n$4\r\nPING\r\n", Some(Speech::Other)),
            ("shouting", &[b'A'; 25], Some(Speech::Other)),
        ];
        for (name, bytes, want) in rows {
            assert_eq!(judge(bytes), want, "{name}");
        }
        let endless = [b"GET /".to_vec(), vec![b'a'; LINE_BYTES_MAX]].concat();
        assert_eq!(judge(&endless), Some(Speech::Other));
    }
}
