//! Copies of requests.

use std::{
    io::{BufReader, Read},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    time::Duration,
};

use http::Response;
use ringway_engine::{
    snapshot::AppProtocol,
    telemetry::http::{Difference, MirrorOutcome},
};
use ringway_http::model::{Filter, Mirror, Rule};

use crate::{
    application::{Client, Message, ok, read_message, serve, serve_http},
    http2::{serve_each, serve_requests},
    mesh::{Mesh, PATIENCE, Plan, backend, on_both, rule, wait_for},
};

/// To port 81 of the service, so many of a hundred.
fn mirror(numerator: u32) -> Filter {
    let backend = backend(81, 1).backend;
    Filter::Mirror(Mirror { backend, numerator, denominator: 100 })
}

fn mirrored(prefix: &str, numerator: u32) -> Rule {
    Rule { filters: vec![mirror(numerator)], ..rule(prefix) }
}

/// Port 80 answers, port 81 gets copies.
fn plan(port: u16, copies: u16) -> Plan {
    let plan = Plan::of(port, AppProtocol::Http11).with(vec![mirrored("/", 100)]);
    let ports = vec![(80, port, AppProtocol::Http11), (81, copies, AppProtocol::Http11)];
    Plan { ports, ..plan }
}

fn next(copies: &Receiver<Message>) -> Message {
    copies.recv_timeout(PATIENCE).expect("a copy")
}

#[test]
fn a_copy_goes_to_the_mirror_and_its_answer_to_nobody() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("the real one"));
        let (copies_port, copies) = serve_http(|connection, _| {
            assert_eq!(connection, 0, "its connection is kept");
            "HTTP/1.1 500 Not so good\r\ncontent-length: 4\r\n\r\noops".to_owned()
        });
        let mesh = Mesh::start(reactor, &plan(port, copies_port));
        let mut client = Client::new(mesh.connect(80));
        for (method, body) in [("GET", ""), ("POST", "once and once more")] {
            let head = format!("{method} /a?b=c HTTP/1.1\r\nhost: web:80\r\nx-mine: 1\r\n");
            let length = body.len();
            client.send(&format!("{head}content-length: {length}\r\n\r\n{body}"));
            let answer = client.receive();
            assert_eq!((answer.status(), answer.text()), (200, "the real one"));
            let (real, copy) = (requests.recv_timeout(PATIENCE).expect("it"), next(&copies));
            assert_eq!((&real.line, real.text()), (&copy.line, copy.text()));
            assert_eq!(copy.text(), body);
            assert_eq!(copy.header("host"), Some("web-shadow:80"));
            for name in ["x-mine", "x-request-id", "content-length"] {
                assert_eq!(copy.header(name), real.header(name), "{name}");
            }
            assert_eq!(mesh.record().code, 200);
        }
        mesh.no_record();
    });
}

#[test]
fn as_many_as_the_rule_says() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok(""));
        let (copies_port, copies) = serve_http(|_, _| ok(""));
        let none = mirrored("/none", 0);
        let mut two = mirrored("/two", 100);
        two.backends[0].filters = vec![mirror(100)];
        let rules = vec![none, two, mirrored("/last", 100)];
        let mesh = Mesh::start(reactor, &plan(port, copies_port).with(rules));
        let mut client = Client::new(mesh.connect(80));
        let get = |client: &mut Client, path| assert_eq!(client.get(path).status(), 200);
        get(&mut client, "/none");
        get(&mut client, "/two");
        for _ in 0..2 {
            assert_eq!(next(&copies).line, "GET /two HTTP/1.1");
        }
        get(&mut client, "/last");
        assert_eq!(next(&copies).line, "GET /last HTTP/1.1");
        assert!(copies.try_recv().is_err());
    });
}

/// Neither somebody who does not answer nor somebody who is not there.
#[test]
fn nobody_waits_for_a_mirror() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("at once"));
        let silent = serve(|_, mut stream| {
            // Takes nothing, until the other side has had enough.
            let _end = stream.read_exact(&mut [0; 1 << 16]);
        });
        let gone = std::net::TcpListener::bind(("127.0.0.3", 0)).expect("a port");
        let dead = gone.local_addr().expect("bound").port();
        drop(gone);
        for copies in [silent, dead] {
            let mesh = Mesh::start(reactor, &plan(port, copies));
            let mut client = Client::new(mesh.connect(80));
            for _ in 0..20 {
                client.send("POST / HTTP/1.1\r\nhost: web\r\ncontent-length: 3\r\n\r\nabc");
                assert_eq!(client.receive().text(), "at once");
                let record = mesh.record();
                assert!(record.flags.is_empty(), "{}", record.flags);
            }
        }
    });
}

/// Copies that nobody answers pile up to a bound.
#[test]
fn copies_do_not_pile_up() {
    const COPIES_MAX: usize = 256;
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok(""));
        let begun = Arc::new(AtomicUsize::new(0));
        let counted = begun.clone();
        let silent = serve(move |_, mut stream| {
            counted.fetch_add(1, Relaxed);
            let _end = stream.read_exact(&mut [0; 1 << 16]);
        });
        let mesh = Mesh::start(reactor, &plan(port, silent));
        let mut client = Client::new(mesh.connect(80));
        for _ in 0..COPIES_MAX + 20 {
            assert_eq!(client.get("/").status(), 200);
        }
        wait_for(|| (begun.load(Relaxed) == COPIES_MAX).then_some(()));
        assert_eq!(client.get("/").status(), 200);
        assert_eq!(begun.load(Relaxed), COPIES_MAX);
    });
}

