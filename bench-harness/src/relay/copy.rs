//! Bytes between a TCP connection and a CONNECT stream, both ways until both have ended.

use std::future::poll_fn;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Buffer sizes, each with the number of bytes after which it is used.
const GROWTH: [(u64, usize); 3] = [(0, 1024), (128 << 10, 16_320), (10 << 20, 262_080)];

/// Relays until both directions have ended.
pub(super) async fn relay(stream: TcpStream, receive: RecvStream, send: SendStream<Bytes>) {
    let (reader, writer) = stream.into_split();
    // What fails in one direction ends that direction; the other goes on until it ends itself.
    let _ = tokio::join!(upload(reader, send), download(receive, writer));
}

async fn upload(mut reader: OwnedReadHalf, mut send: SendStream<Bytes>) -> io::Result<()> {
    let mut total = 0;
    let mut buffer = BytesMut::new();
    loop {
        let size = GROWTH.iter().rev().find(|(after, _)| total >= *after).expect("0 is first").1;
        buffer.reserve(size);
        // As ztunnel does, an error counts as the end.
        let count = reader.read_buf(&mut (&mut buffer).limit(size)).await.unwrap_or(0);
        if count == 0 {
            return send.send_data(Bytes::new(), true).map_err(io::Error::other);
        }
        total += count as u64;
        let mut data = buffer.split().freeze();
        while !data.is_empty() {
            send.reserve_capacity(data.len());
            let capacity = poll_fn(|context| send.poll_capacity(context)).await;
            let capacity = capacity.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
            let piece = data.split_to(capacity.min(data.len()));
            send.send_data(piece, false).map_err(io::Error::other)?;
        }
    }
}

async fn download(mut receive: RecvStream, mut writer: OwnedWriteHalf) -> io::Result<()> {
    while let Some(data) = receive.data().await {
        let mut data = data.map_err(io::Error::other)?;
        receive.flow_control().release_capacity(data.len()).map_err(io::Error::other)?;
        writer.write_all_buf(&mut data).await?;
    }
    writer.shutdown().await
}
