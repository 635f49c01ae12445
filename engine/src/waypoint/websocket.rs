//! WebSockets over HTTP/2 (RFC 8441): a stream towards the client is a connection of its own to the backend.

use std::{
    future::poll_fn,
    io::{self, ErrorKind},
    mem,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use ringway_http::head::websocket::is_extended_connect;

use super::{
    exchange::Upgraded,
    handoff::Getter,
    sending::poll_room,
    serve::{Downstream, UnderWay},
};
use crate::{
    carry::pair,
    runtime::{self, TcpStream},
};

/// Both ends of a stream whose head was answered.
pub(crate) struct Ends {
    pub(crate) receive: RecvStream,
    pub(crate) send: SendStream<Bytes>,
}

/// Whether a request asks for its stream to be a WebSocket's.
pub(crate) fn is_asked_for(parts: &Parts) -> bool {
    let protocol = parts.extensions.get::<h2::ext::Protocol>();
    is_extended_connect(parts, protocol.map(h2::ext::Protocol::as_str))
}

/// Passes bytes both ways until the stream, or the backend's connection, ends.
pub(crate) async fn pass(
    downstream: Rc<Downstream>,
    stream: Getter<Ends>,
    upgraded: Upgraded,
    _under_way: UnderWay,
) {
    // The client may have left before it had its answer.
    let Some(client) = stream.get().await else { return };
    let (near, far) = pair(&downstream.pod.account);
    runtime::spawn(Joint::new(client, far).run());
    upgraded.pass(&downstream, &near, Bytes::new(), None).await;
}

/// A stream and an end of a pair.
struct Joint {
    client: Ends,
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
    fn new(client: Ends, far: TcpStream) -> Self {
        let (upload, download) = (Bytes::new(), Bytes::new());
        Self { client, far, upload, download, upload_ended: false, download_ended: false }
    }

    async fn run(mut self) {
        let outcome = poll_fn(|cx| {
            let up = self.poll_upload(cx)?;
            let down = self.poll_download(cx)?;
            match up.is_ready() && down.is_ready() {
                true => Poll::Ready(Ok(())),
                // A reset is the end of both ways (RFC 8441 §5).
                false => self.client.send.poll_reset(cx).map(|_reason| Err(ended())),
            }
        });
        let outcome: io::Result<()> = outcome.await;
        if outcome.is_err() {
            self.client.send.send_reset(Reason::CANCEL);
            self.far.reset_on_close();
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.upload.has_remaining() {
                ready!(self.far.poll_writable(cx));
                match self.far.try_write(&self.upload) {
                    Ok(written) => {
                        self.upload.advance(written);
                        // It fails only for more than has come.
                        let _more = self.client.receive.flow_control().release_capacity(written);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
                continue;
            }
            if self.upload_ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(self.client.receive.poll_data(cx)) {
                Some(data) => self.upload = data.map_err(io::Error::other)?,
                None => {
                    self.upload_ended = true;
                    self.far.shutdown_write()?;
                }
            }
        }
    }

    fn poll_download(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.download_ended {
                return Poll::Ready(Ok(()));
            }
            if self.download.has_remaining() {
                ready!(poll_room(&mut self.client.send, cx)).map_err(io::Error::other)?;
                let data = mem::take(&mut self.download);
                self.client.send.send_data(data, false).map_err(io::Error::other)?;
            }
            ready!(self.far.poll_readable(cx));
            let read = runtime::scratch(|scratch| {
                let most = READ_BYTES.min(scratch.len());
                let read = self.far.try_read(&mut scratch[..most])?;
                self.download = Bytes::copy_from_slice(&scratch[..read]);
                Ok::<_, io::Error>(read)
            });
            match read {
                Ok(0) => {
                    self.download_ended = true;
                    let end = self.client.send.send_data(Bytes::new(), true);
                    end.map_err(io::Error::other)?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// The client has ended the stream.
fn ended() -> io::Error {
    ErrorKind::ConnectionReset.into()
}
