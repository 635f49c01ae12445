//! WebSockets over HTTP/2 (RFC 8441): a stream to the client, an HTTP/1 connection to the backend.

use std::{
    io::{BufReader, Read, Write},
    net::Shutdown,
};

use bytes::Bytes;
use h2::{client::SendRequest, ext::Protocol};
use http::{Method, Request};
use ringway_engine::{snapshot::AppProtocol, telemetry::http::ResponseFlag};

use crate::{
    application::{Client, ok, read_head, serve, serve_http},
    http2::{run, user},
    mesh::{Mesh, Plan, on_both},
};

/// More than any window.
const BYTES: usize = 3 << 20;

fn asks(path: &str, protocol: &'static str) -> Request<()> {
    Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://web{path}"))
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .extension(Protocol::from_static(protocol))
        .body(())
        .expect("good")
}

/// One who has been told that it may ask for that.
async fn able_user(mesh: &Mesh) -> SendRequest<Bytes> {
    let (client, _) = user(mesh).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    client
}

#[test]
fn a_stream_is_a_connection_to_the_backend() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            match request.line.as_str() {
                "GET /chat?room=1 HTTP/1.1" => {}
                line if line.contains("/page") => {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\npage";
                    return stream.write_all(answer.as_bytes()).expect("room");
                }
                _ => {
                    let answer = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
                    return stream.write_all(answer.as_bytes()).expect("room");
                }
            }
            for (name, value) in [
                ("host", "web"),
                ("upgrade", "websocket"),
                ("connection", "upgrade"),
                ("sec-websocket-protocol", "chat"),
            ] {
                assert_eq!(request.header(name), Some(value), "{name}");
            }
            assert_eq!(request.header("sec-websocket-key").map(str::len), Some(24));
            let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 0\r\n\
                          sec-websocket-accept: x\r\nsec-websocket-protocol: chat\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).expect("room");
            let mut said = Vec::new();
            reader.read_to_end(&mut said).expect("an end");
            assert_eq!(said.len(), BYTES);
            stream.write_all(&said).expect("room");
            stream.shutdown(Shutdown::Write).expect("open");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        run(async {
            let mut client = able_user(&mesh).await;
            let (response, mut sending) =
                client.send_request(asks("/chat?room=1", "websocket"), false).expect("open");
            let response = response.await.expect("an answer");
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
            for name in ["connection", "upgrade", "sec-websocket-accept", "content-length"] {
                assert!(!response.headers().contains_key(name), "{name}");
            }
            sending.send_data(Bytes::from(vec![7; BYTES]), true).expect("open");
            let (mut body, mut got) = (response.into_body(), 0);
            while let Some(data) = body.data().await {
                let data = data.expect("whole");
                got += data.len();
                body.flow_control().release_capacity(data.len()).expect("held");
            }
            assert_eq!(got, BYTES + "hello".len());

            for (path, protocol, want) in [
                ("/refused", "websocket", 403),
                // A page is no WebSocket; and 405: other protocols are not passed on.
                ("/page", "websocket", 502),
                ("/chat?room=1", "connect-udp", 405),
            ] {
                let mut client = client.clone().ready().await.expect("room");
                let (response, _) = client.send_request(asks(path, protocol), true).expect("open");
                let response = response.await.expect("an answer");
                assert_eq!(response.status(), want, "{path} {protocol}");
            }
        });
        let codes = [(); 4].map(|()| {
            let record = mesh.record();
            assert!(!record.flags.has(ResponseFlag::UpstreamConnectionTermination));
            record.code
        });
        assert_eq!(codes, [200, 403, 502, 405]);
    });
}

/// A backend that waited for a body would take the next client's request for it.
#[test]
fn what_says_that_a_body_comes_is_not_passed_on() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, request| match request.header("upgrade") {
            Some(_) => "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno".to_owned(),
            None => ok("yes"),
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        run(async {
            let mut client = able_user(&mesh).await;
            let mut request = asks("/chat", "websocket");
            request.headers_mut().insert("content-length", 40.into());
            let (response, _sending) = client.send_request(request, false).expect("open");
            assert_eq!(response.await.expect("an answer").status(), 403);
        });
        assert_eq!(requests.recv().expect("it came").header("content-length"), None);
        let mut client = Client::new(mesh.connect(80));
        client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
        assert_eq!(client.receive().text(), "yes");
    });
}
