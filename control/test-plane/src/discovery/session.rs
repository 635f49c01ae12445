//! One stream: requests come, responses go, and what the world becomes is pushed.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;

use anyhow::Result;
use ringway_control::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc, watch};
use tonic::{Code, Status, Streaming};

use super::subscription::{Due, Subscription};
use crate::controls::{Cut, Service};
use crate::plane::{Plane, Sequence};
use crate::resources::ADDRESS;
use crate::tokens::{Caller, GatewayCaller, PROXY_NAMESPACE};
use crate::world::World;

/// Names of versions that are written into the journal; beyond, only their number.
const VERSIONS_TOLD_MAX: usize = 100;

/// One stream of one client.
pub(super) struct Session {
    plane: Arc<Plane>,
    caller: Caller,
    stream: u64,
    responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    subscriptions: BTreeMap<String, Subscription>,
    nonces: u64,
    has_node: bool,
}

impl Session {
    pub(super) fn new(
        plane: Arc<Plane>,
        caller: Caller,
        stream: u64,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) -> Session {
        let (subscriptions, nonces, has_node) = (BTreeMap::new(), 0, false);
        Session { plane, caller, stream, responses, subscriptions, nonces, has_node }
    }

    /// Until the client goes, or is told to.
    pub(super) async fn run(mut self, requests: Streaming<DeltaDiscoveryRequest>) {
        let mut world = self.plane.worlds.watch();
        let mut cuts = self.plane.controls.cuts();
        let ended = tokio::select! {
            ended = self.converse(requests, &mut world) => ended,
            status = told_to_end(&mut cuts) => Err(status),
        };
        let reason = match &ended {
            Ok(()) => "closed by the client".to_owned(),
            Err(status) => status.to_string(),
        };
        let line = json!({"stream": self.stream, "reason": reason});
        self.plane.journal.record("xds-stream-ended", line);
        if let Err(status) = ended {
            // A client that is gone needs no status.
            let _ = self.responses.send(Err(status)).await;
        }
    }

    async fn converse(
        &mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        world: &mut watch::Receiver<Arc<World>>,
    ) -> Result<(), Status> {
        let controls = Arc::clone(&self.plane.controls);
        loop {
            tokio::select! {
                request = requests.message() => match request? {
                    None => return Ok(()),
                    Some(request) => {
                        let world = Arc::clone(&world.borrow());
                        self.handle(request, &world).await?;
                    }
                },
                changed = world.changed() => {
                    if changed.is_err() {
                        return pending().await;
                    }
                    let world = Arc::clone(&world.borrow_and_update());
                    self.push(&world).await?;
                }
                () = controls.wait(Service::Xds, false) => {
                    return Err(Status::unavailable("the service is stopped"));
                }
            }
        }
    }

    async fn handle(
        &mut self,
        request: DeltaDiscoveryRequest,
        world: &World,
    ) -> Result<(), Status> {
        self.plane.journal.record("xds-request", self.told(&request));
        if !self.has_node {
            self.check_node(request.node.as_ref())?;
            self.has_node = true;
        }
        let Some(subscription) = self.subscriptions.get_mut(&request.type_url) else {
            let part = World::part(&request.type_url, self.caller.gateway.as_ref());
            let (subscription, due) = Subscription::begin_part(&request, part, world);
            // A client that wants everything is answered even when there is nothing: it waits for that.
            let answered = subscription.is_wildcard() || !due.is_empty();
            self.subscriptions.insert(request.type_url.clone(), subscription);
            return if answered { self.send(&request.type_url, due).await } else { Ok(()) };
        };
        if !request.response_nonce.is_empty() && !subscription.is_current(&request.response_nonce) {
            return Ok(());
        }
        let asks = !request.resource_names_subscribe.is_empty()
            || !request.resource_names_unsubscribe.is_empty();
        if !asks {
            return Ok(());
        }
        let due = subscription.request(&request, world);
        if due.is_empty() { Ok(()) } else { self.send(&request.type_url, due).await }
    }

    async fn push(&mut self, world: &World) -> Result<(), Status> {
        // As istiod orders them: addresses, then policies.
        let mut types: Vec<String> = self.subscriptions.keys().cloned().collect();
        types.sort_by_key(|type_url| type_url != ADDRESS);
        for type_url in types {
            let Some(subscription) = self.subscriptions.get_mut(&type_url) else { continue };
            let due = subscription.update(world);
            if !due.is_empty() {
                self.send(&type_url, due).await?;
            }
        }
        Ok(())
    }

    async fn send(&mut self, type_url: &str, due: Due) -> Result<(), Status> {
        self.plane.controls.think(Service::Xds).await;
        for part in in_parts(due, self.plane.sequence()) {
            self.nonces += 1;
            let nonce = format!("{}-{}", self.stream, self.nonces);
            let line = json!({
                "stream": self.stream, "type": type_url, "nonce": nonce,
                "resources": part.resources.len(), "removed": part.removed.len(),
            });
            self.plane.journal.record("xds-response", line);
            let subscription = self.subscriptions.get_mut(type_url);
            let subscription = subscription.expect("only what was subscribed to is sent");
            let response = subscription.respond(&part, nonce);
            if self.responses.send(Ok(response)).await.is_err() {
                return Err(Status::cancelled("the client is gone"));
            }
        }
        Ok(())
    }

