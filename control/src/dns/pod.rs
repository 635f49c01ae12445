//! One workload's queries: what is known is answered at once, the rest is asked of others.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ringway_engine::runtime::NetNamespace;
use ringway_engine::snapshot::{Snapshot, Workload};
use ringway_protocols::dns::bounds::MESSAGE_BYTES_MAX;
use ringway_protocols::dns::{Answer, Query, ResponseCode, record_type};
use tokio::sync::watch;
use tokio::time::timeout;

use super::FindWorkload;
use super::bounds::{
    CONNECTIONS_PER_PROCESS_MAX, CONNECTIONS_PER_WORKLOAD_MAX, WAITING_PER_PROCESS_MAX,
    WAITING_PER_WORKLOAD_MAX, WORKLOAD_TIMEOUT,
};
use super::forward::Forwarder;
use super::lookup::{LookupSettings, Meaning, Search, look_up};
use super::metrics::{DnsLabels, DnsMetrics, Transport};
use super::random::Random;

/// What all workloads share.
pub(super) struct World {
    pub(super) snapshot: watch::Receiver<Snapshot>,
    pub(super) settings: LookupSettings,
    pub(super) forwarder: Forwarder,
    pub(super) metrics: Arc<DnsMetrics>,
    pub(super) waiting: Rc<Cell<usize>>,
    pub(super) connections: Rc<Cell<usize>>,
    pub(super) random: Cell<u64>,
}

/// A workload whose queries come here.
pub(super) struct Pod {
    pub(super) world: Rc<World>,
    pub(super) key: Arc<str>,
    pub(super) find: FindWorkload,
    pub(super) namespace: NetNamespace,
    pub(super) waiting: Rc<Cell<usize>>,
    pub(super) connections: Rc<Cell<usize>>,
}

/// What is done about a message.
pub(super) enum Handled {
    /// This is the answer.
    Answer(Vec<u8>),
    /// Somebody else has to be asked, or waited for.
    Wait(Waiting),
    /// Nothing is answered.
    Nothing,
}

/// A query that waits, with room for it.
pub(super) struct Waiting {
    query: Query,
    /// Who asks, when that is known.
    client: Option<Arc<Workload>>,
    transport: Transport,
    _slots: [Slot; 2],
}

/// One of a bounded number of things, until it is dropped.
pub(super) struct Slot(Rc<Cell<usize>>);

