//! How many sockets are open.

use std::sync::Arc;

use crate::{
    shard::Shard,
    telemetry::{Reporter, Telemetry},
};

/// Counts an accepted socket as open for as long as it lives.
pub(crate) struct OpenSocket {
    telemetry: Arc<Telemetry>,
    reporter: Reporter,
}

impl OpenSocket {
    /// Counts one more.
    pub(crate) fn new(shard: &Shard, reporter: Reporter) -> Self {
        shard.telemetry.socket_opened(reporter);
        Self { telemetry: shard.telemetry.clone(), reporter }
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.telemetry.socket_closed(self.reporter);
    }
}
