//! One question to a server of ours: HTTP/1.0, so that the answer ends with its connection.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to accept, and to send something.
const PATIENCE: Duration = Duration::from_secs(5);

/// A scrape of 20,000 label sets, with all their buckets, is shorter.
const ANSWER_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody answers there.
    Unreachable(SocketAddr, io::Error),
    /// It answered with something else than what was asked for.
    Refused(SocketAddr, String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(address, error) => write!(f, "{address} cannot be asked: {error}"),
            Self::Refused(address, line) => write!(f, "{address} answers {line:?}"),
        }
    }
}

impl std::error::Error for AskError {}

/// The body of what is at `path`.
///
/// # Errors
/// When there is none.
pub fn get(address: SocketAddr, path: &str) -> Result<String, AskError> {
    let answer = talk(address, path).map_err(|error| AskError::Unreachable(address, error))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let line = head.lines().next().unwrap_or_default();
    match line.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(AskError::Refused(address, line.to_owned())),
    }
}

fn talk(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: */*\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // All of it: who closes with something unread resets the connection.
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_answer_is_its_body() {
        let address = answering("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\na 1");
        assert_eq!(get(address, "/metrics").unwrap(), "a 1");
    }

    #[test]
    fn anything_else_is_an_error_that_says_what() {
        let refused = get(answering("HTTP/1.0 404 Not Found\r\n\r\nno"), "/metrics").unwrap_err();
        assert!(refused.to_string().ends_with("answers \"HTTP/1.0 404 Not Found\""), "{refused}");
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let nobody = listener.local_addr().unwrap();
        drop(listener);
        assert!(get(nobody, "/").unwrap_err().to_string().contains("cannot be asked"));
    }
}
