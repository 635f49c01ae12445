//! The conversation with a control plane, without its connection: what is said when a stream begins, what each response
//! does, and what it is answered.
//!
//! ```text
//!   opened ──▶ first requests, one per type
//!   Begin ──▶ [batch] ── Resource, Removed: applied to a copy ── End ──▶ the copy is in force; ACK or NACK
//!               └── lost: the copy is dropped, as if the response had never come
//! ```
//!
//! A refused resource leaves the last good one, with its version, so that the control plane sends it again some day;
//! the rest of its response applies. Readers see all of a response or nothing.

use prost::Message;
use ringway_engine::snapshot::Snapshot;

use super::decode::{AddressResource, Rejection, read_address, read_authorization};
use super::demand::{Demands, Refused};
use super::local::LocalWorkloads;
use super::reader::{Piece, Trailer};
use super::refused::RefusedNames;
use super::request::{FirstRequest, head};
use super::state::{Kind, Scene, State};
use crate::proto::discovery::{DeltaDiscoveryRequest, Node, Resource, Status};

/// The machine.
#[derive(Debug)]
pub(super) struct Session {
    node: Node,
    scene: Scene,
    state: State,
    /// Changes whenever the state does.
    revision: u64,
    batch: Option<Batch>,
    /// Of each type, whether a response was applied without anything refused.
    accepted: [bool; Kind::ALL.len()],
    /// Only in on-demand mode.
    demands: Option<Demands>,
}

/// A response that is being applied.
#[derive(Debug)]
struct Batch {
    state: State,
    subject: Subject,
    refused: RefusedNames,
    resources: usize,
    removed: usize,
    /// Names of a response that told them before its type; nobody is known to do that.
    removed_early: Vec<String>,
    degraded: u64,
    bytes: u64,
    /// Demands that it answers.
    answered: Vec<String>,
}

/// What a response is about.
#[derive(Clone, Debug, PartialEq)]
enum Subject {
    /// Not known before the first resource, or the end.
    Open,
    Of(Kind),
    /// Nothing that was asked for.
    Unknown(String),
}

/// What has come of a response.
#[derive(Debug)]
pub(super) struct Finished {
    /// The answer.
    pub(super) request: DeltaDiscoveryRequest,
    /// Whose response it was.
    pub(super) kind: Option<Kind>,
    /// The first few of what was refused, and why.
    pub(super) refused: RefusedNames,
    pub(super) resources: usize,
    pub(super) removed: usize,
    /// Workloads of the old tunnel protocol.
    pub(super) degraded: u64,
    /// Bytes of its resources.
    pub(super) bytes: u64,
    /// Demands that are answered once the new state can be seen.
    pub(super) answered: Vec<String>,
    /// The state before, if it was replaced. Dropping it takes time when much has changed.
    pub(super) before: Option<State>,
}

impl Session {
    /// Begins with what is known without a control plane.
    pub(super) fn new(
        node: Node,
        node_name: Option<String>,
        is_on_demand: bool,
        known: Snapshot,
    ) -> Session {
        let scene = Scene::new(node_name);
        let state = State::new(known, &scene);
        Session {
            node,
            scene,
            state,
            revision: 0,
            batch: None,
            accepted: [false; Kind::ALL.len()],
            demands: is_on_demand.then(Demands::default),
        }
    }

    /// A stream is open: what is said first, in this order.
    pub(super) fn open(&mut self) -> [FirstRequest; Kind::ALL.len()] {
        self.batch = None;
        Kind::ALL.map(|kind| {
            let mut request = head(&self.node, kind.type_url());
            if let (Kind::Address, Some(demands)) = (kind, &self.demands) {
                // Together these mean: nothing, until it is asked for.
                request.resource_names_subscribe = vec!["*".to_owned()];
                request.resource_names_unsubscribe = vec!["*".to_owned()];
                let unanswered = demands.names().map(|name| (name.to_owned(), String::new()));
                request.initial_resource_versions = unanswered.collect();
            }
            FirstRequest::new(&request, self.state.told(kind).clone())
        })
    }

