//! TCP servers, each with one way of behaving.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::null_server::NullServer;
use crate::pattern::{self, Digest};

/// What a server does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Behaviour {
    /// Sends back what it gets; at the client's end, ends too.
    Echo,
    /// Takes everything; at the client's end, answers `<bytes> <digest>` and ends.
    Sink,
    /// Sends `--bytes` bytes of the pattern, ends, and waits for the client's end.
    Source,
    /// Takes `--bytes` bytes and resets the connection.
    Rst,
    /// Refuses connections: the port is taken, but nobody listens.
    Refuse,
    /// Accepts and never reads.
    Stall,
    /// Answers what it is asked as fast as it can, for load: see the null server.
    Null,
}

/// One server.
#[derive(Clone, Debug, Args)]
pub struct Server {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// How many bytes, for `source` and `rst`.
    #[arg(long, default_value_t = 0)]
    pub bytes: u64,
    /// The seed of the pattern that `source` sends.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

impl Server {
    /// Serves for ever.
    pub async fn run(self, behaviour: Behaviour) -> Result<()> {
        if behaviour == Behaviour::Null {
            return NullServer { listen: self.listen, threads: None, cores: None }.run();
        }
        if behaviour == Behaviour::Refuse {
            let socket = Socket::new(Domain::for_address(self.listen), Type::STREAM, None)?;
            socket.bind(&self.listen.into()).context("cannot take the port")?;
            return std::future::pending().await;
        }
        let listener = TcpListener::bind(self.listen)
            .await
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        self.serve(listener, behaviour).await
    }

    /// Serves connections of `listener` for ever.
    pub async fn serve(self, listener: TcpListener, behaviour: Behaviour) -> Result<()> {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let server = self.clone();
            tokio::spawn(async move {
                // What goes wrong here is what the client is there to notice.
                let _ = server.serve_one(stream, behaviour).await;
            });
        }
    }

    async fn serve_one(&self, mut stream: TcpStream, behaviour: Behaviour) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match behaviour {
            Behaviour::Echo => echo(&mut stream).await,
            Behaviour::Sink => sink(&mut stream).await,
            Behaviour::Source => self.send_pattern(&mut stream).await,
            Behaviour::Rst => self.reset(stream).await,
            Behaviour::Stall | Behaviour::Refuse | Behaviour::Null => std::future::pending().await,
        }
    }

    async fn send_pattern(&self, stream: &mut TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        let mut offset = 0;
        while offset < self.bytes {
            let count = (self.bytes - offset).min(piece.len() as u64) as usize;
            pattern::fill(self.seed, offset, &mut piece[..count]);
            stream.write_all(&piece[..count]).await?;
            offset += count as u64;
        }
        stream.shutdown().await?;
        while stream.read(&mut piece).await? > 0 {}
        Ok(())
    }

    async fn reset(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut piece = vec![0; 64 * 1024];
        let mut left = self.bytes;
        while left > 0 {
            let count = stream.read(&mut piece).await?;
            left = if count == 0 { 0 } else { left.saturating_sub(count as u64) };
        }
        // Closing with a linger of zero sends a reset instead of an end.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    }
}

async fn echo(stream: &mut TcpStream) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return stream.shutdown().await;
        }
        stream.write_all(&piece[..count]).await?;
    }
}

async fn sink(stream: &mut TcpStream) -> io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    let (mut bytes, mut digest) = (0, Digest::new());
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        digest.update(&piece[..count]);
    }
    stream.write_all(format!("{bytes} {:016x}\n", digest.value()).as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::Tcp;

    async fn start(behaviour: Behaviour, bytes: u64) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        tokio::spawn(Server { listen, bytes, seed: 3 }.serve(listener, behaviour));
        listen
    }

    #[tokio::test(flavor = "current_thread")]
    async fn each_server_behaves_as_its_name_says() {
        let sent = Digest::of_stream(1, 300_000);
        let echo = Tcp::new(start(Behaviour::Echo, 0).await).send(300_000, 1).exchange().await;
        let echo = echo.unwrap();
        assert_eq!((echo.received_bytes, echo.received_digest), (300_000, sent.value()));

        let sink = Tcp::new(start(Behaviour::Sink, 0).await).send(300_000, 1).exchange().await;
        assert_eq!(sink.unwrap().text, format!("300000 {:016x}\n", sent.value()));

        let source = Tcp::new(start(Behaviour::Source, 70_000).await).exchange().await.unwrap();
        assert_eq!(source.received_digest, Digest::of_stream(3, 70_000).value());

        let reset = Tcp::new(start(Behaviour::Rst, 10).await).send(10, 1).exchange().await;
        let error = reset.unwrap_err();
        assert!(error.to_string().contains("reset"), "{error:#}");
    }
}
