//! What is tried again, and what is not.

use std::{
    io::{self, BufReader, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use http::Response;
use ringway_engine::{snapshot::AppProtocol, telemetry::http::ResponseFlag};

use crate::{
    application::{Client, ok, read_head, read_message, serve, serve_http},
    http2::{serve_each, serve_requests},
    mesh::{Mesh, PATIENCE, Plan, on_both, retrying, rule},
};

#[test]
fn an_answer_that_the_rule_names_is_tried_again_body_and_all() {
    on_both(|reactor| {
        let times = Arc::new(AtomicUsize::new(0));
        let (port, requests) = serve_http(move |_, request| match times.fetch_add(1, Relaxed) {
            0 | 1 => "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy".to_owned(),
            _ => ok(request.text()),
        });
        let mut again = rule("/");
        again.retry = retrying(2, &[503]);
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).with(vec![again]));
        let mut client = Client::new(mesh.connect(80));
        client.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\n\r\nagain");
        let answer = client.receive();
        assert_eq!((answer.status(), answer.text()), (200, "again"));
        let bodies: Vec<_> = requests.try_iter().map(|request| request.body).collect();
        assert_eq!(bodies, [b"again"; 3]);
        let record = mesh.record();
        assert_eq!((record.retries, record.received_bytes), (2, 5), "the client sent it once");
    });
}

#[test]
fn what_is_tried_too_often_is_told() {
    on_both(|reactor| {
        let (port, requests) =
            serve_http(|_, _| "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy".to_owned());
        let mut again = rule("/");
        again.retry = retrying(1, &[503]);
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).with(vec![again]));
        let answer = Client::new(mesh.connect(80)).get("/");
        assert_eq!((answer.status(), answer.text()), (503, "busy"), "as the backend said it");
        assert!(mesh.record().flags.has(ResponseFlag::UpstreamRetryLimitExceeded));
        assert_eq!(requests.try_iter().count(), 2);
    });
}

#[test]
fn a_connection_that_ends_before_it_answers_is_not_the_clients_problem() {
    on_both(|reactor| {
        // Each connection serves one request and leaves the next one alone.
        let port = serve(|_, stream| {
            let mut reader = BufReader::new(&stream);
            read_message(&mut reader, false).expect("a request");
            (&stream).write_all(ok("once").as_bytes()).expect("room");
            read_message(&mut reader, false);
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        for _ in 0..3 {
            assert_eq!(client.get("/").status(), 200);
            assert!(mesh.record().flags.is_empty());
        }
    });
}

#[test]
fn what_may_have_been_done_is_not_done_twice() {
    on_both(|reactor| {
        let times = Arc::new(AtomicUsize::new(0));
        let counted = times.clone();
        let port = serve(move |_, stream| {
            if read_message(&mut BufReader::new(&stream), false).is_some() {
                counted.fetch_add(1, Relaxed);
            }
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send("POST /pay HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\n\r\n1");
        assert_eq!(client.receive().status(), 503);
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::UpstreamConnectionTermination));
        assert_eq!(
            &*record.details,
            "upstream_reset_before_response_started{connection_termination}"
        );
        assert_eq!(times.load(Relaxed), 1);
    });
}

#[test]
fn who_cannot_be_reached_is_told_in_http_and_to_grpc_in_its_way() {
    on_both(|reactor| {
        // Nobody listens there any more.
        let port = std::net::TcpListener::bind(("127.0.0.3", 0))
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").status(), 503);
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::UpstreamConnectionFailure), "{}", record.flags);
        client.send("POST /a.B/C HTTP/1.1\r\nhost: web\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n");
        let answer = client.receive();
        assert_eq!((answer.status(), answer.header("grpc-status")), (200, Some("14")));
        assert_eq!(mesh.record().grpc_status, Some(14));
    });
}

/// Refuses the first request when its body has begun, and tells that; goes on reading all the same. Answers the next one
/// with the length of its body.
fn refuses_early() -> (u16, Receiver<()>) {
    let (told, refused) = channel();
    let port = serve(move |number, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        if number > 0 {
            let request = read_message(&mut reader, false).expect("a request");
            return stream.write_all(ok(&request.body.len().to_string()).as_bytes()).expect("room");
        }
        read_head(&mut reader).expect("a request");
        reader.read_exact(&mut [0; 100]).expect("some of its body");
        let busy = b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy";
        stream.write_all(busy).expect("room");
        told.send(()).expect("heard");
        let _end = io::copy(&mut reader, &mut io::sink());
    });
    (port, refused)
}

/// The same over HTTP/2.
fn refuses_early_over_http2() -> (u16, Receiver<()>) {
    let (told, refused) = channel();
    let served = Arc::new(AtomicUsize::new(0));
    let port = serve_each(move |_, stream| {
        let (told, served) = (told.clone(), served.clone());
        serve_requests(stream, move |request, mut respond| {
            let (told, is_first) = (told.clone(), served.fetch_add(1, Relaxed) == 0);
            async move {
                let mut body = request.into_body();
                if is_first {
                    body.data().await.expect("some of it").expect("whole");
                    let head = Response::builder().status(503).header("retry-after", 1);
                    respond.send_response(head.body(()).expect("good"), true).expect("open");
                    told.send(()).expect("heard");
                }
                let mut length = 0;
                while let Some(Ok(data)) = body.data().await {
                    body.flow_control().release_capacity(data.len()).expect("it was taken");
                    length += data.len();
                }
                if !is_first {
                    let mut answer = respond.send_response(Response::new(()), false).expect("open");
                    answer.send_data(length.to_string().into(), true).expect("open");
                }
            }
        })
    });
    (port, refused)
}

/// What the first backend read while the next try is waited for would be missing there.
#[test]
fn a_backend_that_is_given_up_gets_nothing_more_of_the_body() {
    const PIECE: usize = 64 * 1024;
    // More than is kept.
    const PIECES: usize = 16;
    on_both(|reactor| {
        for (port_and_refused, protocol) in [
            (refuses_early(), AppProtocol::Http11),
            (refuses_early_over_http2(), AppProtocol::Http2),
        ] {
            let (port, refused) = port_and_refused;
            let mut again = rule("/");
            again.retry = retrying(1, &[503]);
            let mesh = Mesh::start(reactor, &Plan::of(port, protocol).with(vec![again]));
            let mut client = Client::new(mesh.connect(80));
            let piece = format!("{PIECE:x}\r\n{}\r\n", "x".repeat(PIECE));
            client.send("POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\n\r\n");
            client.send(&piece);
            refused.recv_timeout(PATIENCE).expect("refused");
            // By now it is given up.
            std::thread::sleep(Duration::from_millis(200));
            (1..PIECES).for_each(|_| client.send(&piece));
            client.send("0\r\n\r\n");
            let answer = client.receive();
            let whole = (PIECE * PIECES).to_string();
            assert_eq!((answer.status(), answer.text()), (200, &*whole), "{protocol:?}");
            assert_eq!(mesh.record().retries, 1);
        }
    });
}
