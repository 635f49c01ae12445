//! `gateway.networking.x-k8s.io XBackendTrafficPolicy`: how much of what goes to a service may be tried again, and who comes
//! back to his endpoint there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ringway_http::model::ServiceName;
use ringway_http::model::policy::{Attached, PolicyName};
use ringway_http::model::traffic::{RetryBudget, TrafficPolicy};

use super::session::{SessionObject, session_persistence};
use super::targets::services;
use super::{PolicyObject, object};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::did_you_mean;
use crate::source::gateway::{Condition, ObjectStatus, ParentStatus, Registry};
use crate::source::kubernetes::{created, generation};
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{Fields, mapping};
use crate::source::yaml::scalars::{duration, integer};
use crate::source::yaml::value::Value;

/// What a policy says.
#[derive(Clone, Debug)]
pub(crate) struct BackendTraffic {
    /// Seconds since 1970, as far as the document says it.
    pub(crate) created: Option<i64>,
    pub(crate) generation: Option<u64>,
    pub(crate) retry_budget: Option<RetryBudget>,
    pub(crate) session: Option<SessionObject>,
}

/// Targets of one policy, as the standard has it.
const TARGETS_MAX: usize = 16;

/// What a budget looks back at, and a rate is of, as the standard has it.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
const BUDGET_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Retries of a rate, as the standard has it.
const COUNT_MAX: u64 = 1_000_000;

pub(crate) fn backend_traffic_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<BackendTraffic>> {
    let (created, generation) = (created(value), generation(value));
    let mut read = object("XBackendTrafficPolicy", value, context, reporter, spec)?;
    (read.policy.created, read.policy.generation) = (created, generation);
    Some(read)
}

