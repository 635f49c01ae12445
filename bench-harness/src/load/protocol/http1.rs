//! HTTP/1.1: the same GET again and again, and just enough of an answer to know its end: its head, and its chunks if it
//! has some.

use anyhow::{Context, Result, ensure};

use super::chunks::Chunks;
use super::serial::{Message, Progress};

/// Bytes of an answer's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header lines of an answer at most.
const HEADERS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Http1 {
    request: Vec<u8>,
    /// The head as far as it has come, when it comes in pieces.
    head: Vec<u8>,
    /// The body, once the head is complete.
    body: Option<Body>,
}

#[derive(Clone, Copy, Debug)]
struct Body {
    extent: Extent,
    is_last: bool,
}

/// What tells where a body ends.
#[derive(Clone, Copy, Debug)]
enum Extent {
    Length { left_bytes: usize },
    Chunks(Chunks),
}

impl Extent {
    /// Takes in bytes of the body: how many of them belong to it, if it ends with them.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<usize>> {
        match self {
            Extent::Chunks(chunks) => chunks.take(bytes),
            Extent::Length { left_bytes } if bytes.len() < *left_bytes => {
                *left_bytes -= bytes.len();
                Ok(None)
            }
            Extent::Length { left_bytes } => Ok(Some(*left_bytes)),
        }
    }
}

impl Http1 {
    pub(super) fn new(authority: &str, path: &str, is_last: bool) -> Http1 {
        let close = if is_last { "connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n{close}\r\n");
        Http1 { request: request.into_bytes(), head: Vec::new(), body: None }
    }

    fn take_body(&mut self, mut body: Body, bytes: &[u8]) -> Result<Progress> {
        let Some(end) = body.extent.take(bytes)? else {
            self.body = Some(body);
            return Ok(Progress::Partial);
        };
        ensure!(end == bytes.len(), "the answer is longer than its head or its chunks say");
        self.body = None;
        Ok(if body.is_last { Progress::Last } else { Progress::Complete })
    }
}

impl Message for Http1 {
    fn request(&self) -> &[u8] {
        &self.request
    }

    fn take(&mut self, bytes: &[u8]) -> Result<Progress> {
        if let Some(body) = self.body {
            return self.take_body(body, bytes);
        }
        if self.head.is_empty()
            && let Some((length, body)) = parse(bytes)?
        {
            return self.take_body(body, &bytes[length..]);
        }
        self.head.extend_from_slice(bytes);
        match parse(&self.head)? {
            Some((length, body)) => {
                let head = std::mem::take(&mut self.head);
                let progress = self.take_body(body, &head[length..]);
                // Its room serves the next one.
                self.head = head;
                self.head.clear();
                progress
            }
            None => {
                ensure!(self.head.len() < HEAD_BYTES_MAX, "the head of the answer has no end");
                Ok(Progress::Partial)
            }
        }
    }
}

/// The length of the head and what follows it, if the head is complete.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Body)>> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let status = response.parse(bytes).context(
        "the answer is no HTTP/1.1: does the target speak it (`ringway-bench serve null`)?",
    )?;
    let httparse::Status::Complete(length) = status else { return Ok(None) };
    let code = response.code.unwrap_or_default();
    ensure!(code == 200, "the answer is {code} {}", response.reason.unwrap_or_default());
    let mut is_last = response.version == Some(0);
    let mut extent = None;
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        let told = if header.name.eq_ignore_ascii_case("content-length") {
            let bytes = value.parse().with_context(|| format!("content-length {value:?}"))?;
            Extent::Length { left_bytes: bytes }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            ensure!(value.eq_ignore_ascii_case("chunked"), "transfer-encoding {value:?}");
            Extent::Chunks(Chunks::new())
        } else {
            if header.name.eq_ignore_ascii_case("connection") {
                is_last = value.eq_ignore_ascii_case("close");
            }
            continue;
        };
        // RFC 9112 §6.3: two that disagree are what smuggling is made of.
        ensure!(extent.replace(told).is_none(), "the answer says twice where it ends");
    }
    let extent = extent.context(
        "the answer has neither a content-length nor chunks: ask for a --path whose end is told",
    )?;
    Ok(Some((length, Body { extent, is_last })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says_however_it_is_cut() {
        //   name                 answer
        for (name, answer, want) in [
            ("a body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", Progress::Complete),
            ("no body", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Progress::Complete),
            (
                "the last",
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
                Progress::Last,
            ),
            ("an old one", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", Progress::Last),
            (
                "chunks",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0a;x=\"y\"\r\n0123\r\n6789\r\n0\r\n\r\n",
                Progress::Complete,
            ),
            (
                "no chunk, and trailers",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n00\r\na: b\r\nc: d\r\n\r\n",
                Progress::Last,
            ),
        ] {
            let answer = answer.as_bytes();
            for cut in 0..answer.len() {
                let mut http1 = Http1::new("a", "/", false);
                if cut > 0 {
                    assert_eq!(
                        http1.take(&answer[..cut]).unwrap(),
                        Progress::Partial,
                        "{name}, {cut}"
                    );
                }
                assert_eq!(http1.take(&answer[cut..]).unwrap(), want, "{name}, cut at {cut}");
            }
            let mut http1 = Http1::new("a", "/", false);
            for byte in &answer[..answer.len() - 1] {
                assert_eq!(http1.take(&[*byte]).unwrap(), Progress::Partial, "{name}");
            }
            assert_eq!(http1.take(&answer[answer.len() - 1..]).unwrap(), want, "{name}, in bytes");
        }
    }

    #[test]
    fn lines_between_chunks_have_an_end() {
        let mut http1 = Http1::new("a", "/", false);
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;";
        assert_eq!(http1.take(head).unwrap(), Progress::Partial);
        let error = http1.take(&[b'x'; 1 << 17]).unwrap_err();
        assert!(error.to_string().contains("no end"), "{error:#}");
    }

    #[test]
    fn an_answer_that_is_not_the_one_asked_for_is_an_error() {
        for (answer, says) in [
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503 Service"),
            ("HTTP/1.1 200 OK\r\n\r\n", "neither a content-length nor chunks"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "gzip"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n",
                "says twice",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "no digit"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\n", "no size"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab", "ends with 'b'"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n",
                "too large",
            ),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nz", "longer"),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "longer"),
            ("ZZZZ", "no HTTP/1.1"),
        ] {
            let error = Http1::new("a", "/", false).take(answer.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{answer}: {error:#}");
        }
    }
}
