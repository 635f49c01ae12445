//! The server: one task per connection, requests one after the other.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::{Request, Response, invalid, read_body, read_head};

/// Who asks, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address of the other end of the connection.
    pub address: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
}

/// Serves for ever.
pub async fn serve<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Peer, Request) -> F + Clone + Send + 'static,
    F: Future<Output = Response> + Send,
{
    loop {
        let Ok((stream, address)) = listener.accept().await else {
            // Out of descriptors, most likely: give others the time to close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            // What went wrong with one connection is its client's to notice.
            let _ = serve_connection(stream, address, handler).await;
        });
    }
}

async fn serve_connection<H, F>(
    mut stream: TcpStream,
    address: SocketAddr,
    handler: H,
) -> io::Result<()>
where
    H: Fn(Peer, Request) -> F,
    F: Future<Output = Response>,
{
    stream.set_nodelay(true)?;
    let peer = Peer { address, local: stream.local_addr()? };
    let mut buffer = Vec::new();
    while let Some((first, headers)) = read_head(&mut stream, &mut buffer).await? {
        read_body(&mut stream, &mut buffer, &headers).await?;
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else {
            return Err(invalid("unreadable request line"));
        };
        let request = Request { method: method.to_owned(), target: target.to_owned(), headers };
        let last = request.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close"));
        let response = handler(peer, request).await;
        stream.write_all(&encode(&response, last)).await?;
        if last {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

fn encode(response: &Response, last: bool) -> Vec<u8> {
    let reason = match response.status {
        200 => "OK",
        404 => "Not Found",
        502 => "Bad Gateway",
        _ => "Unknown",
    };
    let mut bytes = format!(
        "HTTP/1.1 {} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{}\r\n",
        response.status,
        response.content_type,
        response.body.len(),
        if last { "connection: close\r\n" } else { "" }
    )
    .into_bytes();
    bytes.extend_from_slice(&response.body);
    bytes
}
