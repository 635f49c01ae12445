//! Conversations with the `h2` crate, which is what ztunnel speaks, in both roles.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode};
use ringway_protocols::hbone::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use crate::support::request;

/// More than any test has under way, so that neither side ever waits for room to write.
const PIPE_BYTES: usize = 64 << 20;

/// What is done with the machine's events, and what is sent.
trait Application {
    fn on_event(&mut self, machine: &mut Connection, event: Event, input: &[u8]);

    /// Appends DATA frames to `out`.
    fn send(&mut self, machine: &mut Connection, out: &mut Vec<u8>);

    fn is_done(&self) -> bool {
        false
    }
}

/// Runs our machine on one end of a pipe until the application is done or the peer leaves.
async fn run<A: Application>(
    mut pipe: DuplexStream,
    mut machine: Connection,
    mut application: A,
) -> (Connection, A) {
    let mut input = vec![0; 16_384];
    let mut writable = true;
    loop {
        let mut out = Vec::new();
        machine.take_output(&mut out);
        application.send(&mut machine, &mut out);
        machine.take_output(&mut out);
        // Who has closed may have said all that it had to say before.
        writable = writable && (out.is_empty() || pipe.write_all(&out).await.is_ok());
        if application.is_done() {
            return (machine, application);
        }
        let length = match pipe.read(&mut input).await {
            Ok(length) if length > 0 => length,
            _ => return (machine, application),
        };
        let mut cursor = 0;
        let slice = &input[..length];
        while let Some(event) = machine.next_event(slice, &mut cursor, Instant::now()).unwrap() {
            application.on_event(&mut machine, event, slice);
        }
    }
}

/// Bytes to send on each stream, and whether the stream ends after them.
#[derive(Default)]
struct Queues(BTreeMap<StreamId, (Vec<u8>, bool)>);

impl Queues {
    fn send(&mut self, machine: &mut Connection, out: &mut Vec<u8>) {
        self.0.retain(|&stream, (bytes, end)| {
            loop {
                let most = machine.send_capacity(stream).min(machine.peer_frame_bytes_max());
                let length = bytes.len().min(most);
                let last = *end && length == bytes.len();
                if length == 0 && !last {
                    return true;
                }
                machine.take_output(out);
                out.extend_from_slice(&machine.data_header(stream, length, last));
                out.extend(bytes.drain(..length));
                if last {
                    return false;
                }
            }
        });
    }
}

/// A server that accepts everything and returns what it gets.
#[derive(Default)]
struct Echo {
    queues: Queues,
    requests: Vec<ConnectRequest>,
    resets: Vec<(StreamId, ErrorCode)>,
    /// Refuse requests for this port with 401, reset those for the next.
    refused_port: u16,
    leave_at: Option<usize>,
}

impl Application for Echo {
    fn on_event(&mut self, machine: &mut Connection, event: Event, input: &[u8]) {
        match event {
            Event::Request { stream, request, end_of_stream } => {
                let port = request.authority.port();
                self.requests.push(*request);
                if self.leave_at == Some(self.requests.len()) {
                    machine.go_away(ErrorCode::NO_ERROR);
                }
                if port == self.refused_port {
                    machine.refuse(stream, 401);
                } else if port == self.refused_port + 1 {
                    machine.reset(stream, LocalEnd::Aborted.code());
                } else {
                    let baggage = Some(Baggage { zone: Some("z".into()), ..Baggage::default() });
                    machine.accept(stream, &ConnectResponse { status: 200, baggage });
                    self.queues.0.insert(stream, (Vec::new(), end_of_stream));
                }
            }
            Event::Data { stream, payload, flow_controlled_bytes } => {
                self.queues.0.get_mut(&stream).unwrap().0.extend_from_slice(&input[payload]);
                machine.release(stream, flow_controlled_bytes, Instant::now());
            }
            Event::EndOfStream { stream } => self.queues.0.get_mut(&stream).unwrap().1 = true,
            Event::Reset { stream, code } => {
                self.queues.0.remove(&stream);
                self.resets.push((stream, code));
            }
            _ => {}
        }
    }

    fn send(&mut self, machine: &mut Connection, out: &mut Vec<u8>) {
        self.queues.send(machine, out);
    }
}

