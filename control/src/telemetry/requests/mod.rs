//! The access log of requests: one line for each, in the form of Envoy's, which Kiali and Istio's tools read.
//!
//! | form | is |
//! |---|---|
//! | `text` | Istio's line, and behind it the trace ids of the tunnels' streams, to here and from here on |
//! | `istio` | Istio's line, exactly |
//! | `json` | Istio's keys, `trace_id`, `tunnel_trace_id` and `upstream_tunnel_trace_id` |
//! | a template | any text with Envoy's command operators |
//!
//! The trace id of the stream to here is the one that the client's node chose for the connection. A connection to a backend
//! has that of the connection whose request had it opened, and is kept for others.

mod error;
mod operator;
mod template;

#[cfg(test)]
pub(super) mod tests;

use std::fmt::{self, Write as _};
use std::str::FromStr;

use ringway_engine::telemetry::http::RequestRecord;
use tracing::Level;

pub use self::error::TemplateError;
pub use self::template::Template;

use self::operator::{Operator, Value};
use super::log::Log;

/// The scope in which lines are written: that of connections, so that one level is for both.
const SCOPE: &str = "access";

/// Istio's own line.
const ISTIO: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/// How lines of requests look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestLog {
    /// There are none.
    Off,
    /// Text.
    Text(Template),
    /// One JSON object each.
    Json,
}

impl Default for RequestLog {
    fn default() -> Self {
        Self::text()
    }
}

impl RequestLog {
    /// Istio's line and the tunnels' trace ids.
    fn text() -> Self {
        let template = format!("{ISTIO} %TUNNEL_TRACE_ID% %UPSTREAM_TUNNEL_TRACE_ID%");
        Self::Text(template.parse().expect("our own template can be read"))
    }

    /// Whether there is anything to write.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }

    /// Writes the line of `record`, if it is wanted.
    pub fn write(&self, log: &Log, record: &RequestRecord) {
        if !log.wants(SCOPE, Level::INFO) {
            return;
        }
        match self {
            Self::Off => {}
            Self::Text(template) => log.write_text(template.render(record)),
            Self::Json => log.write_text(json(record)),
        }
    }
}

impl FromStr for RequestLog {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "off" => Ok(Self::Off),
            "text" => Ok(Self::text()),
            "istio" => Ok(Self::Text(ISTIO.parse()?)),
            "json" => Ok(Self::Json),
            template if template.contains('%') => Ok(Self::Text(template.parse()?)),
            other => Err(TemplateError::NoForm(other.to_owned())),
        }
    }
}

impl fmt::Display for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Json => f.write_str("json"),
            text if *text == Self::text() => f.write_str("text"),
            Self::Text(template) if template.source() == ISTIO => f.write_str("istio"),
            Self::Text(template) => f.write_str(template.source()),
        }
    }
}

/// Istio's keys in their order, then ours.
const KEYS: [(&str, Operator); 25] = [
    ("start_time", Operator::START_TIME),
    ("route_name", Operator::RouteName),
    ("method", Operator::Method),
    ("path", Operator::OriginalPath),
    ("protocol", Operator::Protocol),
    ("response_code", Operator::Code),
    ("response_flags", Operator::Flags),
    ("response_code_details", Operator::Details),
    ("connection_termination_details", Operator::ConnectionTermination),
    ("bytes_received", Operator::BytesReceived),
    ("bytes_sent", Operator::BytesSent),
    ("duration", Operator::Duration),
    ("upstream_service_time", Operator::UpstreamServiceTime),
    ("x_forwarded_for", Operator::ForwardedFor),
    ("user_agent", Operator::UserAgent),
    ("request_id", Operator::RequestId),
    ("authority", Operator::Authority),
    ("upstream_host", Operator::UpstreamHost),
    ("upstream_cluster", Operator::UpstreamCluster),
    ("upstream_local_address", Operator::UpstreamLocal),
    ("downstream_local_address", Operator::DownstreamLocal),
    ("downstream_remote_address", Operator::DownstreamRemote),
    ("requested_server_name", Operator::ServerName),
    ("upstream_transport_failure_reason", Operator::UpstreamFailure),
    ("trace_id", Operator::TraceId),
];

fn json(record: &RequestRecord) -> String {
    let mut text = String::with_capacity(768);
    let keys = KEYS.iter().map(|(key, operator)| (*key, operator));
    let ours = [
        ("tunnel_trace_id", &Operator::TunnelTraceId),
        ("upstream_tunnel_trace_id", &Operator::UpstreamTunnelTraceId),
    ];
    for (key, operator) in keys.chain(ours) {
        let separator = if text.is_empty() { '{' } else { ',' };
        let _ = write!(text, "{separator}\"{key}\":");
        match operator.value(record) {
            Value::None => text.push_str("null"),
            Value::Number(number) => {
                let _ = write!(text, "{number}");
            }
            Value::Text(value) => {
                // Whatever was sent is text here, and its quotes and control characters are escaped.
                let value = serde_json::to_string(template::shortened(&value));
                text.push_str(&value.unwrap_or_default());
            }
        }
    }
    text.push('}');
    text
}
