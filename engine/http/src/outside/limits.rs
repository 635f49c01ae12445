//! Rate limits that a service keeps for many: what it is asked about a request
//! (`envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`), and what its answer means.
//!
//! Clients learn how they stand by `x-ratelimit-limit`, `-remaining` and `-reset`, in the form of the third draft of
//! RateLimit headers, which is Envoy's.

use std::fmt::Write;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use prost::Message;

use super::changes::header_of;
use super::ratelimit_proto::descriptor::Entry;
use super::ratelimit_proto::rate_limit_response::rate_limit::Unit;
use super::ratelimit_proto::rate_limit_response::{Code, DescriptorStatus};
use super::ratelimit_proto::{
    Descriptor, HeaderValue as Said, RateLimitRequest, RateLimitResponse,
};
use super::{HeaderChanges, Unreadable};
use crate::model::policy::GlobalRateLimit;

/// Where a rate limit service is asked.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What is asked about one request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who is asked, and how.
    pub limit: Arc<GlobalRateLimit>,
    /// What of the request is told apart: those descriptors that could be filled in, at least one.
    pub descriptors: Vec<Vec<(Arc<str>, String)>>,
}

impl Ask {
    /// As a message of gRPC's.
    pub fn message(&self) -> Vec<u8> {
        let entry = |(key, value): &(Arc<str>, String)| Entry {
            key: key.as_ref().to_owned(),
            value: value.clone(),
        };
        let descriptors = self.descriptors.iter();
        let descriptors = descriptors
            .map(|entries| Descriptor { entries: entries.iter().map(entry).collect() })
            .collect();
        let domain = self.limit.domain.as_ref().to_owned();
        RateLimitRequest { domain, descriptors, hits_addend: 0 }.encode_to_vec()
    }
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// There were too many like it; the client gets this body.
    pub over: Option<Vec<u8>>,
    /// Of the request.
    pub request: HeaderChanges,
    /// Of its answer.
    pub response: HeaderChanges,
}

/// Reads an answer.
///
/// # Errors
/// It is none.
pub fn read(message: &[u8]) -> Result<Answer, Unreadable> {
    let said = RateLimitResponse::decode(message)
        .map_err(|error| Unreadable::Message(error.to_string()))?;
    let over = match said.overall_code() {
        Code::Unknown => return Err(Unreadable::Failed("it does not say whether".to_owned())),
        Code::Ok => None,
        Code::OverLimit => Some(said.raw_body),
    };
    let mut response = standing(&said.statuses).unwrap_or_default();
    response.extend(appended(&said.response_headers_to_add));
    Ok(Answer { over, request: appended(&said.request_headers_to_add), response })
}

fn appended(said: &[Said]) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    for Said { key, value, raw_value } in said {
        if let Some((name, value)) = header_of(key, value, raw_value) {
            changes.append(name, value);
        }
    }
    changes
}

/// How the client stands with the limit that leaves the least, and which limits there are.
fn standing(statuses: &[DescriptorStatus]) -> Option<HeaderChanges> {
    let mut least: Option<&DescriptorStatus> = None;
    let mut quotas = String::new();
    for status in statuses {
        let Some(limit) = &status.current_limit else { continue };
        if least.is_none_or(|least| status.limit_remaining < least.limit_remaining) {
            least = Some(status);
        }
        let Some(seconds) = seconds(limit.unit()) else { continue };
        write!(quotas, ", {};w={seconds}", limit.requests_per_unit).expect("text takes it");
        // It stands in quotes.
        if !limit.name.is_empty() && !limit.name.contains(['"', '\\']) {
            write!(quotas, ";name=\"{}\"", limit.name).expect("text takes it");
        }
    }
    let least = least?;
    let requests = least.current_limit.as_ref()?.requests_per_unit;
    let reset = least.duration_until_reset.as_ref().map_or(0, |until| until.seconds.max(0));
    let mut changes = HeaderChanges::default();
    let mut say = |name, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            changes.set(name, value);
        }
    };
    say(LIMIT, format!("{requests}{quotas}"));
    say(REMAINING, least.limit_remaining.to_string());
    say(RESET, reset.to_string());
    Some(changes)
}