/// A client that opens streams, sends `payload` on each and gathers what comes back.
#[derive(Default)]
struct Asking {
    queues: Queues,
    requests: Vec<ConnectRequest>,
    payload: Vec<u8>,
    opened: Vec<StreamId>,
    responses: BTreeMap<StreamId, ConnectResponse>,
    received: BTreeMap<StreamId, Vec<u8>>,
    resets: Vec<(StreamId, ErrorCode)>,
    ended: usize,
    settled: bool,
    going_away: bool,
}

impl Asking {
    fn new(requests: Vec<ConnectRequest>, payload: Vec<u8>) -> Self {
        Self { requests, payload, ..Self::default() }
    }
}

impl Application for Asking {
    fn on_event(&mut self, machine: &mut Connection, event: Event, input: &[u8]) {
        match event {
            Event::Response { stream, response, end_of_stream } => {
                if end_of_stream {
                    self.queues.0.remove(&stream);
                    machine.reset(stream, LocalEnd::GaveUp.code());
                    self.ended += 1;
                }
                self.responses.insert(stream, response);
            }
            Event::Data { stream, payload, flow_controlled_bytes } => {
                self.received.entry(stream).or_default().extend_from_slice(&input[payload]);
                machine.release(stream, flow_controlled_bytes, Instant::now());
            }
            Event::EndOfStream { .. } => self.ended += 1,
            Event::Reset { stream, code } => {
                self.queues.0.remove(&stream);
                self.resets.push((stream, code));
                self.ended += 1;
            }
            Event::GoAway { .. } => self.going_away = true,
            Event::Settings => self.settled = true,
            _ => {}
        }
    }

    fn send(&mut self, machine: &mut Connection, out: &mut Vec<u8>) {
        // Before SETTINGS one may open as many as one likes, and be refused.
        while self.settled && self.opened.len() < self.requests.len() && machine.can_open() {
            let stream = machine.open(&self.requests[self.opened.len()]).unwrap();
            self.opened.push(stream);
            self.queues.0.insert(stream, (self.payload.clone(), true));
        }
        self.queues.send(machine, out);
    }

    fn is_done(&self) -> bool {
        self.ended == self.requests.len()
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| ((at * 131) >> 5) as u8).collect()
}

fn to_port(port: u16) -> Request<()> {
    Request::builder().method(Method::CONNECT).uri(format!("10.1.0.10:{port}")).body(()).unwrap()
}

/// Sends everything with regard to the window, then ends the stream.
async fn send_all(mut stream: SendStream<Bytes>, mut bytes: Bytes) -> Result<(), h2::Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap()?;
        stream.send_data(bytes.split_to(capacity.min(bytes.len())), false)?;
    }
    stream.send_data(Bytes::new(), true)
}

async fn receive_all(mut stream: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut received = Vec::new();
    while let Some(bytes) = stream.data().await {
        let bytes = bytes?;
        stream.flow_control().release_capacity(bytes.len())?;
        received.extend_from_slice(&bytes);
    }
    Ok(received)
}

fn test<F: Future<Output = ()>>(future: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limit = std::time::Duration::from_secs(30);
    runtime.block_on(async {
        tokio::time::timeout(limit, future).await.expect("nobody waits for ever")
    });
}

/// An `h2` client and our server with `application`.
async fn h2_client(
    builder: h2::client::Builder,
    settings: Settings,
    application: Echo,
) -> (
    h2::client::SendRequest<Bytes>,
    JoinHandle<Result<(), h2::Error>>,
    JoinHandle<(Connection, Echo)>,
) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let machine = Connection::server(settings, Instant::now());
    let ours = tokio::spawn(run(far, machine, application));
    let (client, connection) = builder.handshake(near).await.unwrap();
    (client, tokio::spawn(connection), ours)
}

/// An `h2` server that returns what it gets, after `reply` has decided on the request.
fn h2_server(
    builder: h2::server::Builder,
    reply: impl Fn(usize, &Request<RecvStream>) -> Result<StatusCode, Reason> + Send + 'static,
    leave_at: Option<usize>,
) -> (DuplexStream, JoinHandle<usize>) {
    let (near, far) = tokio::io::duplex(PIPE_BYTES);
    let task = tokio::spawn(async move {
        let mut connection = builder.handshake::<_, Bytes>(far).await.unwrap();
        let mut requests = 0;
        while let Some(accepted) = connection.accept().await {
            let Ok((request, mut respond)) = accepted else { break };
            requests += 1;
            if leave_at == Some(requests) {
                connection.graceful_shutdown();
            }
            let status = match reply(requests, &request) {
                Ok(status) => status,
                Err(reason) => {
                    respond.send_reset(reason);
                    continue;
                }
            };
            let response = Response::builder().status(status).header("baggage", "service.name=h2");
            let response = response.body(()).unwrap();
            let send = respond.send_response(response, status != StatusCode::OK).unwrap();
            if status == StatusCode::OK {
                tokio::spawn(async move {
                    let received = receive_all(request.into_body()).await.unwrap();
                    send_all(send, received.into()).await.unwrap();
                });
            }
        }
        requests
    });
    (near, task)
}

