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
//! the rest of its response applies. Readers see all of a response or nothing; only of one that is very large, each part of
//! [`PART_BYTES_MAX`] ([`Session::put_part`]).

use prost::Message;
use ringway_engine::snapshot::Snapshot;

use super::decode::{AddressResource, Rejection, read_address, read_authorization};
use super::demand::{Demands, Refused};
use super::local::LocalWorkloads;
use super::reader::{Piece, Trailer};
use super::refused::RefusedNames;
use super::request::{FirstRequest, REQUEST_BYTES_MAX, Written, head};
use super::state::{KINDS, Kind, Scene, State};
use super::unnamed::{Sweep, Unnamed};
use crate::proto::discovery::{DeltaDiscoveryRequest, Node, Resource, Status};

/// Bytes of workloads and services that are put in force together, once everything was told: some 13,000 workloads. What they
/// replace is in memory beside them. Less at a time costs more work, because what readers hold is copied for each part.
pub(super) const PART_BYTES_MAX: usize = 4 << 20;

/// What the removal of a resource counts as, of these: about as much as a resource.
const REMOVAL_BYTES: usize = 256;

/// The machine.
#[derive(Debug)]
pub(super) struct Session {
    node: Node,
    scene: Scene,
    state: State,
    /// Changes whenever the state does.
    revision: u64,
    batch: Option<Batch>,
    /// What is asked for, in this order.
    kinds: [Kind; KINDS],
    /// Of each of them, whether a response was applied without anything refused.
    accepted: [bool; KINDS],
    /// Only in on-demand mode.
    demands: Option<Demands>,
    /// Of each type, what the stream's first request had no room for.
    unnamed: AllUnnamed,
    request_bytes_max: usize,
}

type AllUnnamed = [Option<Unnamed>; Kind::ALL.len()];

/// A response that is being applied.
#[derive(Debug)]
struct Batch {
    state: State,
    kinds: [Kind; KINDS],
    subject: Subject,
    refused: RefusedNames,
    resources: usize,
    removed: usize,
    /// Names of a response that told them before its type; nobody is known to do that.
    removed_early: Vec<String>,
    degraded: u64,
    bytes: u64,
    /// How much of it is not in force yet.
    part_bytes: usize,
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
    /// There are names that the control plane should tell again: it has time to, from now.
    pub(super) is_settling: bool,
}

