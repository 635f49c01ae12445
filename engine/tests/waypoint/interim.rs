//! What is said before an answer: whether a body is wanted, and hints.

use std::{
    future::poll_fn,
    io::{BufReader, Read, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Sender, channel},
    },
};

use bytes::Bytes;
use h2::{Reason, RecvStream, client::ResponseFuture, server::SendResponse};
use http::{Request, Response, StatusCode};
use ringway_engine::{limits::CONTINUE_TIME, snapshot::AppProtocol};
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    application::{Client, read_head, read_message, serve},
    http2::{run, serve_each, serve_requests, user},
    mesh::{Mesh, PATIENCE, Plan, on_both},
};

const ASKS: &str =
    "POST /asked HTTP/1.1\r\nhost: web\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";

#[test]
fn the_backend_says_whether_a_body_is_wanted() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            assert_eq!(request.header("expect"), Some("100-continue"));
            if request.line.contains("/unwanted") {
                stream
                    .write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno")
                    .expect("room");
                // Not a byte of the body follows, and the connection is not used again.
                assert!(matches!(reader.read(&mut [0]), Ok(0) | Err(_)));
                return;
            }
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("room");
            let mut body = [0; 5];
            reader.read_exact(&mut body).expect("the body");
            let body = String::from_utf8_lossy(&body).into_owned();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).expect("room");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(ASKS);
        assert_eq!(client.receive_head().status(), 100);
        client.send("hello");
        assert_eq!(client.receive().text(), "hello");
        assert_eq!(mesh.record().received_bytes, 5);

        let mut client = Client::new(mesh.connect(80));
        client.send(&ASKS.replace("/asked", "/unwanted"));
        let answer = client.receive();
        assert_eq!((answer.status(), answer.text()), (401, "no"), "nothing comes before it");
        let record = mesh.record();
        assert_eq!((record.code, record.received_bytes), (401, 0));
    });
}

/// Servers of old do not know to ask (RFC 9110 §10.1.1).
#[test]
fn a_backend_that_never_asks_gets_the_body_in_time() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_message(&mut reader, false).expect("head and body");
            assert_eq!(request.text(), "hello");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("room");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(ASKS);
        assert_eq!(client.receive_head().status(), 100);
        client.send("hello");
        assert_eq!(client.receive().status(), 200);
        // And who does not wait to be asked is not made to.
        let mut client = Client::new(mesh.connect(80));
        client.send(&format!("{ASKS}hello"));
        let first = client.receive_head().status();
        assert!(first == 100 || first == 200, "{first}");
    });
}