    /// Who speaks must be a node proxy, and the one its token is for.
    fn check_node(&self, node: Option<&Node>) -> Result<(), Status> {
        let node = node.ok_or_else(|| Status::invalid_argument("missing node information"))?;
        let parts: Vec<&str> = node.id.split('~').collect();
        let [kind, ip, name, domain] = parts[..] else {
            return Err(Status::invalid_argument(format!("invalid node id {:?}", node.id)));
        };
        let (wanted, own) = match &self.caller.gateway {
            None => ("ztunnel", PROXY_NAMESPACE),
            Some(gateway) => ("agentgateway", gateway.namespace.as_str()),
        };
        if kind != wanted {
            return Err(Status::invalid_argument(format!("a node of type {kind:?}")));
        }
        if ip.parse::<std::net::IpAddr>().is_err() {
            return Err(Status::invalid_argument(format!("{ip:?} is no address")));
        }
        let namespace = domain.split('.').next().unwrap_or_default();
        let named = name.rsplit_once('.').map(|(_, namespace)| namespace);
        if namespace != own || named != Some(own) {
            return Err(Status::unauthenticated("authorization failed"));
        }
        match &self.caller.gateway {
            None => Ok(()),
            Some(gateway) => check_gateway(node, gateway),
        }
    }

    fn told(&self, request: &DeltaDiscoveryRequest) -> Value {
        let known = &request.initial_resource_versions;
        let versions = (known.len() <= VERSIONS_TOLD_MAX).then_some(known);
        json!({
            "stream": self.stream,
            "caller": self.caller.node,
            "node": request.node.as_ref().map(|node| json!({
                "id": node.id,
                "cluster": node.cluster,
                "build_version": node.build_version,
                "metadata": node.metadata.as_ref().map(object),
            })),
            "type": request.type_url,
            "subscribe": request.resource_names_subscribe,
            "unsubscribe": request.resource_names_unsubscribe,
            "known": known.len(),
            "versions": versions,
            "nonce": request.response_nonce,
            "error": request.error_detail.as_ref().map(|error| json!({
                "code": error.code, "message": error.message,
            })),
        })
    }
}

/// As istiod finds the Gateway of a process: by the role it says it has.
fn check_gateway(node: &Node, gateway: &GatewayCaller) -> Result<(), Status> {
    let fields = node.metadata.as_ref().map(object).unwrap_or_default();
    let said = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
    let role = format!("{}~{}", gateway.namespace, gateway.name);
    if said("role") != role {
        return Err(Status::invalid_argument(format!(
            "no Gateway for the role {:?}",
            said("role")
        )));
    }
    if said("NAMESPACE") != gateway.namespace || said("SERVICE_ACCOUNT") != gateway.service_account
    {
        return Err(Status::unauthenticated("authorization failed"));
    }
    Ok(())
}

/// The parts a response is sent in.
fn in_parts(due: Due, sequence: Sequence) -> Vec<Due> {
    let is_workload = |resource: &Arc<crate::resources::Resource>| !is_service_name(&resource.name);
    let workloads_first = match sequence {
        Sequence::Together => return vec![due],
        Sequence::WorkloadsFirst => true,
        Sequence::ServicesFirst => false,
    };
    let (first, then): (Vec<_>, Vec<_>) =
        due.resources.into_iter().partition(|each| is_workload(each) == workloads_first);
    let parts = [
        Due { resources: first, removed: due.removed },
        Due { resources: then, removed: Vec::new() },
    ];
    let told: Vec<Due> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    // The answer to a first request may well be empty, but it is an answer.
    if told.is_empty() { vec![Due::default()] } else { told }
}

/// `namespace/hostname`, and no further slash.
fn is_service_name(name: &str) -> bool {
    name.matches('/').count() == 1
}

async fn told_to_end(cuts: &mut broadcast::Receiver<Cut>) -> Status {
    loop {
        match cuts.recv().await {
            Ok(Cut::Streams(code, message)) => return Status::new(code, message),
            Ok(Cut::Connections | Cut::Goaway) => {}
            Err(broadcast::error::RecvError::Lagged(_)) => {
                return Status::new(Code::Unavailable, "too many orders at once");
            }
            Err(broadcast::error::RecvError::Closed) => return pending().await,
        }
    }
}

fn object(fields: &prost_types::Struct) -> Value {
    let fields = fields.fields.iter().map(|(name, field)| (name.clone(), value(field)));
    Value::Object(fields.collect())
}

fn value(of: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &of.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => json!(number),
        Some(Kind::StringValue(text)) => json!(text),
        Some(Kind::BoolValue(is)) => json!(is),
        Some(Kind::StructValue(fields)) => object(fields),
        Some(Kind::ListValue(list)) => list.values.iter().map(value).collect(),
    }
}
