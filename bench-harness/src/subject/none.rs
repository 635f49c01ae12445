//! No proxy: client and server speak directly, and no rule looks at their packets.

use std::path::PathBuf;

use anyhow::Result;

use super::{Bench, Group, Options, Pair, Resumption, Rules, Subject};

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

    fn resumption(&self) -> Resumption {
        Resumption::Never
    }

    fn start(&self, _bench: &Bench, _options: &Options) -> Result<Pair> {
        Ok(Pair::default())
    }

    fn start_before_service(&self, _bench: &Bench, _rules: u32) -> Result<Pair> {
        Ok(Pair::default())
    }
}
