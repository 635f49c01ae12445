//! What a template may ask of a request: Envoy's command operators, and what each gives.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use ringway_engine::telemetry::http::RequestRecord;
use time::OffsetDateTime;
use time::macros::format_description;

use super::error::TemplateError;
use crate::telemetry::access_log::canonical;

/// One operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operator {
    StartTime(TimeForm),
    Method,
    Path,
    /// As it came, before a rule rewrote it.
    OriginalPath,
    OriginalPathOnly,
    PathWithoutQuery,
    Authority,
    UserAgent,
    RequestId,
    ForwardedFor,
    Protocol,
    Code,
    Flags,
    Details,
    ConnectionTermination,
    UpstreamFailure,
    BytesReceived,
    BytesSent,
    RequestHeadBytes,
    ResponseHeadBytes,
    Duration,
    RequestDuration,
    ResponseDuration,
    UpstreamServiceTime,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamLocalIp,
    DownstreamLocalPort,
    DownstreamRemote,
    DownstreamRemoteIp,
    DownstreamRemotePort,
    ServerName,
    RouteName,
    SourceIdentity,
    DestinationIdentity,
    Attempts,
    GrpcStatus,
    TraceId,
    TunnelTraceId,
    UpstreamTunnelTraceId,
    /// What Envoy's filters and metadata would know: there are none here.
    Nothing,
    /// Does not depend on the request.
    Fixed(Option<String>),
}

/// How a moment is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeForm {
    /// `2023-11-14T22:13:20.016Z`
    Default,
    /// Conversions of `strftime`.
    Parts(Vec<TimePart>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimePart {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// Seconds of Unix time.
    Unix,
    /// So many digits of the fraction of a second.
    Fraction(usize),
}

/// What an operator gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Text(Cow<'a, str>),
    Number(u64),
}

impl Operator {
    pub(super) const START_TIME: Self = Self::StartTime(TimeForm::Default);

    /// Reads `NAME` with what stood in its parentheses.
    pub(super) fn parse(name: &str, argument: Option<&str>) -> Result<Self, TemplateError> {
        let header = |of: fn(&str) -> Option<Self>| {
            let argument = argument.ok_or_else(|| TemplateError::NoArgument(name.to_owned()))?;
            header(argument, of)
        };
        let operator = match name {
            "START_TIME" => Self::StartTime(TimeForm::parse(argument.unwrap_or_default())?),
            "REQ" => return header(request_header),
            "REQ_WITHOUT_QUERY" => return header(request_header_without_query),
            "RESP" | "TRAILER" => return header(response_header),
            "PROTOCOL" => Self::Protocol,
            "RESPONSE_CODE" => Self::Code,
            "RESPONSE_FLAGS" => Self::Flags,
            "RESPONSE_CODE_DETAILS" => Self::Details,
            "CONNECTION_TERMINATION_DETAILS" => Self::ConnectionTermination,
            "UPSTREAM_TRANSPORT_FAILURE_REASON" => Self::UpstreamFailure,
            "BYTES_RECEIVED" => Self::BytesReceived,
            "BYTES_SENT" => Self::BytesSent,
            "REQUEST_HEADERS_BYTES" => Self::RequestHeadBytes,
            "RESPONSE_HEADERS_BYTES" => Self::ResponseHeadBytes,
            "DURATION" => Self::Duration,
            "REQUEST_DURATION" => Self::RequestDuration,
            "RESPONSE_DURATION" => Self::ResponseDuration,
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Self::UpstreamHost,
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Self::UpstreamCluster,
            "UPSTREAM_LOCAL_ADDRESS" => Self::UpstreamLocal,
            "DOWNSTREAM_LOCAL_ADDRESS" => Self::DownstreamLocal,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Self::DownstreamLocalIp,
            "DOWNSTREAM_LOCAL_PORT" => Self::DownstreamLocalPort,
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                Self::DownstreamRemote
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Self::DownstreamRemoteIp,
            "DOWNSTREAM_REMOTE_PORT" => Self::DownstreamRemotePort,
            "REQUESTED_SERVER_NAME" => Self::ServerName,
            "ROUTE_NAME" => Self::RouteName,
            "DOWNSTREAM_PEER_URI_SAN" => Self::SourceIdentity,
            "UPSTREAM_PEER_URI_SAN" => Self::DestinationIdentity,
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => Self::Attempts,
            "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Self::GrpcStatus,
            "TRACE_ID" => Self::TraceId,
            "TUNNEL_TRACE_ID" => Self::TunnelTraceId,
            "UPSTREAM_TUNNEL_TRACE_ID" => Self::UpstreamTunnelTraceId,
            "DYNAMIC_METADATA" | "FILTER_STATE" | "METADATA" | "CEL" => Self::Nothing,
            "HOSTNAME" => {
                let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
                Self::Fixed(name.map(|name| name.trim_end().to_owned()))
            }
            "ENVIRONMENT" => {
                let variable =
                    argument.ok_or_else(|| TemplateError::NoArgument(name.to_owned()))?;
                Self::Fixed(std::env::var(variable).ok())
            }
            other => return Err(TemplateError::NoOperator(other.to_owned())),
        };
        Ok(operator)
    }