#[test]
fn what_is_too_much_to_be_kept_is_not_copied() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok(""));
        let (copies_port, copies) = serve_http(|_, _| ok(""));
        let mesh = Mesh::start(reactor, &plan(port, copies_port));
        let mut client = Client::new(mesh.connect(80));
        for (path, length) in [("/large", 300_000), ("/small", 100_000)] {
            let body = "x".repeat(length);
            let head = format!("POST {path} HTTP/1.1\r\nhost: web\r\ncontent-length: {length}\r\n");
            client.send(&format!("{head}\r\n{body}"));
            assert_eq!(client.receive().status(), 200);
            assert_eq!(requests.recv_timeout(PATIENCE).expect("it").body.len(), length);
        }
        let copy = next(&copies);
        assert_eq!((&*copy.line, copy.body.len()), ("POST /small HTTP/1.1", 100_000));
    });
}

/// Whoever is sooner, the client's answer or the mirror's.
#[test]
fn what_a_mirror_answers_is_compared() {
    const PLAIN: &str =
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nabc";
    fn answer(head: &Message, own: &str) -> String {
        let target = head.line.split(' ').nth(1).expect("a target");
        let path = target.split('?').next().expect("a path");
        if path == "/late" {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        if path == "/same" || path == "/late" { PLAIN.to_owned() } else { own.to_owned() }
    }
    use Difference::{Body, ContentType, Length, Status, StatusClass};
    let rows = [
        ("/same?token=secret", vec![]),
        ("/late", vec![]),
        ("/other", vec![StatusClass, Status, Length, ContentType, Body]),
    ];
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, head| answer(head, PLAIN));
        let (copies_port, _copies) =
            serve_http(|_, head| answer(head, "HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops"));
        let mesh = Mesh::start(reactor, &plan(port, copies_port));
        let mut client = Client::new(mesh.connect(80));
        for (path, want) in &rows {
            assert_eq!(client.get(path).text(), "abc");
            let told = mesh.mirrored();
            assert_eq!(&*told.path, path.split('?').next().unwrap(), "no query is told");
            assert!(told.mirror.ends_with(":81"), "{}", told.mirror);
            assert!(!told.route.is_empty());
            let MirrorOutcome::Compared { original, copy } = told.outcome else {
                panic!("{path}: {:?}", told.outcome)
            };
            assert_eq!(original.differences(&copy), *want, "{path}");
            assert_eq!((original.status, original.bytes), (200, 3));
        }
    });
}

#[test]
fn what_cannot_be_compared_is_told_as_well() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok(""));
        let gone = std::net::TcpListener::bind(("127.0.0.3", 0)).expect("a port");
        let dead = gone.local_addr().expect("bound").port();
        drop(gone);
        let mesh = Mesh::start(reactor, &plan(port, dead));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/dead").status(), 200);
        assert_eq!(mesh.mirrored().outcome, MirrorOutcome::Unanswered);
        let (body, length) = ("x".repeat(300_000), 300_000);
        client.send(&format!(
            "POST /large HTTP/1.1\r\nhost: web\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(client.receive().status(), 200);
        assert_eq!(mesh.mirrored().outcome, MirrorOutcome::Skipped);
    });
}

/// A copy is whole: what a client leaves off is none.
#[test]
fn half_a_request_is_not_copied() {
    on_both(|reactor| {
        let port = serve(|_, stream| {
            let mut reader = BufReader::new(&stream);
            while let Some(_request) = read_message(&mut reader, false) {
                let _sent = std::io::Write::write_all(&mut &stream, ok("").as_bytes());
            }
        });
        let (copies_port, copies) = serve_http(|_, _| ok(""));
        let mesh = Mesh::start(reactor, &plan(port, copies_port));
        let mut client = Client::new(mesh.connect(80));
        client.send("POST /half HTTP/1.1\r\nhost: web\r\ncontent-length: 9\r\n\r\nhal");
        drop(client);
        // Its record says that it is over.
        mesh.record();
        assert_eq!(Client::new(mesh.connect(80)).get("/whole").status(), 200);
        assert_eq!(next(&copies).line, "GET /whole HTTP/1.1");
    });
}

/// More of it than a backend takes at once, and the answer before it has.
#[test]
fn a_copy_goes_whole_to_who_answers_before_its_end() {
    const LENGTH: usize = 200 * 1024;
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("at once"));
        let (told, lengths) = channel();
        let copies = serve_each(move |_, stream| {
            let told = told.clone();
            serve_requests(stream, move |request, mut respond| {
                let told = told.clone();
                async move {
                    respond.send_response(Response::new(()), true).expect("open");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    let (mut body, mut length) = (request.into_body(), 0);
                    while let Some(data) = body.data().await {
                        let Ok(data) = data else { break };
                        body.flow_control().release_capacity(data.len()).expect("it was taken");
                        length += data.len();
                    }
                    told.send(length).expect("heard");
                }
            })
        });
        let plan = plan(port, copies);
        let ports = vec![(80, port, AppProtocol::Http11), (81, copies, AppProtocol::Http2)];
        let mesh = Mesh::start(reactor, &Plan { ports, ..plan });
        let mut client = Client::new(mesh.connect(80));
        let body = "x".repeat(LENGTH);
        client.send(&format!(
            "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {LENGTH}\r\n\r\n{body}"
        ));
        assert_eq!(client.receive().text(), "at once");
        assert_eq!(lengths.recv_timeout(PATIENCE), Ok(LENGTH));
    });
}
