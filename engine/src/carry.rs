//! Passes bytes between a stream in a tunnel and one end of a pair in memory, whose other end is used where others have
//! a socket.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    accounts::{Account, HeldBytes},
    close::CloseReason,
    limits::{INNER_TUNNEL_BYTES_MAX, LEAVE_TIMEOUT, PAIR_ACCOUNT_STEP_BYTES},
    placement::Placed,
    relay::{ApplicationIs, Watching, relay_tunnelled},
    runtime::{self, Holds, TcpStream},
    tunnel::TunnelStream,
};

/// How often it is looked whether a peer has taken everything.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Two ends in memory. What they hold counts for the workload, by [`PAIR_ACCOUNT_STEP_BYTES`]: messages that pass at once touch nothing that
/// shards share.
pub(crate) fn pair(account: &Arc<Account>) -> (TcpStream, TcpStream) {
    let holds = || -> Holds {
        let held = RefCell::new(HeldBytes::none(account));
        Box::new(move |bytes| held.borrow_mut().set(bytes - bytes % PAIR_ACCOUNT_STEP_BYTES))
    };
    TcpStream::pair_that_tells(INNER_TUNNEL_BYTES_MAX, [holds(), holds()])
}

/// Passes bytes until both sides have ended; or until the other end of the pair is gone and the peer takes longer than
/// `patience` to take what is left, or than [`LEAVE_TIMEOUT`] to leave when it has taken all.
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
        let until = runtime::now() + patience;
        while far.has_unread() && runtime::now() < until {
            runtime::sleep(LOOK_INTERVAL).await;
        }
        runtime::sleep(LEAVE_TIMEOUT).await;
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