fn spec(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<(Vec<TargetReference>, BackendTraffic)> {
    mapping("spec", value, reporter, |fields| {
        let targets = target_references(fields, namespace);
        if !(1..=TARGETS_MAX).contains(&targets.len()) && !fields.reporter.has_errors() {
            let message = format!("expected from 1 to {TARGETS_MAX} `targetRefs`");
            let place = fields.place("targetRefs");
            fields.reporter.report(Problem::error(place, message));
        }
        let retry_budget = fields.optional("retryConstraint", retry_constraint);
        let session = fields.optional("sessionPersistence", session_persistence);
        (targets, BackendTraffic { created: None, generation: None, retry_budget, session })
    })
}

/// What is not said is as the standard has it.
fn retry_constraint(value: &Value, reporter: &mut Reporter) -> Option<RetryBudget> {
    mapping("retryConstraint", value, reporter, |fields| {
        let otherwise = RetryBudget::default();
        let (percent, interval) = fields.optional("budget", budget).unwrap_or_default();
        let (count, of) = fields.optional("minRetryRate", rate).unwrap_or_default();
        RetryBudget {
            percent: percent.map_or(otherwise.percent, |percent| percent as f64),
            interval: interval.unwrap_or(otherwise.interval),
            floor: count.map_or(otherwise.floor, |count| count as u32),
            floor_interval: of.unwrap_or(otherwise.floor_interval),
        }
    })
}

type OfTime = (Option<u64>, Option<Duration>);

fn budget(value: &Value, reporter: &mut Reporter) -> Option<OfTime> {
    mapping("budget", value, reporter, |fields| {
        let percent = fields.optional("percent", integer(0..=100));
        (percent, interval(fields, BUDGET_INTERVAL_MIN, "expected a duration from 1s to 1h"))
    })
}

fn rate(value: &Value, reporter: &mut Reporter) -> Option<OfTime> {
    mapping("minRetryRate", value, reporter, |fields| {
        let count = fields.optional("count", integer(1..=COUNT_MAX));
        (count, interval(fields, Duration::from_millis(1), "expected a duration from 1ms to 1h"))
    })
}

fn interval(
    fields: &mut Fields<'_, '_>,
    least: Duration,
    expected: &'static str,
) -> Option<Duration> {
    fields.optional("interval", |value, reporter| {
        let interval = duration(value, reporter)?;
        if !(least..=INTERVAL_MAX).contains(&interval) {
            reporter.report(Problem::error(value.place, expected));
            return None;
        }
        Some(interval)
    })
}

/// A target that a policy is not attached to.
struct Refused {
    /// One word of the standard.
    reason: &'static str,
    message: String,
    help: Option<String>,
}

/// Attaches all policies, the oldest first: of two for one service the older one is in force.
pub(super) fn attach(
    objects: &[PolicyObject<BackendTraffic>],
    registry: &Registry<'_>,
    reporter: &mut Reporter,
) -> (Vec<Attached<TrafficPolicy>>, Vec<ObjectStatus>) {
    let mut sorted: Vec<&PolicyObject<BackendTraffic>> = objects.iter().collect();
    // Those without a time are as old as they stand in the files.
    sorted.sort_by_key(|one| (one.policy.created.is_none(), one.policy.created));
    let mut taken: HashMap<ServiceName, Arc<str>> = HashMap::new();
    sorted.into_iter().map(|object| attach_one(object, registry, &mut taken, reporter)).unzip()
}

fn attach_one(
    object: &PolicyObject<BackendTraffic>,
    registry: &Registry<'_>,
    taken: &mut HashMap<ServiceName, Arc<str>>,
    reporter: &mut Reporter,
) -> (Attached<TrafficPolicy>, ObjectStatus) {
    let PolicyObject { name, namespace, policy, .. } = object;
    let (mut targets, mut ancestors) = (Vec::new(), Vec::new());
    for to in &object.targets {
        let found = target(to, namespace, registry)
            .and_then(|services| claim(services, name, taken))
            .map(|services| targets.extend(services));
        let accepted = match found {
            Ok(()) => Condition::good("Accepted", "Accepted"),
            Err(Refused { reason, message, help }) => {
                reporter.report(Problem::warning(to.place, message.clone()).help(help));
                Condition::bad("Accepted", reason, message)
            }
        };
        ancestors.push(ParentStatus {
            group: to.group.clone(),
            kind: to.kind.clone(),
            namespace: namespace.clone(),
            name: to.name.clone(),
            section: to.section.clone(),
            port: None,
            conditions: vec![accepted],
        });
    }
    let owner = format!("XBackendTrafficPolicy/{namespace}/{name}");
    let said = TrafficPolicy {
        retry_budget: policy.retry_budget.clone(),
        session: policy.session.as_ref().map(|session| session.of(&owner)),
        ..TrafficPolicy::default()
    };
    let status = ObjectStatus {
        kind: "XBackendTrafficPolicy",
        namespace: namespace.clone(),
        name: name.clone(),
        generation: policy.generation,
        conditions: Vec::new(),
        listeners: Vec::new(),
        attached_sets: None,
        parents: ancestors,
    };
    let name = PolicyName { namespace: namespace.clone(), name: name.clone() };
    (Attached { name, targets: services(targets), policy: said }, status)
}

/// The services that a target is.
fn target(
    to: &TargetReference,
    namespace: &str,
    registry: &Registry<'_>,
) -> Result<Vec<ServiceName>, Refused> {
    let refused = |reason, message, help| Err(Refused { reason, message, help });
    let kind = &to.kind;
    if to.section.is_some() {
        let message = format!("a {kind} has no sections to attach a policy to");
        return refused("Invalid", message, None);
    }
    let found: Vec<_> = match (&*to.group, &**kind) {
        ("" | "core", "Service") => registry.service(namespace, &to.name).into_iter().collect(),
        ("networking.istio.io", "ServiceEntry") => registry.entry(namespace, &to.name),
        _ => {
            let message = format!("a policy like this cannot be attached to this kind, {kind}");
            return refused("Invalid", message, Some("there are Service, ServiceEntry".to_owned()));
        }
    };
    if found.is_empty() {
        let message = format!("there is no {kind} `{}` in the namespace `{namespace}`", to.name);
        let help = did_you_mean(&to.name, registry.service_names(namespace));
        return refused("TargetNotFound", message, help);
    }
    Ok(found.into_iter().map(|one| one.name.clone()).collect())
}

/// A service has one policy.
fn claim(
    services: Vec<ServiceName>,
    policy: &Arc<str>,
    taken: &mut HashMap<ServiceName, Arc<str>>,
) -> Result<Vec<ServiceName>, Refused> {
    if let Some(other) = services.iter().find_map(|service| taken.get(service)) {
        let message = format!("the older `{other}` is in force here");
        return Err(Refused { reason: "Conflicted", message, help: None });
    }
    taken.extend(services.iter().map(|service| (service.clone(), policy.clone())));
    Ok(services)
}