#[test]
fn an_h2_client_moves_bulk_through_our_server() {
    for (window, frame_bytes) in [(65_535, 16_384), (4 << 20, 1 << 20), (100_000, 1 << 20)] {
        test(async move {
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window);
            builder.max_frame_size(frame_bytes);
            let settings = Settings { stream_window_bytes: window, ..Settings::server() };
            let (client, _, _) = h2_client(builder, settings, Echo::default()).await;
            let mut tasks = Vec::new();
            for n in 0..8 {
                let mut client = client.clone().ready().await.unwrap();
                let payload = pattern(700_000 + n);
                let (response, send) = client.send_request(to_port(8080), false).unwrap();
                let sent = payload.clone();
                tokio::spawn(async move { send_all(send, sent.into()).await.unwrap() });
                tasks.push(tokio::spawn(async move {
                    let response = response.await.unwrap();
                    assert_eq!(response.status(), StatusCode::OK);
                    assert_eq!(response.headers()["baggage"], "cloud.availability_zone=z");
                    assert!(receive_all(response.into_body()).await.unwrap() == payload);
                }));
            }
            for task in tasks {
                task.await.unwrap();
            }
        });
    }
}

#[test]
fn our_client_moves_bulk_through_an_h2_server() {
    for (window, frame_bytes) in [(65_535, 16_384), (4 << 20, 1 << 20), (100_000, 1 << 20)] {
        test(async move {
            let mut builder = h2::server::Builder::new();
            builder.initial_window_size(window).initial_connection_window_size(window);
            builder.max_frame_size(frame_bytes).max_concurrent_streams(3).enable_connect_protocol();
            let (pipe, server) = h2_server(builder, |_, _| Ok(StatusCode::OK), None);
            let settings = Settings { stream_window_bytes: window, ..Settings::client() };
            let machine = Connection::client(settings, Instant::now());
            let payload = pattern(800_000);
            let asking = Asking::new(vec![request(); 10], payload.clone());
            let (machine, asking) = run(pipe, machine, asking).await;
            assert_eq!(asking.received.len(), 10);
            for stream in asking.opened {
                assert!(asking.received[&stream] == payload);
                let response = &asking.responses[&stream];
                assert_eq!(response.baggage.as_ref().unwrap().service_name.as_deref(), Some("h2"));
            }
            assert!(asking.resets.is_empty() && machine.is_idle());
            drop(machine);
            assert_eq!(server.await.unwrap(), 10);
        });
    }
}

#[test]
fn h2_compresses_headers_and_we_read_them() {
    test(async {
        let (mut client, connection, ours) =
            h2_client(h2::client::Builder::new(), Settings::server(), Echo::default()).await;
        let mut want = Vec::new();
        for n in 0..120_u16 {
            let request = ConnectRequest {
                authority: Authority::hostname(&format!("reviews-{n}.ns.svc"), 9000 + n).unwrap(),
                baggage: Some(Baggage {
                    namespace: Some(format!("ns-{}", n % 7).into()),
                    workload_name: Some("x".repeat(usize::from(n * 3 + 1)).into()),
                    ..Baggage::default()
                }),
                forwarded: Some(Forwarded { client: Some(([10, 0, 0, 1], n).into()), host: None }),
                traceparent: Some(Traceparent::new([n as u8 + 1; 16], [3; 8])),
                x_forwarded_network: (n % 2 == 0).then(|| "network-1".into()),
            };
            let mut builder =
                Request::builder().method(Method::CONNECT).uri(request.authority.to_string());
            builder = builder
                .header("baggage", request.baggage.as_ref().unwrap().to_string())
                .header("forwarded", request.forwarded.as_ref().unwrap().to_string())
                .header("traceparent", request.traceparent.unwrap().to_string())
                .header("x-istio-source", "ignored");
            if let Some(network) = request.x_forwarded_network.as_deref() {
                builder = builder.header("x-forwarded-network", network);
            }
            want.push(request);
            client = client.ready().await.unwrap();
            let (response, _) = client.send_request(builder.body(()).unwrap(), true).unwrap();
            receive_all(response.await.unwrap().into_body()).await.unwrap();
        }
        drop(client);
        connection.await.unwrap().unwrap();
        let (machine, echo) = ours.await.unwrap();
        assert!(machine.is_idle());
        assert_eq!(echo.requests, want);
    });
}

