//! What Gateway API documents say, before it is known what they mean together.

use std::net::IpAddr;
use std::sync::Arc;

use crate::source::diagnostics::Place;
use crate::source::objects::Labels;

/// Everything that was read of these kinds.
#[derive(Default)]
pub(crate) struct GatewayObjects {
    pub(crate) classes: Vec<GatewayClassObject>,
    pub(crate) gateways: Vec<GatewayObject>,
    #[cfg(feature = "waypoint")]
    pub(crate) routes: Vec<routed::RouteObject>,
    #[cfg(feature = "waypoint")]
    pub(crate) grants: Vec<routed::GrantObject>,
    #[cfg(feature = "waypoint")]
    pub(crate) secrets: Vec<super::secrets::SecretObject>,
    #[cfg(feature = "waypoint")]
    pub(crate) backend_tls: Vec<super::backend_tls::BackendTlsObject>,
    #[cfg(feature = "waypoint")]
    pub(crate) sets: Vec<routed::ListenerSetObject>,
}

/// A GatewayClass: who looks after the Gateways of this class.
pub(crate) struct GatewayClassObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) controller: Arc<str>,
    pub(crate) generation: Option<u64>,
}

/// A Gateway.
pub(crate) struct GatewayObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) class: Arc<str>,
    /// Of the spec, else of the status.
    pub(crate) addresses: Vec<Addressed>,
    pub(crate) listeners: Vec<ListenerObject>,
    pub(crate) frontend: FrontendTls,
    /// Whose ListenerSets may add to them.
    pub(crate) allowed_listeners: NamespacesFrom,
    pub(crate) generation: Option<u64>,
    /// Backends are told which client asks.
    pub(crate) tells_client: bool,
}

/// `tls.frontend` of a Gateway: whom its HTTPS listeners let in.
#[derive(Default)]
pub(crate) struct FrontendTls {
    pub(crate) default: Option<ClientValidation>,
    /// Ports for which something else is said; `None`: nothing.
    pub(crate) per_port: Vec<(u16, Option<ClientValidation>)>,
}

/// `validation`: which certificates of clients are believed.
pub(crate) struct ClientValidation {
    pub(crate) authorities: Vec<SecretReference>,
    pub(crate) mode: ValidationMode,
}

/// `mode` of a `validation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValidationMode {
    AllowValidOnly,
    AllowInsecureFallback,
}

impl FrontendTls {
    /// What is said of a port.
    pub(crate) fn of(&self, port: u16) -> Option<&ClientValidation> {
        let own = self.per_port.iter().find(|(own, _)| *own == port);
        own.map_or(self.default.as_ref(), |(_, validation)| validation.as_ref())
    }

    /// Everything that is said.
    pub(crate) fn all(&self) -> impl Iterator<Item = &ClientValidation> {
        let per_port = self.per_port.iter().filter_map(|(_, validation)| validation.as_ref());
        self.default.iter().chain(per_port)
    }
}

/// An address of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Addressed {
    Ip(IpAddr),
    Hostname(Arc<str>),
    /// Of a type that means nothing here.
    Other(Arc<str>),
}

/// A listener of a Gateway.
pub(crate) struct ListenerObject {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) name: Arc<str>,
    pub(crate) hostname: Option<Arc<str>>,
    pub(crate) port: u16,
    pub(crate) protocol: SpokenAtListener,
    pub(crate) tls: Option<TlsAtListener>,
    /// Whose routes may attach.
    pub(crate) from: NamespacesFrom,
    /// Which kinds of routes may attach, as (group, kind); `None`: those that go with the protocol.
    pub(crate) kinds: Option<Vec<(Arc<str>, Arc<str>)>>,
}

/// `tls` of a listener.
pub(crate) struct TlsAtListener {
    pub(crate) passthrough: bool,
    pub(crate) certificates: Vec<SecretReference>,
    /// What older versions of the standard say here, and not of the Gateway.
    pub(crate) validation: Option<ClientValidation>,
    /// What Istio's option says.
    pub(crate) mutual: Option<MutualTls>,
}

/// Istio's `gateway.istio.io/tls-terminate-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MutualTls {
    Mutual,
    OptionalMutual,
}

/// Names a Secret or ConfigMap.
pub(crate) struct SecretReference {
    /// Of the name.
    pub(crate) place: Place,
    pub(crate) group: Arc<str>,
    pub(crate) kind: Arc<str>,
    /// `None`: that of whoever refers.
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) name: Arc<str>,
}

/// `protocol` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SpokenAtListener {
    Http,
    Https,
    Tls,
    Tcp,
    Hbone,
    Other(Arc<str>),
}

/// The namespaces whose routes a listener admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamespacesFrom {
    Same,
    All,
    None,
    Selector(LabelSelector),
}

/// A selector of labels: all of it must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector {
    pub(crate) labels: Labels,
    pub(crate) expressions: Vec<LabelExpression>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelExpression {
    pub(crate) key: Arc<str>,
    pub(crate) operator: LabelOperator,
    pub(crate) values: Vec<Arc<str>>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelOperator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub(crate) fn selects(&self, labels: &Labels) -> bool {
        let of = |key: &str| crate::source::objects::find(labels, key);
        let equal = self.labels.iter().all(|(key, value)| of(key) == Some(value));
        equal
            && self.expressions.iter().all(|expression| {
                let value = of(&expression.key);
                let listed = value.is_some_and(|value| expression.values.contains(value));
                match expression.operator {
                    LabelOperator::In => listed,
                    LabelOperator::NotIn => !listed,
                    LabelOperator::Exists => value.is_some(),
                    LabelOperator::DoesNotExist => value.is_none(),
                }
            })
    }
}

