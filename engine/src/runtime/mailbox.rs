//! Mailboxes: bounded queues from any thread to a task of a shard.
//!
//! Sending never waits and takes no lock: a full mailbox is the sender's to deal with. The
//! receiver's waker waits in a queue of one, from which exactly one sender takes it.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use crate::sync::{Arc, ArrayQueue};

/// Makes a mailbox for `capacity` messages.
///
/// # Panics
/// When `capacity` is zero.
pub fn mailbox<T: Send>(capacity: usize) -> (MailSender<T>, MailReceiver<T>) {
    let shared = Arc::new(Shared {
        messages: ArrayQueue::new(capacity),
        receiver: ArrayQueue::new(1),
        senders: AtomicUsize::new(1),
        closed: AtomicBool::new(false),
    });
    (MailSender { shared: shared.clone() }, MailReceiver { shared })
}

struct Shared<T> {
    messages: ArrayQueue<T>,
    receiver: ArrayQueue<Waker>,
    senders: AtomicUsize,
    closed: AtomicBool,
}

impl<T> Shared<T> {
    fn wake_receiver(&self) {
        // Either this sees the waker, or the receiver's second look sees what was just done.
        fence(Ordering::SeqCst);
        if let Some(waker) = self.receiver.pop() {
            waker.wake();
        }
    }
}

/// The sending end of a [`mailbox`].
pub struct MailSender<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> MailSender<T> {
    /// Puts a message in.
    ///
    /// # Errors
    /// When the mailbox is full or its receiver is gone; the message comes back.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(TrySendError::Closed(message));
        }
        self.shared.messages.push(message).map_err(TrySendError::Full)?;
        self.shared.wake_receiver();
        Ok(())
    }
}

impl<T> Clone for MailSender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        MailSender { shared: self.shared.clone() }
    }
}

impl<T> Drop for MailSender<T> {
    fn drop(&mut self) {
        if self.shared.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.wake_receiver();
        }
    }
}

impl<T> fmt::Debug for MailSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailSender").field("waiting", &self.shared.messages.len()).finish()
    }
}

/// The receiving end of a [`mailbox`].
pub struct MailReceiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> MailReceiver<T> {
    /// A message that is there already.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.messages.pop()
    }

    /// The next message; `None` when none is left and no sender either.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Ready with what [`recv`](MailReceiver::recv) gives.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let Some(message) = self.try_recv() {
            return Poll::Ready(Some(message));
        }
        let _former = self.shared.receiver.force_push(cx.waker().clone());
        fence(Ordering::SeqCst);
        let abandoned = self.shared.senders.load(Ordering::Acquire) == 0;
        match self.try_recv() {
            Some(message) => Poll::Ready(Some(message)),
            None if abandoned => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T> Drop for MailReceiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.receiver.pop();
        while self.shared.messages.pop().is_some() {}
    }
}

impl<T> fmt::Debug for MailReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailReceiver").field("waiting", &self.shared.messages.len()).finish()
    }
}

/// Why a message was not taken; it is inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrySendError<T> {
    /// The mailbox is full.
    Full(T),
    /// Nobody will ever receive it.
    Closed(T),
}

impl<T> TrySendError<T> {
    /// The message that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(message) | TrySendError::Closed(message) => message,
        }
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "the mailbox is full",
            TrySendError::Closed(_) => "the mailbox has no receiver any more",
        })
    }
}

impl<T: fmt::Debug> std::error::Error for TrySendError<T> {}
