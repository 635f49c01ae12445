//! Asks rate limit services whether there were too many requests like one, and does what they answer.

use http::request::Parts;
use ringway_http::{
    model::policy::PolicyName,
    outside::limits::{self, Answer, Ask, SHOULD_RATE_LIMIT},
};

use super::Asker;
use crate::{
    telemetry::http::{OutsideOutcome, OutsideService},
    waypoint::{record::Recorder, reply::Reply},
};

/// Asks about one policy's limits.
///
/// # Errors
/// The answer, if there were too many.
pub(crate) async fn ask(
    asker: &Asker<'_>,
    policy: &PolicyName,
    ask: &Ask,
    parts: &mut Parts,
    recorder: &mut Recorder,
) -> Result<(), Reply> {
    let answer = answer(asker, ask).await;
    let count = |outcome| {
        let telemetry = asker.downstream.shard.telemetry.http();
        telemetry.asked_outside(OutsideService::RateLimit, outcome);
    };
    match answer {
        Ok(Answer { over, request, response }) => {
            recorder.outside.extend(response);
            match over {
                None => {
                    count(OutsideOutcome::Allowed);
                    request.apply(&mut parts.headers);
                    Ok(())
                }
                Some(body) => {
                    count(OutsideOutcome::Denied);
                    Err(Reply::limited_outside(body))
                }
            }
        }
        Err(why) if ask.limit.fail_open => {
            asker.passes_unanswered(OutsideService::RateLimit, &policy.to_string(), why);
            Ok(())
        }
        Err(why) => {
            count(OutsideOutcome::FailedClosed);
            Err(Reply::uncounted(format!("the rate limit service of {policy}: {why}")))
        }
    }
}

async fn answer(asker: &Asker<'_>, ask: &Ask) -> Result<Answer, String> {
    let (service, timeout) = (&ask.limit.service, ask.limit.timeout);
    let message = asker.call_grpc(service, SHOULD_RATE_LIMIT, &ask.message(), timeout).await?;
    limits::read(&message).map_err(|error| error.to_string())
}
