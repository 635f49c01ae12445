//! HTTP towards a client, on the client's connection, until it ends, or is to end.

mod date;
mod http1;
mod http2;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

pub(crate) use self::{http1::serve_http1, http2::serve_http2};
use super::{draining::Awaited, serve::Downstream};
use crate::{connection::Connection, limits::HTTP_HEAD_TIMEOUT, runtime};

/// How a connection came to its end.
enum Ended<E> {
    /// By itself.
    Served(Result<(), E>),
    /// It was to be cut.
    Cut,
    /// A head took too long.
    TooSlow,
}

/// A connection of either version.
trait Served {
    type Error;

    /// Serves until it has ended.
    fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>>;

    /// Lets it end once what has begun is done.
    fn end_in_order(&mut self);
}

/// Drives a connection to its end: its own, or the one that drain, idleness or a cut bring.
async fn drive<S: Served>(
    http: &mut S,
    downstream: &Downstream,
    connection: &Connection,
) -> Ended<S::Error> {
    let activity = &downstream.activity;
    let mut draining = Awaited::new(&downstream.pod.l7.kept().draining);
    let mut ending = false;
    let mut timer = runtime::sleep(HTTP_HEAD_TIMEOUT);
    poll_fn(|cx| {
        if let Poll::Ready(_reason) = connection.poll_cut(cx) {
            return Poll::Ready(Ended::Cut);
        }
        if !ending && draining.poll(cx).is_ready() {
            ending = true;
            http.end_in_order();
        }
        if let Poll::Ready(outcome) = http.poll_served(cx) {
            return Poll::Ready(Ended::Served(outcome));
        }
        let Some(deadline) = activity.deadline() else { return Poll::Pending };
        if timer.deadline() != deadline {
            timer.reset(deadline);
        }
        if Pin::new(&mut timer).poll(cx).is_ready() {
            if ending || activity.awaits_head() {
                return Poll::Ready(Ended::TooSlow);
            }
            ending = true;
            http.end_in_order();
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await
}