#[test]
fn hints_come_before_the_answer() {
    const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\nconnection: x-own\r\nx-own: 1\r\n\r\n";
    on_both(|reactor| {
        let (has_it, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let port = serve(move |_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            while let Some(request) = read_message(&mut reader, false) {
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage";
                if request.line.contains("/at-once") {
                    stream.write_all(format!("{HINT}{HINT}{answer}").as_bytes()).expect("room");
                    continue;
                }
                stream.write_all(HINT.as_bytes()).expect("room");
                // The answer waits until the client has the hint.
                wait.lock().expect("whole").recv_timeout(PATIENCE).expect("it came through");
                stream.write_all(answer.as_bytes()).expect("room");
            }
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        for path in ["/at-once", "/later", "/at-once"] {
            client.send(&format!("GET {path} HTTP/1.1\r\nhost: web\r\n\r\n"));
            for _ in 0..if path == "/later" { 1 } else { 2 } {
                let hint = client.receive_head();
                assert_eq!((hint.status(), hint.header("x-own")), (103, None), "{path}");
                assert_eq!(hint.header("link"), Some("</a.css>; rel=preload"), "{path}");
            }
            if path == "/later" {
                has_it.send(()).expect("heard");
            }
            let answer = client.receive();
            assert_eq!((answer.status(), answer.text()), (200, "page"), "{path}");
            assert_eq!(mesh.record().code, 200);
        }
        mesh.no_record();
    });
}

/// The next thing that is said before an answer, in time.
async fn interim(answer: &mut ResponseFuture) -> Response<()> {
    let next = timeout(PATIENCE, poll_fn(|cx| answer.poll_informational(cx)));
    next.await.expect("in time").expect("one more").expect("whole")
}

async fn text(mut body: RecvStream) -> String {
    let mut text = Vec::new();
    while let Some(data) = timeout(PATIENCE, body.data()).await.expect("in time") {
        text.extend(data.expect("whole"));
    }
    String::from_utf8(text).expect("text")
}

/// Asks for the body, unless it does not want it, and answers with it; tells how the body ended.
async fn ask(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    ended: Sender<Option<Reason>>,
) {
    assert_eq!(request.headers()["expect"], "100-continue");
    let head = |status: u16| Response::builder().status(status).body(()).expect("good");
    let (is_unwanted, mut body) = (request.uri().path() == "/unwanted", request.into_body());
    if is_unwanted {
        let mut answer = respond.send_response(head(401), false).expect("open");
        answer.send_data("no".into(), true).expect("open");
        let end = timeout(PATIENCE, body.data()).await.expect("in time");
        let error = end.expect("an end").expect_err("not a byte of it");
        return ended.send(error.reason()).expect("heard");
    }
    respond.send_informational(head(100)).expect("open");
    let body = text(body).await;
    let mut answer = respond.send_response(head(200), false).expect("open");
    answer.send_data(body.into(), true).expect("open");
    ended.send(None).expect("heard");
}

#[test]
fn a_backend_of_http2_says_whether_a_body_is_wanted() {
    on_both(|reactor| {
        let (tells, ended) = channel();
        let port = serve_each(move |_, stream| {
            let tells = tells.clone();
            serve_requests(stream, move |request, respond| ask(request, respond, tells.clone()))
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        let ended = || ended.recv_timeout(PATIENCE).expect("told in time");
        let mut client = Client::new(mesh.connect(80));
        client.send(ASKS);
        assert_eq!(client.receive_head().status(), 100);
        client.send("hello");
        assert_eq!(client.receive().text(), "hello");
        assert_eq!((mesh.record().received_bytes, ended()), (5, None));

        let mut client = Client::new(mesh.connect(80));
        client.send(&ASKS.replace("/asked", "/unwanted"));
        let answer = client.receive();
        assert_eq!((answer.status(), answer.text()), (401, "no"), "nothing comes before it");
        let record = mesh.record();
        assert_eq!((record.code, record.received_bytes), (401, 0));
        assert_eq!(ended(), Some(Reason::CANCEL), "it is not wanted");

        for content_type in ["text/plain", "application/grpc"] {
            run(async {
                let (mut client, _) = user(&mesh).await;
                let request = Request::post("http://web/asked").header("expect", "100-continue");
                let request = request.header("content-type", content_type);
                let request = request.body(()).expect("good");
                let (mut answer, mut sending) = client.send_request(request, false).expect("open");
                assert_eq!(interim(&mut answer).await.status(), StatusCode::CONTINUE);
                sending.send_data("hello".into(), true).expect("open");
                let answer = answer.await.expect("an answer");
                assert_eq!(text(answer.into_body()).await, "hello", "{content_type}");
            });
            assert_eq!(ended(), None);
        }
    });
}

/// However long that takes.
#[test]
fn a_body_that_is_not_wanted_is_not_asked_for_behind_the_answers_head() {
    on_both(|reactor| {
        let (tells, ended) = channel();
        let port = serve_each(move |_, stream| {
            let tells = tells.clone();
            serve_requests(stream, move |request, mut respond| {
                let tells = tells.clone();
                async move {
                    let head = Response::builder().status(401).body(()).expect("good");
                    let mut answer = respond.send_response(head, false).expect("open");
                    tokio::time::sleep(2 * CONTINUE_TIME).await;
                    answer.send_data("no".into(), true).expect("open");
                    let end = timeout(PATIENCE, request.into_body().data()).await.expect("in time");
                    tells.send(end.map(|end| end.is_err())).expect("heard");
                }
            })
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http2));
        // It does not wait to be asked.
        let mut client = Client::new(mesh.connect(80));
        client.send(&format!("{ASKS}hello"));
        let answer = client.receive();
        assert_eq!((answer.status(), answer.text()), (401, "no"));
        assert_eq!(mesh.record().received_bytes, 0);
        assert_eq!(ended.recv_timeout(PATIENCE), Ok(Some(true)), "not a byte of it");
    });
}

#[test]
fn a_client_of_http2_is_asked_for_its_body() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            if request.line.contains("/unwanted") {
                let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\nno";
                return stream.write_all(answer).expect("room");
            }
            // Who is silent gets it all the same.
            if !request.line.contains("/silent") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").expect("room");
            }
            reader.read_exact(&mut [0; 5]).expect("the body");
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyes").expect("room");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        run(async {
            let (mut client, _) = user(&mesh).await;
            for (path, status, said) in
                [("asked", 200, "yes"), ("silent", 200, "yes"), ("unwanted", 401, "no")]
            {
                let request = Request::post(format!("http://web/{path}"))
                    .header("expect", "100-continue")
                    .header("content-length", 5);
                let request = request.body(()).expect("good");
                let (mut answer, mut sending) = client.send_request(request, false).expect("open");
                if status == 200 {
                    assert_eq!(interim(&mut answer).await.status(), StatusCode::CONTINUE, "{path}");
                    sending.send_data("hello".into(), true).expect("open");
                }
                let next = poll_fn(|cx| answer.poll_informational(cx)).await;
                assert!(next.is_none(), "{path}: {next:?}");
                let answer = answer.await.expect("an answer");
                assert_eq!(answer.status(), status, "{path}");
                assert_eq!(text(answer.into_body()).await, said, "{path}");
                client = client.ready().await.expect("room");
            }
        });
        for (code, received) in [(200, 5), (200, 5), (401, 0)] {
            let record = mesh.record();
            assert_eq!((record.code, record.received_bytes), (code, received));
        }
    });
}

