//! Asks external authorizers whether a request may pass, and does what they answer.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{StatusCode, Uri, request::Parts};
use ringway_http::{
    model::policy::{AuthorizationBody, AuthorizationProtocol, AuthorizationProvider},
    outside::authorization::{self, Allowed, CHECK, Check, Verdict},
    path::PathMode,
};

use super::Asker;
use crate::{
    limits::{OUTSIDE_BODY_TIME, REPLAY_BYTES_MAX},
    runtime,
    telemetry::http::{OutsideOutcome, OutsideService},
    waypoint::{
        policy,
        record::Recorder,
        reply::Reply,
        upload::{Peeked, Unpeeked},
    },
};

/// Asks one authorizer. `by`: the policy that wants it, as logs name it.
///
/// # Errors
/// The answer, if the request may not pass.
pub(crate) async fn ask(
    asker: &Asker<'_>,
    provider: &AuthorizationProvider,
    by: &str,
    parts: &mut Parts,
    recorder: &mut Recorder,
) -> Result<(), Reply> {
    let body = match provider.body {
        Some(wanted) => Some(peek(wanted, recorder).await?),
        None => None,
    };
    let paths = asker.snapshot.http().map(|tables| tables.paths()).unwrap_or_default();
    let verdict = judge(asker, provider, body, parts, paths, recorder).await;
    let count = |outcome| {
        let telemetry = asker.downstream.shard.telemetry.http();
        telemetry.asked_outside(OutsideService::Authorization, outcome);
    };
    match verdict {
        Ok(Verdict::Allowed(allowed)) => {
            count(OutsideOutcome::Allowed);
            apply(*allowed, parts, recorder);
            Ok(())
        }
        Ok(Verdict::Denied(denial)) => {
            count(OutsideOutcome::Denied);
            Err(Reply::denied_outside(*denial, by))
        }
        Err(why) if provider.fail_open => {
            asker.passes_unanswered(OutsideService::Authorization, &provider.name, why);
            Ok(())
        }
        Err(why) => {
            count(OutsideOutcome::FailedClosed);
            let why = format!("the external authorizer {}: {why}", provider.name);
            Err(Reply::unanswered_outside(provider.status_on_error, by, why))
        }
    }
}

/// The part of the body that the authorizer is to have.
async fn peek(wanted: AuthorizationBody, recorder: &Recorder) -> Result<Bytes, Reply> {
    let Some(upload) = recorder.upload.clone() else { return Ok(Bytes::new()) };
    let bytes_max = usize::try_from(wanted.bytes_max).unwrap_or(usize::MAX).min(REPLAY_BYTES_MAX);
    let peeking = Box::pin(upload.peek(bytes_max, !wanted.allow_partial));
    match runtime::timeout(OUTSIDE_BODY_TIME, peeking).await {
        Ok(Ok(Peeked { whole: false, .. })) if !wanted.allow_partial => {
            Err(Reply::no_body(StatusCode::PAYLOAD_TOO_LARGE, "request_payload_too_large"))
        }
        Ok(Ok(Peeked { bytes, .. })) => Ok(bytes.into()),
        Ok(Err(Unpeeked::Failed)) => {
            Err(Reply::no_body(StatusCode::BAD_REQUEST, "downstream_remote_disconnect"))
        }
        Ok(Err(Unpeeked::NoRoom)) => {
            Err(Reply::overflow("too many bodies are kept for external authorizers"))
        }
        Err(_elapsed) => Err(Reply::no_body(StatusCode::REQUEST_TIMEOUT, "request_body_timeout")),
    }
}

async fn judge(
    asker: &Asker<'_>,
    provider: &AuthorizationProvider,
    body: Option<Bytes>,
    parts: &Parts,
    paths: PathMode,
    recorder: &Recorder,
) -> Result<Verdict, String> {
    let downstream = asker.downstream;
    let own = downstream.shard.workload(&downstream.pod.workload).await;
    let own = own.map_err(|reason| reason.to_string())?;
    let head = policy::read(parts, paths).map_err(|reply| reply.details.into_owned())?;
    let target = match parts.uri.query() {
        Some(query) => format!("{}?{query}", head.path()),
        None => head.path().to_owned(),
    };
    let request = policy::request_facts(&head, policy::authority(parts));
    let facts = policy::facts(downstream).with_request(request);
    let id = recorder.request_id.as_ref().and_then(|id| id.to_str().ok());
    let check = Check {
        facts: &facts,
        source_port: downstream.source.port(),
        own: Some(own.identity()),
        target: &target,
        scheme: downstream.scheme(),
        version: parts.version,
        id: id.unwrap_or_default(),
        size: recorder.upload.as_ref().and_then(|upload| upload.told_bytes()),
        at: SystemTime::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO),
        body: body.as_deref(),
        as_bytes: provider.body.is_some_and(|body| body.as_bytes),
    };
    let (service, timeout) = (&provider.service, provider.timeout);
    let read = match &provider.protocol {
        AuthorizationProtocol::Grpc => {
            let message = asker.call_grpc(service, CHECK, &check.message(), timeout).await?;
            authorization::by_grpc(&message)
        }
        AuthorizationProtocol::Http(said) => {
            let head = check.head(said).map_err(|error| error.to_string())?;
            let body = body.clone().unwrap_or_default();
            let answer = asker.call(service, &head, body, timeout).await?;
            if answer.body.is_none() && answer.status == StatusCode::OK {
                return Err("its answer is too long".to_owned());
            }
            let body = answer.body.unwrap_or_default();
            authorization::by_http(answer.status, &answer.headers, body, said)
        }
    };
    read.map_err(|error| error.to_string())
}

fn apply(allowed: Allowed, parts: &mut Parts, recorder: &mut Recorder) {
    allowed.request.apply(&mut parts.headers);
    if !allowed.query.is_empty() {
        let query = allowed.query.apply(parts.uri.query());
        if let Some(uri) = with_query(&parts.uri, query.as_deref()) {
            parts.uri = uri;
        }
    }
    recorder.outside.extend(allowed.response);
}

/// The same target with another query.
fn with_query(uri: &Uri, query: Option<&str>) -> Option<Uri> {
    let target = match query {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    };
    let mut changed = uri.clone().into_parts();
    changed.path_and_query = Some(target.try_into().ok()?);
    Uri::from_parts(changed).ok()
}
