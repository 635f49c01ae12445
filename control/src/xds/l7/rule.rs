//! What a rule does with its requests: its policies, one after the other.

use std::time::Duration;

use http::StatusCode;
use ringway_http::model::policy::{
    AuthorizationBody, AuthorizationProtocol, AuthorizationProvider, HttpAuthorization,
    LocalRateLimit, TextMatch,
};
use ringway_http::model::{Filter, Retry, Timeouts};

use super::expression;
use super::filter;
use super::protocol;
use super::reference::backend;
use super::values::{Wrong, duration, header_name, header_value, status};
use crate::proto::agent as told;
use crate::proto::agent::external_auth::{FailureMode, Protocol};
use crate::proto::agent::traffic_policy_spec::{Kind, Phase};

/// Tries beside the first where nothing is said.
const ATTEMPTS_DEFAULT: u32 = 1;

/// More tries are a mistake, or worse: each costs a backend as much as a request.
const ATTEMPTS_MAX: i32 = 100;

/// How long an external authorizer may take; nobody says. Clients of gRPC give up after seconds.
const AUTHORIZATION_TIMEOUT: Duration = Duration::from_secs(5);

/// What the policies of a rule come to.
#[derive(Default)]
pub(super) struct Effects {
    pub(super) filters: Vec<Filter>,
    pub(super) timeouts: Timeouts,
    pub(super) retry: Option<Retry>,
    pub(super) external: Option<AuthorizationProvider>,
    pub(super) limits: Vec<LocalRateLimit>,
}