impl NamespacesFrom {
    /// Whether what stands in `namespace`, which has `labels`, may attach to what stands in `own`.
    pub(crate) fn admits(&self, own: &str, namespace: &str, labels: Option<&Labels>) -> bool {
        match self {
            NamespacesFrom::Same => own == namespace,
            NamespacesFrom::All => true,
            NamespacesFrom::None => false,
            NamespacesFrom::Selector(selector) => match labels {
                Some(labels) => selector.selects(labels),
                None => selector.selects(&Labels::default()),
            },
        }
    }
}

#[cfg(feature = "waypoint")]
pub(crate) mod routed {
    //! Routes, ListenerSets, and what lets them refer to other namespaces.

    use std::sync::Arc;

    use ringway_http::model::{Filter, HostPattern, Match, Retry, RouteKind, Timeouts};

    use super::super::values::GATEWAY_GROUP;
    use super::ListenerObject;
    use crate::source::diagnostics::Place;
    use crate::source::policy::SessionObject;

    /// A route of any kind.
    pub(crate) struct RouteObject {
        /// Of the name.
        pub(crate) place: Place,
        pub(crate) kind: RouteKind,
        pub(crate) name: Arc<str>,
        pub(crate) namespace: Arc<str>,
        /// Seconds since 1970, as far as the document says it.
        pub(crate) created: Option<i64>,
        pub(crate) generation: Option<u64>,
        pub(crate) parents: Vec<ParentReference>,
        pub(crate) hostnames: Vec<HostPattern>,
        pub(crate) rules: Vec<RuleObject>,
    }

    /// Where a route wants to be attached.
    pub(crate) struct ParentReference {
        pub(crate) place: Place,
        pub(crate) to: Reference,
        /// A listener's name.
        pub(crate) section: Option<Arc<str>>,
        pub(crate) port: Option<u16>,
    }

    /// Names an object.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(crate) struct Reference {
        pub(crate) group: Arc<str>,
        pub(crate) kind: Arc<str>,
        /// As given, or that of the object it stands in.
        pub(crate) namespace: Arc<str>,
        pub(crate) name: Arc<str>,
    }

    /// A rule.
    pub(crate) struct RuleObject {
        pub(crate) place: Place,
        pub(crate) name: Option<Arc<str>>,
        pub(crate) matches: Vec<Match>,
        pub(crate) filters: Vec<FilterObject>,
        pub(crate) backends: Vec<BackendObject>,
        pub(crate) timeouts: Timeouts,
        pub(crate) retry: Option<Retry>,
        pub(crate) session: Option<SessionObject>,
    }

    impl RuleObject {
        /// One that every request meets, without a backend.
        pub(crate) fn new(place: Place) -> RuleObject {
            RuleObject {
                place,
                name: None,
                matches: Vec::new(),
                filters: Vec::new(),
                backends: Vec::new(),
                timeouts: Timeouts::default(),
                retry: None,
                session: None,
            }
        }
    }

    /// One of `filters`.
    pub(crate) enum FilterObject {
        Plain(Filter),
        Mirror {
            backend: BackendReference,
            numerator: u32,
            denominator: u32,
        },
        /// One that Ringway does not have: requests that it was for are not served without it.
        Unsupported(Place, String),
    }

    /// One of `backendRefs`.
    pub(crate) struct BackendObject {
        pub(crate) reference: BackendReference,
        pub(crate) weight: u32,
        pub(crate) filters: Vec<FilterObject>,
    }

    /// Names a backend.
    #[derive(Clone)]
    pub(crate) struct BackendReference {
        /// Of the name.
        pub(crate) place: Place,
        pub(crate) to: Reference,
        pub(crate) port: Option<u16>,
    }

    /// A ListenerSet: listeners that are added to a Gateway's.
    pub(crate) struct ListenerSetObject {
        /// Of the name.
        pub(crate) place: Place,
        pub(crate) group: &'static str,
        /// `ListenerSet`, or what it was called before it was part of the standard.
        pub(crate) kind: &'static str,
        pub(crate) name: Arc<str>,
        pub(crate) namespace: Arc<str>,
        /// Seconds since 1970, as far as the document says it.
        pub(crate) created: Option<i64>,
        pub(crate) generation: Option<u64>,
        pub(crate) parent_place: Place,
        pub(crate) parent: Reference,
        pub(crate) listeners: Vec<ListenerObject>,
    }

    impl ListenerSetObject {
        /// The namespace and name of the Gateway that it names; `None`: it names something else.
        pub(crate) fn gateway(&self) -> Option<(&str, &str)> {
            let to = &self.parent;
            let is_gateway = (&*to.group, &*to.kind) == (GATEWAY_GROUP, "Gateway");
            is_gateway.then_some((&*to.namespace, &*to.name))
        }
    }

    /// A ReferenceGrant: who may refer to objects of its namespace.
    pub(crate) struct GrantObject {
        pub(crate) namespace: Arc<str>,
        pub(crate) from: Vec<GrantFrom>,
        pub(crate) to: Vec<GrantTo>,
    }

    pub(crate) struct GrantFrom {
        pub(crate) group: Arc<str>,
        pub(crate) kind: Arc<str>,
        pub(crate) namespace: Arc<str>,
    }

    pub(crate) struct GrantTo {
        pub(crate) group: Arc<str>,
        pub(crate) kind: Arc<str>,
        /// `None`: all of them.
        pub(crate) name: Option<Arc<str>>,
    }
}
