//! Which BackendTLSPolicy is in force for which Service, and what each comes to.
//!
//! A policy that asks for TLS and cannot have it closes its backends: nothing is sent to them in the clear.

use std::collections::HashMap;
use std::sync::Arc;

use ringway_http::model::policy::{Attached, PolicyName, Target};
use ringway_http::model::traffic::{Belief, TlsOrigination, TlsSettings, TrafficPolicy};
use ringway_http::model::{BackendTarget, GatewayName, Parent, Route, ServiceName};

use super::authorities::authorities;
use super::gateways::Gateways;
use super::registry::Registry;
use super::{Fronted, warn};
use crate::grpc;
use crate::source::diagnostics::Reporter;
use crate::source::diagnostics::suggest::one_of;
use crate::source::did_you_mean;
use crate::source::gateway::backend_tls::{Authorities, AuthorityReference, BackendTlsObject};
use crate::source::gateway::status::{Condition, ObjectStatus, ParentStatus};
use crate::source::gateway::values::GATEWAY_GROUP;
use crate::source::security::TargetReference;

/// Compiles one policy after the other.
pub(super) struct BackendTlsCompiler<'c, 'o> {
    pub(super) registry: &'c Registry<'o>,
    pub(super) gateways: &'c mut Gateways<'o>,
    pub(super) routes: &'c [Route],
    /// Which waypoint stands before which service.
    pub(super) fronted: &'c [Fronted],
    pub(super) reporter: &'c mut Reporter,
}

/// A Service, or one of its ports.
type Place = (ServiceName, Option<u16>);

/// What goes wrong with a target, or with all of a policy.
struct Refused {
    /// One word of the standard.
    reason: &'static str,
    message: String,
}

impl BackendTlsCompiler<'_, '_> {
    /// The older policies go before the younger.
    pub(super) fn compile(
        &mut self,
        objects: &[BackendTlsObject],
    ) -> (Vec<Attached<TrafficPolicy>>, Vec<ObjectStatus>) {
        let mut taken: HashMap<Place, PolicyName> = HashMap::new();
        let mut all = (Vec::new(), Vec::new());
        for object in by_age(objects) {
            let (attached, status) = self.one(object, &mut taken);
            all.0.push(attached);
            all.1.push(status);
        }
        all
    }

    fn one(
        &mut self,
        object: &BackendTlsObject,
        taken: &mut HashMap<Place, PolicyName>,
    ) -> (Attached<TrafficPolicy>, ObjectStatus) {
        let name = PolicyName { namespace: object.namespace.clone(), name: object.name.clone() };
        let (authorities, unresolved) = self.authorities(object);
        let mut targets = Vec::new();
        let mut places: Vec<(ServiceName, Option<Refused>)> = Vec::new();
        for target in &object.targets {
            let place = match self.place(&object.namespace, target) {
                Ok(place) => place,
                Err((refused, help)) => {
                    warn(target.place, &refused.message, help, self.reporter);
                    continue;
                }
            };
            let other = taken.get(&place).filter(|other| **other != name);
            let refused = other.map(|other| Refused {
                reason: "Conflicted",
                message: format!("the older policy `{other}` is for the same"),
            });
            if let Some(refused) = &refused {
                warn(target.place, &refused.message, None, self.reporter);
            } else {
                taken.insert(place.clone(), name.clone());
                targets.push(Target::Service { service: place.0.clone(), port: place.1 });
            }
            places.push((place.0, refused));
        }
        let tls = match &authorities {
            Ok(authorities) => TlsOrigination::By(Arc::new(TlsSettings {
                server_name: object.hostname.clone(),
                authorities: authorities.clone(),
                revoked: None,
                belief: match &object.names[..] {
                    [] => Belief::ServerName,
                    names => Belief::OneOf(names.to_vec()),
                },
                client: None,
            })),
            Err(refused) => {
                let why =
                    format!("the BackendTLSPolicy `{name}` cannot be used: {}", refused.message);
                TlsOrigination::Broken(why.into())
            }
        };
        let policy = TrafficPolicy { tls: Some(tls), ..TrafficPolicy::default() };
        let status = self.status(object, &places, authorities.err(), unresolved);
        (Attached { name, targets, policy }, status)
    }

    /// Who may sign for the backends, in PEM, and the first reference that leads nowhere.
    fn authorities(
        &mut self,
        object: &BackendTlsObject,
    ) -> (Result<Arc<[u8]>, Refused>, Option<Refused>) {
        let nobody = |message| Refused { reason: "NoValidCACertificate", message };
        let references = match &object.authorities {
            Authorities::System => {
                return (grpc::system_roots().map(Into::into).map_err(nobody), None);
            }
            Authorities::Listed(references) => references,
        };
        let (mut all, mut unresolved) = (Vec::new(), None);
        for reference in references {
            match self.authority(&object.namespace, reference) {
                Ok(pem) => {
                    all.extend_from_slice(pem);
                    all.push(b'\n');
                }
                Err(refused) => {
                    warn(reference.place, &refused.message, None, self.reporter);
                    unresolved.get_or_insert(refused);
                }
            }
        }
        let authorities = match &unresolved {
            Some(refused) if all.is_empty() => Err(nobody(refused.message.clone())),
            _ => Ok(all.into()),
        };
        (authorities, unresolved)
    }

