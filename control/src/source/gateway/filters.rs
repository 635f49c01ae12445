//! `filters` of a rule, and of a backend of it.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use ringway_http::model::{
    Cors, Filter, HeaderChange, HeaderChanges, OriginMatch, PathChange, Redirect, Rewrite,
};

use super::matches::{absolute_path, header_name};
use super::objects::routed::FilterObject;
use super::references::backend_reference;
use super::values::hostname;
use crate::source::context::Context;
use crate::source::diagnostics::suggest::{did_you_mean, one_of};
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, integer, nonempty, port, text, word};
use crate::source::yaml::value::{Value, shortened};

/// Types of filters, and the key under which each has its settings.
const TYPES: &[(&str, &str)] = &[
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// The filters of a rule or backend, of a route in `namespace`.
pub(super) fn filters(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<Vec<FilterObject>> {
    let mut seen: Vec<(&'static str, Place)> = Vec::new();
    let read = list(value, reporter, |value, reporter| {
        let (kind, filter) = filter(value, namespace, context, reporter)?;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == kind)
            && !matches!(kind, "RequestMirror" | "ExtensionRef")
        {
            let message = format!("a filter {kind} may stand here once");
            let problem = Problem::error(value.place, message).related(*first, "the other one");
            reporter.report(problem);
        }
        seen.push((kind, value.place));
        filter
    })?;
    let has = |kind| seen.iter().find(|(other, _)| *other == kind);
    if let (Some(_), Some((_, place))) = (has("RequestRedirect"), has("URLRewrite")) {
        let message = "a redirect answers the request: there is nothing to rewrite beside it";
        reporter.report(Problem::error(*place, message));
    }
    Some(read)
}

/// `Some((_, None))`: its settings are wrong, which was reported.
fn filter(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<(&'static str, Option<FilterObject>)> {
    mapping("filters[]", value, reporter, |fields| {
        TYPES.iter().for_each(|(_, key)| fields.ignore(&[key]));
        let (kind, key) = fields.required("type", filter_type)?;
        for (_, other) in TYPES.iter().filter(|(_, other)| *other != key) {
            if fields.value(other).is_some() {
                let place = fields.place(other);
                let message = format!("`{other}` does not belong to a filter of the type {kind}");
                fields.reporter.report(Problem::error(place, message));
            }
        }
        let place = fields.value_place("type");
        let plain = FilterObject::Plain;
        let read = match kind {
            "RequestHeaderModifier" => {
                fields.required(key, changes).map(|changes| plain(Filter::RequestHeaders(changes)))
            }
            "ResponseHeaderModifier" => {
                fields.required(key, changes).map(|changes| plain(Filter::ResponseHeaders(changes)))
            }
            "RequestMirror" => {
                fields.required(key, |value, reporter| mirror(value, namespace, context, reporter))
            }
            "RequestRedirect" => {
                fields.required(key, redirect).map(|redirect| plain(Filter::Redirect(redirect)))
            }
            "URLRewrite" => {
                fields.required(key, rewrite).map(|rewrite| plain(Filter::Rewrite(rewrite)))
            }
            "CORS" => fields.required(key, cors).map(|cors| plain(Filter::Cors(cors))),
            _ => {
                fields.value(key);
                Some(FilterObject::Unsupported(place, kind.to_owned()))
            }
        };
        Some((kind, read))
    })?
}

fn filter_type(value: &Value, reporter: &mut Reporter) -> Option<(&'static str, &'static str)> {
    let given = nonempty(value, reporter)?;
    let found = TYPES.iter().find(|(kind, _)| *kind == given);
    if found.is_none() {
        let kinds = || TYPES.iter().map(|(kind, _)| *kind);
        let message = format!("expected {}, found {}", one_of(kinds()), value.found());
        let help = did_you_mean(given, kinds());
        reporter.report(Problem::error(value.place, message).help(help));
    }
    found.copied()
}

/// `set`, `add` and `remove`; a header in two of them would depend on an order that nobody wrote down.
fn changes(value: &Value, reporter: &mut Reporter) -> Option<HeaderChanges> {
    mapping("a header modifier", value, reporter, |fields| {
        let set = fields.optional("set", header_changes);
        let add = fields.optional("add", header_changes);
        let remove =
            fields.optional("remove", |value, reporter| list(value, reporter, header_name));
        HeaderChanges {
            set: set.unwrap_or_default(),
            add: add.unwrap_or_default(),
            remove: remove.unwrap_or_default(),
        }
    })
}

fn header_changes(value: &Value, reporter: &mut Reporter) -> Option<Vec<HeaderChange>> {
    let mut seen: Vec<(http::HeaderName, Place)> = Vec::new();
    list(value, reporter, |value, reporter| {
        mapping("a header", value, reporter, |fields| {
            let name = fields.required("name", header_name);
            let place = fields.value_place("name");
            let value = fields.required("value", header_value);
            let name = name?;
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
                let message = format!("the header `{name}` is given twice");
                let problem = Problem::error(place, message).related(*first, "first given here");
                fields.reporter.report(problem);
            }
            seen.push((name.clone(), place));
            Some(HeaderChange { name, value: value? })
        })?
    })
}

fn header_value(value: &Value, reporter: &mut Reporter) -> Option<HeaderValue> {
    let text = text(value, reporter)?;
    let parsed = HeaderValue::from_str(text);
    if parsed.is_err() {
        let message = format!("no header can have the value {:?}", shortened(text));
        reporter.report(Problem::error(value.place, message));
    }
    parsed.ok()
}

fn redirect(value: &Value, reporter: &mut Reporter) -> Option<Redirect> {
    const SCHEMES: &[(&str, &str)] = &[("http", "http"), ("https", "https")];
    mapping("requestRedirect", value, reporter, |fields| {
        let scheme = fields.optional("scheme", word(SCHEMES));
        let host = fields.optional("hostname", precise_hostname);
        let path = fields.optional("path", path_change);
        let port = fields.optional("port", port);
        let status = fields.optional("statusCode", status_code).unwrap_or(StatusCode::FOUND);
        Redirect { scheme: scheme.map(Arc::from), host: host.map(Arc::from), port, path, status }
    })
}

fn status_code(value: &Value, reporter: &mut Reporter) -> Option<StatusCode> {
    const CODES: [&str; 5] = ["301", "302", "303", "307", "308"];
    let number = integer(100..=599)(value, reporter)?;
    let code = StatusCode::from_u16(number as u16).ok();
    if !CODES.contains(&number.to_string().as_str()) {
        let message = format!("expected {}, found {number}", one_of(CODES));
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    code
}

fn rewrite(value: &Value, reporter: &mut Reporter) -> Option<Rewrite> {
    mapping("urlRewrite", value, reporter, |fields| {
        let host = fields.optional("hostname", precise_hostname);
        let path = fields.optional("path", path_change);
        Rewrite { host: host.map(Arc::from), path }
    })
}

fn precise_hostname<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = hostname(value, reporter)?;
    if text.starts_with('*') {
        let message = "a request is for one host: no `*` may stand here";
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(text)
}

fn path_change(value: &Value, reporter: &mut Reporter) -> Option<PathChange> {
    const FULL: &str = "ReplaceFullPath";
    const PREFIX: &str = "ReplacePrefixMatch";
    mapping("path", value, reporter, |fields| {
        let kind = fields.required("type", word(&[(FULL, true), (PREFIX, false)]));
        let full = fields.optional("replaceFullPath", new_path);
        let prefix = fields.optional("replacePrefixMatch", new_path);
        let has = |fields: &mut Fields<'_, '_>, key| fields.value(key).is_some();
        let (wanted, other) = match kind? {
            true => ("replaceFullPath", "replacePrefixMatch"),
            false => ("replacePrefixMatch", "replaceFullPath"),
        };
        if has(fields, other) {
            let message = format!("`{other}` does not belong to this type");
            let place = fields.place(other);
            fields.reporter.report(Problem::error(place, message));
        }
        if !has(fields, wanted) {
            let message = format!("this type needs `{wanted}`");
            let place = fields.value_place("type");
            fields.reporter.report(Problem::error(place, message));
        }
        match kind? {
            true => full.map(|path| PathChange::Full(path.into())),
            false => prefix.map(|path| PathChange::Prefix(path.into())),
        }
    })?
}

/// Empty is the root.
fn new_path<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    match text(value, reporter)? {
        "" => Some("/"),
        _ => absolute_path(value, reporter),
    }
}

/// Of a hundred, if nothing else is said.
const PERCENT: u32 = 100;

fn mirror(
    value: &Value,
    namespace: &str,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<FilterObject> {
    mapping("requestMirror", value, reporter, |fields| {
        let backend = fields.required("backendRef", |value, reporter| {
            mapping("backendRef", value, reporter, |fields| {
                backend_reference(fields, namespace, context)
            })?
        });
        let percent = fields.optional("percent", integer(0..=u64::from(PERCENT)));
        let fraction = fields.optional("fraction", fraction);
        if percent.is_some() && fraction.is_some() {
            let message = "`percent` and `fraction` say the same twice";
            let place = fields.place("percent");
            fields.reporter.report(Problem::error(place, message));
        }
        let percent = percent.map(|percent| (percent as u32, PERCENT));
        let (numerator, denominator) = percent.or(fraction).unwrap_or((PERCENT, PERCENT));
        Some(FilterObject::Mirror { backend: backend?, numerator, denominator })
    })?
}

fn fraction(value: &Value, reporter: &mut Reporter) -> Option<(u32, u32)> {
    mapping("fraction", value, reporter, |fields| {
        let range = integer(0..=u64::from(u32::MAX));
        let numerator = fields.required("numerator", range)? as u32;
        let denominator = fields.optional("denominator", integer(1..=u64::from(u32::MAX)));
        let denominator = denominator.unwrap_or(u64::from(PERCENT)) as u32;
        if numerator > denominator {
            let message = format!("{numerator} of {denominator} requests is more than all of them");
            let place = fields.value_place("numerator");
            fields.reporter.report(Problem::error(place, message));
        }
        Some((numerator, denominator))
    })?
}

fn cors(value: &Value, reporter: &mut Reporter) -> Option<Cors> {
    /// Seconds a browser remembers when nothing is said; the standard's default.
    const MAX_AGE_DEFAULT: u64 = 5;
    mapping("cors", value, reporter, |fields| {
        let origins =
            fields.optional("allowOrigins", |value, reporter| list(value, reporter, origin));
        let mut texts = |key, read: fn(&Value, &mut Reporter) -> Option<Arc<str>>| {
            let texts = fields.optional(key, |value, reporter| list(value, reporter, read));
            texts.unwrap_or_default()
        };
        let methods = texts("allowMethods", cors_token);
        let headers = texts("allowHeaders", cors_token);
        let expose = texts("exposeHeaders", cors_token);
        let max_age = fields.optional("maxAge", integer(1..=u64::from(u32::MAX)));
        Cors {
            origins: origins.unwrap_or_default(),
            methods,
            headers,
            expose,
            credentials: fields.optional("allowCredentials", boolean).unwrap_or(false),
            max_age: Some(std::time::Duration::from_secs(max_age.unwrap_or(MAX_AGE_DEFAULT))),
        }
    })
}

/// `*`, or the name of a method or header.
fn cors_token(value: &Value, reporter: &mut Reporter) -> Option<Arc<str>> {
    let text = nonempty(value, reporter)?;
    if text != "*" && http::HeaderName::from_bytes(text.as_bytes()).is_err() {
        let message = format!("expected `*` or a name, found {:?}", shortened(text));
        reporter.report(Problem::error(value.place, message));
        return None;
    }
    Some(text.into())
}

/// `*`, `scheme://host[:port]`, or that with `*` for the first labels of the host.
fn origin(value: &Value, reporter: &mut Reporter) -> Option<OriginMatch> {
    let text = nonempty(value, reporter)?;
    if text == "*" {
        return Some(OriginMatch::Any);
    }
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let fault = match host {
        None => "must begin with `http://` or `https://`",
        Some("") => "has no host",
        Some(host) if host.contains(['/', '?', '#', '@', ' ']) => "ends after host and port",
        Some(host) if host.matches('*').count() > 1 || host.find('*').is_some_and(|at| at > 0) => {
            "may have one `*`, at the beginning of the host"
        }
        Some(_) => {
            let text = text.to_ascii_lowercase();
            return Some(match text.split_once('*') {
                None => OriginMatch::Exact(text.into()),
                Some((prefix, suffix)) => {
                    OriginMatch::Wildcard { prefix: prefix.into(), suffix: suffix.into() }
                }
            });
        }
    };
    let message = format!("the origin {:?} {fault}", shortened(text));
    let help = "for example `https://example.com:8443` or `https://*.example.com`".to_owned();
    reporter.report(Problem::error(value.place, message).help(help));
    None
}
