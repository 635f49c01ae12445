//! Passes bytes between a stream in a tunnel and one end of a pair in memory, whose other end is used where others have
//! a socket.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    close::CloseReason,
    placement::Placed,
    relay::{ApplicationIs, Watching, relay_tunnelled},
    runtime::{self, TcpStream},
    tunnel::TunnelStream,
};

/// Passes bytes until both sides have ended; or until the other end of the pair is gone, and the peer takes longer than
/// `patience` to take what is left.
pub(crate) async fn carry(
    stream: TunnelStream,
    far: Rc<TcpStream>,
    patience: Duration,
    _placed: Option<Placed>,
) {
    stream.attach_uncounted(&far);
    let mut relaying = pin!(relay_tunnelled(&far, &stream, ApplicationIs::Client, &Uncounted));
    let mut leaving = pin!(async {
        far.closed().await;
        runtime::sleep(patience).await;
    });
    poll_fn(|cx| match relaying.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => leaving.as_mut().poll(cx),
    })
    .await;
}

/// These bytes are another connection's in other words: they are counted there, and cut there.
struct Uncounted;

impl Watching for Uncounted {
    fn poll_cut(&self, _: &mut Context<'_>) -> Poll<CloseReason> {
        Poll::Pending
    }

    fn sent(&self, _bytes: usize) {}
}