impl Effects {
    /// Of the policies of a rule that is called `name`. One that is not understood spoils all of it.
    pub(super) fn of(
        policies: &[told::TrafficPolicySpec],
        name: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Effects, Wrong> {
        let mut effects = Effects::default();
        for policy in policies {
            if policy.phase != Phase::Route as i32 {
                return Err("a policy of a route before the route is found".to_owned());
            }
            effects.add(policy, name, warnings)?;
        }
        Ok(effects)
    }

    fn add(
        &mut self,
        policy: &told::TrafficPolicySpec,
        name: &str,
        warnings: &mut Vec<String>,
    ) -> Result<(), Wrong> {
        match &policy.kind {
            Some(Kind::Timeout(told)) => {
                self.timeouts = Timeouts {
                    request: duration(told.request)?,
                    backend_request: duration(told.backend_request)?,
                };
            }
            Some(Kind::Retry(told)) => self.retry = Some(retry(told)?),
            Some(Kind::LocalRateLimit(told)) => self.limits.extend(limits(told)?),
            Some(Kind::ExtAuthz(told)) => {
                if self.external.replace(external(told, name, warnings)?).is_some() {
                    return Err("several external authorizers of one rule".to_owned());
                }
            }
            Some(Kind::Authorization(told)) => nothing_asked(told)?,
            Some(Kind::RequestHeaderModifier(told)) => {
                self.filters.push(filter::request_headers(told)?);
            }
            Some(Kind::ResponseHeaderModifier(told)) => {
                self.filters.push(filter::response_headers(told)?);
            }
            Some(Kind::RequestRedirect(told)) => self.filters.push(filter::redirect(told)?),
            Some(Kind::UrlRewrite(told)) => self.filters.push(filter::rewrite(told)?),
            Some(Kind::RequestMirror(told)) => {
                self.filters.extend(filter::mirrors(told, warnings)?);
            }
            Some(Kind::Cors(told)) => self.filters.push(filter::cors(told)?),
            Some(Kind::HostRewrite(told)) if told.mode == 0 => {}
            other => {
                let name = protocol::traffic_policy(other.as_ref());
                return Err(format!("{name} is not supported"));
            }
        }
        Ok(())
    }
}

fn retry(told: &told::Retry) -> Result<Retry, Wrong> {
    if !told.precondition.is_empty() || !told.condition.is_empty() {
        return Err("an expression (CEL) for retries is not supported".to_owned());
    }
    let attempts = match told.attempts {
        0 => ATTEMPTS_DEFAULT,
        attempts @ 1..=ATTEMPTS_MAX => attempts as u32,
        other => return Err(format!("{other} tries")),
    };
    let code = |code: &i32| {
        let code = u32::try_from(*code).map_err(|_| format!("{code} is no status"))?;
        status(code).map(|code| code.as_u16())
    };
    let codes = told.retry_status_codes.iter().map(code).collect::<Result<_, _>>()?;
    Ok(Retry { attempts, backoff: duration(told.backoff)?, codes })
}

/// Buckets of requests; what is counted otherwise is not counted here.
pub(super) fn limits(told: &told::LocalRateLimit) -> Result<Vec<LocalRateLimit>, Wrong> {
    let rules = told
        .rules
        .iter()
        .map(|rule| limit(rule.r#type, rule.max_tokens, rule.tokens_per_fill, rule.fill_interval));
    let own = (told.rules.is_empty() || told.max_tokens > 0)
        .then(|| limit(told.r#type, told.max_tokens, told.tokens_per_fill, told.fill_interval));
    own.into_iter().chain(rules).collect()
}

fn limit(
    kind: i32,
    most: u64,
    per_fill: u64,
    interval: Option<prost_types::Duration>,
) -> Result<LocalRateLimit, Wrong> {
    if kind != told::local_rate_limit::Type::Request as i32 {
        return Err("a limit of tokens of a language model is not supported".to_owned());
    }
    let interval = duration(interval)?.ok_or("a limit without an interval")?;
    let number = |number: u64| u32::try_from(number).map_err(|_| format!("a limit of {number}"));
    let (burst, requests) = (number(most)?, number(per_fill)?);
    if burst == 0 || requests == 0 {
        return Err("a limit of nothing".to_owned());
    }
    Ok(LocalRateLimit { key: Vec::new(), burst, requests, interval })
}

/// No control plane that we know writes rules of its own in CEL.
pub(super) fn nothing_asked(told: &told::Rbac) -> Result<(), Wrong> {
    match told.allow.is_empty() && told.deny.is_empty() && told.require.is_empty() {
        true => Ok(()),
        false => Err("authorization by expressions (CEL) is not supported".to_owned()),
    }
}

/// An external authorizer, under a name of its own.
pub(super) fn external(
    told: &told::ExternalAuth,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<AuthorizationProvider, Wrong> {
    let unsupported = |what: &str| Err(format!("ext_authz: {what} is not supported"));
    if !told.inline_policies.is_empty() {
        return unsupported("a policy for the authorizer's connection");
    }
    if !told.cache.is_empty() {
        warnings.push("ext_authz: answers are not remembered: each request is asked about".into());
    }
    let headers = told.include_request_headers.iter().map(|name| header_name(name));
    let include = headers.collect::<Result<Vec<_>, _>>()?;
    let body = match &told.include_request_body {
        Some(body) if body.pack_as_bytes => return unsupported("a body as bytes"),
        Some(body) if body.max_request_bytes == 0 => None,
        Some(body) => Some(AuthorizationBody {
            bytes_max: body.max_request_bytes,
            allow_partial: body.allow_partial_message,
            as_bytes: false,
        }),
        None => None,
    };
    let protocol = match &told.protocol {
        Some(Protocol::Grpc(grpc)) if !grpc.context.is_empty() || !grpc.metadata.is_empty() => {
            return unsupported("context or metadata");
        }
        Some(Protocol::Grpc(_)) if !include.is_empty() => {
            return unsupported("a choice of headers with gRPC");
        }
        Some(Protocol::Grpc(_)) => AuthorizationProtocol::Grpc,
        Some(Protocol::Http(http)) => over_http(http, include)?,
        None => return Err("ext_authz: a protocol that is not known".to_owned()),
    };
    let failure = FailureMode::try_from(told.failure_mode)
        .map_err(|_| format!("ext_authz: failure_mode {} is unknown", told.failure_mode))?;
    let status_on_error = match (failure, told.status_on_error) {
        (FailureMode::DenyWithStatus, Some(code)) => status(code)?,
        _ => StatusCode::FORBIDDEN,
    };
    Ok(AuthorizationProvider {
        name: name.into(),
        service: backend(told.target.as_ref()).map_err(|why| format!("ext_authz: {why}"))?,
        protocol,
        timeout: AUTHORIZATION_TIMEOUT,
        fail_open: failure == FailureMode::Allow,
        status_on_error,
        body,
    })
}

fn over_http(
    http: &told::external_auth::Http,
    include: Vec<http::HeaderName>,
) -> Result<AuthorizationProtocol, Wrong> {
    let path_prefix = match http.path.as_deref() {
        None | Some("") => String::new(),
        Some(path) => expression::path_prefix(path).ok_or_else(|| {
            format!("ext_authz: the path {path:?}: the only expression that is understood is \"<prefix>\" + request.path")
        })?,
    };
    if http.redirect.is_some() || http.body.is_some() || !http.metadata.is_empty() {
        return Err("ext_authz: redirect, body and metadata are not supported".to_owned());
    }
    let add = http.add_request_headers.iter().map(|(name, value)| {
        let value = expression::constant(value).ok_or_else(|| {
            format!("ext_authz: the header {name}: {value:?} is an expression (CEL) that is not understood")
        })?;
        Ok((header_name(name)?, header_value(&value)?))
    });
    let add = add.collect::<Result<Vec<_>, Wrong>>()?;
    let upstream = http.include_response_headers.iter().map(|name| header_name(name));
    let exactly = |name: http::HeaderName| TextMatch::Exact(name.as_str().into());
    let upstream = upstream.collect::<Result<Vec<_>, _>>()?;
    Ok(AuthorizationProtocol::Http(HttpAuthorization {
        path_prefix: path_prefix.into(),
        include: include.into_iter().map(exactly).collect(),
        add,
        upstream: upstream.into_iter().map(exactly).collect(),
        downstream_on_allow: Vec::new(),
        downstream_on_deny: Vec::new(),
    }))
}
