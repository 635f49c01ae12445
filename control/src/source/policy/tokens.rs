//! `security.istio.io RequestAuthentication`: which tokens are believed.

use http::HeaderName;
use ringway_http::model::policy::{JwtRule, Keys, RequestAuthentication, TokenHeader};
use ringway_http::token::KeySet;

use super::{PolicyObject, object};
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::kubernetes::Context;
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, nonempty, text};
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
        let keys = keys(fields);
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

fn keys(fields: &mut Fields<'_, '_>) -> Option<Keys> {
    if fields.value("jwksUri").is_some() || fields.value("jwks_uri").is_some() {
        let message = "keys are not fetched from URLs yet";
        let help = "write the JSON Web Key Set itself under `jwks`".to_owned();
        let place = fields.place("jwksUri");
        fields.reporter.report(Problem::error(place, message).help(help));
        return None;
    }
    fields.required("jwks", |value, reporter| {
        let keys = nonempty(value, reporter)?;
        match KeySet::parse(keys) {
            Ok(_) => Some(Keys::Inline(keys.into())),
            Err(error) => {
                reporter.report(Problem::error(value.place, error.to_string()));
                None
            }
        }
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