#[test]
fn h2_reads_the_headers_we_compress() {
    test(async {
        let network = "n".repeat(17_000);
        let requests: Vec<_> = (0..30_u16)
            .map(|n| ConnectRequest {
                forwarded: Some(Forwarded { client: Some(([10, 0, 0, 2], n).into()), host: None }),
                x_forwarded_network: (n == 5).then(|| network.as_str().into()),
                ..request()
            })
            .collect();
        let mut builder = h2::server::Builder::new();
        builder.header_table_size(100).max_header_list_size(30_000);
        let check = move |nth: usize, request: &Request<RecvStream>| {
            assert_eq!(request.method(), Method::CONNECT);
            assert_eq!(request.uri().to_string(), "10.1.0.10:8080");
            assert_eq!(request.headers()["baggage"], "k8s.namespace.name=ns");
            assert_eq!(request.headers()["forwarded"], format!("for=\"10.0.0.2:{}\"", nth - 1));
            let network = request.headers().get("x-forwarded-network").map(|value| value.len());
            assert_eq!(network, (nth == 6).then_some(17_000));
            Ok(StatusCode::OK)
        };
        let (pipe, server) = h2_server(builder, check, None);
        let machine = Connection::client(Settings::client(), Instant::now());
        let (machine, asking) = run(pipe, machine, Asking::new(requests, b"hi".to_vec())).await;
        assert!(machine.is_idle() && asking.resets.is_empty());
        drop((machine, asking));
        assert_eq!(server.await.unwrap(), 30);
    });
}

#[test]
fn refusals_and_resets_reach_an_h2_client_as_what_they_are() {
    test(async {
        let application = Echo { refused_port: 1000, ..Echo::default() };
        let (mut client, connection, ours) =
            h2_client(h2::client::Builder::new(), Settings::server(), application).await;
        let (response, send) = client.send_request(to_port(1000), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(receive_all(response.into_body()).await.unwrap(), b"");
        drop(send);

        let (response, send) = client.send_request(to_port(1001), false).unwrap();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CONNECT_ERROR));
        assert!(error.is_remote());
        drop(send);

        // And the other way: what h2 says when its user lets go of a stream.
        let (response, send) = client.send_request(to_port(80), false).unwrap();
        let response = response.await.unwrap();
        drop((response, send));
        let (response, mut send) = client.send_request(to_port(80), false).unwrap();
        let response = response.await.unwrap();
        send.send_reset(Reason::CONNECT_ERROR);
        drop((response, send, client));
        connection.await.unwrap().unwrap();
        let (machine, echo) = ours.await.unwrap();
        let ends: Vec<_> = echo.resets.iter().map(|(_, code)| code.stream_end()).collect();
        assert_eq!(ends, [StreamEnd::Clean, StreamEnd::Aborted], "{:?}", echo.resets);
        assert!(machine.is_idle());
    });
}

#[test]
fn refusals_and_resets_of_an_h2_server_are_read_as_what_they_are() {
    test(async {
        let reply = |nth, _: &Request<RecvStream>| match nth {
            1 => Ok(StatusCode::SERVICE_UNAVAILABLE),
            2 => Err(Reason::CONNECT_ERROR),
            3 => Err(Reason::REFUSED_STREAM),
            _ => Ok(StatusCode::OK),
        };
        let (pipe, _server) = h2_server(h2::server::Builder::new(), reply, None);
        let machine = Connection::client(Settings::client(), Instant::now());
        let (machine, asking) =
            run(pipe, machine, Asking::new(vec![request(); 4], b"hi".to_vec())).await;
        let statuses: Vec<_> = asking.responses.values().map(|response| response.status).collect();
        assert_eq!(statuses, [503, 200]);
        let ends: Vec<_> = asking.resets.iter().map(|(_, code)| code.stream_end()).collect();
        assert_eq!(ends, [StreamEnd::Aborted, StreamEnd::Refused]);
        assert_eq!(asking.received.into_values().collect::<Vec<_>>(), [b"hi"]);
        assert_eq!(machine.open_streams(), 0);
    });
}

