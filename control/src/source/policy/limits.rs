//! `ringway.dev RateLimitPolicy`: how many requests may come.

use std::time::Duration;

use ringway_http::model::policy::{Descriptor, DescriptorValue, LocalRateLimit, RateLimitPolicy};

use super::rules::path;
use super::tokens::header;
use super::{PolicyObject, object};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::Context;
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{list, mapping};
use crate::source::yaml::scalars::{duration, integer, word};
use crate::source::yaml::value::Value;

/// Requests of a burst, or of an interval: more is no limit.
const REQUESTS_MAX: u64 = 1_000_000_000;

/// An interval, at most: longer ones outlive the process that counts.
const INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) fn rate_limit_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<RateLimitPolicy>> {
    object("RateLimitPolicy", value, context, reporter, spec)
}

fn spec(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<(Vec<TargetReference>, RateLimitPolicy)> {
    mapping("spec", value, reporter, |fields| {
        let targets = target_references(fields, namespace);
        let local = fields.required("local", |value, reporter| list(value, reporter, limit));
        (targets, RateLimitPolicy { local: local.unwrap_or_default(), global: None })
    })
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
    const WORDS: &[(&str, Word)] = &[
        ("path", Word::Path),
        ("method", Word::Method),
        ("host", Word::Host),
        ("sourceIdentity", Word::SourceIdentity),
        ("sourceNamespace", Word::SourceNamespace),
        ("sourceIp", Word::SourceIp),
    ];
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
