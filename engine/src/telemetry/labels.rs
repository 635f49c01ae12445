//! Who talks to whom, as labels of the `istio_tcp_*` metrics.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use ringway_protocols::{hbone::Baggage, identity::Identity};

use crate::snapshot::{Placement, Service, Workload, WorkloadKind};

/// Which side of a connection tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The client's host.
    Source,
    /// The server's host.
    Destination,
    /// A waypoint or gateway between the two.
    Waypoint,
}

impl Reporter {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

/// How a connection was secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecurityPolicy {
    /// Not by us.
    Unknown,
    /// Both sides proved their identities.
    MutualTls,
}

impl SecurityPolicy {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::MutualTls => "mutual_tls",
        }
    }
}

/// What is known about the two ends of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Parties {
    pub(crate) reporter: Reporter,
    pub(crate) security_policy: SecurityPolicy,
    pub(crate) source: Option<Arc<Workload>>,
    /// The identity the source proved, or that we proved for it.
    pub(crate) source_identity: Option<Identity>,
    pub(crate) destination: Option<Arc<Workload>>,
    /// The identity of the destination, for the log.
    pub(crate) destination_identity: Option<Identity>,
    /// The service the client meant.
    pub(crate) service: Option<Arc<Service>>,
    /// What the source's host said about the source; fills what we do not know ourselves.
    pub(crate) baggage: Option<Arc<Baggage>>,
    /// Who answered behind a network's gateway. `destination` is the gateway then.
    pub(crate) far_end: Option<Box<FarEnd>>,
}

/// Who answered behind a network's gateway: which endpoint it would be was not ours to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct FarEnd {
    /// The identity it proved.
    pub(crate) identity: Option<Identity>,
    /// What it says of itself.
    pub(crate) baggage: Option<Arc<Baggage>>,
}

/// [`Parties`] reduced to what makes a difference for labels, compared by address where it can be.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::telemetry) struct PartiesKey {
    reporter: Reporter,
    security_policy: SecurityPolicy,
    response_flag: &'static str,
    source: Option<SideKey>,
    source_identity: Option<Identity>,
    destination: DestinationKey,
    baggage: Option<Arc<Baggage>>,
    far_end: Option<Box<FarEnd>>,
}

/// Of [`PartiesKey`], whom the client meant and who it came to.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::telemetry) struct DestinationKey {
    workload: Option<SideKey>,
    service: Option<ByAddress<Service>>,
}

impl DestinationKey {
    pub(in crate::telemetry) fn of(
        workload: Option<&Arc<Workload>>,
        service: Option<&Arc<Service>>,
    ) -> Self {
        Self { workload: workload.map(SideKey::of), service: service.cloned().map(ByAddress) }
    }
}

/// What a workload has in common with others, and itself where its own name stands in labels.
#[derive(PartialEq, Eq, Hash)]
struct SideKey {
    kind: ByAddress<WorkloadKind>,
    placement: ByAddress<Placement>,
    own: Option<ByAddress<Workload>>,
}

impl SideKey {
    fn of(workload: &Arc<Workload>) -> Self {
        Self {
            kind: ByAddress(workload.kind().clone()),
            placement: ByAddress(workload.placement().clone()),
            own: workload.stands_for_itself().then(|| ByAddress(workload.clone())),
        }
    }
}

/// Something shared that is the same if it lies at the same address. Held, so that the address stays
/// its own.
struct ByAddress<T>(Arc<T>);

impl<T> PartialEq for ByAddress<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T> Eq for ByAddress<T> {}

impl<T> Hash for ByAddress<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (Arc::as_ptr(&self.0).cast::<()>() as usize).hash(state);
    }
}

impl Parties {
    pub(in crate::telemetry) fn key(&self, response_flag: &'static str) -> PartiesKey {
        PartiesKey {
            reporter: self.reporter,
            security_policy: self.security_policy,
            response_flag,
            source: self.source.as_ref().map(SideKey::of),
            source_identity: self.source_identity.clone(),
            destination: DestinationKey::of(self.destination.as_ref(), self.service.as_ref()),
            baggage: self.baggage.clone(),
            far_end: self.far_end.clone(),
        }
    }
}

/// The labels of one end. Empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerLabels {
    /// `*_workload`
    pub workload: Arc<str>,
    /// `*_canonical_service`
    pub canonical_service: Arc<str>,
    /// `*_canonical_revision`, and `*_version`
    pub canonical_revision: Arc<str>,
    /// `*_workload_namespace`
    pub namespace: Arc<str>,
    /// `*_principal`
    pub principal: Arc<str>,
    /// `*_app`
    pub app: Arc<str>,
    /// `*_cluster`
    pub cluster: Arc<str>,
    /// `*_region`
    pub region: Arc<str>,
    /// `*_zone`
    pub zone: Arc<str>,
}

/// The labels of the service the client meant. Empty where unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceLabels {
    /// `destination_service`: the hostname.
    pub hostname: Arc<str>,
    /// `destination_service_name`
    pub name: Arc<str>,
    /// `destination_service_namespace`
    pub namespace: Arc<str>,
}

/// One label set of the `istio_tcp_*` metrics.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrafficLabels {
    /// `reporter`
    pub reporter: Reporter,
    /// The `source_*` labels.
    pub source: PeerLabels,
    /// The `destination_*` labels.
    pub destination: PeerLabels,
    /// The `destination_service*` labels.
    pub service: ServiceLabels,
    /// `connection_security_policy`
    pub security_policy: SecurityPolicy,
    /// `response_flags`
    pub response_flags: &'static str,
    /// Whether the locality labels are told: when at least one side's workload is known.
    pub has_locality: bool,
}