#[test]
fn an_h2_server_that_leaves_finishes_what_it_has() {
    test(async {
        let (pipe, server) =
            h2_server(h2::server::Builder::new(), |_, _| Ok(StatusCode::OK), Some(3));
        let machine = Connection::client(Settings::client(), Instant::now());
        let payload = pattern(300_000);
        let (machine, asking) =
            run(pipe, machine, Asking::new(vec![request(); 5], payload.clone())).await;
        assert!(asking.going_away && machine.is_going_away());
        assert!(asking.received.values().all(|received| *received == payload));
        let retried =
            asking.resets.iter().filter(|(_, code)| code.stream_end() == StreamEnd::Refused);
        assert_eq!(
            asking.received.len() + retried.count(),
            5,
            "each is served or safe to try again"
        );
        assert!(server.await.unwrap() >= 3);
    });
}

#[test]
fn an_h2_client_of_a_server_that_leaves_finishes_what_it_has() {
    test(async {
        let application = Echo { leave_at: Some(2), ..Echo::default() };
        let (mut client, connection, ours) =
            h2_client(h2::client::Builder::new(), Settings::server(), application).await;
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let (response, send) = client.send_request(to_port(80), false).unwrap();
            let payload = pattern(200_000);
            let sent = payload.clone();
            tokio::spawn(async move { send_all(send, sent.into()).await.unwrap() });
            tasks.push(tokio::spawn(async move {
                let received = receive_all(response.await.unwrap().into_body()).await.unwrap();
                assert!(received == payload);
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(client.clone().ready().await.is_err(), "no more streams on this connection");
        drop(client);
        connection.await.unwrap().unwrap();
        let (machine, echo) = ours.await.unwrap();
        assert_eq!(echo.requests.len(), 3);
        assert!(machine.is_going_away() && machine.is_idle());
    });
}

#[test]
fn single_bytes_do_not_exhaust_the_patience_of_h2() {
    test(async {
        let (mut client, _connection, _ours) =
            h2_client(h2::client::Builder::new(), Settings::server(), Echo::default()).await;
        let (response, mut send) = client.send_request(to_port(80), false).unwrap();
        let mut receive = response.await.unwrap().into_body();
        for n in 0..20_000_u32 {
            send.send_data(Bytes::from(vec![n as u8]), false).unwrap();
            let bytes = receive.data().await.unwrap().unwrap();
            assert_eq!(bytes[..], [n as u8]);
            receive.flow_control().release_capacity(1).unwrap();
        }
    });
}

#[test]
fn h2_answers_our_keep_alive_and_we_answer_its() {
    test(async {
        let (mut near, far) = tokio::io::duplex(PIPE_BYTES);
        let task = tokio::spawn(async move {
            let mut server = h2::server::Builder::new().handshake::<_, Bytes>(far).await.unwrap();
            let mut pings = server.ping_pong().unwrap();
            let pong = tokio::spawn(async move { pings.ping(h2::Ping::opaque()).await.is_ok() });
            while server.accept().await.is_some() {}
            pong.await.unwrap()
        });
        let mut now = Instant::now();
        let mut machine = Connection::client(Settings::client(), now);
        let mut input = vec![0; 16_384];
        for round in 0..5 {
            // In the first round what is awaited is the server's SETTINGS.
            if round > 0 {
                now = machine.next_deadline().unwrap();
                machine.handle_timeout(now).unwrap();
                assert!(machine.has_output(), "a PING is due");
            }
            let mut answered = false;
            while !answered {
                let mut out = Vec::new();
                machine.take_output(&mut out);
                near.write_all(&out).await.unwrap();
                let length = near.read(&mut input).await.unwrap();
                assert!(length > 0);
                let mut cursor = 0;
                while let Some(event) =
                    machine.next_event(&input[..length], &mut cursor, now).unwrap()
                {
                    assert_eq!((round, event), (0, Event::Settings));
                    answered = true;
                }
                let interval = Settings::client().ping_interval;
                answered |= round > 0 && machine.next_deadline() == Some(now + interval);
            }
        }
        drop(near);
        assert!(task.await.unwrap());
    });
}
