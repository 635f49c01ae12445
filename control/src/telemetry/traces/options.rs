//! Where traces go, and how many: by our own flags, and by the variables that every program with OpenTelemetry knows.

use std::fmt;
use std::str::FromStr;

use hyper::header::{HeaderName, HeaderValue};

use crate::grpc::{Address, GrpcError};

/// Parts of a whole in which a share of requests is counted.
const WHOLE: u32 = ringway_http::trace::WHOLE;

/// Of the requests whose trace begins here, this share is traced when nothing is said: Istio's 1 %.
const SHARE: u32 = WHOLE / 100;

/// How a collector is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC, mostly on port 4317.
    Grpc,
    /// Protobuf in HTTP/1.1, mostly on port 4318.
    Http,
}

/// What is said about traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceOptions {
    /// Where the collector is.
    pub endpoint: Address,
    /// For HTTP: the path of the endpoint.
    pub path: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What every export carries: whose it is, mostly.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who we say we are, if something else than what we are.
    pub service_name: Option<String>,
    /// What else is said of us.
    pub resource: Vec<(String, String)>,
    /// The share of requests that are traced, of those whose trace begins here; in parts of a million.
    pub share: u32,
}

/// Why traces cannot be sent as is said.
#[derive(Debug)]
pub enum TraceError {
    /// The collector's address is none.
    Endpoint(GrpcError),
    /// A variable or flag has a value that means nothing.
    Value {
        /// Which.
        name: &'static str,
        /// What it has.
        value: String,
        /// What it could have.
        want: &'static str,
    },
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(error) => write!(f, "the collector of traces: {error}"),
            Self::Value { name, value, want } => {
                write!(f, "{name}={value:?} is not understood; {want}")
            }
        }
    }
}

impl std::error::Error for TraceError {}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http" | "http/protobuf" => Ok(Self::Http),
            _ => Err(()),
        }
    }
}

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const TRACES_HEADERS: &str = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
const EXPORTER: &str = "OTEL_TRACES_EXPORTER";
const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE: &str = "OTEL_RESOURCE_ATTRIBUTES";
const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
const SAMPLER_ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";

/// What our own flags say.
#[derive(Debug, Clone, Default)]
pub struct TraceFlags {
    /// The collector, `http://host:4317`.
    pub endpoint: Option<String>,
    /// How it is spoken to.
    pub protocol: Option<Protocol>,
    /// A share between 0 and 1.
    pub share: Option<f64>,
}

impl TraceOptions {
    /// What flags and variables say together; flags win. `None`: traces go nowhere.
    ///
    /// # Errors
    /// When one of them means nothing.
    pub fn read(
        flags: &TraceFlags,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, TraceError> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let first = |one, other| {
            variable(one)
                .map(|value| (one, value))
                .or_else(|| variable(other).map(|value| (other, value)))
        };
        let off = variable(DISABLED).as_deref() == Some("true")
            || variable(EXPORTER).as_deref() == Some("none");
        let given = match (&flags.endpoint, off) {
            (Some(endpoint), _) => Some((false, endpoint.clone())),
            (None, true) => None,
            (None, false) => first(TRACES_ENDPOINT, ENDPOINT)
                .map(|(name, value)| (name == TRACES_ENDPOINT, value)),
        };
        let Some((is_whole, endpoint)) = given else { return Ok(None) };
        let protocol = match (flags.protocol, first(TRACES_PROTOCOL, PROTOCOL)) {
            (Some(protocol), _) => protocol,
            (None, None) => Protocol::Grpc,
            (None, Some((_, value))) => value.parse().map_err(|()| TraceError::Value {
                name: PROTOCOL,
                value,
                want: "use grpc or http/protobuf",
            })?,
        };
        let (endpoint, path) = split(&endpoint);
        // The variable of traces alone names the whole path, the one of everything its beginning.
        let path = match (is_whole, path.trim_end_matches('/')) {
            (true, "") => "/".to_owned(),
            (true, path) => path.to_owned(),
            (false, path) => format!("{path}/v1/traces"),
        };
        let headers = first(TRACES_HEADERS, HEADERS).map(|(_, value)| pairs(&value, HEADERS));
        let headers = headers.transpose()?.unwrap_or_default();
        Ok(Some(Self {
            endpoint: endpoint.parse().map_err(TraceError::Endpoint)?,
            path,
            protocol,
            headers: headers.into_iter().map(header).collect::<Result<_, _>>()?,
            service_name: variable(SERVICE_NAME),
            resource: variable(RESOURCE).map_or(Ok(Vec::new()), |value| pairs(&value, RESOURCE))?,
            share: share(flags.share, variable(SAMPLER), variable(SAMPLER_ARGUMENT))?,
        }))
    }
}

fn split(endpoint: &str) -> (&str, &str) {
    let host = endpoint.find("://").map_or(0, |at| at + 3);
    match endpoint[host..].find('/') {
        Some(at) => endpoint.split_at(host + at),
        None => (endpoint, ""),
    }
}

/// `name=value,name=value`, percent-encoded.
fn pairs(text: &str, name: &'static str) -> Result<Vec<(String, String)>, TraceError> {
    let wrong = || TraceError::Value {
        name,
        // It may be a secret.
        value: "…".to_owned(),
        want: "write name=value,name=value",
    };
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            Ok((name.trim().to_owned(), decoded(value.trim()).ok_or_else(wrong)?))
        })
        .collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn header((name, value): (String, String)) -> Result<(HeaderName, HeaderValue), TraceError> {
    let wrong =
        || TraceError::Value { name: HEADERS, value: name.clone(), want: "it is no header" };
    let parsed =
        HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).map_err(|_| wrong())?;
    let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn share(
    flag: Option<f64>,
    sampler: Option<String>,
    argument: Option<String>,
) -> Result<u32, TraceError> {
    let of = |share: f64| (share * f64::from(WHOLE)).round() as u32;
    if let Some(flag) = flag {
        return Ok(of(flag));
    }
    match sampler.as_deref() {
        None => Ok(SHARE),
        Some("always_on" | "parentbased_always_on") => Ok(WHOLE),
        Some("always_off" | "parentbased_always_off") => Ok(0),
        Some("traceidratio" | "parentbased_traceidratio") => {
            let value = argument.unwrap_or_else(|| "1.0".to_owned());
            let parsed = value.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
            parsed.map(of).ok_or(TraceError::Value {
                name: SAMPLER_ARGUMENT,
                value,
                want: "use a number from 0 to 1",
            })
        }
        Some(_) => Err(TraceError::Value {
            name: SAMPLER,
            value: sampler.unwrap_or_default(),
            want: "use always_on, always_off or traceidratio, each also with parentbased_ before it: who begins a \
                trace decides in any case",
        }),
    }
}
