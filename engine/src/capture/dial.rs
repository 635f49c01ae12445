//! What a workload dials: from inside its namespace, or its own application.

use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;

use super::Pod;
use crate::{
    accounts::Limit,
    close::CloseReason,
    config::OriginalSource,
    limits::DIAL_TIMEOUT,
    role::Role,
    runtime::{ConnectOptions, TcpStream},
    shard::Shard,
};

impl Pod {
    /// Dials from inside the workload's namespace, as the workload.
    pub(crate) async fn dial(
        &self,
        shard: &Shard,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        self.dial_from(shard, shard.config.packet_mark, None, to).await
    }

    /// Dials the workload's application, from the client's own address where that is possible.
    pub(crate) async fn dial_application(
        &self,
        shard: &Shard,
        client: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        let source = client.filter(|client| {
            self.transparent && *client != to.ip() && client.is_ipv4() == to.is_ipv4()
        });
        let mark = match self.role {
            Role::OwnPod => None,
            _ => shard.config.application_mark.or(shard.config.packet_mark),
        };
        self.dial_from(shard, mark, source, to).await
    }

    async fn dial_from(
        &self,
        shard: &Shard,
        mark: Option<u32>,
        source: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<TcpStream, CloseReason> {
        let options = ConnectOptions {
            mark,
            source,
            source_required: shard.config.original_source == OriginalSource::Always,
            timeout: Some(DIAL_TIMEOUT),
            patience: shard.config.patience,
        };
        TcpStream::connect(&self.namespace, &options, to).await.map_err(|error| {
            let no_descriptors =
                [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
            match error.kind() {
                _ if no_descriptors.contains(&error.raw_os_error()) => {
                    CloseReason::LimitReached(self.account.refused(Limit::Descriptors))
                }
                std::io::ErrorKind::TimedOut => CloseReason::DialTimedOut,
                kind => CloseReason::DialFailed(kind),
            }
        })
    }
}
