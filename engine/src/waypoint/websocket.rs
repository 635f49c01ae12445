//! WebSockets over HTTP/2 (RFC 8441): a stream towards the client is a connection of its own to the backend.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::request::Parts;
use hyper::{
    rt::{Read, ReadBuf, Write},
    upgrade::OnUpgrade,
};
use ringway_http::head::websocket::is_extended_connect;

use super::{
    exchange::Upgraded,
    serve::{Downstream, UnderWay},
};
use crate::{
    carry::pair,
    runtime::{self, TcpStream},
};

/// The stream of a request that asks for one to be a WebSocket's.
pub(crate) fn stream(parts: &mut Parts) -> Option<OnUpgrade> {
    let protocol = parts.extensions.get::<hyper::ext::Protocol>();
    let asks = is_extended_connect(parts, protocol.map(hyper::ext::Protocol::as_str));
    // Where hyper offers a stream, it has put it there.
    asks.then(|| parts.extensions.remove()).flatten()
}

/// Passes bytes both ways until the stream, or the backend's connection, ends.
pub(crate) async fn pass(
    downstream: Rc<Downstream>,
    stream: OnUpgrade,
    upgraded: Upgraded,
    _under_way: UnderWay,
) {
    // The client may have left before it had its answer.
    let Ok(client) = stream.await else { return };
    let (near, far) = pair(&downstream.pod.account);
    runtime::spawn(Joint::new(client, far).run());
    upgraded.pass(&downstream, &near, Bytes::new(), None).await;
}

/// A stream and an end of a pair.
struct Joint {
    client: hyper::upgrade::Upgraded,
    far: TcpStream,
    /// Read from one, and not yet written to the other.
    upload: Bytes,
    download: Bytes,
    /// The client, or the backend, has said all.
    upload_ended: bool,
    download_ended: bool,
}

/// What is read at once.
const READ_BYTES: usize = 16 * 1024;

impl Joint {
    fn new(client: hyper::upgrade::Upgraded, far: TcpStream) -> Self {
        let (upload, download) = (Bytes::new(), Bytes::new());
        Self { client, far, upload, download, upload_ended: false, download_ended: false }
    }

    async fn run(mut self) {
        let outcome = poll_fn(|cx| {
            let up = self.poll_upload(cx)?;
            let down = self.poll_download(cx)?;
            if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        });
        let outcome: io::Result<()> = outcome.await;
        if outcome.is_err() {
            self.far.reset_on_close();
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.upload.has_remaining() {
                ready!(self.far.poll_writable(cx));
                match self.far.try_write(&self.upload) {
                    Ok(written) => self.upload.advance(written),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            }
            if self.upload_ended {
                return Poll::Ready(Ok(()));
            }
            let mut room = [0; READ_BYTES];
            let mut room = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.client).poll_read(cx, room.unfilled()))?;
            self.upload = Bytes::copy_from_slice(room.filled());
            if self.upload.is_empty() {
                self.upload_ended = true;
                self.far.shutdown_write()?;
            }
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.download.has_remaining() {
                let client = Pin::new(&mut self.client);
                let written = ready!(client.poll_write(cx, &self.download))?;
                self.download.advance(written);
                continue;
            }
            if self.download_ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.far.poll_readable(cx));
            let mut room = [0; READ_BYTES];
            match self.far.try_read(&mut room) {
                Ok(0) => {
                    ready!(Pin::new(&mut self.client).poll_shutdown(cx))?;
                    self.download_ended = true;
                }
                Ok(read) => self.download = Bytes::copy_from_slice(&room[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
