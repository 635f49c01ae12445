//! What references to backends lead to.

use ringway_http::model::{Backend, BackendTarget};

use super::registry::{KnownService, Registry};
use crate::source::diagnostics::suggest::one_of;
use crate::source::did_you_mean;
use crate::source::gateway::objects::routed::BackendReference;

/// A reference that leads nowhere.
pub(super) struct Unresolved {
    /// One word of the standard.
    pub(super) reason: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Unresolved {
    pub(super) fn backend(&self) -> Backend {
        Backend { target: BackendTarget::Invalid(self.message.as_str().into()) }
    }
}

/// The group of Istio's `Hostname`.
pub(super) const ISTIO_NETWORKING: &str = "networking.istio.io";

/// What a backend reference of a route of `kind` in `namespace` leads to.
pub(super) fn resolve(
    registry: &Registry<'_>,
    kind: (&str, &str),
    namespace: &str,
    reference: &BackendReference,
) -> Result<Backend, Unresolved> {
    let to = &reference.to;
    let known = match (&*to.group, &*to.kind) {
        ("", "Service") => {
            if *to.namespace != *namespace && !registry.is_granted(kind, namespace, to) {
                return Err(not_permitted(kind.1, namespace, reference));
            }
            registry.service(&to.namespace, &to.name)
        }
        (ISTIO_NETWORKING, "Hostname") => registry.by_hostname(&to.name, namespace),
        (group, kind) => {
            let dot = if group.is_empty() { "" } else { "." };
            return Err(Unresolved {
                reason: "InvalidKind",
                message: format!("a backend of the kind `{kind}{dot}{group}` is not supported"),
                help: Some(
                    "backends are a `Service`, or a `Hostname` of `networking.istio.io`".into(),
                ),
            });
        }
    };
    let known = known.ok_or_else(|| not_found(registry, reference))?;
    service(known, reference)
}

fn service(known: &KnownService, reference: &BackendReference) -> Result<Backend, Unresolved> {
    let port = match (reference.port, &known.ports[..]) {
        (Some(port), _) => port,
        (None, [only]) => *only,
        (None, _) => 0,
    };
    if known.ports.contains(&port) {
        return Ok(Backend {
            target: BackendTarget::Service { service: known.name.clone(), port },
        });
    }
    let name = &reference.to.name;
    let ports: Vec<String> = known.ports.iter().map(u16::to_string).collect();
    Err(Unresolved {
        reason: "BackendNotFound",
        message: match reference.port {
            Some(port) => format!("`{name}` has no port {port}"),
            None => format!("`{name}` has several ports, and none is named"),
        },
        help: (!ports.is_empty())
            .then(|| format!("it has {}", one_of(ports.iter().map(String::as_str)))),
    })
}

fn not_permitted(kind: &str, namespace: &str, reference: &BackendReference) -> Unresolved {
    let to = &reference.to;
    Unresolved {
        reason: "RefNotPermitted",
        message: format!(
            "no ReferenceGrant of the namespace `{}` lets a {kind} of `{namespace}` refer to the Service `{}`",
            to.namespace, to.name
        ),
        help: Some(format!("add a ReferenceGrant to the namespace `{}`", to.namespace)),
    }
}

fn not_found(registry: &Registry<'_>, reference: &BackendReference) -> Unresolved {
    let to = &reference.to;
    let (message, help) = match &*to.kind {
        "Hostname" => (format!("no service has the hostname `{}`", to.name), None),
        _ => (
            format!("there is no Service `{}` in the namespace `{}`", to.name, to.namespace),
            did_you_mean(&to.name, registry.service_names(&to.namespace)),
        ),
    };
    Unresolved { reason: "BackendNotFound", message, help }
}