impl Session {
    /// Begins with what is known without a control plane.
    pub(super) fn new(
        node: Node,
        kinds: [Kind; KINDS],
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
            kinds,
            accepted: [false; KINDS],
            demands: is_on_demand.then(Demands::default),
            unnamed: Kind::ALL.map(|_| None),
            request_bytes_max: REQUEST_BYTES_MAX,
        }
    }

    /// Requests of another size, so that little is much.
    #[cfg(test)]
    pub(super) fn set_request_bytes_max(&mut self, bytes: usize) {
        self.request_bytes_max = bytes;
    }

    /// A stream is open: what is said first, in this order.
    pub(super) fn open(&mut self) -> [FirstRequest; KINDS] {
        self.batch = None;
        self.unnamed = Kind::ALL.map(|_| None);
        self.kinds.map(|kind| {
            let mut request = head(&self.node, kind.type_url());
            if let (Kind::Address, Some(demands)) = (kind, &self.demands) {
                // Together these mean: nothing, until it is asked for.
                request.resource_names_subscribe = vec!["*".to_owned()];
                request.resource_names_unsubscribe = vec!["*".to_owned()];
                let unanswered = demands.names().map(|name| (name.to_owned(), String::new()));
                request.initial_resource_versions = unanswered.collect();
            }
            FirstRequest::new(&request, self.state.told(kind).clone(), self.request_bytes_max)
        })
    }

    /// A request is written: what is said next because it had no room for all that is known. On demand that is asked for
    /// by name. Of all else the control plane speaks unasked.
    pub(super) fn go_on(&mut self, kind: Kind, written: &Written) -> Option<FirstRequest> {
        let from = written.rest?;
        let told = self.state.told(kind);
        if kind == Kind::Address && self.demands.is_some() {
            let (told, most) = (told.clone(), self.request_bytes_max);
            return Some(FirstRequest::by_name(kind.type_url(), told, from, most));
        }
        let left = told.len().saturating_sub(written.named);
        self.unnamed[kind as usize] = Some(Unnamed::new(from, left));
        None
    }

    /// What is asked for, in this order.
    pub(super) fn kinds(&self) -> [Kind; KINDS] {
        self.kinds
    }

    /// Takes part of a response; at its end, says what has come of it.
    pub(super) fn handle(&mut self, piece: Piece<'_>) -> Option<Finished> {
        match piece {
            Piece::Begin(type_url) => {
                self.batch = Some(Batch::new(&self.state, self.kinds, type_url));
            }
            Piece::Resource(bytes) => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.apply(bytes, &mut self.scene, self.demands.as_ref(), &mut self.unnamed);
            }
            Piece::TooLarge(bytes) => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.resources += 1;
                batch.refuse("", &Rejection::TooLarge(bytes));
            }
            Piece::Removed { type_url, name } => {
                let batch = self.batch.as_mut().expect("a response begins with its beginning");
                batch.remove(type_url, name, self.demands.as_ref(), &mut self.unnamed);
            }
            Piece::End(trailer) => return Some(self.finish(trailer)),
        }
        None
    }

    /// Puts what there is of a large response in force before its end, and gives back what was before, so that the memory of
    /// what is replaced is free again before all of it is. Only once everything was told: until then, what has not come
    /// yet would be taken for what is outside the mesh. And never of policies, which may be meant together.
    pub(super) fn put_part(&mut self) -> Option<State> {
        let is_synced = self.is_synced();
        let batch = self.batch.as_mut().filter(|batch| is_synced && batch.has_part())?;
        batch.part_bytes = 0;
        self.revision += 1;
        Some(std::mem::replace(&mut self.state, batch.state.clone()))
    }

    /// Whether part of a response is there.
    pub(super) fn is_hearing(&self) -> bool {
        self.batch.is_some()
    }

    /// The control plane had its time: what it was not told that we have, and did not tell again, is removed, step by step.
    pub(super) fn sweep(&mut self) -> Option<Sweep> {
        debug_assert!(self.batch.is_none(), "between responses");
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| self.unnamed[*kind as usize].as_ref().is_some_and(Unnamed::has_answer))?;
        let unnamed = self.unnamed[kind as usize].take()?;
        Some(Sweep::new(kind, self.state.clone(), unnamed))
    }

    /// What is left is in force; gives back what was before, if there is a difference.
    pub(super) fn swept(&mut self, sweep: Sweep) -> Option<State> {
        (sweep.gone > 0).then(|| {
            self.revision += 1;
            std::mem::replace(&mut self.state, sweep.state)
        })
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

    /// What was told of the Gateway that this process is.
    #[cfg(feature = "waypoint")]
    pub(super) fn l7(&self) -> &super::l7::ToldL7 {
        &self.state.l7
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
        self.kinds.iter().zip(self.accepted).all(|(kind, accepted)| accepted || by_name(*kind))
    }

    /// What was told of this type, by number.
    pub(super) fn told(&self, kind: Kind) -> usize {
        self.state.told(kind).len()
    }

    fn finish(&mut self, trailer: Trailer) -> Finished {
        let mut batch = self.batch.take().expect("a response ends after its beginning");
        let kind = batch.settle(&trailer.type_url, &self.state);
        let has_changed = kind.is_some() && (batch.resources > 0 || batch.removed > 0);
        let error_detail = batch.complaint().map(|message| Status { message, ..Status::default() });
        let is_accepted = batch.is_accepted(kind);
        let mut before = None;
        if has_changed {
            before = Some(std::mem::replace(&mut self.state, batch.state));
            self.revision += 1;
        }
        let place = kind.and_then(|kind| self.kinds.iter().position(|asked| *asked == kind));
        if let Some(place) = place.filter(|_| is_accepted) {
            self.accepted[place] = true;
        }
        let is_settling = kind.is_some_and(|kind| self.settle(kind));
        if let Some(demands) = &mut self.demands {
            batch.answered.retain(|name| demands.remove(name));
        }
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
            is_settling,
        }
    }

    /// A response of this type is over. True when more is waited for, from now.
    fn settle(&mut self, kind: Kind) -> bool {
        let Some(unnamed) = &mut self.unnamed[kind as usize] else { return false };
        let is_settling = unnamed.answer();
        if unnamed.is_done() {
            self.unnamed[kind as usize] = None;
        }
        is_settling
    }
}

impl Batch {
    fn new(state: &State, kinds: [Kind; KINDS], type_url: Option<&str>) -> Batch {
        Batch {
            state: state.clone(),
            kinds,
            subject: type_url.map_or(Subject::Open, |url| Subject::of(url, &kinds)),
            refused: RefusedNames::default(),
            resources: 0,
            removed: 0,
            removed_early: Vec::new(),
            degraded: 0,
            bytes: 0,
            part_bytes: 0,
            answered: Vec::new(),
        }
    }

