//! One try: at which endpoint, by which connection, and what it answers.

use std::sync::Arc;

use http::{Request, Response};
use ringway_http::{breaker::Counted, grpc::is_grpc, head::check_response};
use ringway_protocols::hbone::Authority;

use super::{Answered, Tries, failure::Failure};
use crate::{
    decide::{self, NextHop, Refusal, Route},
    reach::Call,
    runtime,
    snapshot::{AppProtocol, Workload},
    waypoint::{
        exchange,
        interim::Listening,
        outside::SpeaksGrpc,
        plan::Destination,
        record::{Recorder, Upstream},
        serve::Downstream,
        tls::originator,
        traffic::{Places, Terms},
        upload::Attempt,
        upstream::{Dialect, Spoken, Unavailable},
    },
};

impl Tries<'_> {
    /// Where to go, now. When only those are left that were tried in vain, they are tried again.
    pub(super) async fn route(&self, in_vain: &[Arc<Workload>]) -> Result<Route, Refusal> {
        match self.decide(in_vain) {
            Err(Refusal::Unresolved { hostname, .. }) => {
                // Resolved in time or not, the decision says what comes of it.
                let _known = self.downstream.shard.resolved(&hostname).await;
                self.decide(in_vain)
            }
            Err(_) if !in_vain.is_empty() => self.decide(&[]),
            outcome => outcome,
        }
    }

    fn decide(&self, in_vain: &[Arc<Workload>]) -> Result<Route, Refusal> {
        let shard = &self.downstream.shard;
        let snapshot = shard.snapshot();
        match &self.plan.destination {
            Destination::Service(service, port) => {
                let service = snapshot.service(&service.id).unwrap_or(service);
                let random = shard.random();
                if let Some(terms) = self.plan.terms.as_deref().filter(|terms| terms.chooses()) {
                    let (own, everywhere) = (self.source, terms.policy.locality.is_some());
                    return decide::chosen_behind_waypoint(
                        &snapshot,
                        own,
                        service,
                        *port,
                        random,
                        everywhere,
                        |endpoints| terms.choose(shard, own, endpoints, in_vain),
                    );
                }
                decide::behind_waypoint(&snapshot, self.source, service, *port, random, in_vain)
            }
            Destination::Workload(uid, address) => {
                decide::workload_behind_waypoint(&snapshot, self.source, uid, *address)
            }
        }
    }

    pub(super) async fn at(
        &self,
        route: &Route,
        recorder: &mut Recorder,
    ) -> Result<Answered, Failure> {
        let Downstream { shard, pod, .. } = &**self.downstream;
        recorder.upstream = Some(self.upstream(route));
        let terms = self.plan.terms.as_deref();
        let tls = terms.and_then(|terms| terms.policy.tls.as_ref());
        let dialect = self.dialect(tls.is_some());
        let originator = tls.map(|tls| originator(self.downstream, tls)).transpose();
        let originator = originator.map_err(Failure::Unreached)?;
        // What is kept for the next request is no single client's.
        let own = self.source.addresses().first().copied();
        let client = own.map_or(self.downstream.called, |ip| (ip, 0).into());
        let destination = self.downstream.called;
        let trace_id = self.downstream.trace_id;
        let call = Call { shard, pod, source: self.source, client, destination, trace_id };
        let upstreams = &pod.l7.kept().upstreams;
        let places = terms.map(|terms| self.enter(terms, route)).transpose()?;
        let spoken = Spoken { dialect, originator: originator.as_deref() };
        let checked_out = upstreams.check_out(&call, route, spoken, terms).await;
        let mut lease = checked_out.map_err(|unavailable| match unavailable {
            Unavailable::Unreached(reason) => Failure::Unreached(reason),
            Unavailable::Overflow => Failure::Overflow("too many requests wait for a connection"),
        })?;
        lease.places = places.unwrap_or_default();
        if let Some(upstream) = &mut recorder.upstream {
            (upstream.local, upstream.trace_id) = (lease.local(), lease.trace_id());
        }
        let (request, listening) = self.outgoing(spoken);
        lease.expected = listening.expected();
        if self.parts.extensions.get::<exchange::AsksForUpgrade>().is_some() {
            lease.expect_upgrade();
        }
        let response = lease.send(request, &listening).await.map_err(Failure::Unanswered)?;
        listening.answered(response.status());
        recorder.answered = Some(runtime::now());
        if let (Some(terms), Some(upstream)) = (terms, &recorder.upstream) {
            recorder.told = terms.told(upstream.host);
        }
        let (parts, body) = response.into_parts();
        check_response(&parts).map_err(Failure::Garbled)?;
        Ok(Answered { response: Response::from_parts(parts, body), lease })
    }

    /// The request for one try, and what hears what is said of it before its answer.
    fn outgoing(&self, spoken: Spoken<'_>) -> (Request<Attempt>, Listening) {
        let mut request = exchange::outgoing(self.parts, spoken).map(|()| self.upload.attempt());
        let listening = Listening::begin(&mut request, spoken.dialect, self.interims);
        (request, listening)
    }

    /// The places of a try among what may be under way.
    fn enter(&self, terms: &Terms, route: &Route) -> Result<Places, Failure> {
        let request = terms.enter(Counted::Requests);
        let request = request.ok_or(Failure::Overflow("too many requests are under way"))?;
        let busy = route.destination_workload.as_ref().map(|endpoint| terms.busy(endpoint));
        Ok(Places::new(request, busy))
    }

    /// What the port declares, or what the client speaks.
    fn dialect(&self, is_tls: bool) -> Dialect {
        if self.parts.extensions.get::<SpeaksGrpc>().is_some() {
            return Dialect::Http2;
        }
        let declared = match &self.plan.destination {
            Destination::Service(service, port) => {
                service.port(*port).map(|port| port.app_protocol)
            }
            Destination::Workload(..) => None,
        };
        match declared.unwrap_or_default() {
            AppProtocol::Http2 | AppProtocol::Grpc => Dialect::Http2,
            AppProtocol::Http11 => Dialect::Http1,
            // Inside TLS one of the two is offered, and HTTP/1.1 is what every server of undeclared ports has.
            _ if self.was_http2 && (!is_tls || is_grpc(&self.parts.headers)) => Dialect::Http2,
            _ => Dialect::Http1,
        }
    }

    fn upstream(&self, route: &Route) -> Upstream {
        let (host, mutual_tls) = match &route.next_hop {
            NextHop::Direct { address } | NextHop::PassThrough { address } => (*address, false),
            NextHop::Tunnel { authority: Authority::Address(address), .. } => (*address, true),
            NextHop::Tunnel { peer, .. } => (*peer, true),
            NextHop::DoubleTunnel { gateway, .. } => (*gateway, true),
        };
        let port = match &self.plan.destination {
            Destination::Service(_, port) => *port,
            Destination::Workload(_, address) => address.port(),
        };
        Upstream {
            host,
            local: None,
            trace_id: None,
            workload: route.destination_workload.clone(),
            service: route.destination_service.clone(),
            port,
            mutual_tls,
        }
    }
}