/// Whether it has asked for it or not, and whether there was time to tell the client.
#[test]
fn who_takes_a_request_takes_its_body() {
    on_both(|reactor| {
        let of_http1 = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            let asks =
                if request.line.contains("/asked") { "HTTP/1.1 100 Continue\r\n\r\n" } else { "" };
            let head = format!("{asks}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("room");
            let mut body = [0; 5];
            reader.read_exact(&mut body).expect("the body");
            stream.write_all(&body).expect("room");
        });
        let of_http2 = serve_each(move |_, stream| {
            serve_requests(stream, move |request, mut respond| async move {
                if request.uri().path() == "/asked" {
                    let head = Response::builder().status(100).body(()).expect("good");
                    respond.send_informational(head).expect("open");
                }
                let head = Response::builder().header("content-length", 5).body(()).expect("good");
                let mut answer = respond.send_response(head, false).expect("open");
                let body = text(request.into_body()).await;
                answer.send_data(body.into(), true).expect("open");
            })
        });
        for (port, protocol) in [(of_http1, AppProtocol::Http11), (of_http2, AppProtocol::Http2)] {
            let mesh = Mesh::start(reactor, &Plan::of(port, protocol));
            for path in ["asked", "unasked"] {
                run(async {
                    let (mut client, _) = user(&mesh).await;
                    let request = Request::post(format!("http://web/{path}"))
                        .header("expect", "100-continue")
                        .header("content-length", 5);
                    let request = request.body(()).expect("good");
                    let (mut answer, mut sending) =
                        client.send_request(request, false).expect("open");
                    let asked = interim(&mut answer).await.status();
                    assert_eq!(asked, StatusCode::CONTINUE, "{path} {protocol:?}");
                    let next = poll_fn(|cx| answer.poll_informational(cx)).await;
                    assert!(next.is_none(), "{path} {protocol:?}: {next:?}");
                    let answer = answer.await.expect("an answer");
                    sending.send_data("hello".into(), true).expect("open");
                    assert_eq!(text(answer.into_body()).await, "hello", "{path} {protocol:?}");
                });
                let mut client = Client::new(mesh.connect(80));
                client.send(&format!("{}hello", ASKS.replace("asked", path)));
                let first = client.receive_head();
                if first.status() == 100 {
                    assert_eq!(client.receive_head().status(), 200, "{path} {protocol:?}");
                }
                assert_eq!(client.read_exact(5), b"hello", "{path} {protocol:?}");
            }
        }
    });
}

