//! The story of one request.
//!
//! Its head is here → is it what it should be → which rule does it meet → who gets it → it is sent, and sent again where
//! that is safe → the answer's head goes to the client → its body, and with the end of that the record.

use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
    uri::Scheme,
};
use ringway_http::{
    head::{
        HeadRules, check_request,
        forwarding::{self, Standing},
        hops,
        websocket::{from_switched, to_upgrade},
    },
    trace,
};

use super::{
    download::Download,
    handoff::Getter,
    incoming::Incoming,
    interim::InterimSink,
    plan::plan,
    policy,
    record::Recorder,
    reply::Reply,
    serve::{Downstream, Target, UnderWay},
    tries::{Answered, Tries},
    upload::Upload,
    upstream::{Dialect, Lease, Spoken},
    websocket,
};
use crate::{
    accounts::HeldBytes,
    close::CloseReason,
    connection::Connection,
    relay::{DirectionState, Observer, RelayState, relay_from},
    runtime::{self, Sleep, TcpStream},
    telemetry::http::{ResponseFlag, TraceContext},
};

/// The request asks for another protocol on its connection.
#[derive(Clone, Copy)]
pub(crate) struct AsksForUpgrade;

/// Serves one request from its head to the head of its answer; the answer's body does the rest.
/// `interims` get what comes before the answer. `offered`: the stream that it came by, if it may become another protocol's.
pub(crate) async fn exchange(
    downstream: Rc<Downstream>,
    request: Request<Incoming>,
    interims: Option<InterimSink>,
    offered: Option<Getter<websocket::Ends>>,
) -> Response<Download> {
    let (mut parts, body) = request.into_parts();
    let under_way = UnderWay::new(&downstream.activity);
    let mut recorder = Recorder::begin(&downstream, &parts);
    let stream = offered.filter(|_| websocket::is_asked_for(&parts));
    let is_websocket = stream.is_some();
    let received = Received { parts: &mut parts, body, interims, is_websocket };
    match pass_on(&downstream, received, &mut recorder).await {
        Ok((answered, deadline)) => match misunderstood(&parts, stream.is_some(), &answered) {
            Some(why) => Reply::garbled(why.into()).into_response(recorder, under_way),
            None => answer(&downstream, answered, (stream, deadline), recorder, under_way),
        },
        Err(reply) => reply.into_response(recorder, under_way),
    }
}

/// Why an answer goes on with another protocol than the request has asked for; none: it does not.
fn misunderstood(parts: &Parts, is_websocket: bool, answered: &Answered) -> Option<&'static str> {
    let status = answered.response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS
        && parts.extensions.get::<AsksForUpgrade>().is_none()
    {
        return Some("it changed the protocol, and nobody had asked for another");
    }
    (is_websocket && status.is_success()).then_some("it answered a WebSocket with a page")
}

/// A request as it came.
struct Received<'a> {
    parts: &'a mut Parts,
    body: Incoming,
    interims: Option<InterimSink>,
    is_websocket: bool,
}

