//! Applications behind the waypoint: they speak HTTP/1.1 byte by byte, so that what is on the wire is what a story says.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};

use crate::mesh::{PATIENCE, SERVER};

/// A message as it is on the wire.
#[derive(Debug)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The status of an answer.
    pub(crate) fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// Reads a head; none at the end of the connection.
pub(crate) fn read_head(reader: &mut impl BufRead) -> Option<Message> {
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').expect("a header");
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Message { line: line.trim_end().to_owned(), headers, body: Vec::new() })
}

/// Reads a message whole; `bodiless`: it has no body, whatever its head says.
pub(crate) fn read_message(reader: &mut impl BufRead, bodiless: bool) -> Option<Message> {
    let mut message = read_head(reader)?;
    if bodiless {
        return Some(message);
    }
    if message.header("transfer-encoding").is_some() {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).expect("a chunk's size");
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            message.body.extend(chunk);
            if size == 0 {
                // Trailers count as headers here.
                let mut trailer = String::new();
                while reader.read_line(&mut trailer).ok()? > 0 && !trailer.trim().is_empty() {
                    let (name, value) = trailer.trim_end().split_once(':').expect("a trailer");
                    message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                    trailer.clear();
                }
                return Some(message);
            }
            reader.read_line(&mut String::new()).ok()?;
        }
    }
    let length = message.header("content-length").map_or(0, |length| length.parse().expect("one"));
    message.body = vec![0; length];
    reader.read_exact(&mut message.body).ok()?;
    Some(message)
}

/// Serves every connection to a port by `serve`, each on a thread of its own; `serve` is told which one it is. Returns
/// the port.
pub(crate) fn serve(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> u16 {
    serve_at(SERVER, serve)
}

/// As [`serve`], at this address.
pub(crate) fn serve_at(
    address: IpAddr,
    serve: impl Fn(usize, TcpStream) + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    thread::spawn(move || {
        let serve = std::sync::Arc::new(serve);
        for (number, stream) in listener.incoming().enumerate() {
            let (stream, serve) = (stream.expect("accepted"), serve.clone());
            stream.set_read_timeout(Some(PATIENCE)).expect("set");
            thread::spawn(move || serve(number, stream));
        }
    });
    port
}

/// Serves HTTP/1.1: each request is told, and answered with what `answer` makes of it.
pub(crate) fn serve_http(
    answer: impl Fn(usize, &Message) -> String + Send + Sync + 'static,
) -> (u16, Receiver<Message>) {
    let (told, requests) = channel();
    let told = std::sync::Mutex::new(told);
    let port = serve(move |number, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        while let Some(request) = read_message(&mut reader, false) {
            let answer = answer(number, &request);
            // Nobody may be listening any more.
            let _ = told.lock().expect("whole").send(request);
            if stream.write_all(answer.as_bytes()).is_err() || answer.is_empty() {
                return;
            }
        }
    });
    (port, requests)
}

/// An answer with a body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// A client's connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn new(stream: TcpStream) -> Self {
        let reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        Self { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).expect("room");
    }

    pub(crate) fn receive(&mut self) -> Message {
        read_message(&mut self.reader, false).expect("an answer")
    }

    pub(crate) fn receive_head(&mut self) -> Message {
        read_head(&mut self.reader).expect("an answer")
    }

    pub(crate) fn read_exact(&mut self, bytes: usize) -> Vec<u8> {
        let mut buffer = vec![0; bytes];
        self.reader.read_exact(&mut buffer).expect("so many");
        buffer
    }

    /// Whether the other side has ended the connection, in whatever way.
    pub(crate) fn is_over(&mut self) -> bool {
        matches!(self.reader.read(&mut [0]), Ok(0) | Err(_))
    }

    /// A GET of this path.
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n"));
        self.receive()
    }
}