impl Slot {
    fn take(count: &Rc<Cell<usize>>, most: usize) -> Option<Slot> {
        let slot = (count.get() < most).then(|| Slot(Rc::clone(count)))?;
        count.set(count.get() + 1);
        Some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Pod {
    /// Room for one more connection.
    pub(super) fn admit_connection(&self) -> Option<[Slot; 2]> {
        let own = Slot::take(&self.connections, CONNECTIONS_PER_WORKLOAD_MAX);
        let all = Slot::take(&self.world.connections, CONNECTIONS_PER_PROCESS_MAX);
        self.counted(own.zip(all))
    }

    fn admit_waiting(&self) -> Option<[Slot; 2]> {
        let own = Slot::take(&self.waiting, WAITING_PER_WORKLOAD_MAX);
        let all = Slot::take(&self.world.waiting, WAITING_PER_PROCESS_MAX);
        self.counted(own.zip(all))
    }

    fn counted(&self, slots: Option<(Slot, Slot)>) -> Option<[Slot; 2]> {
        if slots.is_none() {
            self.world.metrics.refused();
        }
        slots.map(|(own, all)| [own, all])
    }

    /// Answers what can be answered now.
    pub(super) fn handle(&self, message: &[u8], transport: Transport) -> Handled {
        let query = match Query::parse(message) {
            Ok(query) => query,
            Err(malformed) => {
                self.world.metrics.malformed();
                tracing::debug!(target: "dns", workload = &*self.key, error = %malformed, "no query");
                return malformed.reply.map_or(Handled::Nothing, Handled::Answer);
            }
        };
        let client = (self.find)(&self.world.snapshot.borrow());
        if let Some(client) = &client {
            let labels = DnsLabels::of(query.record_type(), transport, Some(client));
            self.world.metrics.request(&labels);
            if let Some(answer) = self.known(&query, client, transport) {
                return Handled::Answer(answer);
            }
        }
        match self.admit_waiting() {
            Some(slots) => Handled::Wait(Waiting { query, client, transport, _slots: slots }),
            None => Handled::Answer(refuse(&query, transport)),
        }
    }

    /// Waits for the workload to become known, if it is not, and for name servers, if they have to be asked.
    pub(super) async fn wait(&self, waiting: Waiting) -> Vec<u8> {
        let Waiting { query, client, transport, _slots } = waiting;
        let client = match client {
            Some(client) => client,
            None => {
                let client = self.client().await;
                let labels = DnsLabels::of(query.record_type(), transport, client.as_deref());
                self.world.metrics.request(&labels);
                let Some(client) = client else {
                    tracing::debug!(target: "dns", workload = &*self.key, "who asks is not known");
                    return refuse(&query, transport);
                };
                if let Some(answer) = self.known(&query, &client, transport) {
                    return answer;
                }
                client
            }
        };
        self.forward(&query, &client, transport).await
    }

    async fn client(&self) -> Option<Arc<Workload>> {
        let mut snapshot = self.world.snapshot.clone();
        let mut found = None;
        let appears = snapshot.wait_for(|snapshot| {
            found = (self.find)(snapshot);
            found.is_some()
        });
        let _ = timeout(WORKLOAD_TIMEOUT, appears).await;
        found
    }

    fn known(&self, query: &Query, client: &Workload, transport: Transport) -> Option<Vec<u8>> {
        let world = &self.world;
        let seed = world.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        world.random.set(seed);
        let meaning = {
            let snapshot = world.snapshot.borrow();
            let (search, mut random) = (world.host_search(), Random::new(seed));
            look_up(&snapshot, client, query, &world.settings, &search, &mut random)
        };
        let Meaning::Known { service, answer } = meaning else { return None };
        let result = Shown {
            alias: answer.alias.as_ref().map(|name| name.as_str()),
            of: service.hostname(),
        };
        tell(query, client, &result, answer.addresses.len());
        Some(query.answer(&answer, bytes_max(query, transport)))
    }

    async fn forward(&self, query: &Query, client: &Workload, transport: Transport) -> Vec<u8> {
        let world = &self.world;
        let labels = DnsLabels::of(query.record_type(), transport, Some(client));
        let begun = Instant::now();
        let forwarded = world.forwarder.ask(query, &self.namespace, transport).await;
        world.metrics.upstream(&labels, begun.elapsed(), forwarded.is_err());
        match forwarded {
            Ok(reply) => {
                tell(query, client, &format_args!("forwarded, code {}", reply.code()), 0);
                reply.for_client(query, bytes_max(query, transport))
            }
            Err(error) => {
                tell(query, client, &format_args!("no answer: {error}"), 0);
                refuse(query, transport)
            }
        }
    }
}

impl World {
    fn host_search(&self) -> Vec<String> {
        match self.settings.search {
            Search::OfKubernetes => Vec::new(),
            Search::OfHost => self.forwarder.search_domains(),
        }
    }
}

fn refuse(query: &Query, transport: Transport) -> Vec<u8> {
    query.answer(&Answer::refusal(ResponseCode::ServerFailure), bytes_max(query, transport))
}

fn bytes_max(query: &Query, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_bytes_max(),
        Transport::Tcp => MESSAGE_BYTES_MAX,
    }
}

struct Shown<'a> {
    alias: Option<&'a str>,
    of: &'a str,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.alias {
            Some(alias) => write!(f, "{} as {alias}", self.of),
            None => f.write_str(self.of),
        }
    }
}

fn tell(query: &Query, client: &Workload, result: &dyn fmt::Display, endpoints: usize) {
    let kind = record_type::name(query.record_type());
    let domain = query.name().map_or("?", |name| name.as_str());
    let (workload, namespace) = (client.name(), client.namespace());
    tracing::debug!(
        target: "dns",
        { src.workload = workload, src.namespace = namespace, query = kind, domain, %result, endpoints },
        "asked"
    );
}
