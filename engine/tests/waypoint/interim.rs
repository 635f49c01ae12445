//! What is said before an answer: whether a body is wanted, and hints.

use std::{
    io::{BufReader, Read, Write},
    sync::{Mutex, mpsc::channel},
};

use ringway_engine::snapshot::AppProtocol;

use crate::{
    application::{Client, read_head, read_message, serve},
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
