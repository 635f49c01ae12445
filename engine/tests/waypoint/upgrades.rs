//! Connections that go on with another protocol.

use std::{
    io::{BufReader, Read, Write},
    net::Shutdown,
};

use ringway_engine::snapshot::AppProtocol;

use crate::{
    application::{Client, ok, read_head, serve, serve_http},
    http2::{run, user},
    mesh::{Mesh, Plan, on_both},
};

const ASKS: &str = "GET /chat HTTP/1.1\r\nhost: web\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

#[test]
fn a_websocket_is_passed_both_ways() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            assert_eq!(request.header("upgrade"), Some("websocket"));
            // What follows the answer comes with it.
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                          upgrade: websocket\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).expect("room");
            let mut said = Vec::new();
            reader.read_to_end(&mut said).expect("an end");
            stream.write_all(&said).expect("room");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(ASKS);
        let answer = client.receive_head();
        assert_eq!((answer.status(), answer.header("upgrade")), (101, Some("websocket")));
        assert_eq!(client.read_exact(5), b"hello");
        client.send("and so on");
        client.stream.shutdown(Shutdown::Write).expect("open");
        assert_eq!(client.read_exact(9), b"and so on");
        assert!(client.is_over());
        let record = mesh.record();
        assert_eq!((record.code, record.sent_bytes), (101, 14));
        assert!(record.flags.is_empty(), "{}", record.flags);
    });
}

#[test]
fn an_upgrade_that_is_not_granted_leaves_http() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("no"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(ASKS);
        assert_eq!(client.receive().text(), "no");
        client.send("GET / HTTP/1.1\r\nhost: web\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n");
        assert_eq!(client.receive().text(), "no");
        let [first, second] = [(); 2].map(|()| requests.recv().expect("two came"));
        assert_eq!(first.header("upgrade"), Some("websocket"));
        assert_eq!((second.header("upgrade"), second.header("http2-settings")), (None, None));
    });
}

#[test]
fn an_upgrade_that_nobody_has_asked_for_is_no_answer() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| {
            let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
            format!("{head}upgrade: websocket\r\n\r\n")
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
        assert_eq!(client.receive().status(), 502);
        assert_eq!(mesh.record().code, 502);
        run(async {
            let (mut client, _) = user(&mesh).await;
            let request = http::Request::get("http://web/").body(()).expect("good");
            let (response, _) = client.send_request(request, true).expect("open");
            assert_eq!(response.await.expect("an answer").status(), 502);
        });
        assert_eq!(mesh.record().code, 502);
    });
}
