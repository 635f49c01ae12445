//! What is not HTTP, through a waypoint.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use ringway_engine::{close::CloseReason, snapshot::AppProtocol};

use crate::{
    application::serve,
    mesh::{Mesh, Plan, connection_record, identity, on_both},
};

#[test]
fn bytes_pass_whoever_speaks_first() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            stream.write_all(b"220 welcome\r\n").expect("room");
            let mut said = Vec::new();
            stream.read_to_end(&mut said).expect("an end");
            stream.write_all(&said).expect("room");
        });
        for protocol in [AppProtocol::Tcp, AppProtocol::Unknown] {
            let mesh = Mesh::start(reactor, &Plan::of(port, protocol));
            for _ in 0..2 {
                let mut client = mesh.connect(80);
                let mut welcome = [0; 13];
                client.read_exact(&mut welcome).expect("the server speaks first");
                assert_eq!(&welcome, b"220 welcome\r\n");
                client.write_all(b"EHLO\r\n").expect("room");
                client.shutdown(Shutdown::Write).expect("open");
                let mut echo = String::new();
                client.read_to_string(&mut echo).expect("half-closed is not closed");
                assert_eq!(echo, "EHLO\r\n");
                let record = connection_record(&mesh.waypoint);
                assert!(matches!(record.reason, CloseReason::Finished), "{}", record.reason);
                assert_eq!(record.source.identity, Some(identity("client")));
                assert_eq!(record.destination.identity, Some(identity("server")));
                assert_eq!((record.received_bytes, record.sent_bytes), (6, 19));
            }
        }
    });
}

/// A request line that never ends was passed on when its connection ended, and no policy had seen it.
#[test]
fn what_is_declared_to_be_http_is_not_passed_on_as_something_else() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| stream.write_all(b"reached").expect("room"));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        for sent in [&b"GET /hidden HTTP/1.1\rHost: h\r\r"[..], b"GET /hidden", b"\r"] {
            let mut client = mesh.connect(80);
            client.write_all(sent).expect("room");
            client.shutdown(Shutdown::Write).expect("open");
            let mut said = Vec::new();
            // It may be reset instead.
            drop(client.read_to_end(&mut said));
            assert!(!said.ends_with(b"reached"), "{}", String::from_utf8_lossy(&said));
        }
    });
}

#[test]
fn who_has_no_waypoint_here_is_refused() {
    on_both(|reactor| {
        let port = serve(|_, _| {});
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Tcp));
        assert_ne!(mesh.refused(([10, 96, 0, 1], 81).into()), 0, "no such port");
    });
}
