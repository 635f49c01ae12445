//! External authorizers: what they are asked about a request, by gRPC (`envoy.service.auth.v3.Authorization/Check`) or by
//! HTTP, and what their answer means.
//!
//! | the answer, by gRPC | by HTTP | |
//! |---|---|---|
//! | status `OK` | 200 | the request may pass, with the changes that the answer asks for |
//! | any other status | any other below 500 | it is refused, as the answer says |
//! | an error of gRPC's | from 500 | there is no answer |

use std::collections::BTreeMap;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri, Version, header};
use prost::Message;
use ringway_protocols::identity::Identity;

use super::authorization_proto::check_response::HttpResponse;
use super::authorization_proto::header_value_option::AppendAction;
use super::authorization_proto::{
    Address, AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValueOption,
    HttpRequest, OkHttpResponse, Peer, Request as Asked, SocketAddress, Time, TlsSession,
};
use super::changes::{header_of, is_untouched};
use super::{HeaderChanges, QueryChanges, Unreadable};
use crate::authorize::{Facts, header_text};
use crate::model::policy::{HttpAuthorization, TextMatch};

/// Where an authorizer is asked by gRPC.
pub const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// In an answer by HTTP: headers that the request loses.
const REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// Headers of an answer that refuses which the client gets beside those that are chosen.
const DENIAL_OWN: [HeaderName; 2] = [header::WWW_AUTHENTICATE, header::LOCATION];

/// What is asked.
#[derive(Debug)]
pub struct Check<'a> {
    /// The request, and the connection it came by.
    pub facts: &'a Facts<'a>,
    /// The client's port.
    pub source_port: u16,
    /// Who asks.
    pub own: Option<&'a Identity>,
    /// The canonical path, and the query.
    pub target: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// How it came.
    pub version: Version,
    /// Of the request, as logs have it.
    pub id: &'a str,
    /// Of the body, if that is known.
    pub size: Option<u64>,
    /// When it came, since 1970.
    pub at: Duration,
    /// The body, or its beginning, if the authorizer is to have it.
    pub body: Option<&'a [u8]>,
    /// The body as bytes, even where it is text.
    pub as_bytes: bool,
}

impl Check<'_> {
    /// As a message of gRPC's.
    pub fn message(&self) -> Vec<u8> {
        let facts = self.facts;
        let destination = facts.destination();
        let attributes = AttributeContext {
            source: Some(peer(facts.source_ip().to_string(), self.source_port, facts.source())),
            destination: Some(peer(destination.ip().to_string(), destination.port(), self.own)),
            request: Some(Asked { time: Some(time(self.at)), http: Some(self.request()) }),
            tls_session: facts.server_name().map(|sni| TlsSession { sni: sni.to_owned() }),
        };
        CheckRequest { attributes: Some(attributes) }.encode_to_vec()
    }

    fn request(&self) -> HttpRequest {
        let method = self.facts.request().map_or("", |request| request.method.as_str());
        let host = self.authority().unwrap_or_default();
        let (mut body, mut raw_body) = (String::new(), Vec::new());
        match self.body.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            Some((_, Ok(text))) if !self.as_bytes => body = text.to_owned(),
            Some((bytes, _)) => raw_body = bytes.to_owned(),
            None => {}
        }
        HttpRequest {
            id: self.id.to_owned(),
            method: method.to_owned(),
            headers: self.headers(method, host),
            path: self.target.to_owned(),
            host: host.to_owned(),
            scheme: self.scheme.to_owned(),
            size: self.size.map_or(-1, |size| i64::try_from(size).unwrap_or(i64::MAX)),
            protocol: protocol(self.version).to_owned(),
            body,
            raw_body,
        }
    }

    /// All headers, those of one name as one, and those that HTTP/2 has for the request's line.
    fn headers(&self, method: &str, host: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for (name, value) in [
            (":authority", host),
            (":method", method),
            (":path", self.target),
            (":scheme", self.scheme),
        ] {
            all.insert(name.to_owned(), value.to_owned());
        }
        let Some(request) = self.facts.request() else { return all };
        for name in request.headers.keys().filter(|name| **name != header::HOST) {
            if let Some(value) = header_text(request.headers, name) {
                all.insert(name.as_str().to_owned(), value.into_owned());
            }
        }
        all
    }

    fn authority(&self) -> Option<&str> {
        self.facts.request()?.authority
    }

    /// As the head of a request by HTTP; its body is that of the check.
    ///
    /// # Errors
    /// The prefix and the request's path together are no path.
    pub fn head(&self, said: &HttpAuthorization) -> Result<Parts, Unreadable> {
        let target = format!("{}{}", said.path_prefix, self.target);
        let uri = Uri::try_from(&*target).map_err(|error| {
            Unreadable::Failed(format!("it cannot be asked about {target:?}: {error}"))
        })?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.uri = uri;
        if let Some(request) = self.facts.request() {
            parts.method = request.method.clone();
            parts.headers = included(request.headers, &said.include);
        }
        for (name, value) in &said.add {
            parts.headers.insert(name, value.clone());
        }
        if let Some(host) = self.authority().and_then(|host| HeaderValue::from_str(host).ok()) {
            parts.headers.insert(header::HOST, host);
        }
        Ok(parts)
    }
}

