//! `security.istio.io RequestAuthentication`: which tokens are believed.

use http::HeaderName;
use ringway_engine::limits::{TOKEN_KEYS_TIMEOUT, TOKEN_KEYS_TIMEOUT_MAX};
use ringway_http::model::policy::{JwtRule, KeySource, Keys, RequestAuthentication, TokenHeader};
use ringway_http::token::KeySet;

use super::{PolicyObject, object};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, nonempty, some_time, text};
use crate::source::yaml::value::{Value, shortened};

pub(crate) fn request_authentication(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<RequestAuthentication>> {
    object("RequestAuthentication", value, context, reporter, spec)
}

fn spec(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<(Vec<TargetReference>, RequestAuthentication)> {
    mapping("spec", value, reporter, |fields| {
        let targets = target_references(fields, namespace);
        if fields.value("selector").is_some() || targets.is_empty() {
            let message = "only a waypoint sees tokens, and this is attached to none";
            let help = "attach it by `targetRefs` to a Service or Gateway, without a `selector`";
            let place = fields.place("selector");
            fields.reporter.report(Problem::error(place, message).help(help.to_owned()));
        }
        let rules = fields.optional("jwtRules", |value, reporter| list(value, reporter, rule));
        (targets, RequestAuthentication { rules: rules.unwrap_or_default() })
    })
}

fn rule(value: &Value, reporter: &mut Reporter) -> Option<JwtRule> {
    mapping("jwtRules[]", value, reporter, |fields| {
        let issuer = fields.required("issuer", nonempty);
        let keys = keys(issuer, fields);
        let from_headers = of_list("fromHeaders", fields, token_header);
        let from_params = texts("fromParams", fields);
        let from_cookies = texts("fromCookies", fields);
        let output_payload = fields.optional("outputPayloadToHeader", header);
        let output_claims = of_list("outputClaimToHeaders", fields, claim);
        let forward = fields.optional("forwardOriginalToken", boolean);
        let audiences = texts("audiences", fields);
        Some(JwtRule {
            issuer: issuer?.into(),
            audiences,
            keys: keys?,
            from_headers,
            from_params,
            from_cookies,
            output_payload,
            output_claims,
            forward: forward.unwrap_or(false),
        })
    })?
}

/// The keys themselves, or where they are; else the issuer says it.
fn keys(issuer: Option<&str>, fields: &mut Fields<'_, '_>) -> Option<Keys> {
    let timeout = fields.optional("timeout", some_time).unwrap_or(TOKEN_KEYS_TIMEOUT);
    if timeout > TOKEN_KEYS_TIMEOUT_MAX {
        let place = fields.value_place("timeout");
        fields.reporter.report(Problem::error(place, "expected one minute at most"));
    }
    let uri = if fields.value("jwks_uri").is_some() { "jwks_uri" } else { "jwksUri" };
    if fields.value("jwks").is_some() && fields.value(uri).is_some() {
        let message = format!("`jwks` and `{uri}` cannot stand in one rule");
        let place = fields.place(uri);
        fields.reporter.report(Problem::error(place, message));
    }
    if fields.value("jwks").is_some() {
        return fields.optional("jwks", inline);
    }
    let from = match fields.value(uri) {
        Some(value) => KeySource::Url(url(value, fields.reporter)?),
        None => {
            // Without an issuer that is told.
            let issuer = issuer?;
            if !is_url(issuer, &["http", "https"]) {
                let place = fields.value_place("issuer");
                let message =
                    "there are no keys for this issuer, and it is no URL that could tell of them";
                let help =
                    "say where its keys are by `jwksUri`, or give them under `jwks`".to_owned();
                fields.reporter.report(Problem::error(place, message).help(help));
                return None;
            }
            KeySource::Issuer(issuer.into())
        }
    };
    Some(Keys::Fetched { from, timeout, text: None })
}

fn inline(value: &Value, reporter: &mut Reporter) -> Option<Keys> {
    let keys = nonempty(value, reporter)?;
    match KeySet::parse(keys) {
        Ok(_) => Some(Keys::Inline(keys.into())),
        Err(error) => {
            reporter.report(Problem::error(value.place, error.to_string()));
            None
        }
    }
}

fn url(value: &Value, reporter: &mut Reporter) -> Option<std::sync::Arc<str>> {
    let text = nonempty(value, reporter)?;
    let is_file = text.strip_prefix("file://").is_some_and(|path| path.starts_with('/'));
    if !is_file && !is_url(text, &["http", "https"]) {
        let message = format!("{:?} is nowhere that keys can be fetched from", shortened(text));
        let help = "expected `https://host/path`, `http://host/path` or `file:///path`".to_owned();
        reporter.report(Problem::error(value.place, message).help(help));
        return None;
    }
    Some(text.into())
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        let plain = |authority: &http::uri::Authority| !authority.as_str().contains('@');
        uri.scheme_str().is_some_and(|scheme| schemes.contains(&scheme))
            && uri.authority().is_some_and(plain)
    })
}

fn of_list<T>(
    key: &'static str,
    fields: &mut Fields<'_, '_>,
    read: impl FnMut(&Value, &mut Reporter) -> Option<T>,
) -> Vec<T> {
    fields.optional(key, |value, reporter| list(value, reporter, read)).unwrap_or_default()
}

fn texts(key: &'static str, fields: &mut Fields<'_, '_>) -> Vec<std::sync::Arc<str>> {
    of_list(key, fields, |value, reporter| nonempty(value, reporter).map(Into::into))
}

fn token_header(value: &Value, reporter: &mut Reporter) -> Option<TokenHeader> {
    mapping("fromHeaders[]", value, reporter, |fields| {
        let name = fields.required("name", header);
        let prefix = fields.optional("prefix", text).unwrap_or_default();
        Some(TokenHeader { name: name?, prefix: prefix.into() })
    })?
}

fn claim(value: &Value, reporter: &mut Reporter) -> Option<(HeaderName, Vec<std::sync::Arc<str>>)> {
    mapping("outputClaimToHeaders[]", value, reporter, |fields| {
        let name = fields.required("header", header);
        let claim = fields.required("claim", nonempty);
        // A dot leads inside.
        Some((name?, claim?.split('.').map(Into::into).collect()))
    })?
}

pub(super) fn header(value: &Value, reporter: &mut Reporter) -> Option<HeaderName> {
    let text = nonempty(value, reporter)?;
    let name = HeaderName::try_from(text.to_ascii_lowercase());
    if name.is_err() {
        let message = format!("{:?} is no name of a header", shortened(text));
        reporter.report(Problem::error(value.place, message));
    }
    name.ok()
}