    /// What it gives for `record`.
    pub(super) fn value<'a>(&'a self, record: &'a RequestRecord) -> Value<'a> {
        let upstream = record.upstream.as_ref();
        let source = canonical(record.source.address);
        let local = canonical(record.downstream_local);
        match self {
            Self::StartTime(form) => Value::Text(form.write(record.started_at).into()),
            Self::Method => Value::text(record.method.as_str()),
            Self::Path => Value::text(&record.path),
            Self::OriginalPath => {
                Value::text(record.original_path.as_ref().unwrap_or(&record.path))
            }
            Self::OriginalPathOnly => Value::of(record.original_path.as_deref()),
            Self::PathWithoutQuery => {
                Value::text(record.path.split('?').next().unwrap_or_default())
            }
            Self::Authority => Value::of(record.authority.as_deref()),
            Self::UserAgent => Value::of(record.user_agent.as_deref()),
            Self::RequestId => Value::of(record.request_id.as_deref()),
            Self::ForwardedFor => Value::of(record.forwarded_for.as_deref()),
            Self::Protocol => Value::text(record.protocol),
            Self::Code => Value::Number(record.code.into()),
            Self::Flags => Value::Text(record.flags.to_string().into()),
            Self::Details => Value::text(&record.details),
            Self::ConnectionTermination => Value::of(record.connection_termination.as_deref()),
            Self::UpstreamFailure => Value::of(record.upstream_failure.as_deref()),
            Self::BytesReceived => Value::Number(record.received_bytes),
            Self::BytesSent => Value::Number(record.sent_bytes),
            Self::RequestHeadBytes => Value::Number(record.request_head_bytes),
            Self::ResponseHeadBytes => Value::Number(record.response_head_bytes),
            Self::Duration => Value::milliseconds(Some(record.duration)),
            Self::RequestDuration => Value::milliseconds(record.request_duration),
            Self::ResponseDuration => Value::milliseconds(record.response_duration),
            Self::UpstreamServiceTime => {
                let time = record.upstream_service_time.map(|time| time.as_millis().to_string());
                time.map_or(Value::None, |time| Value::Text(time.into()))
            }
            Self::UpstreamHost => Value::address(upstream.map(|one| canonical(one.host))),
            Self::UpstreamCluster => Value::of(upstream.map(|one| &*one.cluster)),
            Self::UpstreamLocal => {
                Value::address(upstream.and_then(|one| one.local).map(canonical))
            }
            Self::DownstreamLocal => Value::address(Some(local)),
            Self::DownstreamLocalIp => Value::Text(local.ip().to_string().into()),
            Self::DownstreamLocalPort => Value::Number(local.port().into()),
            Self::DownstreamRemote => Value::address(Some(source)),
            Self::DownstreamRemoteIp => Value::Text(source.ip().to_string().into()),
            Self::DownstreamRemotePort => Value::Number(source.port().into()),
            Self::ServerName => Value::of(record.server_name.as_deref()),
            Self::RouteName => Value::of(record.route.as_deref()),
            Self::SourceIdentity => identity(record.source.identity.as_ref()),
            Self::DestinationIdentity => {
                identity(record.destination.as_ref().and_then(|party| party.identity.as_ref()))
            }
            Self::Attempts => match upstream {
                Some(_) => Value::Number(u64::from(record.retries) + 1),
                None => Value::Number(0),
            },
            Self::GrpcStatus => {
                record.grpc_status.map_or(Value::None, |status| Value::Number(status.into()))
            }
            Self::TraceId => id(record.trace.map(|trace| trace.trace_id)),
            Self::TunnelTraceId => id(record.tunnel_trace_id),
            Self::UpstreamTunnelTraceId => {
                id(record.upstream.as_ref().and_then(|upstream| upstream.tunnel_trace_id))
            }
            Self::Nothing => Value::None,
            Self::Fixed(text) => Value::of(text.as_deref()),
        }
    }
}

impl<'a> Value<'a> {
    fn text(text: &'a str) -> Self {
        Self::Text(text.into())
    }

    fn of(text: Option<&'a str>) -> Self {
        text.filter(|text| !text.is_empty()).map_or(Self::None, Self::text)
    }

    fn milliseconds(duration: Option<Duration>) -> Self {
        let number = |duration: Duration| duration.as_millis().try_into().unwrap_or(u64::MAX);
        duration.map_or(Self::None, |duration| Self::Number(number(duration)))
    }

    fn address(address: Option<SocketAddr>) -> Self {
        address.map_or(Self::None, |address| Self::Text(address.to_string().into()))
    }
}