/// Finds out who gets the request, and gets it there.
async fn pass_on(
    downstream: &Rc<Downstream>,
    Received { parts, body, interims, is_websocket }: Received<'_>,
    recorder: &mut Recorder,
) -> Result<(Answered, Option<Sleep>), Reply> {
    let shard = &downstream.shard;
    let rules = HeadRules { connect: is_websocket, ..HeadRules::default() };
    check_request(parts, &rules).map_err(|refusal| {
        Reply::new(refusal.status(), refusal.details())
            .flagged(ResponseFlag::DownstreamProtocolError)
            .because(refusal.to_string())
            .closing(refusal.closes())
    })?;
    if is_websocket {
        let random = u128::from(shard.random()) << 64 | u128::from(shard.random());
        to_upgrade(parts, random.to_ne_bytes());
    }
    recorder.request_id = Some(trace::ensure_request_id(&mut parts.headers, || shard.random()));

    let kept = downstream.pod.l7.kept();
    let upload = Upload::new(body, &kept.replay_bytes, recorder.is_grpc());
    recorder.upload = Some(upload.clone());
    let snapshot = shard.snapshot();
    policy::admit(downstream, &snapshot, parts, recorder).await?;
    let tracing = shard.telemetry.http().tracing();
    let span = trace::proceed(&mut parts.headers, tracing, || shard.random());
    recorder.trace = span.map(TraceContext::from);

    prepare(downstream, parts);
    let came_as = parts.uri.path_and_query().cloned();
    let (plan, fault) = plan(downstream, &snapshot, parts, recorder).await?;
    drop(snapshot);
    if parts.uri.path_and_query() != came_as.as_ref() {
        recorder.sent_path = parts.uri.path_and_query().map(|sent| sent.as_str().into());
    }
    drop(came_as);

    let source = shard.workload(&downstream.pod.workload).await.map_err(|reason| {
        Reply::new(StatusCode::SERVICE_UNAVAILABLE, "own_workload_unknown")
            .because(reason.to_string())
    })?;
    let snapshot = shard.snapshot();
    if snapshot.http().is_some_and(|tables| tables.tells_client(source.uid())) {
        let by = source.identity().to_string();
        if let Some(client) = &downstream.identity {
            forwarding::say_client(&mut parts.headers, &by, &client.to_string());
        } else if let Some(certificate) = &downstream.certificate {
            forwarding::say_certificate(&mut parts.headers, &by, certificate);
        }
    }
    drop(snapshot);
    let timeout = plan.timeouts().request;
    let was_http2 = parts.version == Version::HTTP_2;
    let tries = Tries {
        downstream,
        source: &source,
        plan: &plan,
        parts,
        upload: &upload,
        interims: interims.as_ref(),
        was_http2,
        deadline: timeout.map(|timeout| runtime::now() + timeout),
    };
    let deadline = timeout.map(runtime::sleep);
    let answered = match timeout {
        Some(timeout) => runtime::timeout(timeout, Box::pin(tries.run_spoilt(fault, recorder)))
            .await
            .unwrap_or_else(|_elapsed| {
                tries.note_slow(recorder);
                Err(Reply::timed_out("response_timeout"))
            }),
        None => Box::pin(tries.run_spoilt(fault, recorder)).await,
    };
    upload.stop_keeping();
    Ok((answered?, deadline))
}

/// Makes of the request's head what is sent on.
fn prepare(downstream: &Downstream, parts: &mut Parts) {
    let may_upgrade = parts.version == Version::HTTP_11;
    let upgrade = may_upgrade.then(|| hops::upgrade(&parts.headers)).flatten();
    strip(&mut parts.headers);
    hops::join_cookies(&mut parts.headers);
    if let Some(token) = upgrade {
        hops::set_upgrade(&mut parts.headers, token);
        parts.extensions.insert(AsksForUpgrade);
    }
    let standing = match downstream.target {
        Target::Listener { .. } => Standing::Edge,
        Target::Service { .. } | Target::Workload(..) => Standing::Mesh,
    };
    let (source, scheme) = (downstream.source.ip(), downstream.scheme());
    forwarding::say_origin(&mut parts.headers, standing, source, scheme);
    if let Some(authority) = parts.uri.authority() {
        // RFC 9112 §3.2.2: what the target says goes before the header.
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            parts.headers.insert(header::HOST, host);
        }
    }
}

/// Takes out what is this hop's own; which trailers will come is said on the next hop, too, for HTTP/1 sends no others.
fn strip(headers: &mut HeaderMap) {
    let trailers = headers.get(header::TRAILER).cloned();
    hops::strip(headers);
    if let Some(trailers) = trailers {
        headers.insert(header::TRAILER, trailers);
    }
}

/// A request for one try, in the form of the connection it is sent on.
pub(crate) fn outgoing(parts: &Parts, spoken: Spoken<'_>) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = parts.headers.clone();
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = parts.uri.path_and_query().cloned();
    match spoken.dialect {
        Dialect::Http1 => {
            *request.version_mut() = Version::HTTP_11;
        }
        Dialect::Http2 => {
            *request.version_mut() = Version::HTTP_2;
            let host = request.headers_mut().remove(header::HOST);
            uri.authority = host.and_then(|host| host.as_bytes().try_into().ok());
            let scheme = match spoken.originator {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            };
            uri.scheme = uri.authority.is_some().then_some(scheme);
            hops::strip_for_http2(request.headers_mut());
            keep_out_of_tables(request.headers_mut());
        }
    }
    if let Ok(uri) = uri.try_into() {
        *request.uri_mut() = uri;
    }
    request
}

