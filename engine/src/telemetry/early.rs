//! What is told of connections before they end, as long as somebody listens: that one has opened, and what policies say of
//! it. Nobody does, mostly; then it costs a look at a flag.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use ringway_protocols::hbone::Authority;

use super::{Direction, RecordParty, Telemetry, records::Records};
use crate::{
    decide::{Matched, Refusal},
    limits::EARLY_RECORDS_MAX,
    snapshot::Service,
};

/// A connection of which it is known who talks to whom.
#[derive(Debug)]
pub struct OpenedRecord {
    /// When that was.
    pub time: SystemTime,
    /// Which way it goes.
    pub direction: Direction,
    /// Who dialled.
    pub source: RecordParty,
    /// Who was dialled.
    pub destination: RecordParty,
    /// The service the client meant.
    pub service: Option<Arc<Service>>,
    /// The CONNECT authority; only for HBONE.
    pub hbone_authority: Option<Authority>,
    /// Whether it is carried over mutual TLS.
    pub mutual_tls: bool,
}

/// What policies say of a connection.
#[derive(Debug)]
pub struct JudgedRecord {
    /// When they said so.
    pub time: SystemTime,
    /// The workload that is connected to.
    pub workload: Arc<str>,
    /// Who dials.
    pub source: SocketAddr,
    /// The ALLOW policy that lets it in, as `namespace/name`, and by which of its rules, counted from 0; nothing when
    /// there are none. Or why it is refused.
    pub verdict: Result<Option<(Box<str>, usize)>, Refusal>,
}

/// What somebody listens to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listening {
    /// Connections that open.
    pub opened: bool,
    /// What policies say.
    pub judged: bool,
}

/// What was told and nobody has taken yet.
pub(super) struct Early {
    wants_opened: AtomicBool,
    wants_judged: AtomicBool,
    opened: Records<OpenedRecord>,
    judged: Records<JudgedRecord>,
}

impl Early {
    pub(super) fn new() -> Self {
        Self {
            wants_opened: AtomicBool::new(false),
            wants_judged: AtomicBool::new(false),
            opened: Records::new(EARLY_RECORDS_MAX),
            judged: Records::new(EARLY_RECORDS_MAX),
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.opened.lost() + self.judged.lost()
    }
}

impl Telemetry {
    /// Says what is told from now on.
    pub fn listen(&self, to: Listening) {
        self.early.wants_opened.store(to.opened, Relaxed);
        self.early.wants_judged.store(to.judged, Relaxed);
    }

    /// The oldest connection that has opened and that nobody has taken yet.
    pub fn next_opened(&self) -> Option<OpenedRecord> {
        self.early.opened.take()
    }

    /// The oldest word of policies that nobody has taken yet.
    pub fn next_judged(&self) -> Option<JudgedRecord> {
        self.early.judged.take()
    }

    pub(crate) fn opened(&self, record: impl FnOnce() -> OpenedRecord) {
        if self.early.wants_opened.load(Relaxed) {
            self.early.opened.leave(record());
        }
    }

    pub(crate) fn judged(
        &self,
        outcome: &Result<Option<Matched<'_>>, Refusal>,
        workload: &Arc<str>,
        source: SocketAddr,
    ) {
        if !self.early.wants_judged.load(Relaxed) {
            return;
        }
        let named = |matched: Matched<'_>| {
            let policy = matched.policy;
            (format!("{}/{}", policy.namespace, policy.name).into(), matched.rule)
        };
        let verdict = outcome.clone().map(|allowed| allowed.map(named));
        let (time, workload) = (SystemTime::now(), workload.clone());
        self.early.judged.leave(JudgedRecord { time, workload, source, verdict });
    }
}
