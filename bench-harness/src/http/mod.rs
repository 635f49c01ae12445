//! As much HTTP/1.1 as the example applications and their client need: plain, small, and ours, so
//! that nothing in it can know of a mesh. Not for hostile input.

mod blocking;
mod client;
mod server;

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub use self::blocking::{ask_from, get_from, get_slowly_from};
pub use self::client::{Client, get};
pub use self::server::{Peer, serve};

/// A head larger than this is refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A body larger than this is refused.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// GET, POST and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, values trimmed.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// The first header of this (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The value of `content-type`.
    pub content_type: String,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response with a body of this type.
    pub fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Response {
        Response { status, content_type: content_type.to_owned(), body: body.into() }
    }

    /// A JSON response.
    pub fn json(status: u16, value: &serde_json::Value) -> Response {
        Response::new(status, "application/json", format!("{value}\n"))
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads up to the blank line; what follows it stays in `buffer`. `None` at a clean end.
async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(String, Vec<(String, String)>)>> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > HEAD_BYTES_MAX {
            return Err(invalid("head too large"));
        }
        if stream.read_buf(buffer).await? == 0 {
            if buffer.is_empty() {
                return Ok(None);
            }
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "end within a head"));
        }
    };
    let head = std::str::from_utf8(&buffer[..end]).map_err(|_| invalid("head is not text"))?;
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("header without colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    buffer.drain(..end + 4);
    Ok(Some((first, headers)))
}

/// Reads the body that the head announced by its length.
async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    headers: &[(String, String)],
) -> io::Result<Vec<u8>> {
    let bytes: usize = match header(headers, "content-length") {
        Some(text) => text.parse().map_err(|_| invalid("unreadable content-length"))?,
        None => 0,
    };
    if bytes > BODY_BYTES_MAX {
        return Err(invalid("body too large"));
    }
    while buffer.len() < bytes {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "end within a body"));
        }
    }
    Ok(buffer.drain(..bytes).collect())
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn one_connection_carries_several_requests_and_each_sees_its_peer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, |peer: Peer, request: Request| async move {
            let text = format!("{} {} {}", request.method, request.target, peer.address.ip());
            Response::new(if request.target == "/no" { 404 } else { 200 }, "text/plain", text)
        }));
        let mut client = Client::connect(address).await.unwrap();
        for (target, status) in [("/a", 200), ("/no", 404), ("/b?c=d", 200)] {
            let response = client.get(target).await.unwrap();
            assert_eq!(response.status, status);
            assert_eq!(response.body, format!("GET {target} 127.0.0.1").into_bytes());
        }
        assert_eq!(get(address, "/once").await.unwrap().status, 200);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_end_within_a_head_is_an_error_and_a_clean_end_is_not() {
        let mut buffer = Vec::new();
        assert!(read_head(&mut &b""[..], &mut buffer).await.unwrap().is_none());
        let error = read_head(&mut &b"GET / HT"[..], &mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
