//! `ringway.dev RateLimitPolicy`: how many requests may come.

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::limits::OUTSIDE_RATE_LIMIT_TIMEOUT;
use ringway_http::model::policy::{
    Descriptor, DescriptorValue, GlobalRateLimit, LocalRateLimit, RateLimitPolicy,
};

use super::providers::outside_timeout;
use super::rules::path;
use super::service::{ServiceReference, unresolved};
use super::tokens::header;
use super::{PolicyObject, object};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{boolean, duration, integer, nonempty, word};
use crate::source::yaml::value::Value;

/// Requests of a burst, or of an interval: more is no limit.
const REQUESTS_MAX: u64 = 1_000_000_000;

/// An interval, at most: longer ones outlive the process that counts.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn rate_limit_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<RateLimits>> {
    object("RateLimitPolicy", value, context, reporter, spec)
}

/// A policy, and who keeps its global limits.
#[derive(Clone)]
pub(crate) struct RateLimits {
    pub(crate) policy: RateLimitPolicy,
    pub(crate) service: Option<ServiceReference>,
}

fn spec(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<(Vec<TargetReference>, RateLimits)> {
    mapping("spec", value, reporter, |fields| {
        let targets = target_references(fields, namespace);
        let local = fields.optional("local", |value, reporter| list(value, reporter, limit));
        let global = fields.optional("global", global);
        if fields.value("local").is_none() && fields.value("global").is_none() {
            let message = "this limits nothing";
            let help = "expected `local`, `global` or both".to_owned();
            fields.reporter.report(Problem::error(value.place, message).help(help));
        }
        let (service, global) = global.unzip();
        let policy = RateLimitPolicy { local: local.unwrap_or_default(), global };
        (targets, RateLimits { policy, service })
    })
}

/// Limits that a rate limit service keeps.
fn global(value: &Value, reporter: &mut Reporter) -> Option<(ServiceReference, GlobalRateLimit)> {
    mapping("global", value, reporter, |fields| {
        let service = ServiceReference::read(fields);
        let domain = fields.required("domain", nonempty);
        let timeout =
            fields.optional("timeout", outside_timeout).unwrap_or(OUTSIDE_RATE_LIMIT_TIMEOUT);
        let fail_open = fields.optional("failOpen", boolean).unwrap_or(true);
        let place = fields.value_place("descriptors");
        let descriptors = fields.required("descriptors", |value, reporter| {
            list(value, reporter, |value, reporter| {
                mapping("descriptors[]", value, reporter, |fields| {
                    fields.required("entries", |value, reporter| list(value, reporter, entry))
                })?
            })
        })?;
        if descriptors.is_empty() || descriptors.iter().any(Vec::is_empty) {
            let message = "a descriptor without entries is for no request";
            fields.reporter.report(Problem::error(place, message));
        }
        let limit = GlobalRateLimit {
            service: unresolved(),
            domain: domain?.into(),
            descriptors,
            timeout,
            fail_open,
        };
        Some((service?, limit))
    })?
}

/// An entry of a descriptor: a word of a local limit's key, or one thing of the request, perhaps under a name of its own.
fn entry(value: &Value, reporter: &mut Reporter) -> Option<Descriptor> {
    if value.entries().is_none() {
        return descriptor(value, reporter);
    }
    mapping("entries[]", value, reporter, |fields| {
        let key = fields.optional("key", nonempty);
        let mut given: Vec<(Arc<str>, DescriptorValue)> = Vec::new();
        if let Some(text) = fields.optional("value", nonempty) {
            given.push(("generic_key".into(), DescriptorValue::Constant(text.into())));
        }
        if let Some(name) = fields.optional("header", header) {
            given.push((name.as_str().into(), DescriptorValue::Header(name)));
        }
        if let Some(path) = fields.optional("pathMatch", path) {
            given.push(("path".into(), DescriptorValue::PathIs(path)));
        }
        if let Some(claim) = fields.optional("claim", nonempty) {
            let inside = claim.split('.').map(Into::into).collect();
            given.push((claim.into(), DescriptorValue::Claim(inside)));
        }
        if let Some(attribute) = fields.optional("attribute", word(WORDS)) {
            let name = fields.value("attribute").and_then(Value::text).unwrap_or_default();
            given.push((name.into(), attribute.value()));
        }
        let keys = ["value", "header", "pathMatch", "claim", "attribute"];
        if keys.into_iter().filter(|key| fields.value(key).is_some()).count() != 1 {
            let message = "expected one of `value`, `header`, `pathMatch`, `claim` and `attribute`";
            fields.reporter.report(Problem::error(value.place, message));
        }
        let (name, value) = given.into_iter().next()?;
        Some(Descriptor { name: key.map_or(name, Into::into), value })
    })?
}

fn limit(value: &Value, reporter: &mut Reporter) -> Option<LocalRateLimit> {
    mapping("local[]", value, reporter, |fields| {
        let requests = fields.required("requests", integer(1..=REQUESTS_MAX));
        let burst = fields.optional("burst", integer(1..=REQUESTS_MAX));
        let interval = fields.required("interval", interval);
        let key = fields.optional("key", |value, reporter| list(value, reporter, descriptor));
        let requests = requests? as u32;
        Some(LocalRateLimit {
            key: key.unwrap_or_default(),
            burst: burst.map_or(requests, |burst| burst as u32),
            requests,
            interval: interval?,
        })
    })?
}

fn interval(value: &Value, reporter: &mut Reporter) -> Option<Duration> {
    let interval = duration(value, reporter)?;
    if interval.is_zero() || interval > INTERVAL_MAX {
        let message = "expected an interval from 1ms to 24h";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(interval)
}

/// One of what requests are told apart by.
fn descriptor(value: &Value, reporter: &mut Reporter) -> Option<Descriptor> {
    if value.entries().is_none() {
        let word = word(WORDS)(value, reporter)?;
        let name = value.text().unwrap_or_default().into();
        return Some(Descriptor { name, value: word.value() });
    }
    mapping("key[]", value, reporter, |fields| {
        let by_header = fields.optional("header", header).map(DescriptorValue::Header);
        let by_path = fields.optional("pathMatch", path).map(DescriptorValue::PathIs);
        let given = [by_header, by_path];
        let count = given.iter().flatten().count();
        if count > 1 {
            let place = fields.place("pathMatch");
            fields.reporter.report(Problem::error(place, "one of them is enough"));
        }
        let found = given.into_iter().flatten().next();
        if found.is_none() && !fields.reporter.has_errors() {
            let message = "expected `header` or `pathMatch`";
            fields.reporter.report(Problem::error(value.place, message));
        }
        let name = if fields.value("header").is_some() { "header" } else { "path" };
        Some(Descriptor { name: name.into(), value: found? })
    })?
}

const WORDS: &[(&str, Word)] = &[
    ("path", Word::Path),
    ("method", Word::Method),
    ("host", Word::Host),
    ("sourceIdentity", Word::SourceIdentity),
    ("sourceNamespace", Word::SourceNamespace),
    ("sourceIp", Word::SourceIp),
];

#[derive(Clone, Copy)]
enum Word {
    Path,
    Method,
    Host,
    SourceIdentity,
    SourceNamespace,
    SourceIp,
}

impl Word {
    fn value(self) -> DescriptorValue {
        match self {
            Word::Path => DescriptorValue::Path,
            Word::Method => DescriptorValue::Method,
            Word::Host => DescriptorValue::Host,
            Word::SourceIdentity => DescriptorValue::SourceIdentity,
            Word::SourceNamespace => DescriptorValue::SourceNamespace,
            Word::SourceIp => DescriptorValue::SourceIp,
        }
    }
}
