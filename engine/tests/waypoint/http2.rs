//! HTTP/2 through a waypoint, with a client and a server that are not ours.

use std::{
    future::Future,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::channel,
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use ringway_engine::{
    snapshot::AppProtocol,
    telemetry::http::{RequestProtocol, ResponseFlag},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc::unbounded_channel,
    time::timeout,
};

use crate::{
    application::{Client, ok, serve_http},
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
    let port = serve_each(move |_, stream| {
        let counted = counted.clone();
        serve_requests(stream, move |request, mut respond| {
            let is_refused = counted.fetch_add(1, Relaxed) < refused;
            async move {
                match is_refused {
                    true => respond.send_reset(h2::Reason::REFUSED_STREAM),
                    false => echo(request, respond).await,
                }
            }
        })
    });
    (port, requests)
}

/// Serves one connection after the other.
pub(crate) fn serve_each<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(usize, TcpStream) -> F + Send + 'static,
) -> u16 {
    let (told, port) = channel();
    thread::spawn(move || {
        run(async move {
            let listener = TcpListener::bind((SERVER, 0)).await.expect("a port");
            told.send(listener.local_addr().expect("bound").port()).expect("heard");
            for number in 0.. {
                let (stream, _) = listener.accept().await.expect("accepted");
                tokio::spawn(serve(number, stream));
            }
        });
    });
    port.recv().expect("a port")
}