    /// Takes part of a response; at its end, says what has come of it.
    pub(super) fn handle(&mut self, piece: Piece<'_>) -> Option<Finished> {
        match piece {
            Piece::Begin(type_url) => self.batch = Some(Batch::new(&self.state, type_url)),
            Piece::Resource(bytes) => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.apply(bytes, &mut self.scene, self.demands.as_ref());
            }
            Piece::TooLarge(bytes) => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.resources += 1;
                batch.refuse("", &Rejection::TooLarge(bytes));
            }
            Piece::Removed { type_url, name } => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.remove(type_url, name, self.demands.as_ref());
            }
            Piece::End(trailer) => return Some(self.finish(trailer)),
        }
        None
    }

    /// The stream has ended: a response that is not whole was never there.
    pub(super) fn lost(&mut self) -> Option<State> {
        self.batch.take().map(|batch| batch.state)
    }

    /// Nobody waits for this any more.
    pub(super) fn forget_demand(&mut self, name: &str) {
        if let Some(demands) = &mut self.demands {
            demands.remove(name);
        }
    }

    /// Asks for a resource; nothing to send when that was done already.
    pub(super) fn demand(&mut self, name: &str) -> Result<Option<DeltaDiscoveryRequest>, Refused> {
        let demands = self.demands.as_mut().ok_or(Refused::NotOnDemand)?;
        let is_new = demands.add(name)?;
        Ok(is_new.then(|| DeltaDiscoveryRequest {
            type_url: Kind::Address.type_url().to_owned(),
            resource_names_subscribe: vec![name.to_owned()],
            ..DeltaDiscoveryRequest::default()
        }))
    }

    /// What is known now.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.state.snapshot
    }

    /// The workloads of this host.
    pub(super) fn local(&self) -> &LocalWorkloads {
        &self.state.local
    }

    /// Counts changes of what is known.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether there was a response of each type without anything refused.
    pub(super) fn is_synced(&self) -> bool {
        // What nobody has asked for does not come.
        let by_name = |kind| kind == Kind::Address && self.demands.is_some();
        Kind::ALL.iter().zip(self.accepted).all(|(kind, accepted)| accepted || by_name(*kind))
    }

    /// What was told of this type, by number.
    pub(super) fn told(&self, kind: Kind) -> usize {
        self.state.told(kind).len()
    }

    fn finish(&mut self, trailer: Trailer) -> Finished {
        let mut batch = self.batch.take().expect("a response ends after its beginning");
        let kind = batch.settle(&trailer.type_url, &self.state);
        let has_changed = kind.is_some() && (batch.resources > 0 || batch.removed > 0);
        let mut before = None;
        if has_changed {
            before = Some(std::mem::replace(&mut self.state, batch.state));
            self.revision += 1;
        }
        if let Some(kind) = kind.filter(|_| batch.refused.is_empty()) {
            self.accepted[kind as usize] = true;
        }
        if let Some(demands) = &mut self.demands {
            batch.answered.retain(|name| demands.remove(name));
        }
        let error_detail = (!batch.refused.is_empty())
            .then(|| Status { message: batch.refused.to_string(), ..Status::default() });
        Finished {
            // Without names: a control plane would take them for a change of what we want.
            request: DeltaDiscoveryRequest {
                type_url: trailer.type_url,
                response_nonce: trailer.nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            },
            kind,
            refused: batch.refused,
            resources: batch.resources,
            removed: batch.removed,
            degraded: batch.degraded,
            bytes: batch.bytes,
            answered: batch.answered,
            before,
        }
    }
}

impl Batch {
    fn new(state: &State, type_url: Option<&str>) -> Batch {
        Batch {
            state: state.clone(),
            subject: type_url.map_or(Subject::Open, Subject::of),
            refused: RefusedNames::default(),
            resources: 0,
            removed: 0,
            removed_early: Vec::new(),
            degraded: 0,
            bytes: 0,
            answered: Vec::new(),
        }
    }

    fn apply(&mut self, bytes: &[u8], scene: &mut Scene, demands: Option<&Demands>) {
        self.resources += 1;
        let resource = match Resource::decode(bytes) {
            Ok(resource) => resource,
            Err(error) => return self.refuse("", &Rejection::Malformed(error)),
        };
        for name in std::iter::once(&resource.name).chain(&resource.aliases) {
            self.mention(name, demands);
        }
        if let Err(rejection) = self.try_apply(&resource, scene) {
            self.refuse(&resource.name, &rejection);
        }
    }

    fn try_apply(&mut self, told: &Resource, scene: &mut Scene) -> Result<(), Rejection> {
        let any = told.resource.as_ref().ok_or(Rejection::Missing("resource"))?;
        self.bytes += any.value.len() as u64;
        let kind = Subject::of(&any.type_url);
        if self.subject == Subject::Open {
            self.subject = kind.clone();
        }
        if let Subject::Unknown(_) = self.subject {
            return Ok(());
        }
        if kind != self.subject {
            return Err(Rejection::WrongType(any.type_url.clone()));
        }
        if told.name.is_empty() {
            return Err(Rejection::Missing("the name of the resource"));
        }
        let (name, version) = (told.name.as_str(), told.version.as_str());
        match kind {
            Subject::Of(Kind::Address) => match read_address(&any.value)? {
                AddressResource::Workload { description, is_degraded } => {
                    self.state.set_workload(name, version, description, scene)?;
                    self.degraded += u64::from(is_degraded);
                }
                AddressResource::Service(service) => {
                    self.state.set_service(name, version, service, scene);
                }
            },
            _ => self.state.set_policy(name, version, read_authorization(&any.value)?),
        }
        Ok(())
    }

    fn remove(&mut self, type_url: &str, name: &str, demands: Option<&Demands>) {
        self.removed += 1;
        self.mention(name, demands);
        if self.subject == Subject::Open && !type_url.is_empty() {
            self.subject = Subject::of(type_url);
        }
        match self.subject {
            Subject::Of(kind) => self.state.remove(kind, name),
            Subject::Open => self.removed_early.push(name.to_owned()),
            Subject::Unknown(_) => {}
        }
    }

    fn mention(&mut self, name: &str, demands: Option<&Demands>) {
        if demands.is_some_and(|demands| demands.contains(name)) {
            self.answered.push(name.to_owned());
        }
    }

    fn refuse(&mut self, name: &str, rejection: &Rejection) {
        self.refused.add(name, self.resources, rejection);
    }

    /// The type that the response says it is of. When its first resource was of another, and was taken for the type of
    /// the response, nothing of it applies.
    fn settle(&mut self, type_url: &str, state: &State) -> Option<Kind> {
        let said = Subject::of(type_url);
        if self.subject != Subject::Open && self.subject != said {
            self.state = state.clone();
            self.refused = RefusedNames::default();
            self.refuse("", &Rejection::WrongType(type_url.to_owned()));
        }
        let Subject::Of(kind) = said else { return None };
        for name in std::mem::take(&mut self.removed_early) {
            self.state.remove(kind, &name);
        }
        Some(kind)
    }
}

impl Subject {
    fn of(type_url: &str) -> Subject {
        Kind::of(type_url).map_or_else(|| Subject::Unknown(type_url.to_owned()), Subject::Of)
    }
}
