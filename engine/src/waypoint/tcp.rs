//! Connections whose bytes are not HTTP: they pass, to a backend that weights choose.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use ringway_http::{
    filter,
    model::{GatewayName, ListenerKey},
    tables::AttachedStream,
};
use ringway_protocols::hbone::Authority;

use super::{
    plan::{Destination, destination_of},
    policy,
    serve::{Downstream, Target},
    tls::{Through, originator},
    upstream,
};
use crate::{
    close::CloseReason,
    connection::{Accounted, Carrier, Connection, Decided},
    decide::{self, NextHop, Refusal, Route},
    limits::{ENDPOINT_TRIES_MAX, SERVER_FIRST_MAX, SERVER_FIRST_TIME},
    reach::Call,
    relay::{DirectionState, Observer, RelayState, relay_from},
    runtime::{self, TcpStream},
    snapshot::{NamespacedHostname, Workload},
};

/// Passes a connection on, from here to its record. `silent`: its client had its time to speak first, and did not.
pub(crate) async fn pass(
    downstream: &Rc<Downstream>,
    client: Rc<TcpStream>,
    early: Bytes,
    silent: bool,
    connection: Connection,
    authority: Option<Authority>,
) {
    let connecting = Box::pin(connect(downstream, &connection, authority.as_ref()));
    let server = match connecting.await {
        Ok(server) => server,
        Err(reason) => {
            client.reset_on_close();
            return connection.end(reason);
        }
    };
    let upload = DirectionState { held: early.to_vec(), ended: false };
    let state = RelayState { upload, download: DirectionState::default() };
    let observer = Watching {
        accounted: Accounted::new(&connection, &downstream.pod.account),
        downstream,
        first: Cell::new(silent.then_some(())),
    };
    let reason = relay_from(&client, &server, &downstream.shard.pipes, state, &observer).await;
    drop(observer);
    connection.end(reason);
}

async fn connect(
    downstream: &Rc<Downstream>,
    connection: &Connection,
    authority: Option<&Authority>,
) -> Result<Rc<TcpStream>, CloseReason> {
    let Downstream { shard, pod, source, called, .. } = &**downstream;
    let own = connection.unless_cut(shard.workload(&pod.workload)).await??;
    policy::admit_connection(downstream).map_err(CloseReason::Refused)?;
    let destination = destination(downstream)?;
    let tls = policy::backend_tls(downstream, &destination);
    let originator = tls.map(|tls| originator(downstream, &tls)).transpose()?;
    let through = originator.as_deref().map(|originator| Through { originator, protocol: None });
    let mut in_vain: Vec<Arc<Workload>> = Vec::new();
    loop {
        let route =
            decide(downstream, &own, &destination, &in_vain).map_err(CloseReason::Refused)?;
        connection.trying(&route);
        let trace_id = downstream.trace_id;
        let (client, called) = (*source, *called);
        let call = Call { shard, pod, source: &own, client, destination: called, trace_id };
        let reaching = Box::pin(upstream::connect(&call, &route, through));
        match connection.unless_cut(reaching).await? {
            Ok((server, _local)) => {
                connection.decided(decided(downstream, route, authority));
                return Ok(server);
            }
            Err(reason) => match &route.destination_workload {
                Some(workload) if in_vain.len() + 1 < ENDPOINT_TRIES_MAX => {
                    in_vain.push(workload.clone());
                    if decide(downstream, &own, &destination, &in_vain).is_err() {
                        connection.decided(decided(downstream, route, authority));
                        return Err(reason);
                    }
                }
                _ => {
                    connection.decided(decided(downstream, route, authority));
                    return Err(reason);
                }
            },
        }
    }
}

/// Which backend: as a TCP route says, or the service itself.
fn destination(downstream: &Downstream) -> Result<Destination, CloseReason> {
    let (id, name, port) = match &downstream.target {
        Target::Service { id, name, port } => (id, name, *port),
        Target::Workload(uid, address) => return Ok(Destination::Workload(uid.clone(), *address)),
        Target::Listener { gateway, port, ended_for } => {
            return of_listener(downstream, gateway, *port, ended_for.as_ref());
        }
    };
    let snapshot = downstream.shard.snapshot();
    let nobody = || nobody(downstream);
    let attached = snapshot.http().map_or(AttachedStream::None, |tables| {
        let server_name = downstream.server_name.as_deref();
        tables.for_service_stream(name, port, downstream.client_namespace(), server_name)
    });
    match attached {
        AttachedStream::None => {
            let service = snapshot.service(id).ok_or_else(nobody)?;
            Ok(Destination::Service(service.clone(), port))
        }
        AttachedStream::Rule(rule) => {
            let random = downstream.shard.random();
            let (_, backend) = filter::choose(&rule.rule, random).map_err(|_dead| nobody())?;
            destination_of(&snapshot, &backend.backend.target).map_err(|_| nobody())
        }
        AttachedStream::NoMatch => Err(nobody()),
    }
}

