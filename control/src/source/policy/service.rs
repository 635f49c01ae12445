//! Services that policies have asked about requests: as Istio names them, by their whole host.

use std::sync::Arc;

use ringway_http::model::{Backend, BackendTarget};

use crate::source::diagnostics::suggest::{did_you_mean, one_of};
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::gateway::Registry;
use crate::source::yaml::fields::Fields;
use crate::source::yaml::scalars::{nonempty, port};

/// `service`, which is `host` or `namespace/host`, and `port`.
#[derive(Clone)]
pub(crate) struct ServiceReference {
    place: Place,
    namespace: Option<Arc<str>>,
    host: Arc<str>,
    port_place: Place,
    port: u16,
}

impl ServiceReference {
    /// Reads both keys.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<ServiceReference> {
        let (place, port_place) = (fields.value_place("service"), fields.value_place("port"));
        let service = fields.required("service", nonempty);
        let port = fields.required("port", port);
        let (namespace, host) = match service?.split_once('/') {
            Some((namespace, host)) => (Some(namespace.into()), host),
            None => (None, service?),
        };
        Some(ServiceReference { place, namespace, host: host.into(), port_place, port: port? })
    }

    /// The service, as it is seen from the namespace `own`.
    pub(super) fn resolve(
        &self,
        own: &str,
        registry: &Registry<'_>,
        reporter: &mut Reporter,
    ) -> Backend {
        let known = match &self.namespace {
            Some(namespace) => registry.of_host(namespace, &self.host),
            None => {
                registry.by_hostname(&self.host, own).or_else(|| registry.of_host(own, &self.host))
            }
        };
        let Some(known) = known else {
            let namespace = self.namespace.as_deref().unwrap_or(own);
            let near = did_you_mean(&self.host, registry.service_names(namespace));
            let help = near.unwrap_or_else(|| {
                "give its whole host, or `namespace/host`; a ServiceEntry tells of hosts outside of the mesh"
                    .to_owned()
            });
            let message = format!("there is no service `{}`", self.host);
            reporter.report(Problem::error(self.place, message).help(help));
            return unresolved();
        };
        if !known.ports.contains(&self.port) {
            let message = format!("the service `{}` has no port {}", self.host, self.port);
            let ports: Vec<String> = known.ports.iter().map(ToString::to_string).collect();
            let help = format!("it has {}", one_of(ports.iter().map(|port| &**port)));
            reporter.report(Problem::error(self.port_place, message).help(help));
        }
        Backend { target: BackendTarget::Service { service: known.name.clone(), port: self.port } }
    }
}

/// Nobody, until it is known who is meant.
pub(super) fn unresolved() -> Backend {
    Backend { target: BackendTarget::Invalid("the service is not known yet".into()) }
}
