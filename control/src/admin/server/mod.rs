//! The small HTTP server behind the admin, metrics and readiness ports.
//!
//! HTTP/1.1 only. Everything is bounded: the head of a request in size and time, the connections, and the life of a
//! connection. What is asked is answered by one function; request bodies are not read.

mod encoding;
mod message;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

pub use self::message::{Request, Response};

/// A request's head must arrive within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(2);

/// A request's head is not larger. The smallest bound hyper allows.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Connections of one server; scrapers and probes need a handful.
const CONNECTIONS_MAX: usize = 64;

/// A connection lives no longer, whatever its client does. The longest profile takes 300 s.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(360);

/// After an accept that failed, the server pauses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// At the end, a connection that was accepted and has not asked anything may still do so for this long.
const LAST_QUESTION_TIMEOUT: Duration = Duration::from_millis(300);

/// At the end, how often is looked whether every connection has ended.
const END_LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// The function that answers.
pub type Handler = Rc<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

/// Binds `address`. A wildcard falls back to IPv4 where there is no IPv6.
///
/// # Errors
/// The system's, when the port is taken or the address is not ours.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    let no_ipv6 = |error: &io::Error| {
        error.kind() == io::ErrorKind::AddrNotAvailable
            || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
    };
    match bound {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && no_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

/// Takes over the listening socket of a predecessor, if it is the one for `address`.
///
/// # Errors
/// When it is another, or none.
pub fn inherit(descriptor: OwnedFd, address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(descriptor);
    listener.set_nonblocking(true)?;
    let found = listener.local_addr()?;
    let fell_back = address.ip().is_unspecified() && found.ip().is_unspecified();
    if found.port() != address.port() || !(fell_back || found.ip() == address.ip()) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {found}")));
    }
    TcpListener::from_std(listener)
}

/// Serves until `shutdown` becomes true, then finishes the answers under way. Must run in a `LocalSet`.
pub async fn serve(listener: TcpListener, handler: Handler, mut shutdown: watch::Receiver<bool>) {
    let open = Rc::new(Cell::new(0usize));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
        };
        match accepted {
            // Too many: whoever it is hears so at once, by a closed connection.
            Ok(_) if open.get() >= CONNECTIONS_MAX => {}
            Ok((stream, _)) => {
                let slot = Slot::take(&open);
                let (handler, shutdown) = (Rc::clone(&handler), shutdown.clone());
                tokio::task::spawn_local(async move {
                    let served = serve_connection(stream, handler, shutdown);
                    let _ = tokio::time::timeout(CONNECTION_LIFETIME, served).await;
                    drop(slot);
                });
            }
            // Out of descriptors or memory: the next attempt would fail the same way at once.
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    // Nobody else will answer those that were accepted.
    while open.get() > 0 {
        tokio::time::sleep(END_LOOK_INTERVAL).await;
    }
}

async fn serve_connection(
    stream: TcpStream,
    handler: Handler,
    mut shutdown: watch::Receiver<bool>,
) {
    let asked = Notify::new();
    let service = service_fn(|request: hyper::Request<Incoming>| {
        asked.notify_one();
        let answer = handler(message::read(&request));
        async move { Ok::<_, Infallible>(message::write(answer.await)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
    // A client whose question is on its way gets its answer.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = asked.notified() => {}
        () = tokio::time::sleep(LAST_QUESTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// One of the connections a server may have.
struct Slot(Rc<Cell<usize>>);

impl Slot {
    fn take(open: &Rc<Cell<usize>>) -> Self {
        open.set(open.get() + 1);
        Self(Rc::clone(open))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