fn nobody(downstream: &Downstream) -> CloseReason {
    CloseReason::Refused(Refusal::NoHealthyUpstream { destination: downstream.called })
}

/// Which backend: as a route of the gateway's listener says.
fn of_listener(
    downstream: &Downstream,
    gateway: &GatewayName,
    port: u16,
    ended_for: Option<&ListenerKey>,
) -> Result<Destination, CloseReason> {
    let snapshot = downstream.shard.snapshot();
    let nobody = || nobody(downstream);
    let port = snapshot.http().and_then(|tables| tables.for_port(gateway, port));
    let server_name = downstream.server_name.as_deref();
    let is_it = |key: &ListenerKey| ended_for.is_none_or(|ended_for| ended_for == key);
    let listener = port
        .and_then(|port| port.by_server_name(server_name))
        .filter(|table| is_it(&table.listener.key))
        .ok_or_else(nobody)?;
    let rule = listener.stream(server_name).ok_or_else(nobody)?;
    let (_, backend) =
        filter::choose(&rule.rule, downstream.shard.random()).map_err(|_| nobody())?;
    destination_of(&snapshot, &backend.backend.target).map_err(|_| nobody())
}

fn decide(
    downstream: &Downstream,
    own: &Workload,
    destination: &Destination,
    in_vain: &[Arc<Workload>],
) -> Result<Route, Refusal> {
    let shard = &downstream.shard;
    let snapshot = shard.snapshot();
    match destination {
        Destination::Service(service, port) => {
            let random = shard.random();
            decide::behind_waypoint(&snapshot, own, service, *port, random, in_vain)
        }
        Destination::Workload(uid, address) if in_vain.is_empty() => {
            decide::workload_behind_waypoint(&snapshot, own, uid, *address)
        }
        Destination::Workload(_, address) => {
            Err(Refusal::NoHealthyUpstream { destination: *address })
        }
    }
}

/// What labels and log say.
fn decided(downstream: &Downstream, route: Route, authority: Option<&Authority>) -> Decided {
    let (destination, carrier) = match route.next_hop {
        NextHop::Direct { address } | NextHop::PassThrough { address } => (address, Carrier::Tcp),
        NextHop::Tunnel { peer, .. } => (peer, Carrier::Hbone),
        NextHop::DoubleTunnel { gateway, .. } => (gateway, Carrier::DoubleHbone),
    };
    let parties = downstream.parties(route.destination_workload, route.destination_service);
    let (authority, trace_id) = (authority.cloned(), Some(downstream.trace_id));
    Decided { parties, destination, carrier, authority, trace_id }
}

/// Ports behind which servers have spoken first, and until when that is believed.
#[derive(Default)]
pub(crate) struct ServerFirst(HashMap<(NamespacedHostname, u16), Instant>);

impl ServerFirst {
    pub(crate) fn knows(&self, service: &NamespacedHostname, port: u16, now: Instant) -> bool {
        // A key of its own for nearly nobody is not worth a borrowed one.
        !self.0.is_empty() && self.0.get(&(service.clone(), port)).is_some_and(|until| now < *until)
    }

    fn note(&mut self, service: &NamespacedHostname, port: u16, now: Instant) {
        if self.0.len() >= SERVER_FIRST_MAX {
            self.0.clear();
        }
        self.0.insert((service.clone(), port), now + SERVER_FIRST_TIME);
    }
}

/// Notices who speaks first.
struct Watching<'a> {
    accounted: Accounted<'a>,
    downstream: &'a Downstream,
    /// Not known yet.
    first: Cell<Option<()>>,
}

impl Observer for Watching<'_> {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.accounted.poll_cut(cx)
    }

    fn client_to_server(&self, bytes: usize) {
        self.first.take();
        self.accounted.client_to_server(bytes);
    }

    fn server_to_client(&self, bytes: usize) {
        if self.first.take().is_some()
            && let Target::Service { id, port, .. } = &self.downstream.target
        {
            let kept: &RefCell<ServerFirst> = &self.downstream.pod.l7.kept().server_first;
            kept.borrow_mut().note(id, *port, runtime::now());
        }
        self.accounted.server_to_client(bytes);
    }

    fn holds(&self, bytes: usize) {
        self.accounted.holds(bytes);
    }

    fn visit_bytes_max(&self) -> usize {
        self.accounted.visit_bytes_max()
    }
}