/// Keeps what is new in every request out of HPACK's table (RFC 7541 §6.2.3): there it would push out what comes again,
/// and each next one would be compared with all that are left.
fn keep_out_of_tables(headers: &mut HeaderMap) {
    for name in [trace::REQUEST_ID, trace::TRACE_PARENT] {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

/// Makes of the backend's answer the client's.
fn answer(
    downstream: &Rc<Downstream>,
    answered: Answered,
    (stream, deadline): (Option<Getter<websocket::Ends>>, Option<Sleep>),
    mut recorder: Recorder,
    under_way: UnderWay,
) -> Response<Download> {
    let Answered { mut response, lease } = answered;
    let granted = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| hops::upgrade(response.headers()))
        .flatten();
    strip(response.headers_mut());
    recorder.details = "via_upstream".into();
    if let (Some(_), Some(stream)) = (&granted, stream) {
        let (mut parts, _nothing) = response.into_parts();
        from_switched(&mut parts);
        let mut response = Response::from_parts(parts, Download::of_upgrade(under_way));
        recorder.answer(&mut response);
        let (upgraded, under_way) =
            (Upgraded { lease, recorder }, UnderWay::new(&downstream.activity));
        let passing = websocket::pass(downstream.clone(), stream, upgraded, under_way);
        downstream.pod.spawn(passing);
        return response;
    }
    if let Some(token) = granted {
        hops::set_upgrade(response.headers_mut(), token);
        recorder.answer(&mut response);
        *downstream.upgraded.borrow_mut() = Some(Upgraded { lease, recorder });
        return response.map(|_nothing| Download::of_upgrade(under_way));
    }
    recorder.answer(&mut response);
    response.map(|body| Download::of_backend(body, lease, recorder, deadline, under_way))
}

/// A connection whose client and backend have agreed on another protocol.
pub(crate) struct Upgraded {
    lease: Lease,
    recorder: Recorder,
}

impl Upgraded {
    /// Passes bytes both ways until the connection ends. `rest`: what came from the client behind its request.
    pub(crate) async fn pass(
        self,
        downstream: &Downstream,
        client: &TcpStream,
        rest: Bytes,
        connection: Option<&Connection>,
    ) {
        let Self { lease, mut recorder } = self;
        let Some((server, early)) = lease.into_upgraded().await else {
            recorder.flags.add(ResponseFlag::UpstreamConnectionTermination);
            return client.reset_on_close();
        };
        let held = |bytes: Bytes| DirectionState { held: bytes.to_vec(), ended: false };
        let state = RelayState { upload: held(rest), download: held(early) };
        let passing = Passing {
            connection,
            sent: Cell::new(0),
            held: HeldBytes::none(&downstream.pod.account).into(),
        };
        let reason = relay_from(client, &server, &downstream.shard.pipes, state, &passing).await;
        recorder.sent_bytes = passing.sent.get();
        match reason {
            CloseReason::Finished => recorder.finish(),
            CloseReason::DestinationReset => {
                recorder.flags.add(ResponseFlag::UpstreamConnectionTermination);
                recorder.finish();
            }
            _ => drop(recorder),
        }
    }
}

/// Counts what passes, and has it cut.
struct Passing<'a> {
    /// None: it is one stream of a connection, and ends with it.
    connection: Option<&'a Connection>,
    sent: Cell<u64>,
    held: std::cell::RefCell<HeldBytes>,
}

impl Observer for Passing<'_> {
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.connection.map_or(Poll::Pending, |connection| connection.poll_cut(cx))
    }

    fn client_to_server(&self, _bytes: usize) {}

    fn server_to_client(&self, bytes: usize) {
        self.sent.set(self.sent.get() + bytes as u64);
    }

    fn holds(&self, bytes: usize) {
        self.held.borrow_mut().set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_in_every_request_is_not_kept_in_a_table_of_http2() {
        let request = Request::builder()
            .uri("/")
            .header("host", "reviews")
            .header("x-request-id", "one")
            .header("traceparent", "two")
            .header("user-agent", "three");
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        let kept_out = |dialect| {
            let sent = outgoing(&parts, Spoken { dialect, originator: None });
            let kept_out = sent.headers().iter().filter(|(_, value)| value.is_sensitive());
            let mut names: Vec<String> = kept_out.map(|(name, _)| name.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(kept_out(Dialect::Http2), ["traceparent", "x-request-id"]);
        assert!(kept_out(Dialect::Http1).is_empty(), "it has none");
    }
}
