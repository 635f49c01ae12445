//! The reference relay: what a careful author would build today from tokio, tokio-rustls and `h2`.
//!
//! Two programs make a pair. The outbound one takes plain connections and carries each in a CONNECT
//! stream over mutual TLS; the inbound one ends the tunnels and dials the applications. The
//! settings that matter are ztunnel's: windows of 4 and 16 MiB, frames of 1 MiB, 100 streams per
//! tunnel, buffers that grow from 1 KiB over 16 KiB to 256 KiB, and, in `ringway-bench-reference`,
//! jemalloc. It has no policy, no telemetry and no logging, which is in its favour.

mod copy;
mod inbound;
mod outbound;
mod tls;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Args, Subcommand};

pub use self::inbound::Inbound;
pub use self::outbound::Outbound;
pub use self::tls::Files;

/// Bytes a stream may have under way (ztunnel's default).
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// Bytes a tunnel may have under way: four times a stream's, so that one that is not read does not
/// stop the others.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// The largest frame to accept.
const FRAME_BYTES_MAX: u32 = 1 << 20;
/// Streams of one tunnel.
const STREAMS_MAX: usize = 100;

/// One end of the pair.
#[derive(Clone, Debug, Subcommand)]
pub enum Relay {
    /// Take plain connections, open tunnels.
    Outbound(Outbound),
    /// End tunnels, dial applications.
    Inbound(Inbound),
}

/// What both ends have in common.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Where to listen.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Threads; one means tokio's single-threaded runtime.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// The mark on every packet, so that redirect rules leave it alone.
    #[arg(long)]
    pub mark: Option<u32>,
    /// Certificates.
    #[command(flatten)]
    pub files: Files,
}

impl Relay {
    /// Relays for ever.
    pub fn run(self) -> Result<()> {
        let workers = match &self {
            Relay::Outbound(outbound) => outbound.common.workers,
            Relay::Inbound(inbound) => inbound.common.workers,
        };
        let mut builder = match workers {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.worker_threads(workers).enable_all().build()?;
        runtime.block_on(async move {
            match self {
                Relay::Outbound(outbound) => outbound.run().await,
                Relay::Inbound(inbound) => inbound.run().await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;
    use crate::pattern::Digest;
    use crate::pki;
    use crate::tcp::{Behaviour, Server, Tcp};

    fn files(directory: &std::path::Path, name: &str) -> Files {
        let root = directory.join("root");
        if !directory.join("root.pem").exists() {
            pki::Root { name: root.clone() }.write().unwrap();
        }
        let leaf = pki::Leaf {
            name: directory.join(name),
            root: directory.join("root.pem"),
            root_key: directory.join("root.key"),
            identity: format!("spiffe://test/ns/default/sa/{name}"),
        };
        leaf.write().unwrap();
        Files {
            certificate: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
            roots: directory.join("root.pem"),
        }
    }

    async fn free_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_pair_carries_bytes_and_half_closes() {
        let directory = std::env::temp_dir().join(format!("relay-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let sink = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let application = sink.local_addr().unwrap();
        let server = Server { listen: application, bytes: 0, seed: 0 };
        tokio::spawn(server.serve(sink, Behaviour::Sink));

        let common = |listen, name| Common {
            listen,
            workers: 1,
            mark: None,
            files: files(&directory, name),
        };
        let (near, far) = (free_address().await, free_address().await);
        let inbound = Inbound { common: common(far, "far"), to: None, original_source: false };
        let outbound = Outbound {
            common: common(near, "near"),
            peer: Some(far),
            peer_port: 15008,
            to: Some(application),
            expect: vec!["spiffe://test/ns/default/sa/far".into()],
        };
        let stranger =
            Outbound { expect: vec!["spiffe://test/ns/x/sa/y".into()], ..outbound.clone() };
        let wrong = free_address().await;
        let stranger = Outbound { common: Common { listen: wrong, ..stranger.common }, ..stranger };
        tokio::spawn(inbound.run());
        tokio::spawn(outbound.run());
        tokio::spawn(stranger.run());
        while tokio::net::TcpStream::connect(wrong).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }

        let bytes = 3_000_000;
        let outcome = Tcp::new(near).send(bytes, 9).exchange().await.unwrap();
        let digest = Digest::of_stream(9, bytes).value();
        assert_eq!(outcome.text, format!("{bytes} {digest:016x}\n"));

        let refused = Tcp::new(wrong).exchange().await;
        assert!(refused.map_or(true, |outcome| outcome.received_bytes == 0));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
