//! HTTP/1.1 through a waypoint.

use std::time::Duration;

use ringway_engine::{snapshot::AppProtocol, telemetry::http::ResponseFlag};

use crate::{
    application::{Client, ok, serve_http},
    mesh::{Mesh, Plan, identity, on_both, rule, within},
};

#[test]
fn a_request_goes_to_the_service_and_its_answer_comes_back() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, request| ok(&format!("you said {}", request.text())));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11));
        let mut client = Client::new(mesh.connect(80));
        for round in 0..3 {
            client.send(&format!(
                "POST /a/./b?q={round} HTTP/1.1\r\nhost: web:80\r\ncontent-length: 2\r\n\
                 connection: keep-alive, x-mine\r\nx-mine: 1\r\n\r\nhi"
            ));
            let answer = client.receive();
            assert_eq!((answer.status(), answer.text()), (200, "you said hi"));
            let request = requests.recv().expect("it came");
            assert_eq!(request.line, format!("POST /a/b?q={round} HTTP/1.1"), "in canonical form");
            assert_eq!(request.header("host"), Some("web:80"));
            assert_eq!(request.header("x-mine"), None, "it was for us");
            assert!(request.header("x-request-id").is_some());
            let record = mesh.record();
            assert_eq!((record.code, &*record.details), (200, "via_upstream"));
            assert_eq!((record.received_bytes, record.sent_bytes), (2, 11));
            assert_eq!(&*record.path, format!("/a/b?q={round}"));
            assert_eq!(record.original_path.as_deref(), Some(&*format!("/a/./b?q={round}")));
            assert_eq!(record.source.identity, Some(identity("client")));
            let destination = record.destination.expect("it went somewhere");
            assert_eq!(destination.identity, Some(identity("server")));
            assert_eq!(destination.address.port(), port);
            assert!(record.flags.is_empty());
        }
        drop(client);
        mesh.no_record();
        // The node saw the waypoint, once for three requests.
        let engine = &mesh.server;
        assert_eq!(engine.connections().len(), 1, "one connection, kept");
    });
}

#[test]
fn what_no_rule_is_for_is_answered_here() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("found"));
        let plan = Plan::of(port, AppProtocol::Unknown).with(vec![rule("/shop")]);
        let mesh = Mesh::start(reactor, &plan);
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/shop/cart").status(), 200);
        let answer = client.get("/admin");
        assert_eq!(answer.status(), 404);
        assert_eq!(mesh.record().route.as_deref(), Some("shop/web.0"));
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::NoRoute));
        assert_eq!((record.code, &*record.details), (404, "route_not_found"));
        assert_eq!(client.get("/shop").status(), 200, "the connection goes on");
    });
}

#[test]
fn a_request_that_takes_too_long_is_answered_504() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| {
            std::thread::sleep(Duration::from_secs(3));
            ok("late")
        });
        let mut slow = rule("/");
        slow.timeouts = within(Duration::from_millis(50));
        let mesh = Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).with(vec![slow]));
        let answer = Client::new(mesh.connect(80)).get("/");
        assert_eq!((answer.status(), answer.text()), (504, "upstream request timeout"));
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::UpstreamRequestTimeout));
        assert_eq!(&*record.details, "response_timeout");
    });
}
