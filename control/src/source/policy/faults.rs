//! `ringway.dev FaultPolicy`: what is spoilt on purpose.

use http::StatusCode;
use ringway_http::model::traffic::{FaultAbort, FaultDelay, FaultPolicy, Share};

use super::{PolicyObject, object};
use crate::source::context::Context;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::security::{TargetReference, target_references};
use crate::source::yaml::fields::{Fields, mapping};
use crate::source::yaml::scalars::{duration, integer};
use crate::source::yaml::value::Value;

pub(crate) fn fault_policy(
    value: &Value,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<PolicyObject<FaultPolicy>> {
    object("FaultPolicy", value, context, reporter, spec)
}

fn spec(
    value: &Value,
    namespace: &str,
    reporter: &mut Reporter,
) -> Option<(Vec<TargetReference>, FaultPolicy)> {
    mapping("spec", value, reporter, |fields| {
        let targets = target_references(fields, namespace);
        let delay = fields.optional("delay", delay);
        let abort = fields.optional("abort", abort);
        (targets, FaultPolicy { delay, abort })
    })
}

fn delay(value: &Value, reporter: &mut Reporter) -> Option<FaultDelay> {
    mapping("delay", value, reporter, |fields| {
        let pause = fields.required("pause", duration);
        let share = share(fields);
        Some(FaultDelay { pause: pause?, share: share? })
    })?
}

fn abort(value: &Value, reporter: &mut Reporter) -> Option<FaultAbort> {
    mapping("abort", value, reporter, |fields| {
        let status = fields.required("status", integer(200..=599));
        let grpc_status = fields.optional("grpcStatus", integer(0..=16));
        let share = share(fields);
        let status = StatusCode::from_u16(status? as u16).ok()?;
        let grpc_status = grpc_status.map(|code| code as u8);
        Some(FaultAbort { status, grpc_status, share: share? })
    })?
}

/// `percent`, from 0 to 100 with fractions; left out: every request.
fn share(fields: &mut Fields<'_, '_>) -> Option<Share> {
    let Some(value) = fields.value("percent") else { return Some(Share::ALL) };
    let share = value.text().and_then(|text| text.parse().ok()).and_then(Share::of_percent);
    if share.is_none() {
        let message = format!("expected a number from 0 to 100, found {}", value.found());
        fields.reporter.report(Problem::error(value.place, message));
    }
    share
}