#[test]
fn hints_pass_between_the_versions() {
    on_both(|reactor| {
        let heard = Arc::new(Semaphore::new(0));
        let wait = heard.clone();
        let of_http2 = serve_each(move |_, stream| {
            let wait = wait.clone();
            serve_requests(stream, move |_, mut respond| {
                let wait = wait.clone();
                async move {
                    let hint = |status: u16| {
                        let hint = Response::builder().status(status).header("link", "</a.css>");
                        hint.body(()).expect("good")
                    };
                    // In HTTP/2 nothing else can follow (RFC 9113 §8.6): to a client of HTTP/1 it would mean just that.
                    respond.send_informational(hint(101)).expect("open");
                    respond.send_informational(hint(103)).expect("open");
                    wait.acquire().await.expect("open").forget();
                    respond.send_response(Response::new(()), true).expect("open");
                }
            })
        });
        let wait = heard.clone();
        let of_http1 = serve(move |_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            while read_head(&mut reader).is_some() {
                let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-own\r\nx-own: 1\r\n\r\n";
                stream.write_all(hint).expect("room");
                run(wait.acquire()).expect("open").forget();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("room");
            }
        });
        for (port, protocol) in [(of_http1, AppProtocol::Http11), (of_http2, AppProtocol::Http2)] {
            let mesh = Mesh::start(reactor, &Plan::of(port, protocol));
            run(async {
                let (mut client, _) = user(&mesh).await;
                let request = Request::get("http://web/").body(()).expect("good");
                let (mut answer, _) = client.send_request(request, true).expect("open");
                let hint = interim(&mut answer).await;
                assert_eq!(hint.status(), StatusCode::EARLY_HINTS, "{protocol:?}");
                assert_eq!(hint.headers()["link"], "</a.css>");
                assert_eq!(hint.headers().len(), 1, "{:?}", hint.headers());
                heard.add_permits(1);
                assert_eq!(answer.await.expect("an answer").status(), 200);
            });
            let mut client = Client::new(mesh.connect(80));
            client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
            let hint = client.receive_head();
            assert_eq!((hint.status(), hint.header("x-own")), (103, None), "{protocol:?}");
            heard.add_permits(1);
            assert_eq!(client.receive().status(), 200);
            assert_eq!((mesh.record().code, mesh.record().code), (200, 200));
            mesh.no_record();
        }
    });
}

/// Nobody knows whether the client takes them, and what waits for it is not bounded by its window.
#[test]
fn endless_hints_are_not_all_kept() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            read_head(&mut reader).expect("a request");
            let hint = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n";
            (0..1000).for_each(|_| stream.write_all(hint).expect("room"));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("room");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        run(async {
            let (mut client, _) = user(&mesh).await;
            let request = Request::get("http://web/").body(()).expect("good");
            let (mut answer, _) = client.send_request(request, true).expect("open");
            let mut hints = 0;
            while let Some(hint) = poll_fn(|cx| answer.poll_informational(cx)).await {
                assert_eq!(hint.expect("whole").status(), StatusCode::EARLY_HINTS);
                hints += 1;
            }
            assert!((1..=64).contains(&hints), "{hints}");
            assert_eq!(answer.await.expect("an answer").status(), 200);
        });
    });
}
