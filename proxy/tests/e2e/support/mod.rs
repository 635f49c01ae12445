//! What the end-to-end tests are written with.

mod application;
mod mesh;
mod names;
mod plane;
mod spiffe;
pub(crate) mod waypoint;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub(crate) use ringway_bench::http::get_from as http_get;
use ringway_bench::lab::Namespace;
pub(crate) use ringway_bench::observe::{Metrics, Record};

pub(crate) use self::application::Application;
pub(crate) use self::mesh::{Mesh, MeshBuilder, Proxy, SERVICE, notify_socket};
pub(crate) use self::names::{Answered, NameServer, Question};
pub(crate) use self::plane::{CONTROL_PLANE, CONTROL_PLANE_ON_EPOLL, TestPlane};
pub(crate) use self::spiffe::SpiffeAgents;

/// No wait for anything that must happen is longer than this; it is long because the machine that
/// runs the tests may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who the test mesh's `client` is.
pub(crate) const CLIENT: &str = "spiffe://cluster.local/ns/default/sa/client";

/// Who its `server` is.
pub(crate) const SERVER: &str = "spiffe://cluster.local/ns/default/sa/server";

/// Makes every test twice: with the ring reactor and with the epoll reactor.
#[macro_export]
macro_rules! on_both_reactors {
    ($($name:ident),* $(,)?) => {
        mod ring {
            $(#[test] fn $name() { super::$name("ring") })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name("epoll") })*
        }
    };
}

/// Makes tests under a control plane of stories that others run from files.
#[macro_export]
macro_rules! under_a_control_plane {
    ($($name:ident),* $(,)?) => {
        mod plane {
            $(#[test] fn $name() { super::$name($crate::support::CONTROL_PLANE) })*
        }
    };
}

/// The same with the epoll reactor: what depends on the reactor most, because all of it twice takes long.
#[macro_export]
macro_rules! under_a_control_plane_on_epoll {
    ($($name:ident),* $(,)?) => {
        mod plane_on_epoll {
            $(#[test] fn $name() { super::$name($crate::support::CONTROL_PLANE_ON_EPOLL) })*
        }
    };
}

/// Fails unless the connection was aborted: what is cut must not look as if it had ended.
pub(crate) fn assert_cut(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = stream.read(&mut [0; 1]).expect_err("a cut is no clean end");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
}

/// Connects from inside `from`, with deadlines on reads and writes.
pub(crate) fn connect(from: &Namespace, to: SocketAddr) -> TcpStream {
    try_connect(from, to).unwrap_or_else(|error| panic!("cannot connect to {to}: {error}"))
}

/// Connects from inside `from`; refusal is an answer.
pub(crate) fn try_connect(from: &Namespace, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = from.connect_timeout(to, PATIENCE)?;
    prepare(&stream);
    Ok(stream)
}

/// Puts deadlines on a stream, so that a bug fails a test instead of hanging it.
pub(crate) fn prepare(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
}

/// Sends `text` and reads as many bytes back.
pub(crate) fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    stream.write_all(text)?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    assert_eq!(answer, text, "an echo came back changed");
    Ok(())
}

/// Connects, echoes one message, ends cleanly.
pub(crate) fn echo_once(from: &Namespace, to: SocketAddr) -> io::Result<()> {
    let mut stream = try_connect(from, to)?;
    exchange(&mut stream, b"are you there?")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    assert_eq!(stream.read(&mut [0; 1])?, 0, "the echo ends after its client");
    Ok(())
}

/// Whether the connection ends without an answer: refused, reset, or closed before the first byte.
/// A TLS alert is a way of closing.
pub(crate) fn dies_without_data(stream: io::Result<TcpStream>) -> bool {
    let Ok(mut stream) = stream else { return true };
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    let is_alert = answer.starts_with(&[21, 3]) && answer.len() == 7;
    (answer.is_empty() || is_alert) && !end.is_err_and(|error| is_timeout(&error))
}

/// Whether a read ran into its deadline.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Closes with a reset instead of an end.
pub(crate) fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}
