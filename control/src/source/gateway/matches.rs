//! `matches` of a rule of an HTTPRoute.

use std::sync::Arc;

use http::{HeaderName, Method};
use regex::Regex;
use ringway_http::model::{Match, NamedMatch, PathMatch, ValueMatch, whole};

use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{nonempty, text, word};
use crate::source::yaml::value::{Value, shortened};

/// `matches`: any of them.
pub(super) fn http_matches(value: &Value, reporter: &mut Reporter) -> Option<Vec<Match>> {
    list(value, reporter, |value, reporter| {
        mapping("matches[]", value, reporter, |fields| Match {
            path: fields.optional("path", path),
            headers: fields.optional("headers", headers).unwrap_or_default(),
            query: fields.optional("queryParams", query).unwrap_or_default(),
            method: fields.optional("method", method),
        })
    })
}

/// How a text is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Exact,
    Prefix,
    Regex,
}

fn path(value: &Value, reporter: &mut Reporter) -> Option<PathMatch> {
    const TYPES: &[(&str, Comparison)] = &[
        ("Exact", Comparison::Exact),
        ("PathPrefix", Comparison::Prefix),
        ("RegularExpression", Comparison::Regex),
    ];
    mapping("path", value, reporter, |fields| {
        let comparison = fields.optional("type", word(TYPES)).unwrap_or(Comparison::Prefix);
        if fields.value("value").is_none() {
            return Some(PathMatch::Prefix("/".into()));
        }
        match comparison {
            Comparison::Regex => fields.required("value", regular_expression).map(PathMatch::Regex),
            Comparison::Exact => {
                fields.required("value", absolute_path).map(|path| PathMatch::Exact(path.into()))
            }
            Comparison::Prefix => {
                let path = fields.required("value", absolute_path)?;
                let short = path.strip_suffix('/').filter(|short| !short.is_empty());
                Some(PathMatch::Prefix(short.unwrap_or(path).into()))
            }
        }
    })?
}

/// A path that a canonical one can equal.
pub(super) fn absolute_path<'v>(value: &'v Value, reporter: &mut Reporter) -> Option<&'v str> {
    let text = nonempty(value, reporter)?;
    let lower = text.to_ascii_lowercase();
    let fault = match text {
        _ if !text.starts_with('/') => "must begin with `/`",
        _ if text.contains("//") => {
            "has an empty element (`//`), which no request has after its path was normalised"
        }
        _ if text.split('/').any(|part| matches!(part, "." | "..")) => {
            "has an element `.` or `..`, which no request has after its path was normalised"
        }
        _ if lower.contains("%2f") => "has an encoded slash, which is never compared with a slash",
        _ if text.contains(['#', '?']) => "may have neither `?` nor `#`: only the path is compared",
        _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            "may only have printable ASCII characters; others are written as %XX"
        }
        _ => return Some(text),
    };
    let message = format!("the path {:?} {fault}", shortened(text));
    let help = (!text.starts_with('/')).then(|| format!("did you mean `/{}`?", shortened(text)));
    reporter.report(Problem::error(value.place, message).help(help));
    None
}

/// One that is compared with a whole value.
pub(super) fn regular_expression(value: &Value, reporter: &mut Reporter) -> Option<Regex> {
    let text = nonempty(value, reporter)?;
    match whole(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("this is no regular expression: {reason}");
            let help = "the syntax is that of RE2: no look-around, no back-references".to_owned();
            reporter.report(Problem::error(value.place, message).help(help));
            None
        }
    }
}

const VALUE_TYPES: &[(&str, Comparison)] =
    &[("Exact", Comparison::Exact), ("RegularExpression", Comparison::Regex)];

fn value_match(fields: &mut Fields<'_, '_>) -> Option<ValueMatch> {
    match fields.optional("type", word(VALUE_TYPES)).unwrap_or(Comparison::Exact) {
        Comparison::Regex => fields.required("value", regular_expression).map(ValueMatch::Regex),
        _ => fields.required("value", text).map(|text| ValueMatch::Exact(text.into())),
    }
}

/// Of several for one header the first counts.
pub(super) fn headers(
    value: &Value,
    reporter: &mut Reporter,
) -> Option<Vec<NamedMatch<HeaderName>>> {
    let all = list(value, reporter, |value, reporter| {
        mapping("headers[]", value, reporter, |fields| {
            let name = fields.required("name", header_name);
            let value = value_match(fields);
            Some(NamedMatch { name: name?, value: value? })
        })?
    })?;
    Some(first_of_each(all))
}

fn query(value: &Value, reporter: &mut Reporter) -> Option<Vec<NamedMatch<Arc<str>>>> {
    let all = list(value, reporter, |value, reporter| {
        mapping("queryParams[]", value, reporter, |fields| {
            let name = fields.required("name", nonempty).map(Arc::from);
            let value = value_match(fields);
            Some(NamedMatch { name: name?, value: value? })
        })?
    })?;
    Some(first_of_each(all))
}

fn first_of_each<Name: PartialEq>(all: Vec<NamedMatch<Name>>) -> Vec<NamedMatch<Name>> {
    let mut firsts: Vec<NamedMatch<Name>> = Vec::with_capacity(all.len());
    for one in all {
        if firsts.iter().all(|first| first.name != one.name) {
            firsts.push(one);
        }
    }
    firsts
}

/// The name of a header; their case does not count.
pub(super) fn header_name(value: &Value, reporter: &mut Reporter) -> Option<HeaderName> {
    let text = nonempty(value, reporter)?;
    let name = HeaderName::from_bytes(text.as_bytes());
    if name.is_err() {
        let message = format!("no header can be named {:?}", shortened(text));
        let help = text.starts_with(':').then(|| {
            "method, host and path have keys of their own: `method`, `hostnames`, `path`".to_owned()
        });
        reporter.report(Problem::error(value.place, message).help(help));
    }
    name.ok()
}

fn method(value: &Value, reporter: &mut Reporter) -> Option<Method> {
    const METHODS: &[(&str, Method)] = &[
        ("GET", Method::GET),
        ("HEAD", Method::HEAD),
        ("POST", Method::POST),
        ("PUT", Method::PUT),
        ("DELETE", Method::DELETE),
        ("CONNECT", Method::CONNECT),
        ("OPTIONS", Method::OPTIONS),
        ("TRACE", Method::TRACE),
        ("PATCH", Method::PATCH),
    ];
    let words = || METHODS.iter().map(|(word, _)| *word);
    let text = nonempty(value, reporter)?;
    if let Some((_, method)) = METHODS.iter().find(|(word, _)| *word == text) {
        return Some(method.clone());
    }
    let message = format!(
        "expected {}, found {}",
        crate::source::diagnostics::suggest::one_of(words()),
        value.found()
    );
    let help = crate::source::did_you_mean(text, words());
    reporter.report(Problem::error(value.place, message).help(help));
    None
}
