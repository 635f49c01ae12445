//! On glommio: an executor for each core, its sockets, and one buffer for each direction.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, IntoRawFd};

use anyhow::{Result, anyhow};
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::TcpStream;
use glommio::{LocalExecutorBuilder, Placement};

const BUFFER_BYTES: usize = 64 * 1024;

pub(crate) fn relay(listener: TcpListener, upstream: SocketAddr, core: usize) -> Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .make()
        .map_err(|error| anyhow!("no executor: {error}"))?;
    executor.run(async move {
        // SAFETY: the descriptor is a listener's, and nobody else's any more.
        let listener = unsafe { glommio::net::TcpListener::from_raw_fd(listener.into_raw_fd()) };
        loop {
            let client = listener.accept().await.map_err(|error| anyhow!("accept: {error}"))?;
            glommio::spawn_local(async move {
                let Ok(server) = TcpStream::connect(upstream).await else { return };
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let (client_in, client_out) = futures_lite::io::split(client);
                let (server_in, server_out) = futures_lite::io::split(server);
                futures_lite::future::zip(copy(client_in, server_out), copy(server_in, client_out))
                    .await;
            })
            .detach();
        }
    })
}

async fn copy(
    mut from: futures_lite::io::ReadHalf<TcpStream>,
    mut to: futures_lite::io::WriteHalf<TcpStream>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(got) => {
                if to.write_all(&buffer[..got]).await.is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.close().await;
}