/// Serves the requests of a connection side by side.
pub(crate) async fn serve_requests<F: Future<Output = ()> + Send + 'static>(
    stream: TcpStream,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F,
) {
    let mut connection = h2::server::handshake(stream).await.expect("a preface");
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve(request, respond));
    }
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
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
        run(async {
            let (client, _) = user(&mesh).await;
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
                    let date = response.headers()["date"].to_str().expect("text");
                    assert!(date.ends_with(" GMT"), "{date}");
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
pub(crate) async fn user(
    mesh: &Mesh,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<()>) {
    let stream = mesh.connect(80);
    stream.set_nonblocking(true).expect("set");
    let stream = TcpStream::from_std(stream).expect("a socket");
    let (client, connection) = h2::client::handshake(stream).await.expect("a preface");
    let driven = tokio::spawn(async move { drop(connection.await) });
    (client.ready().await.expect("room"), driven)
}

/// Whatever its method: the backend says that it has not looked at it.
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

/// Takes a body; whether its end comes.
async fn is_whole(mut body: RecvStream) -> bool {
    while let Some(data) = body.data().await {
        if data.is_err() {
            return false;
        }
    }
    true
}

/// A reset without an error is no end of a body, though some take it for one.
#[test]
fn an_answer_that_is_cut_does_not_pass_for_whole() {
    on_both(|reactor| {
        let port = serve_each(|_, stream| {
            serve_requests(stream, |request, mut respond| async move {
                let reason = match request.uri().path() {
                    "/cancel" => h2::Reason::CANCEL,
                    _ => h2::Reason::NO_ERROR,
                };
                let mut stream = respond.send_response(Response::new(()), false).expect("open");
                stream.send_data("half".into(), false).expect("open");
                tokio::time::sleep(Duration::from_millis(50)).await;
                stream.send_reset(reason);
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        for path in ["/cancel", "/no-error"] {
            run(async {
                let (mut client, _) = user(&mesh).await;
                let request = Request::get(format!("http://web{path}")).body(()).expect("good");
                let (response, _) = client.send_request(request, true).expect("open");
                let mut body = response.await.expect("an answer").into_body();
                assert_eq!(body.data().await.expect("some").expect("some"), "half");
                let end = timeout(PATIENCE, body.data()).await.expect("in time");
                let error = end.expect("it is no end").expect_err("nothing more");
                let want = [h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR];
                assert!(error.reason().is_some_and(|reason| want.contains(&reason)), "{error}");
            });
            let record = mesh.record();
            assert!(record.flags.has(ResponseFlag::UpstreamConnectionTermination), "{path}");

            let mut client = mesh.connect(80);
            let request = format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n");
            client.write_all(request.as_bytes()).expect("room");
            let mut got = Vec::new();
            // Reset or ended: what says that it is whole does not come.
            let _ended = client.read_to_end(&mut got);
            let got = String::from_utf8_lossy(&got);
            assert!(got.contains("half") && !got.contains("0\r\n\r\n"), "{got}");
            let record = mesh.record();
            assert!(record.flags.has(ResponseFlag::UpstreamConnectionTermination), "{path}");
        }
    });
}

/// Whether or not it was answered before.
#[test]
fn a_request_that_is_cut_does_not_pass_for_whole() {
    on_both(|reactor| {
        let (told, mut ends) = unbounded_channel();
        let port = serve_each(move |_, stream| {
            let told = told.clone();
            serve_requests(stream, move |request, mut respond| {
                let told = told.clone();
                async move {
                    let early = request.uri().path() == "/early";
                    let head = Response::new(());
                    let _answer = early.then(|| respond.send_response(head, false).expect("open"));
                    let is_whole = is_whole(request.into_body()).await;
                    told.send(if is_whole { "whole" } else { "cut" }).expect("heard");
                }
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR] {
            for path in ["/late", "/early"] {
                run(async {
                    let (mut client, _) = user(&mesh).await;
                    let request = Request::post(format!("http://web{path}"));
                    let request = request.body(()).expect("good");
                    let (response, mut sending) =
                        client.send_request(request, false).expect("open");
                    sending.send_data("half".into(), false).expect("open");
                    let _answer = match path {
                        "/early" => Some(response.await.expect("an answer")),
                        _ => None,
                    };
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    sending.send_reset(reason);
                    let end = timeout(PATIENCE, ends.recv()).await;
                    assert_eq!(end, Ok(Some("cut")), "{path} {reason:?}");
                });
                mesh.record();
            }
        }
    });
}

/// RFC 9113 §6.8: whoever ends a connection in order says which requests it has not looked at.
#[test]
fn what_is_left_behind_is_sent_once_more_body_and_all() {
    const GO_AWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const PREFACE_BYTES: usize = 24;
    const HEADERS: u8 = 1;
    let has_request = |got: &[u8]| {
        let mut rest = got.get(PREFACE_BYTES..).unwrap_or_default();
        while let [a, b, c, kind, ..] = *rest {
            if kind == HEADERS {
                return true;
            }
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        false
    };
    on_both(|reactor| {
        let port = serve_each(move |number, mut stream| async move {
            if number > 0 {
                return serve_requests(stream, echo).await;
            }
            stream.write_all(&SETTINGS).await.expect("room");
            let mut got = Vec::new();
            while !has_request(&got) {
                stream.read_buf(&mut got).await.expect("more");
            }
            stream.write_all(&GO_AWAY).await.expect("room");
            // Whoever leaves now must not be thought to have broken it.
            let _rest = stream.read_to_end(&mut got).await;
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        let mut client = Client::new(mesh.connect(80));
        client.send("POST /pay HTTP/1.1\r\nhost: web\r\ncontent-length: 4\r\n\r\n1.50");
        let answer = client.receive();
        assert_eq!((answer.status(), answer.text()), (200, "1.50"));
        assert_eq!(mesh.record().retries, 1);
    });
}

#[test]
fn trailers_of_http1_end_an_answer() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
            format!("{head}2\r\nin\r\n0\r\nx-sum: 7\r\nconnection: close\r\n\r\n")
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        for _ in 0..2 {
            run(async {
                let (mut client, _) = user(&mesh).await;
                let request = Request::get("http://web/").body(()).expect("good");
                let (response, _) = client.send_request(request, true).expect("open");
                let mut body = response.await.expect("an answer").into_body();
                assert_eq!(body.data().await.expect("some").expect("some"), "in");
                while let Some(data) = body.data().await {
                    assert!(data.expect("whole").is_empty());
                }
                let trailers = body.trailers().await.expect("whole").expect("some");
                assert_eq!(trailers["x-sum"], "7");
                assert!(!trailers.contains_key("connection"));
            });
            let record = mesh.record();
            assert!(record.flags.is_empty(), "{}", record.flags);
            assert_eq!(record.code, 200);
        }
        assert_eq!(mesh.server.connections().len(), 1, "the backend's connection is kept");
    });
}

/// Whoever knows how much comes does not ask what comes behind.
#[test]
fn an_answer_of_told_length_is_whole_without_what_comes_behind() {
    on_both(|reactor| {
        let port = serve_each(|_, stream| {
            serve_requests(stream, |request, mut respond| async move {
                let head = Response::builder().header("content-length", 4).body(()).expect("good");
                let mut answer = respond.send_response(head, false).expect("open");
                answer.send_data("page".into(), false).expect("open");
                // The client has it all already.
                tokio::time::sleep(Duration::from_millis(20)).await;
                match request.uri().path() {
                    "/trailers" => drop(answer.send_trailers(HeaderMap::new())),
                    _ => drop(answer.send_data(Bytes::new(), true)),
                }
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        let mut client = Client::new(mesh.connect(80));
        for path in ["/", "/trailers"] {
            assert_eq!(client.get(path).text(), "page", "{path}");
            let record = mesh.record();
            assert!(record.flags.is_empty(), "{path}: {}", record.flags);
            assert_eq!((record.code, record.sent_bytes), (200, 4), "{path}");
        }
    });
}

#[test]
fn a_client_without_room_gets_its_answer_when_it_has_some() {
    on_both(|reactor| {
        let (port, _requests) =
            serve_http(|_, request| ok(&"x".repeat(length_asked(&request.line))));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        for length in [1, 10_000, 16 * 1024 + 1, 100_000] {
            run(async {
                let stream = mesh.connect(80);
                stream.set_nonblocking(true).expect("set");
                let stream = TcpStream::from_std(stream).expect("a socket");
                let builder = h2::client::Builder::new().initial_window_size(0).clone();
                let (client, mut connection) =
                    builder.handshake::<_, Bytes>(stream).await.expect("a preface");
                let mut client = client;
                let request = Request::get(format!("http://web/{length}")).body(()).expect("good");
                let (response, _) = client.send_request(request, true).expect("open");
                let response = tokio::select! {
                    response = response => response.expect("an answer"),
                    _ = &mut connection => panic!("it has ended"),
                };
                let mut body = response.into_body();
                let early = tokio::select! {
                    data = body.data() => data,
                    _ = &mut connection => panic!("it has ended"),
                    () = tokio::time::sleep(Duration::from_millis(50)) => None,
                };
                assert!(early.is_none(), "{length}");
                connection.set_initial_window_size(1 << 20).expect("allowed");
                let driven = tokio::spawn(async move { drop(connection.await) });
                let mut got = 0;
                while let Some(data) = timeout(PATIENCE, body.data()).await.expect("in time") {
                    let bytes = data.expect("whole").len();
                    got += bytes;
                    body.flow_control().release_capacity(bytes).expect("it was taken");
                }
                assert_eq!(got, length);
                drop((client, driven));
            });
            let record = mesh.record();
            assert!(record.flags.is_empty(), "{length}: {}", record.flags);
            assert_eq!(record.sent_bytes, length as u64);
        }
    });
}

/// What stands in the path.
fn length_asked(line: &str) -> usize {
    let path = line.split(' ').nth(1).and_then(|path| path.strip_prefix('/'));
    path.and_then(|length| length.parse().ok()).expect("a length")
}

/// Whoever has asked for a head only takes anything behind it for a mistake.
#[test]
fn a_head_that_is_answered_here_has_no_body() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| String::new());
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        run(async {
            let (mut client, _) = user(&mesh).await;
            let request = Request::head("http://web/").body(()).expect("good");
            let (response, _) = client.send_request(request, true).expect("open");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), 503);
            let length = response.headers()["content-length"].to_str().expect("text");
            assert_ne!(length, "0", "of what GET would have had");
            assert!(response.into_body().is_end_stream());
        });
        assert_eq!(mesh.record().sent_bytes, 0);
    });
}

/// The backend takes nothing of a body, whose client wants no answer any more.
#[test]
fn a_client_that_leaves_takes_its_upload_along() {
    on_both(|reactor| {
        let (told, mut ends) = unbounded_channel();
        let port = serve_each(move |_, stream| {
            let told = told.clone();
            serve_requests(stream, move |request, mut respond| {
                let told = told.clone();
                async move {
                    let head = Response::new(());
                    let mut answer = respond.send_response(head, false).expect("open");
                    let reset = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
                    drop(request);
                    told.send(reset.expect("a reset")).expect("heard");
                }
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        run(async {
            let (mut client, _) = user(&mesh).await;
            let request = Request::post("http://web/").body(()).expect("good");
            let (response, mut sending) = client.send_request(request, false).expect("open");
            sending.send_data(vec![7; LARGE].into(), false).expect("open");
            let _answer = response.await.expect("an answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
            sending.send_reset(h2::Reason::CANCEL);
            let end = timeout(PATIENCE, ends.recv()).await;
            assert_eq!(end, Ok(Some(h2::Reason::CANCEL)));
        });
        mesh.record();
    });
}

#[test]
fn what_a_client_does_wrong_costs_others_no_connection() {
    on_both(|reactor| {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        let port = serve_each(move |_, stream| {
            counted.fetch_add(1, Relaxed);
            serve_requests(stream, |request, mut respond| async move {
                if is_whole(request.into_body()).await {
                    respond.send_response(Response::new(()), true).expect("open");
                }
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        let is_served = |host: &str| {
            let mut client = Client::new(mesh.connect(80));
            client.send(&format!("GET / HTTP/1.1\r\nhost:{host}\r\n\r\n"));
            let status = client.receive().status();
            mesh.record();
            status == 200
        };
        assert!(is_served("web"));
        // HTTP/2 has no such request.
        assert!(!is_served(""));
        run(async {
            let (mut client, _) = user(&mesh).await;
            let request = Request::post("http://web/").body(()).expect("good");
            let (response, mut sending) = client.send_request(request, false).expect("open");
            sending.send_data("half".into(), false).expect("open");
            tokio::time::sleep(Duration::from_millis(50)).await;
            sending.send_reset(h2::Reason::CANCEL);
            response.await.expect_err("nobody answers");
        });
        mesh.record();
        assert!(is_served("web"));
        assert_eq!(connections.load(Relaxed), 1);
    });
}