    fn apply(
        &mut self,
        bytes: &[u8],
        scene: &mut Scene,
        demands: Option<&Demands>,
        unnamed: &mut AllUnnamed,
    ) {
        self.resources += 1;
        self.part_bytes += bytes.len();
        let resource = match Resource::decode(bytes) {
            Ok(resource) => resource,
            Err(error) => return self.refuse("", &Rejection::Malformed(error)),
        };
        for name in std::iter::once(&resource.name).chain(&resource.aliases) {
            self.mention(name, demands);
        }
        let type_url = resource.resource.as_ref().map_or("", |any| &any.type_url);
        self.name(Kind::of(type_url, &self.kinds), &resource.name, unnamed);
        if let Err(rejection) = self.try_apply(&resource, scene) {
            self.refuse(&resource.name, &rejection);
        }
    }

    fn try_apply(&mut self, told: &Resource, scene: &mut Scene) -> Result<(), Rejection> {
        let any = told.resource.as_ref().ok_or(Rejection::Missing("resource"))?;
        self.bytes += any.value.len() as u64;
        let kind = Subject::of(&any.type_url, &self.kinds);
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
            #[cfg(feature = "waypoint")]
            Subject::Of(Kind::L7) => {
                let warnings = self.state.l7.tell(name, version, &any.value)?;
                warnings.iter().for_each(|warning| self.refused.warn(name, warning));
            }
            _ => self.state.set_policy(name, version, read_authorization(&any.value)?),
        }
        Ok(())
    }

    fn remove(
        &mut self,
        type_url: &str,
        name: &str,
        demands: Option<&Demands>,
        unnamed: &mut AllUnnamed,
    ) {
        self.removed += 1;
        self.part_bytes += name.len().max(REMOVAL_BYTES);
        self.mention(name, demands);
        if self.subject == Subject::Open && !type_url.is_empty() {
            self.subject = Subject::of(type_url, &self.kinds);
        }
        match self.subject {
            Subject::Of(kind) => {
                self.name(Some(kind), name, unnamed);
                self.state.remove(kind, name);
            }
            Subject::Open => self.removed_early.push(name.to_owned()),
            Subject::Unknown(_) => {}
        }
    }

    fn has_part(&self) -> bool {
        self.subject == Subject::Of(Kind::Address) && self.part_bytes >= PART_BYTES_MAX
    }

    fn mention(&mut self, name: &str, demands: Option<&Demands>) {
        if demands.is_some_and(|demands| demands.contains(name)) {
            self.answered.push(name.to_owned());
        }
    }

    /// The control plane speaks of a name that it may not have been told.
    fn name(&self, kind: Option<Kind>, name: &str, unnamed: &mut AllUnnamed) {
        let Some(kind) = kind else { return };
        if let Some(unnamed) = &mut unnamed[kind as usize] {
            unnamed.tell(name, self.state.told(kind).has(name));
        }
    }

    fn refuse(&mut self, name: &str, rejection: &Rejection) {
        self.refused.add(name, self.resources, rejection);
    }

    /// Whether it counts as what is known now. Of a Gateway's resources those that were refused have others in their
    /// places; to wait for better ones would be to serve nobody because of one of them.
    fn is_accepted(&self, kind: Option<Kind>) -> bool {
        match kind {
            #[cfg(feature = "waypoint")]
            Some(Kind::L7) => true,
            _ => self.refused.is_empty(),
        }
    }

    /// What the control plane is told is wrong, if anything is.
    fn complaint(&self) -> Option<String> {
        match self.subject {
            #[cfg(feature = "waypoint")]
            Subject::Of(Kind::L7) => {
                let complaint = self.refused.as_json();
                let is_any = complaint.as_array().is_some_and(|list| !list.is_empty());
                is_any.then(|| complaint.to_string())
            }
            _ => (!self.refused.is_empty()).then(|| self.refused.to_string()),
        }
    }

    /// The type that the response says it is of. When its first resource was of another, and was taken for the type of
    /// the response, nothing of it applies.
    fn settle(&mut self, type_url: &str, state: &State) -> Option<Kind> {
        let said = Subject::of(type_url, &self.kinds);
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
    fn of(type_url: &str, asked: &[Kind]) -> Subject {
        let kind = Kind::of(type_url, asked);
        kind.map_or_else(|| Subject::Unknown(type_url.to_owned()), Subject::Of)
    }
}
