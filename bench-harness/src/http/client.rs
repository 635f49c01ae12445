//! The client: a connection that asks one thing after another.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Response, header, invalid, read_body, read_head};

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
    host: String,
}

impl Client {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Client { stream, buffer: Vec::new(), host: address.to_string() })
    }

    /// Asks for `target` and keeps the connection.
    pub async fn get(&mut self, target: &str) -> io::Result<Response> {
        self.ask(target, "").await
    }

    async fn ask(&mut self, target: &str, extra: &str) -> io::Result<Response> {
        let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n{extra}\r\n", self.host);
        self.stream.write_all(head.as_bytes()).await?;
        let (first, headers) = read_head(&mut self.stream, &mut self.buffer)
            .await?
            .ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "closed, no response"))?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| invalid("unreadable status line"))?;
        let body = read_body(&mut self.stream, &mut self.buffer, &headers).await?;
        let content_type = header(&headers, "content-type").unwrap_or_default().to_owned();
        Ok(Response { status, content_type, body })
    }
}

/// Asks once, on a connection of its own.
pub async fn get(address: SocketAddr, target: &str) -> io::Result<Response> {
    Client::connect(address).await?.ask(target, "connection: close\r\n").await
}
