//! Bodies: streamed, whole, and never held.

use std::{
    io::{BufReader, ErrorKind, Read, Write},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use ringway_engine::{
    limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX},
    snapshot::AppProtocol,
    telemetry::http::ResponseFlag,
};

use crate::{
    application::{Client, ok, read_head, serve, serve_http},
    mesh::{Mesh, PATIENCE, Plan, on_both, wait_for},
};

/// Far more than is held anywhere between the two.
const BYTES: usize = 256 << 20;
/// Of all buffers on the way: four sockets', two tunnels' windows, and ours.
const HELD_MAX: usize = 48 << 20;

#[test]
fn bodies_pass_in_both_directions_at_once() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let request = read_head(&mut reader).expect("a request");
            let length: usize = request.header("content-length").expect("one").parse().expect("it");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).expect("room");
            let copied = std::io::copy(&mut reader.take(length as u64), &mut stream);
            assert_eq!(copied.expect("both ways"), length as u64);
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(&format!("PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: {BYTES}\r\n\r\n"));
        let mut sending = client.stream.try_clone().expect("a descriptor");
        let sent = thread::spawn(move || {
            for at in 0..BYTES >> 16 {
                sending.write_all(&[at as u8; 1 << 16]).expect("room");
            }
        });
        assert_eq!(client.receive_head().status(), 200);
        for at in 0..BYTES >> 16 {
            assert!(client.read_exact(1 << 16) == [at as u8; 1 << 16], "in order");
        }
        sent.join().expect("all of it");
        let record = mesh.record();
        assert_eq!((record.received_bytes, record.sent_bytes), (BYTES as u64, BYTES as u64));
    });
}

#[test]
fn what_nobody_takes_stops_who_sends_it() {
    on_both(|reactor| {
        let (done, wait) = channel::<()>();
        let wait = std::sync::Mutex::new(wait);
        let port = serve(move |_, stream| {
            read_head(&mut BufReader::new(&stream)).expect("a request");
            // Reads no body until told.
            let _ = wait.lock().expect("whole").recv();
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(&format!("PUT / HTTP/1.1\r\nhost: web\r\ncontent-length: {BYTES}\r\n\r\n"));
        client.stream.set_write_timeout(Some(Duration::from_secs(2))).expect("set");
        let mut taken = 0;
        let error = loop {
            match (&client.stream).write(&[7; 1 << 16]) {
                Ok(written) => taken += written,
                Err(error) => break error,
            }
            assert!(taken < HELD_MAX, "{taken} bytes are held somewhere");
        };
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(client);
        drop(done);
        let record = mesh.record();
        assert!(!record.flags.is_empty(), "whichever end was seen first");
    });
}

#[test]
fn who_leaves_is_not_worked_for() {
    on_both(|reactor| {
        let (told, tells) = channel();
        let told = std::sync::Mutex::new(told);
        let port = serve(move |_, stream| {
            let mut reader = BufReader::new(&stream);
            read_head(&mut reader).expect("a request");
            told.lock().expect("whole").send("began").expect("heard");
            // Never answers; sees that nobody waits.
            assert!(matches!(reader.read(&mut [0]), Ok(0) | Err(_)));
            told.lock().expect("whole").send("left").expect("heard");
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send("GET / HTTP/1.1\r\nhost: web\r\n\r\n");
        assert_eq!(tells.recv_timeout(PATIENCE), Ok("began"));
        drop(client);
        assert_eq!(tells.recv_timeout(PATIENCE), Ok("left"));
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::DownstreamConnectionTermination));
        assert_eq!((record.code, &*record.details), (0, "downstream_remote_disconnect"));
        mesh.no_record();
    });
}

#[test]
fn chunks_and_what_follows_them_pass() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
             3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
                .to_owned()
        });
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        client.send(
            "POST / HTTP/1.1\r\nhost: web\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n",
        );
        let answer = client.receive();
        assert_eq!((answer.text(), answer.header("x-sum")), ("abc", Some("6")));
        assert_eq!(requests.recv().expect("it came").text(), "hi");
    });
}

#[test]
fn what_breaks_http_is_answered_400_and_told_once() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("never"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let broken = [
            "GET / HTTP/1.1\r\nhost : web\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET /%00 HTTP/1.1\r\nhost: web\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: web\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\nhost: web\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: web\n\r\n",
            "GET / HTTP/1.1\r\nhost: web\r\n\n",
        ];
        for bytes in broken {
            let mut client = Client::new(mesh.connect(80));
            client.send(bytes);
            assert_eq!(client.receive().status(), 400, "{bytes:?}");
            let ends = !bytes.contains("host") || bytes.contains("/%00");
            assert!(ends || client.is_over(), "{bytes:?}");
            assert_eq!(mesh.record().code, 400, "{bytes:?}");
        }
        mesh.no_record();
    });
}

/// RFC 6585 §5. The client is told even while it still sends.
#[test]
fn a_head_that_is_too_large_is_answered_431() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("never"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let long = |bytes: usize| "a".repeat(bytes);
        let lines: String = (0..HTTP_HEADERS_MAX).map(|n| format!("x-{n}: 1\r\n")).collect();
        let too_large = [
            (
                "a field",
                format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}\r\n\r\n", long(HTTP_HEAD_BYTES_MAX)),
            ),
            ("much more", format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}\r\n\r\n", long(1 << 20))),
            ("a field without end", format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}", long(1 << 20))),
            ("many lines", format!("GET / HTTP/1.1\r\nhost: web\r\n{lines}\r\n")),
        ];
        for (name, bytes) in too_large {
            let mut client = Client::new(mesh.connect(80));
            // It may be told before it has sent everything, and the connection be over then.
            let _told = client.stream.write_all(bytes.as_bytes());
            assert_eq!(client.receive().status(), 431, "{name}");
            assert!(client.is_over(), "{name}");
            let record = mesh.record();
            assert_eq!((record.code, &*record.details), (431, "http1.codec_error"), "{name}");
        }
        let fits = format!("GET / HTTP/1.1\r\nhost: web\r\nx: {}\r\n\r\n", long(60 * 1024));
        let mut client = Client::new(mesh.connect(80));
        client.send(&fits);
        assert_eq!(client.receive().status(), 200);
        assert_eq!(requests.try_iter().count(), 1, "the others came to nobody");
    });
}

#[test]
fn a_drain_ends_connections_between_requests() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("yes"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").status(), 200);
        let mut silent = Client::new(mesh.connect(80));
        wait_for(|| (mesh.waypoint.connections().len() == 2).then_some(()));
        let report = mesh.waypoint.drain(PATIENCE);
        assert_eq!(report.cut, 0, "nothing was under way");
        assert!(client.is_over() && silent.is_over());
    });
}