fn peer(address: String, port: u16, identity: Option<&Identity>) -> Peer {
    let socket_address = Some(SocketAddress { address, port_value: port.into() });
    Peer {
        address: Some(Address { socket_address }),
        service: String::new(),
        principal: identity.map(ToString::to_string).unwrap_or_default(),
    }
}

fn time(at: Duration) -> Time {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    Time { seconds, nanos: at.subsec_nanos().cast_signed() }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// The headers that are sent by HTTP.
fn included(headers: &HeaderMap, chosen: &[TextMatch]) -> HeaderMap {
    let is_sent = |name: &HeaderName| *name == header::AUTHORIZATION || is_chosen(name, chosen);
    let sent = headers.iter().filter(|(name, _)| is_sent(name) && !is_untouched(name));
    sent.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn is_chosen(name: &HeaderName, chosen: &[TextMatch]) -> bool {
    chosen.iter().any(|one| one.matches(name.as_str()))
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Allowed(Box<Allowed>),
    /// It may not.
    Denied(Box<Denial>),
}

/// What a request that may pass is changed by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Its headers.
    pub request: HeaderChanges,
    /// Its query.
    pub query: QueryChanges,
    /// Its answer's headers.
    pub response: HeaderChanges,
}

/// What the client gets instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The answer's status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderChanges,
    /// Its body.
    pub body: Vec<u8>,
}

/// Reads an answer by gRPC.
///
/// # Errors
/// It is none.
pub fn by_grpc(message: &[u8]) -> Result<Verdict, Unreadable> {
    let unreadable = |error: prost::DecodeError| Unreadable::Message(error.to_string());
    let CheckResponse { status, http_response } =
        CheckResponse::decode(message).map_err(unreadable)?;
    // Without a status nothing is said, which is not yes.
    let is_ok = status.is_some_and(|status| status.code == 0);
    match http_response {
        Some(HttpResponse::ErrorResponse(said)) => {
            let code = said.status.map_or(0, |status| status.code);
            Err(Unreadable::Failed(format!("it has failed with the status {code}")))
        }
        Some(HttpResponse::OkResponse(said)) if is_ok => Ok(Verdict::Allowed(said.read().into())),
        Some(HttpResponse::DeniedResponse(said)) if !is_ok => {
            Ok(Verdict::Denied(said.read().into()))
        }
        _ if is_ok => Ok(Verdict::Allowed(Box::default())),
        _ => Ok(Verdict::Denied(DeniedHttpResponse::default().read().into())),
    }
}