impl TrafficLabels {
    pub(in crate::telemetry) fn of(parties: &Parties, response_flags: &'static str) -> Self {
        let mut source = parties.source.as_deref().map(PeerLabels::of).unwrap_or_default();
        if let Some(baggage) = &parties.baggage {
            source.fill_from(baggage);
        }
        source.principal = principal(parties.source_identity.as_ref());
        let mut destination =
            parties.destination.as_deref().map(PeerLabels::of).unwrap_or_default();
        let identity = parties.destination.as_ref().map(|workload| workload.identity());
        destination.principal = principal(identity);
        if let Some(far_end) = &parties.far_end {
            destination.replace_by(far_end);
        }
        let has_locality =
            parties.source.is_some() || parties.destination.is_some() || parties.baggage.is_some();
        Self {
            reporter: parties.reporter,
            source,
            destination,
            service: parties.service.as_deref().map(ServiceLabels::of).unwrap_or_default(),
            security_policy: parties.security_policy,
            response_flags,
            has_locality,
        }
    }

    /// The label set that stands for all those a shard has no more room for.
    pub(in crate::telemetry) fn without_names(&self) -> Self {
        Self {
            source: PeerLabels::default(),
            destination: PeerLabels::default(),
            service: ServiceLabels::default(),
            has_locality: false,
            ..self.clone()
        }
    }
}

impl PeerLabels {
    fn of(workload: &Workload) -> Self {
        let canonical_name = workload.shared_canonical_name();
        Self {
            workload: workload.shared_workload_name(),
            canonical_service: canonical_name.clone(),
            canonical_revision: workload.canonical_revision().clone(),
            namespace: workload.namespace().into(),
            principal: Arc::default(),
            app: canonical_name,
            cluster: workload.cluster().clone(),
            region: workload.locality().region.clone(),
            zone: workload.locality().zone.clone(),
        }
    }

    /// Fills what is unknown with what the peer's host says.
    fn fill_from(&mut self, baggage: &Baggage) {
        for (label, said) in self.said_by(baggage) {
            if let Some(said) = said.as_deref().filter(|_| label.is_empty()) {
                *label = said.into();
            }
        }
    }

    /// Puts who answered in place of what stood before it, as far as that is known.
    fn replace_by(&mut self, far_end: &FarEnd) {
        if let Some(baggage) = &far_end.baggage {
            for (label, said) in self.said_by(baggage) {
                if let Some(said) = said.as_deref() {
                    *label = said.into();
                }
            }
        }
        if far_end.identity.is_some() {
            self.principal = principal(far_end.identity.as_ref());
        }
    }

    /// Each label with what `baggage` says of it. `app` is the workload name, as Istio's own proxy has it.
    fn said_by<'a>(
        &'a mut self,
        baggage: &'a Baggage,
    ) -> [(&'a mut Arc<str>, &'a Option<Box<str>>); 8] {
        [
            (&mut self.workload, &baggage.workload_name),
            (&mut self.canonical_service, &baggage.service_name),
            (&mut self.canonical_revision, &baggage.service_version),
            (&mut self.namespace, &baggage.namespace),
            (&mut self.app, &baggage.workload_name),
            (&mut self.cluster, &baggage.cluster),
            (&mut self.region, &baggage.region),
            (&mut self.zone, &baggage.zone),
        ]
    }
}

impl ServiceLabels {
    fn of(service: &Service) -> Self {
        Self {
            hostname: service.hostname().into(),
            name: (&*service.name).into(),
            namespace: service.namespace().into(),
        }
    }
}

fn principal(identity: Option<&Identity>) -> Arc<str> {
    identity.map(|identity| identity.to_string().into()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Interner, WorkloadDescription};

    fn workload(interner: &mut Interner, name: &str, made_by: &str) -> Arc<Workload> {
        let description = WorkloadDescription {
            uid: format!("Kubernetes//Pod/shop/{name}"),
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            workload_name: made_by.to_owned(),
            canonical_name: made_by.to_owned(),
            ..WorkloadDescription::default()
        };
        Arc::new(interner.workload(description).expect("well described"))
    }

    fn of(source: &Arc<Workload>) -> (PartiesKey, TrafficLabels) {
        let parties = Parties {
            reporter: Reporter::Source,
            security_policy: SecurityPolicy::MutualTls,
            source: Some(source.clone()),
            source_identity: None,
            destination: None,
            destination_identity: None,
            service: None,
            baggage: None,
            far_end: None,
        };
        (parties.key("-"), TrafficLabels::of(&parties, "-"))
    }

    #[test]
    fn who_shares_all_but_the_name_is_counted_apart_where_labels_tell_it() {
        let interner = &mut Interner::new();
        //  name                      one                             other                           same
        let rows = [
            (
                "replicas",
                workload(interner, "web-1", "web"),
                workload(interner, "web-2", "web"),
                true,
            ),
            ("alone", workload(interner, "one", "one"), workload(interner, "two", "two"), false),
        ];
        for (name, one, other, same) in rows {
            let ((one, one_told), (other, other_told)) = (of(&one), of(&other));
            assert_eq!((one == other, one_told == other_told), (same, same), "{name}");
        }
    }
}
