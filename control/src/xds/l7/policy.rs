//! Policies by themselves, and what they are attached to.

use ringway_http::model::RouteName;
use ringway_http::model::ServiceName;
use ringway_http::model::policy::{PolicyName, Target};

use super::rule::{external, limits, nothing_asked};
use super::values::{Wrong, route_kind};
use super::{Closed, L7Resource, PolicyKind, Read, Refused, ToldPolicy, protocol};
use crate::proto::agent as told;
use crate::proto::agent::backend_policy_spec::Kind as Backend;
use crate::proto::agent::policy::Kind;
use crate::proto::agent::policy_target::Kind as TargetKind;
use crate::proto::agent::traffic_policy_spec::Kind as Traffic;
use crate::xds::decode::Rejection;
use crate::xds::l7::backend_tls::backend_tls;

pub(super) fn policy(told: told::Policy) -> Result<Read, Box<Refused>> {
    if told.key.is_empty() {
        return Err(Rejection::Missing("key").into());
    }
    let name = name(&told);
    let mut warnings = Vec::new();
    let read = what(&told, &mut warnings);
    let target = match target(told.target.as_ref()) {
        Ok(target) => target,
        // Of nothing that can be closed.
        Err(why) => return Err(Rejection::Unsupported(why).into()),
    };
    match read {
        Ok(policy) => {
            let resource = L7Resource::Policy(ToldPolicy { name, target, policy });
            Ok(Read { resource: Some(resource), warnings })
        }
        Err(why) => {
            let closes = protocol::closes(told.kind.as_ref());
            let why = if closes { format!("{why}: what it is for is closed") } else { why };
            let closed = || Closed { name, target, why: why.as_str().into() };
            let instead = closes.then(|| L7Resource::Closed(closed()));
            Err(Box::new(Refused { why: Rejection::Unsupported(why), instead }))
        }
    }
}

fn what(told: &told::Policy, warnings: &mut Vec<String>) -> Result<PolicyKind, Wrong> {
    if told.inheritance != 0 {
        return Err("a policy that overrides others is not supported".to_owned());
    }
    match &told.kind {
        Some(Kind::Traffic(traffic)) => match &traffic.kind {
            Some(Traffic::Authorization(rules)) => {
                nothing_asked(rules).map(|()| PolicyKind::Nothing)
            }
            Some(Traffic::ExtAuthz(told_auth)) => {
                external(told_auth, &told.key, warnings).map(PolicyKind::External)
            }
            Some(Traffic::LocalRateLimit(told)) => limits(told).map(PolicyKind::Limit),
            other => {
                let name = protocol::traffic_policy(other.as_ref());
                Err(format!("{name} is not supported here"))
            }
        },
        Some(Kind::Backend(told::BackendPolicySpec { kind: Some(Backend::BackendTls(tls)) })) => {
            backend_tls(tls, told.target.as_ref()).map(PolicyKind::BackendTls)
        }
        Some(Kind::Backend(backend)) => {
            Err(format!("{} is not supported", protocol::backend_policy(backend.kind.as_ref())))
        }
        Some(Kind::Frontend(frontend)) => {
            Err(format!("{} is not supported", protocol::frontend_policy(frontend.kind.as_ref())))
        }
        Some(Kind::Conditional(_)) => {
            Err("a policy with a condition (CEL) is not supported".to_owned())
        }
        None => Err("a policy of a kind that is not known".to_owned()),
    }
}

fn name(told: &told::Policy) -> PolicyName {
    match &told.name {
        Some(name) if !name.name.is_empty() => PolicyName {
            namespace: name.namespace.as_str().into(),
            name: name.name.as_str().into(),
        },
        _ => PolicyName { namespace: "".into(), name: told.key.as_str().into() },
    }
}

/// A port of a gateway, and a set of listeners, are the whole gateway: more is closed or limited rather than less.
fn target(told: Option<&told::PolicyTarget>) -> Result<Target, Wrong> {
    let kind = told.and_then(|target| target.kind.as_ref());
    Ok(match kind.ok_or("a target that is not known")? {
        TargetKind::Gateway(gateway) => Target::Gateway {
            namespace: gateway.namespace.as_str().into(),
            name: gateway.name.as_str().into(),
            listener: gateway.listener.as_deref().map(Into::into),
        },
        TargetKind::Route(route) => Target::Route {
            route: RouteName {
                kind: route_kind(&route.kind).map_err(|error| error.to_string())?,
                namespace: route.namespace.as_str().into(),
                name: route.name.as_str().into(),
            },
            rule: route.route_rule.as_deref().map(Into::into),
        },
        TargetKind::Service(service) => Target::Service {
            service: ServiceName {
                namespace: service.namespace.as_str().into(),
                hostname: service.hostname.as_str().into(),
            },
            port: service.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        },
        TargetKind::Backend(_) => return Err("a policy for a Backend is not supported".to_owned()),
        TargetKind::ListenerSet(_) => {
            return Err("a policy for a ListenerSet is not supported".to_owned());
        }
    })
}