impl OkHttpResponse {
    fn read(self) -> Allowed {
        let mut request = changes(&self.headers, Of::Request);
        for name in &self.headers_to_remove {
            // Neither `:path` nor what is no name can be there.
            if let Ok(name) = HeaderName::try_from(&**name) {
                request.remove(name);
            }
        }
        let set = self.query_parameters_to_set.into_iter().map(|one| (one.key, one.value));
        let query = QueryChanges { remove: self.query_parameters_to_remove, set: set.collect() };
        Allowed { request, query, response: changes(&self.response_headers_to_add, Of::Response) }
    }
}

impl DeniedHttpResponse {
    fn read(self) -> Denial {
        let code = self.status.and_then(|status| u16::try_from(status.code).ok());
        let status = code.and_then(|code| StatusCode::from_u16(code).ok());
        // Neither an answer that is not the last one, nor one that looks like a yes.
        let status = status.filter(|status| status.as_u16() >= 200);
        Denial {
            status: status.unwrap_or(StatusCode::FORBIDDEN),
            headers: changes(&self.headers, Of::Denial),
            body: self.body.into_bytes(),
        }
    }
}

/// What headers are changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// A request's, where a client must not have a say in what is put in.
    Request,
    /// The answer's of a request that may pass.
    Response,
    /// Those of an answer that the authorizer gives.
    Denial,
}

fn changes(said: &[HeaderValueOption], of: Of) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    let mut seen: Vec<HeaderName> = Vec::new();
    for option in said {
        let Some(header) = &option.header else { continue };
        let Some((name, value)) = header_of(&header.key, &header.value, &header.raw_value) else {
            continue;
        };
        let again = of == Of::Denial && seen.contains(&name);
        seen.push(name.clone());
        // `append` is the older way to say it. Where nothing is said, an answer keeps its cookies.
        match (option.append.as_ref().map(|append| append.value), option.append_action()) {
            (Some(true), _) => changes.append(name, value),
            (None, AppendAction::AppendIfExistsOrAdd) if of == Of::Response => {
                changes.append(name, value);
            }
            _ if again => changes.append(name, value),
            (Some(false), _)
            | (None, AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd) => {
                changes.set(name, value);
            }
            (None, AppendAction::AddIfAbsent) => changes.set_default(name, value),
            (None, AppendAction::OverwriteIfExists) => changes.replace(name, value),
        }
    }
    changes
}

/// Reads an answer by HTTP.
///
/// # Errors
/// The authorizer says that it has failed.
pub fn by_http(
    status: StatusCode,
    headers: &HeaderMap,
    body: Vec<u8>,
    said: &HttpAuthorization,
) -> Result<Verdict, Unreadable> {
    if status.is_server_error() || status.is_informational() {
        return Err(Unreadable::Failed(format!("it has answered {}", status.as_u16())));
    }
    if status != StatusCode::OK {
        let all = said.downstream_on_deny.is_empty();
        let is_told = |name: &HeaderName| {
            all || DENIAL_OWN.contains(name) || is_chosen(name, &said.downstream_on_deny)
        };
        let headers = chosen(headers, is_told);
        return Ok(Verdict::Denied(Box::new(Denial { status, headers, body })));
    }
    let mut request = chosen(headers, |name| is_chosen(name, &said.upstream));
    let removed = headers.get_all(REMOVE).iter().filter_map(|value| value.to_str().ok());
    for name in removed.flat_map(|value| value.split(',')) {
        if let Ok(name) = HeaderName::try_from(name.trim()) {
            request.remove(name);
        }
    }
    let response = chosen(headers, |name| is_chosen(name, &said.downstream_on_allow));
    let query = QueryChanges::default();
    Ok(Verdict::Allowed(Box::new(Allowed { request, query, response })))
}

/// Some of the headers of an answer, each instead of what is there.
fn chosen(headers: &HeaderMap, is_chosen: impl Fn(&HeaderName) -> bool) -> HeaderChanges {
    let mut changes = HeaderChanges::default();
    for name in headers.keys().filter(|name| is_chosen(name)) {
        let mut values = headers.get_all(name).iter().cloned();
        values.next().into_iter().for_each(|first| changes.set(name.clone(), first));
        values.for_each(|further| changes.append(name.clone(), further));
    }
    changes
}

#[cfg(test)]
mod tests;
