//! On monoio: its ring as the wait point, and plain calls on ready sockets with one buffer for the
//! whole thread. Of all ways to use it this costs least per message: its own
//! copy holds a buffer for every direction, and its splice runs on worker threads.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;

use anyhow::Result;
use monoio::net::TcpStream;
use monoio::{IoUringDriver, RuntimeBuilder};

const SCRATCH_BYTES: usize = 256 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

pub(crate) fn relay(listener: TcpListener, upstream: SocketAddr) -> Result<()> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime =
        RuntimeBuilder::<IoUringDriver>::new().with_entries(1024).uring_builder(ring).build()?;
    runtime.block_on(async move {
        let listener = monoio::net::TcpListener::from_std(listener)?;
        loop {
            let (client, _) = listener.accept().await?;
            monoio::spawn(async move {
                let Ok(server) = TcpStream::connect_addr(upstream).await else { return };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (client, server) = (Rc::new(client), Rc::new(server));
                let up = monoio::spawn(copy(client.clone(), server.clone()));
                let _ = copy(server, client).await;
                let _ = up.await;
            });
        }
    })
}

/// Copies until the end, and passes the end on.
async fn copy(from: Rc<TcpStream>, to: Rc<TcpStream>) -> io::Result<()> {
    let mut held = Vec::new();
    loop {
        match once(from.as_raw_fd(), to.as_raw_fd(), &mut held) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                from.readable(false).await?;
                continue;
            }
            Err(error) => return Err(error),
        }
        while !held.is_empty() {
            match send(to.as_raw_fd(), &held) {
                Ok(sent) => drop(held.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.writable(false).await?;
                }
                Err(error) => return Err(error),
            }
        }
        // A short read means that there is nothing more: wait at once.
        from.readable(false).await?;
    }
    // SAFETY: the descriptor is open as long as `to` lives.
    unsafe { libc::shutdown(to.as_raw_fd(), Shutdown::Write as i32) };
    Ok(())
}

/// Reads once and writes once; what is not taken is held.
fn once(from: RawFd, to: RawFd, held: &mut Vec<u8>) -> io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        // SAFETY: the buffer is ours through the call and its length is passed.
        let got = unsafe { libc::recv(from, scratch.as_mut_ptr().cast(), scratch.len(), FLAGS) };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        let sent = match send(to, &scratch[..got]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            other => other?,
        };
        held.extend_from_slice(&scratch[sent..got]);
        Ok(got)
    })
}

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

fn send(to: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the bytes live through the call and their length is passed.
    let sent = unsafe { libc::send(to, bytes.as_ptr().cast(), bytes.len(), FLAGS) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
