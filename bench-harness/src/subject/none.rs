//! No proxy: client and server speak directly, and no rule looks at their packets.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::{Bench, Group, Handshakes, Options, Pair, Rules, Subject};

/// The baseline.
pub(super) struct NoProxy;

impl Subject for NoProxy {
    fn name(&self) -> &str {
        "none"
    }

    fn group(&self) -> Group {
        Group::Baseline
    }

    fn programs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    fn rules(&self) -> Rules {
        Rules::None
    }

    fn serves_neighbours(&self) -> bool {
        true
    }

    fn start(&self, _bench: &Bench, options: &Options) -> Result<Pair> {
        ensure!(options.handshakes == Handshakes::Usual, "without a proxy there are no handshakes");
        Ok(Pair::default())
    }
}
