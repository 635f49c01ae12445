//! On tokio: a current-thread runtime for each core, and its own bidirectional copy.

use std::net::{SocketAddr, TcpListener};

use anyhow::Result;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::task::LocalSet;

pub(crate) fn relay(listener: TcpListener, upstream: SocketAddr, buffer: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (mut client, _) = listener.accept().await?;
            tokio::task::spawn_local(async move {
                let mut server = TcpStream::connect(upstream).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                copy_bidirectional_with_sizes(&mut client, &mut server, buffer, buffer).await
            });
        }
    })
}
