//! HTTP/1.1: the same GET again and again, and just enough of an answer's head to know its end.

use anyhow::{Context, Result, bail, ensure};

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
    left_bytes: usize,
    is_last: bool,
}

impl Http1 {
    pub(super) fn new(authority: &str, path: &str, is_last: bool) -> Http1 {
        let close = if is_last { "connection: close\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n{close}\r\n");
        Http1 { request: request.into_bytes(), head: Vec::new(), body: None }
    }

    fn take_body(&mut self, mut body: Body, bytes: usize) -> Result<Progress> {
        body.left_bytes = body
            .left_bytes
            .checked_sub(bytes)
            .context("the answer is longer than its content-length")?;
        if body.left_bytes > 0 {
            self.body = Some(body);
            return Ok(Progress::Partial);
        }
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
            return self.take_body(body, bytes.len());
        }
        if self.head.is_empty()
            && let Some((length, body)) = parse(bytes)?
        {
            return self.take_body(body, bytes.len() - length);
        }
        self.head.extend_from_slice(bytes);
        match parse(&self.head)? {
            Some((length, body)) => {
                let beyond = self.head.len() - length;
                self.head.clear();
                self.take_body(body, beyond)
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
    let mut body = Body { left_bytes: 0, is_last: response.version == Some(0) };
    let mut has_length = false;
    for header in response.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        if header.name.eq_ignore_ascii_case("content-length") {
            body.left_bytes =
                value.trim().parse().with_context(|| format!("content-length {value:?}"))?;
            has_length = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            body.is_last = value.trim().eq_ignore_ascii_case("close");
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            bail!(
                "the answer comes in chunks, which are not counted here: ask for a --path of known size"
            );
        }
    }
    ensure!(has_length, "the answer has no content-length: ask for a --path whose size is known");
    Ok(Some((length, body)))
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
    fn an_answer_that_is_not_the_one_asked_for_is_an_error() {
        for (answer, says) in [
            ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503 Service"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no content-length"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "chunks"),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "content-length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "longer"),
            ("ZZZZ", "no HTTP/1.1"),
        ] {
            let error = Http1::new("a", "/", false).take(answer.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{answer}: {error:#}");
        }
    }
}
