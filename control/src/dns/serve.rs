//! Where queries arrive: datagrams, and connections that carry many of them.
//!
//! A workload that is withdrawn is asked for nothing new, and what has arrived is answered: a datagram socket is first
//! connected to nobody, so that the kernel gives what comes from now on to a successor's socket of the same address, and
//! then read until it is empty; a listener is accepted from until nobody waits. Who connects between that and its end is
//! reset, and asks again.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use ringway_protocols::dns::bounds::QUERY_BYTES_MAX;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recvfrom, sendto};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::bounds::{IDLE_TIMEOUT, PIPELINED_MAX};
use super::forward::framed;
use super::metrics::Transport;
use super::pod::{Handled, Pod};

/// How long accepting rests when descriptors are short.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

thread_local! {
    /// What datagrams are read into; one byte more than a query may have, to tell those that have more.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; QUERY_BYTES_MAX + 1].into_boxed_slice());
}

/// Answers datagrams until `stop`.
pub(super) async fn serve_udp(pod: Rc<Pod>, socket: UdpSocket, mut stop: watch::Receiver<bool>) {
    let socket = Rc::new(socket);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            ready = socket.readable() => {
                if let Err(error) = ready {
                    tracing::error!(target: "dns", workload = &*pod.key, %error, "no more queries are read");
                    return;
                }
                // An error is one datagram's: an answer could not be delivered. The socket goes on.
                let _ = socket.try_io(Interest::READABLE, || receive(&pod, &socket));
            }
        }
        // One datagram a turn: the next workload's may be waiting.
        tokio::task::consume_budget().await;
    }
    if let Err(error) = turn_away(&socket) {
        tracing::debug!(target: "dns", %error, "queries may be lost");
    }
    while !matches!(receive(&pod, &socket), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    {
        tokio::task::consume_budget().await;
    }
}

/// Asks the kernel itself, not what the runtime has heard of it so far: who stops would forget what has just come.
fn receive(pod: &Rc<Pod>, socket: &Rc<UdpSocket>) -> io::Result<()> {
    let (handled, from) = SCRATCH.with_borrow_mut(|scratch| {
        let (_, length, from) = recvfrom(socket, &mut scratch[..], RecvFlags::DONTWAIT)?;
        let from = from.ok_or(io::ErrorKind::AddrNotAvailable)?.try_into()?;
        io::Result::Ok((pod.handle(&scratch[..length], Transport::Udp), from))
    })?;
    match handled {
        Handled::Nothing => {}
        Handled::Answer(answer) => send(socket, &answer, from),
        Handled::Wait(waiting) => {
            let (pod, socket) = (Rc::clone(pod), Rc::clone(socket));
            spawn_local(async move {
                let answer = pod.wait(waiting).await;
                send(&socket, &answer, from);
            });
        }
    }
    Ok(())
}

/// An answer that finds no room is lost, as datagrams are; the client asks again.
fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = sendto(socket, answer, SendFlags::empty(), &to) {
        tracing::debug!(target: "dns", %to, %error, "an answer is lost");
    }
}

/// From now on nothing arrives at this socket any more; it can still send.
fn turn_away(socket: &UdpSocket) -> io::Result<()> {
    let nobody = SocketAddr::new(socket.local_addr()?.ip(), 1);
    Ok(rustix::net::connect(socket, &nobody)?)
}

/// Accepts connections until `stop`.
pub(super) async fn serve_tcp(
    pod: Rc<Pod>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) {
    let stopped = stop.clone();
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => begin(&pod, stream, &stopped),
                Err(error) => {
                    tracing::debug!(target: "dns", workload = &*pod.key, %error, "a connection is not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // The kernel itself is asked, as `receive` does.
    while let Ok(stream) = accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        match TcpStream::from_std(stream.into()) {
            Ok(stream) => begin(&pod, stream, &stopped),
            Err(error) => {
                tracing::debug!(target: "dns", workload = &*pod.key, %error, "a connection is not served");
            }
        }
    }
}

fn begin(pod: &Rc<Pod>, stream: TcpStream, stop: &watch::Receiver<bool>) {
    let Some(slots) = pod.admit_connection() else { return };
    let (pod, stop) = (Rc::clone(pod), stop.clone());
    spawn_local(async move {
        let _slots = slots;
        if let Err(error) = serve_connection(&pod, stream, stop).await {
            tracing::debug!(target: "dns", workload = &*pod.key, %error, "a connection ends");
        }
    });
}

/// Reads queries and writes answers as they become ready, in whatever order (RFC 7766 §7).
async fn serve_connection(
    pod: &Rc<Pod>,
    mut stream: TcpStream,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    let mut waiting = JoinSet::new();
    let mut reads = true;
    let mut piece = [0; 2048];
    loop {
        while waiting.len() < PIPELINED_MAX
            && let Some(message) = take_message(&mut received)?
        {
            match pod.handle(&message, Transport::Tcp) {
                Handled::Nothing => {}
                Handled::Answer(answer) => write(&mut writer, &answer).await?,
                Handled::Wait(query) => {
                    let pod = Rc::clone(pod);
                    waiting.spawn_local(async move { pod.wait(query).await });
                }
            }
        }
        if !reads && waiting.is_empty() {
            return Ok(());
        }
        let has_room = waiting.len() < PIPELINED_MAX;
        tokio::select! {
            Some(answered) = waiting.join_next(), if !waiting.is_empty() => {
                write(&mut writer, &answered.map_err(io::Error::other)?).await?;
            }
            count = reader.read(&mut piece), if reads && has_room => match count? {
                0 => reads = false,
                count => received.extend_from_slice(&piece[..count]),
            },
            _ = stop.wait_for(|stop| *stop), if reads => reads = false,
            () = sleep(IDLE_TIMEOUT), if waiting.is_empty() => return Ok(()),
        }
    }
}

/// The first message of what was received, if it is there as a whole.
///
/// # Errors
/// When it is to be longer than a query may be. So never much more than one is held.
fn take_message(received: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let Some((length, rest)) = received.split_first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > QUERY_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "a query is longer than queries are",
        ));
    }
    let Some(message) = rest.get(..length).map(<[u8]>::to_vec) else { return Ok(None) };
    received.drain(..2 + length);
    Ok(Some(message))
}

/// A client that does not take its answers is not waited for longer than one that asks nothing.
async fn write(writer: &mut (impl AsyncWriteExt + Unpin), answer: &[u8]) -> io::Result<()> {
    let framed = framed(answer);
    match timeout(IDLE_TIMEOUT, writer.write_all(&framed)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_whole_and_in_order() {
        let mut received = vec![0];
        assert_eq!(take_message(&mut received).unwrap(), None);
        received.extend([2, b'a', b'b', 0, 0, 0, 1]);
        assert_eq!(take_message(&mut received).unwrap(), Some(b"ab".to_vec()));
        assert_eq!(take_message(&mut received).unwrap(), Some(Vec::new()));
        assert_eq!(take_message(&mut received).unwrap(), None);
        received.push(b'c');
        assert_eq!(take_message(&mut received).unwrap(), Some(b"c".to_vec()));
        assert!(received.is_empty());
        received.extend([0x10, 0x01]);
        assert!(take_message(&mut received).is_err());
    }
}
