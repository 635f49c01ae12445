//! Applications: a listening socket in a pod, and a thread for each connection it gets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ringway_bench::lab::Namespace;
use ringway_bench::pattern::Digest;

use super::prepare;

/// A server. Dropping it stops listening.
pub(crate) struct Application {
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
}

impl Application {
    /// Listens on `port` in the pod and does `behave` with every connection.
    pub(crate) fn start(
        pod: &Namespace,
        port: u16,
        behave: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Application {
        let listener = pod.listen(port).unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let (own, count) = (listener.try_clone().unwrap(), accepted.clone());
        let behave = Arc::new(behave);
        thread::spawn(move || {
            while let Ok((stream, from)) = own.accept() {
                count.fetch_add(1, Ordering::Relaxed);
                prepare(&stream);
                let behave = behave.clone();
                thread::spawn(move || behave(stream, from));
            }
        });
        Application { listener, accepted }
    }

    /// Sends back what it gets; ends after its client.
    pub(crate) fn echo(pod: &Namespace, port: u16) -> Application {
        Application::start(pod, port, |mut stream, _| {
            let mut piece = vec![0; 64 * 1024];
            while let Ok(count) = stream.read(&mut piece) {
                if count == 0 || stream.write_all(&piece[..count]).is_err() {
                    break;
                }
            }
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Takes everything; after the client's end, answers `<bytes> <digest>`.
    pub(crate) fn sink(pod: &Namespace, port: u16) -> Application {
        Application::start(pod, port, |mut stream, _| {
            let (mut bytes, mut digest) = (0, Digest::new());
            let mut piece = vec![0; 64 * 1024];
            while let Ok(count) = stream.read(&mut piece) {
                if count == 0 {
                    let _ = write!(stream, "{bytes} {:016x}", digest.value());
                    break;
                }
                bytes += count;
                digest.update(&piece[..count]);
            }
        })
    }

    /// An HTTP server that answers with its name and the address it was asked from.
    pub(crate) fn http(pod: &Namespace, port: u16, name: &str) -> Application {
        let name = name.to_owned();
        Application::start(pod, port, move |mut stream, from| {
            let mut head = Vec::new();
            let mut byte = [0; 1];
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let body = format!("{name} was asked from {}", from.ip());
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
        })
    }

    /// Connections it got so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Wakes the thread that waits in accept.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}