fn seconds(unit: Unit) -> Option<u32> {
    const DAY: u32 = 24 * 60 * 60;
    Some(match unit {
        Unit::Unknown => return None,
        Unit::Second => 1,
        Unit::Minute => 60,
        Unit::Hour => 60 * 60,
        Unit::Day => DAY,
        Unit::Week => 7 * DAY,
        Unit::Month => 30 * DAY,
        Unit::Year => 365 * DAY,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::super::ratelimit_proto::Duration as Time;
    use super::super::ratelimit_proto::rate_limit_response::RateLimit;
    use super::*;
    use crate::model::{Backend, BackendTarget};

    #[test]
    fn a_service_learns_what_is_told_apart() {
        let limit = Arc::new(GlobalRateLimit {
            service: Backend { target: BackendTarget::Invalid("nobody".into()) },
            domain: "shop".into(),
            descriptors: Vec::new(),
            timeout: Duration::from_secs(1),
            fail_open: true,
        });
        let pair = |key: &str, value: &str| (Arc::from(key), value.to_owned());
        let descriptors = vec![vec![pair("user", "me"), pair("path", "/a")], vec![pair("all", "")]];
        let message = Ask { limit, descriptors }.message();
        let said = RateLimitRequest::decode(&*message).expect("a message");
        assert_eq!(said.domain, "shop");
        let told = said.descriptors.iter().map(|one| {
            let entries = one.entries.iter().map(|entry| (&*entry.key, &*entry.value));
            entries.collect::<Vec<_>>()
        });
        let want = [vec![("user", "me"), ("path", "/a")], vec![("all", "")]];
        assert_eq!(told.collect::<Vec<_>>(), want);
    }

    fn status(requests: u32, unit: Unit, name: &str, left: u32, reset: i64) -> DescriptorStatus {
        DescriptorStatus {
            code: Code::Ok.into(),
            current_limit: Some(RateLimit {
                requests_per_unit: requests,
                unit: unit.into(),
                name: name.to_owned(),
            }),
            limit_remaining: left,
            duration_until_reset: Some(Time { seconds: reset, nanos: 5 }),
        }
    }

    #[test]
    fn clients_learn_how_they_stand() {
        let said = RateLimitResponse {
            overall_code: Code::Ok.into(),
            statuses: vec![
                status(10, Unit::Second, "", 9, 1),
                DescriptorStatus::default(),
                status(100, Unit::Hour, "per user", 3, 1800),
                status(7, Unit::Unknown, "odd", 3, 9),
                status(9, Unit::Minute, "a \" quote", 8, 9),
            ],
            response_headers_to_add: vec![Said {
                key: "x-more".into(),
                value: "1".into(),
                raw_value: Vec::new(),
            }],
            request_headers_to_add: vec![Said {
                key: "x-seen".into(),
                value: "1".into(),
                raw_value: Vec::new(),
            }],
            raw_body: b"unused".to_vec(),
        };
        let answer = read(&said.encode_to_vec()).expect("an answer");
        assert_eq!(answer.over, None);
        let (mut told, mut sent) = (HeaderMap::new(), HeaderMap::new());
        answer.response.apply(&mut told);
        answer.request.apply(&mut sent);
        let limit = "100, 10;w=1, 100;w=3600;name=\"per user\", 9;w=60";
        assert_eq!(told["x-ratelimit-limit"], limit);
        assert_eq!(
            (&told["x-ratelimit-remaining"], &told["x-ratelimit-reset"]),
            (&"3".parse().unwrap(), &"1800".parse().unwrap())
        );
        assert_eq!(told["x-more"], "1");
        assert_eq!(sent["x-seen"], "1");
    }

    #[test]
    fn only_a_clear_word_is_one() {
        let of = |code: Code, body: &[u8]| {
            let said = RateLimitResponse {
                overall_code: code.into(),
                raw_body: body.to_vec(),
                ..RateLimitResponse::default()
            };
            read(&said.encode_to_vec())
        };
        assert_eq!(of(Code::OverLimit, b"later").expect("an answer").over, Some(b"later".to_vec()));
        assert_eq!(of(Code::Ok, b"").expect("an answer").over, None);
        assert!(matches!(of(Code::Unknown, b""), Err(Unreadable::Failed(_))));
        assert!(matches!(read(b""), Err(Unreadable::Failed(_))), "nothing at all");
        assert!(matches!(read(&[0xff; 3]), Err(Unreadable::Message(_))));
    }
}