fn identity(identity: Option<&ringway_protocols::identity::Identity>) -> Value<'static> {
    identity.map_or(Value::None, |identity| Value::Text(identity.to_string().into()))
}

fn id(id: Option<[u8; 16]>) -> Value<'static> {
    id.map_or(Value::None, |id| Value::Text(format!("{:032x}", u128::from_be_bytes(id)).into()))
}

/// `NAME`, or `NAME?OTHER`: the other where the first is missing.
fn header(argument: &str, of: fn(&str) -> Option<Operator>) -> Result<Operator, TemplateError> {
    let find = |name: &str| {
        of(&name.to_ascii_lowercase()).ok_or_else(|| TemplateError::NoHeader(name.to_owned()))
    };
    match argument.split_once('?') {
        None => find(argument),
        Some((first, other)) => match (find(first)?, find(other)?) {
            (Operator::OriginalPathOnly, Operator::Path) => Ok(Operator::OriginalPath),
            (one, other) if one == other => Ok(one),
            _ => Err(TemplateError::NoAlternative(argument.to_owned())),
        },
    }
}

/// The headers of a request that its record has.
fn request_header(name: &str) -> Option<Operator> {
    Some(match name {
        ":method" => Operator::Method,
        ":path" => Operator::Path,
        "x-envoy-original-path" => Operator::OriginalPathOnly,
        ":authority" | "host" => Operator::Authority,
        "user-agent" => Operator::UserAgent,
        "x-request-id" => Operator::RequestId,
        "x-forwarded-for" => Operator::ForwardedFor,
        _ => return None,
    })
}

fn request_header_without_query(name: &str) -> Option<Operator> {
    match name {
        ":path" => Some(Operator::PathWithoutQuery),
        other => request_header(other),
    }
}

fn response_header(name: &str) -> Option<Operator> {
    Some(match name {
        ":status" => Operator::Code,
        "x-envoy-upstream-service-time" => Operator::UpstreamServiceTime,
        "grpc-status" => Operator::GrpcStatus,
        _ => return None,
    })
}

impl TimeForm {
    fn parse(form: &str) -> Result<Self, TemplateError> {
        if form.is_empty() {
            return Ok(Self::Default);
        }
        let wrong = || TemplateError::NoTime(form.to_owned());
        let (mut parts, mut rest) = (Vec::new(), form);
        while let Some(at) = rest.find('%') {
            if at > 0 {
                parts.push(TimePart::Text(rest[..at].to_owned()));
            }
            rest = &rest[at + 1..];
            let digits = rest.chars().next().and_then(|c| c.to_digit(10));
            if let Some(digits) = digits {
                rest = rest[1..].strip_prefix('f').ok_or_else(wrong)?;
                let digits = usize::try_from(digits).unwrap_or_default();
                parts.push(TimePart::Fraction(digits.clamp(1, 9)));
                continue;
            }
            let conversion = rest.chars().next().ok_or_else(wrong)?;
            rest = &rest[conversion.len_utf8()..];
            let text = |text: &str| TimePart::Text(text.to_owned());
            match conversion {
                'Y' => parts.push(TimePart::Year),
                'm' => parts.push(TimePart::Month),
                'd' => parts.push(TimePart::Day),
                'H' => parts.push(TimePart::Hour),
                'M' => parts.push(TimePart::Minute),
                'S' => parts.push(TimePart::Second),
                's' => parts.push(TimePart::Unix),
                'f' => parts.push(TimePart::Fraction(9)),
                'F' => parts.extend([
                    TimePart::Year,
                    text("-"),
                    TimePart::Month,
                    text("-"),
                    TimePart::Day,
                ]),
                'T' => parts.extend([
                    TimePart::Hour,
                    text(":"),
                    TimePart::Minute,
                    text(":"),
                    TimePart::Second,
                ]),
                '%' => parts.push(text("%")),
                _ => return Err(wrong()),
            }
        }
        if !rest.is_empty() {
            parts.push(TimePart::Text(rest.to_owned()));
        }
        Ok(Self::Parts(parts))
    }

    fn write(&self, moment: SystemTime) -> String {
        let moment = OffsetDateTime::from(moment);
        match self {
            Self::Default => {
                let form = format_description!(
                    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
                );
                moment.format(&form).unwrap_or_default()
            }
            Self::Parts(parts) => parts.iter().map(|part| part.write(moment)).collect(),
        }
    }
}

impl TimePart {
    fn write(&self, moment: OffsetDateTime) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Year => format!("{:04}", moment.year()),
            Self::Month => format!("{:02}", u8::from(moment.month())),
            Self::Day => format!("{:02}", moment.day()),
            Self::Hour => format!("{:02}", moment.hour()),
            Self::Minute => format!("{:02}", moment.minute()),
            Self::Second => format!("{:02}", moment.second()),
            Self::Unix => moment.unix_timestamp().to_string(),
            Self::Fraction(digits) => format!("{:09}", moment.nanosecond())[..*digits].to_owned(),
        }
    }
}