    fn authority(
        &self,
        namespace: &str,
        reference: &AuthorityReference,
    ) -> Result<&Arc<[u8]>, Refused> {
        let AuthorityReference { group, kind, name, .. } = reference;
        if (&**group, &**kind) != ("", "ConfigMap") {
            let message =
                format!("authorities stand in ConfigMaps, not in objects of the kind `{kind}`");
            return Err(Refused { reason: "InvalidKind", message });
        }
        authorities(self.registry, kind, namespace, name)
            .map_err(|message| Refused { reason: "InvalidCACertificateRef", message })
    }

    fn place(
        &self,
        namespace: &str,
        target: &TargetReference,
    ) -> Result<Place, (Refused, Option<String>)> {
        let TargetReference { group, kind, name, section, .. } = target;
        let refused = |reason, message, help| Err((Refused { reason, message }, help));
        if (&**group, &**kind) != ("", "Service") {
            let message = format!("TLS to an object of the kind `{kind}` is not supported");
            return refused("Invalid", message, Some("it is for a Service".to_owned()));
        }
        let Some(service) = self.registry.service(namespace, name) else {
            let message = format!("there is no Service `{name}` in the namespace `{namespace}`");
            let help = did_you_mean(name, self.registry.service_names(namespace));
            return refused("TargetNotFound", message, help);
        };
        let Some(section) = section else { return Ok((service.name.clone(), None)) };
        let port = service.named.iter().find(|(own, _)| own == section);
        let Some((_, port)) = port else {
            let message = format!("the Service `{name}` has no port that is named `{section}`");
            let names = service.named.iter().map(|(name, _)| &**name);
            let help = (!service.named.is_empty()).then(|| format!("it has {}", one_of(names)));
            return refused("TargetNotFound", message, help);
        };
        Ok((service.name.clone(), Some(*port)))
    }

    /// Per Gateway through which one of the services is reached.
    fn status(
        &mut self,
        object: &BackendTlsObject,
        places: &[(ServiceName, Option<Refused>)],
        unusable: Option<Refused>,
        unresolved: Option<Refused>,
    ) -> ObjectStatus {
        let mut ancestors: Vec<(GatewayName, Option<&Refused>)> = Vec::new();
        for (service, refused) in places {
            for gateway in self.gateways_of(service) {
                match ancestors.iter_mut().find(|(known, _)| *known == gateway) {
                    Some((_, known)) => *known = known.or(refused.as_ref()),
                    None => ancestors.push((gateway, refused.as_ref())),
                }
            }
        }
        let bad = |kind, Refused { reason, message }: &Refused| {
            Condition::bad(kind, reason, message.clone())
        };
        let parents = ancestors.into_iter().map(|(gateway, refused)| ParentStatus {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: gateway.namespace,
            name: gateway.name,
            section: None,
            port: None,
            conditions: vec![
                match refused.or(unusable.as_ref()) {
                    Some(refused) => bad("Accepted", refused),
                    None => Condition::good("Accepted", "Accepted"),
                },
                match &unresolved {
                    Some(refused) => bad("ResolvedRefs", refused),
                    None => Condition::good("ResolvedRefs", "ResolvedRefs"),
                },
            ],
        });
        ObjectStatus {
            kind: "BackendTLSPolicy",
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            generation: object.generation,
            conditions: Vec::new(),
            listeners: Vec::new(),
            attached_sets: None,
            parents: parents.collect(),
        }
    }

    /// Those of ours by whose routes it is a backend, and the waypoint before it.
    fn gateways_of(&mut self, service: &ServiceName) -> Vec<GatewayName> {
        let leads_there = |route: &&Route| {
            let mut backends = route.rules.iter().flat_map(|rule| &rule.backends);
            backends.any(|one| {
                matches!(&one.backend.target, BackendTarget::Service { service: to, .. } if to == service)
            })
        };
        let parents = self.routes.iter().filter(leads_there).flat_map(|route| &route.parents);
        let listeners = parents.filter_map(|parent| match parent {
            Parent::Listener(key) => Some(key.gateway()),
            Parent::Service { .. } => None,
        });
        let waypoints = self.fronted.iter().filter(|fronted| {
            let known = self.registry.service(&fronted.namespace, &fronted.name);
            known.is_some_and(|known| known.name == *service)
        });
        let all = listeners.chain(waypoints.map(|fronted| fronted.waypoint.clone()));
        let mut all: Vec<GatewayName> = all.collect();
        all.sort();
        all.dedup();
        all.retain(|one| {
            let known = self.gateways.get(&one.namespace, &one.name);
            known.is_some_and(|known| known.served.is_some())
        });
        all
    }
}

/// The oldest first; those of one second go by name, as the standard says, and so do those without a time, after the others.
fn by_age(objects: &[BackendTlsObject]) -> Vec<&BackendTlsObject> {
    let mut sorted: Vec<&BackendTlsObject> = objects.iter().collect();
    sorted.sort_by_key(|one| (one.created.is_none(), one.created, &one.namespace, &one.name));
    sorted
}
