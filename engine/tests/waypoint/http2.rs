//! HTTP/2 through a waypoint, with a client and a server that are not ours.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::channel,
    },
    thread,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use ringway_engine::{snapshot::AppProtocol, telemetry::http::RequestProtocol};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    application::Client,
    mesh::{Mesh, PATIENCE, Plan, SERVER, on_both},
};

/// More than is sent ahead of who takes it.
const LARGE: usize = 1 << 20;

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Answers each request with its body and, in the trailers, gRPC's status.
fn serve_echo() -> u16 {
    serve_refusing(0).0
}

/// The same, once it has refused so many requests; and how many there were.
fn serve_refusing(refused: usize) -> (u16, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let (told, port) = channel();
    thread::spawn(move || {
        run(async move {
            let listener = TcpListener::bind((SERVER, 0)).await.expect("a port");
            told.send(listener.local_addr().expect("bound").port()).expect("heard");
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                let counted = counted.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("a preface");
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        if counted.fetch_add(1, Relaxed) < refused {
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                            continue;
                        }
                        tokio::spawn(echo(request, respond));
                    }
                });
            }
        });
    });
    (port.recv().expect("a port"), requests)
}

async fn echo(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.header("x-path", request.uri().path());
    let is_large = request.uri().path() == "/large";
    let mut body = request.into_body();
    let mut stream = respond.send_response(response.body(()).expect("good"), false).expect("open");
    if is_large {
        stream.send_data(vec![7; LARGE].into(), false).expect("open");
    }
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).expect("it was taken");
        stream.send_data(data, false).expect("open");
    }
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("5"),
    )]);
    stream.send_trailers(trailers).expect("open");
}

#[test]
fn streams_share_a_connection_and_trailers_pass() {
    on_both(|reactor| {
        let mesh = Mesh::start(reactor, &Plan::of(serve_echo(), AppProtocol::Grpc));
        let stream = mesh.connect(80);
        run(async {
            stream.set_nonblocking(true).expect("set");
            let stream = TcpStream::from_std(stream).expect("a socket");
            let (client, connection) = h2::client::handshake(stream).await.expect("a preface");
            tokio::spawn(connection);
            let mut calls = Vec::new();
            for number in 0..40_u8 {
                let mut client = client.clone().ready().await.expect("room");
                calls.push(tokio::spawn(async move {
                    let request = Request::post(format!("http://web/pkg.Service/{number}"))
                        .header("content-type", "application/grpc")
                        .header("te", "trailers");
                    let request = request.body(()).expect("good");
                    let (response, mut sending) =
                        client.send_request(request, false).expect("open");
                    let message = [&[0, 0, 0, 0, 2][..], &[number, number]].concat();
                    sending.send_data(message.clone().into(), false).expect("open");
                    sending.send_data(message.clone().into(), true).expect("open");
                    let response = response.await.expect("an answer");
                    assert_eq!(response.headers()["x-path"], *format!("/pkg.Service/{number}"));
                    let mut body = response.into_body();
                    let mut got = Vec::new();
                    while let Some(data) = body.data().await {
                        got.extend(data.expect("whole"));
                    }
                    assert_eq!(got, [message.clone(), message].concat());
                    let trailers = body.trailers().await.expect("whole").expect("some");
                    assert_eq!(trailers["grpc-status"], "5");
                }));
            }
            for call in calls {
                call.await.expect("it went well");
            }
        });
        for _ in 0..40 {
            let record = mesh.record();
            assert_eq!((record.code, record.grpc_status), (200, Some(5)));
            assert_eq!(record.request_protocol, RequestProtocol::Grpc);
            assert_eq!((record.request_messages, record.response_messages), (2, 2));
            assert_eq!((record.received_bytes, record.sent_bytes), (14, 14));
        }
        mesh.no_record();
        let totals = mesh.waypoint.telemetry().http().requests();
        let [(labels, totals)] = &totals[..] else { panic!("{totals:?}") };
        assert_eq!((totals.requests, totals.request_messages), (40, 80));
        assert_eq!((labels.code, labels.grpc_status), (200, Some(5)));
        assert_eq!(&*labels.traffic.source.workload, "");
        assert_eq!(&*labels.traffic.service.name, "web");
        let connections = mesh.server.connections().len();
        assert!((1..=4).contains(&connections), "they are shared: {connections}");
    });
}

/// Whatever its method: the backend says that it has not looked at it.
#[test]
fn users_that_do_not_read_hold_up_nobody_else() {
    on_both(|reactor| {
        let mesh = Mesh::start(reactor, &Plan::of(serve_echo(), AppProtocol::Grpc));
        run(async {
            let mut stalled = Vec::new();
            for _ in 0..40 {
                let (mut client, _) = user(&mesh).await;
                let request = Request::get("http://web/large").body(()).expect("good");
                let (response, _) = client.send_request(request, true).expect("open");
                let response = response.await.expect("an answer");
                stalled.push((client, response));
            }
            let (mut client, _) = user(&mesh).await;
            for _ in 0..10 {
                let request = Request::get("http://web/large").body(()).expect("good");
                let (response, _) = client.send_request(request, true).expect("open");
                let mut body = response.await.expect("an answer").into_body();
                let mut got = 0;
                while let Some(data) = timeout(PATIENCE, body.data()).await.expect("in time") {
                    let bytes = data.expect("whole").len();
                    got += bytes;
                    body.flow_control().release_capacity(bytes).expect("it was taken");
                }
                assert_eq!(got, LARGE);
                client = client.ready().await.expect("room");
            }
        });
    });
}

/// A connection of a user's own.
async fn user(mesh: &Mesh) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = mesh.connect(80);
    stream.set_nonblocking(true).expect("set");
    let stream = TcpStream::from_std(stream).expect("a socket");
    let (client, connection) = h2::client::handshake(stream).await.expect("a preface");
    let driven = tokio::spawn(async move { drop(connection.await) });
    (client.ready().await.expect("room"), driven)
}

#[test]
fn what_is_refused_is_sent_once_more_body_and_all() {
    on_both(|reactor| {
        for (refused, status, tries) in [(2, 200, 3), (usize::MAX, 503, 4)] {
            let (port, requests) = serve_refusing(refused);
            let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
            let mut client = Client::new(mesh.connect(80));
            client.send("POST /pay HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\n\r\n1.50");
            let answer = client.receive();
            assert_eq!(answer.status(), status);
            assert_eq!(answer.text() == "1.50", status == 200);
            let record = mesh.record();
            assert_eq!((record.received_bytes, record.retries), (4, tries - 1));
            assert_eq!(requests.load(Relaxed), tries as usize);
        }
    });
}
