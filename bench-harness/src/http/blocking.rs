//! One request from inside a namespace, blocking: for tests and for looking at a proxy's own pages.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::Namespace;

/// How long the other side may say nothing.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks an HTTP server from inside `from`: status and body.
///
/// # Errors
/// When there is no connection, no answer in time, or no HTTP in it.
pub fn get_from(from: &Namespace, to: SocketAddr, target: &str) -> io::Result<(u16, String)> {
    get_slowly_from(from, to, target, PATIENCE)
}

/// As [`get_from`], for what may be answered after a while only.
///
/// # Errors
/// When there is no connection, no answer within `patience`, or no HTTP in it.
pub fn get_slowly_from(
    from: &Namespace,
    to: SocketAddr,
    target: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    ask_from(from, to, target, "", patience)
}

/// As [`get_slowly_from`], with further header lines, each with its end.
///
/// # Errors
/// When there is no connection, no answer within `patience`, or no HTTP in it.
pub fn ask_from(
    from: &Namespace,
    to: SocketAddr,
    target: &str,
    headers: &str,
    patience: Duration,
) -> io::Result<(u16, String)> {
    let mut stream = from.connect_timeout(to, PATIENCE)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let request =
        format!("GET {target} HTTP/1.1\r\nhost: {to}\r\n{headers}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no HTTP answer: {head:?}")))?;
    Ok((status, body.to_owned()))
}
