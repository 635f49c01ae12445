//! Services outside that are asked about requests: external authorizers and rate limit services, behind a node of their own.

use std::{
    io::{self, BufReader, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use ringway_engine::{
    limits::OUTSIDE_ANSWER_BYTES_MAX,
    runtime::ReactorChoice,
    snapshot::AppProtocol,
    telemetry::http::{FailedOpenRecord, OutsideOutcome, OutsideService, ResponseFlag},
};
use ringway_http::model::{
    Backend, BackendTarget,
    policy::{
        Action, Attached, AuthorizationBody, AuthorizationPolicy, AuthorizationProtocol,
        AuthorizationProvider, AuthorizationRule, Descriptor, DescriptorValue, GlobalRateLimit,
        HttpAuthorization, Operation, PathPattern, Policies, PolicyName, RateLimitPolicy, Target,
        TextMatch, Wanted,
    },
};
use tokio::net::TcpListener;

use crate::{
    application::{Client, Message, ok, read_head, serve, serve_http},
    mesh::{Mesh, Plan, SERVER, on_both, web},
};

/// The services' port at the service `web`.
const OUTSIDE: u16 = 9000;

/// A field of a message that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).expect("short");
    assert!(length < 0x80);
    [&[number << 3 | 2, length], content].concat()
}

/// The key and value of a header, as an option of an answer.
fn header(key: &str, value: &str) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat())
}

/// `CheckResponse`: a status, and what stands in `ok_response`.
fn allowed(said: &[u8]) -> Vec<u8> {
    [field(1, &[]), field(3, said)].concat()
}

/// `CheckResponse`: PERMISSION_DENIED, and what stands in `denied_response`.
fn denied(said: &[u8]) -> Vec<u8> {
    [field(1, &[0x08, 7]), field(2, said)].concat()
}

/// What a service was asked.
struct Asked {
    path: String,
    message: Vec<u8>,
}

impl Asked {
    fn has(&self, text: &str) -> bool {
        self.message.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// What is no answer.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// A status of gRPC's, and nothing else.
    Status(u8),
    /// A reset.
    Reset,
    /// A message that ends before it should, with a status all the same.
    Cut,
    /// A message without a status.
    WithoutStatus,
    /// More than may be said.
    TooLong,
    /// HTTP's own.
    Http(u16),
}

/// Answers every call of gRPC with a message, or with a failure. Returns its port and what it is asked.
fn serve_grpc(
    answer: impl Fn(&Asked) -> Result<Vec<u8>, Failure> + Send + 'static,
) -> (u16, Receiver<Asked>) {
    let (told, port) = channel();
    let (asked, questions) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let local = tokio::task::LocalSet::new();
        let answer = std::rc::Rc::new(answer);
        local.block_on(&runtime.expect("a runtime"), async move {
            let listener = TcpListener::bind((SERVER, 0)).await.expect("a port");
            told.send(listener.local_addr().expect("bound").port()).expect("heard");
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                let (asked, answer) = (asked.clone(), answer.clone());
                tokio::task::spawn_local(async move {
                    let mut connection = h2::server::handshake(stream).await.expect("a preface");
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let (asked, answer) = (asked.clone(), answer.clone());
                        tokio::task::spawn_local(async move {
                            let path = request.uri().path().to_owned();
                            assert_eq!(request.headers()["content-type"], "application/grpc");
                            let mut body = request.into_body();
                            let mut message = Vec::new();
                            while let Some(Ok(data)) = body.data().await {
                                body.flow_control().release_capacity(data.len()).expect("taken");
                                message.extend_from_slice(&data);
                            }
                            let question = Asked { path, message: message.split_off(5) };
                            let answered = answer(&question);
                            // Nobody may be listening any more.
                            let _ = asked.send(question);
                            reply(&mut respond, answered);
                        });
                    }
                });
            }
        });
    });
    (port.recv().expect("a port"), questions)
}

fn reply(respond: &mut h2::server::SendResponse<Bytes>, answered: Result<Vec<u8>, Failure>) {
    let status = |code: &str| {
        let name = HeaderName::from_static("grpc-status");
        HeaderMap::from_iter([(name, HeaderValue::try_from(code).expect("a code"))])
    };
    let mut response =
        Response::builder().header("content-type", "application/grpc").body(()).expect("good");
    match answered {
        Err(Failure::Status(code)) => response.headers_mut().extend(status(&code.to_string())),
        Err(Failure::Http(code)) => *response.status_mut() = code.try_into().expect("a status"),
        _ => {}
    }
    let is_head = matches!(answered, Err(Failure::Status(_) | Failure::Http(_)));
    let mut stream = respond.send_response(response, is_head).expect("open");
    let framed = |message: &[u8], length: usize| {
        let length = u32::try_from(length).expect("short").to_be_bytes();
        Bytes::from([&[0], &length[..], message].concat())
    };
    match answered {
        Ok(message) => {
            stream.send_data(framed(&message, message.len()), false).expect("open");
            stream.send_trailers(status("0")).expect("open");
        }
        Err(Failure::Reset) => stream.send_reset(h2::Reason::CANCEL),
        Err(Failure::Cut) => {
            stream.send_data(framed(&[8], 2), false).expect("open");
            stream.send_trailers(status("0")).expect("open");
        }
        Err(Failure::WithoutStatus) => {
            let message = allowed(&[]);
            stream.send_data(framed(&message, message.len()), true).expect("open");
        }
        Err(Failure::TooLong) => {
            // A field that nobody knows, of more than may be.
            let length = OUTSIDE_ANSWER_BYTES_MAX;
            let message = [allowed(&[]), vec![0x7a, 0x80, 0x80, 0x10], vec![0; length]].concat();
            stream.send_data(framed(&message, message.len()), false).expect("open");
            stream.send_trailers(status("0")).expect("open");
        }
        Err(Failure::Status(_) | Failure::Http(_)) => {}
    }
}

fn attached<P>(name: &str, policy: P) -> Attached<P> {
    let name = PolicyName { namespace: "shop".into(), name: name.into() };
    Attached { name, targets: vec![Target::Service { service: web(), port: None }], policy }
}

fn below(action: Action, prefix: &str) -> AuthorizationPolicy {
    let paths =
        Wanted { any: vec![PathPattern::Text(TextMatch::Prefix(prefix.into()))], none: Vec::new() };
    let to = vec![Operation { paths, ..Operation::default() }];
    let rules = vec![AuthorizationRule { to, ..AuthorizationRule::default() }];
    AuthorizationPolicy { action, rules, dry_run: false }
}

fn service() -> Backend {
    Backend { target: BackendTarget::Service { service: web(), port: OUTSIDE } }
}

fn provider(protocol: AuthorizationProtocol) -> AuthorizationProvider {
    AuthorizationProvider {
        name: "login".into(),
        service: service(),
        protocol,
        timeout: Duration::from_secs(30),
        fail_open: false,
        status_on_error: StatusCode::FORBIDDEN,
        body: None,
    }
}

/// What is below `/account` is asked about; what is below `/account/closed` is denied besides.
fn asking(provider: AuthorizationProvider) -> Policies {
    Policies {
        authorizations: vec![
            attached("login", below(Action::Custom("login".into()), "/account")),
            attached("closed", below(Action::Deny, "/account/closed")),
        ],
        providers: vec![provider],
        ..Policies::default()
    }
}

/// A service that answers what reaches it, and asks `outside` as policies say.
fn mesh(
    reactor: ReactorChoice,
    outside: (u16, AppProtocol),
    policies: Policies,
) -> (Mesh, Receiver<Message>) {
    let (port, requests) = serve_http(|_, _| ok("found"));
    let mut plan = Plan::of(port, AppProtocol::Http11).under(policies);
    plan.ports.push((OUTSIDE, outside.0, outside.1));
    (Mesh::start(reactor, &plan), requests)
}

fn count(mesh: &Mesh, service: OutsideService, outcome: OutsideOutcome) -> u64 {
    let all = mesh.waypoint.telemetry().http().outside_calls();
    all.into_iter().find(|one| (one.0, one.1) == (service, outcome)).expect("one of each").2
}

#[test]
fn an_authorizer_decides_by_grpc() {
    on_both(|reactor| {
        let (port, questions) = serve_grpc(|asked| {
            Ok(match asked.has("Bearer good") {
                true => allowed(
                    &[
                        field(2, &header("x-user", "me")),
                        field(5, b"authorization"),
                        field(6, &header("x-seen", "yes")),
                    ]
                    .concat(),
                ),
                false => denied(
                    &[
                        field(1, &[0x08, 0xad, 0x02]),
                        field(2, &header("location", "/login")),
                        field(3, b"log in"),
                    ]
                    .concat(),
                ),
            })
        });
        // Whatever is declared of the port, this is gRPC.
        let (mesh, requests) = mesh(
            reactor,
            (port, AppProtocol::Http11),
            asking(provider(AuthorizationProtocol::Grpc)),
        );
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").status(), 200, "nobody is asked");
        assert!(questions.try_recv().is_err());
        mesh.record();

        let answer = client.get("/x/../account?a=b");
        assert_eq!((answer.status(), answer.text()), (301, "log in"));
        assert_eq!(answer.header("location"), Some("/login"));
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::UnauthorizedExternalService));
        assert_eq!(&*record.details, "ext_authz_denied{ns[shop]-policy[login]-rule[0]}");
        let asked = questions.recv().expect("asked");
        assert_eq!(asked.path, "/envoy.service.auth.v3.Authorization/Check");
        for text in [
            "spiffe://cluster.local/ns/shop/sa/client",
            "spiffe://cluster.local/ns/shop/sa/waypoint",
            "/account?a=b",
            "HTTP/1.1",
        ] {
            assert!(asked.has(text), "{text}");
        }

        let good = "authorization: Bearer good\r\nx-user: root\r\nconnection: x-user";
        client.send(&format!("GET /account HTTP/1.1\r\nhost: web\r\n{good}\r\n\r\n"));
        let answer = client.receive();
        assert_eq!((answer.status(), answer.header("x-seen")), (200, Some("yes")));
        requests.recv().expect("the one that nobody was asked about");
        let request = requests.recv().expect("it was passed on");
        assert_eq!(request.header("x-user"), Some("me"), "the client has no say in it");
        assert_eq!(request.header("authorization"), None);
        assert_eq!(mesh.record().code, 200);

        client.send(&format!("GET /account/closed HTTP/1.1\r\nhost: web\r\n{good}\r\n\r\n"));
        assert_eq!(client.receive().status(), 403, "a yes is not the last word");
        assert!(mesh.record().details.contains("policy[closed]"));
        mesh.no_record();
        assert_eq!(count(&mesh, OutsideService::Authorization, OutsideOutcome::Allowed), 2);
        assert_eq!(count(&mesh, OutsideService::Authorization, OutsideOutcome::Denied), 1);
    });
}

/// A port where nobody answers, and one where nothing is said.
fn nobody_and_silent() -> (u16, u16, std::net::TcpListener) {
    let silent = std::net::TcpListener::bind((SERVER, 0)).expect("a port");
    (crate::mesh::free_port(), silent.local_addr().expect("bound").port(), silent)
}

/// Asks once by what fails, and sees that it is a no, or with `fail_open` a yes, and why.
fn fails(
    reactor: ReactorChoice,
    (port, protocol): (u16, AppProtocol),
    provider: &AuthorizationProvider,
    want: &str,
) {
    for (fail_open, status, outcome) in
        [(false, 503, OutsideOutcome::FailedClosed), (true, 200, OutsideOutcome::FailedOpen)]
    {
        let status_on_error = StatusCode::SERVICE_UNAVAILABLE;
        let provider = AuthorizationProvider { fail_open, status_on_error, ..provider.clone() };
        let (mesh, requests) = mesh(reactor, (port, protocol), asking(provider));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/account").status(), status, "{want}");
        assert_eq!(requests.try_recv().is_ok(), fail_open, "{want}");
        let record = mesh.record();
        assert_eq!(count(&mesh, OutsideService::Authorization, outcome), 1, "{want}");
        let told = mesh.waypoint.telemetry().http().next_failed_open();
        assert_eq!(told.is_some(), fail_open, "{want}");
        if let Some(FailedOpenRecord { service, name, called, why }) = told {
            let told = (service, &*name, &*called);
            let called = "shop/web.shop.svc.cluster.local:80";
            assert_eq!(told, (OutsideService::Authorization, "login", called));
            assert!(why.contains(want), "{want}: {why}");
        }
        if !fail_open {
            assert!(record.flags.has(ResponseFlag::UnauthorizedExternalService), "{want}");
            assert_eq!(&*record.details, "ext_authz_error{ns[shop]-policy[login]-rule[0]}");
            let why = record.upstream_failure.expect("told");
            assert!(why.starts_with("the external authorizer login: "), "{why}");
            assert!(why.contains(want), "{want}: {why}");
        }
    }
}

/// Time enough for whoever answers, and none for whoever does not.
fn patience(silent: bool) -> Duration {
    if silent { Duration::from_millis(50) } else { Duration::from_secs(30) }
}

#[test]
fn without_an_answer_by_grpc_it_is_a_no_unless_it_is_said_otherwise() {
    on_both(|reactor| {
        let (nobody, silent, _silent) = nobody_and_silent();
        let failing = |failure: Failure| serve_grpc(move |_| Err(failure)).0;
        for (port, want) in [
            (nobody, "it cannot be reached"),
            (silent, "it has not answered in time"),
            (failing(Failure::Status(13)), "gRPC's status 13"),
            (failing(Failure::Http(500)), "it has answered 500"),
            (failing(Failure::Reset), "it cannot be reached"),
            (failing(Failure::Cut), "the message is cut off"),
            (failing(Failure::WithoutStatus), "without a status"),
            (failing(Failure::TooLong), "its answer is too long"),
            (serve_grpc(|_| Ok(vec![0xff; 3])).0, "its answer cannot be read"),
            (saying("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true), "it cannot be reached"),
        ] {
            let timeout = patience(port == silent);
            let provider = provider(AuthorizationProtocol::Grpc);
            let provider = AuthorizationProvider { timeout, ..provider };
            fails(reactor, (port, AppProtocol::Grpc), &provider, want);
        }
    });
}

/// Says the same to the first head of each connection, and then nothing more, or ends.
fn saying(bytes: &'static str, ends: bool) -> u16 {
    serve(move |_, mut stream| {
        let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
        let asked = read_head(&mut reader).is_some();
        if asked && stream.write_all(bytes.as_bytes()).is_ok() && !ends {
            // Until who asks is gone.
            let _ = io::copy(&mut reader, &mut io::sink());
        }
    })
}

#[test]
fn without_an_answer_by_http_it_is_a_no_unless_it_is_said_otherwise() {
    on_both(|reactor| {
        let (nobody, silent, _silent) = nobody_and_silent();
        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
        let stuck = saying(half, false);
        let long = "x".repeat(OUTSIDE_ANSWER_BYTES_MAX + 1);
        let oh = "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n";
        for (port, want) in [
            (nobody, "it cannot be reached"),
            (silent, "it has not answered in time"),
            (stuck, "it has not answered in time"),
            (serve_http(move |_, _| ok(&long)).0, "its answer is too long"),
            (saying(half, true), "its answer has ended early"),
            (saying("nonsense\r\n\r\n", true), "it cannot be reached"),
            (saying("", true), "it cannot be reached"),
            (saying(oh, false), "it has answered 500"),
        ] {
            let timeout = patience(port == silent || port == stuck);
            let provider = provider(AuthorizationProtocol::Http(HttpAuthorization::default()));
            let provider = AuthorizationProvider { timeout, ..provider };
            fails(reactor, (port, AppProtocol::Http11), &provider, want);
        }
    });
}

/// Half of a long denial is none: it is given without its body.
#[test]
fn a_denial_that_is_too_long_has_no_body() {
    on_both(|reactor| {
        let (port, _asked) = serve_http(|_, _| {
            let page = "x".repeat(OUTSIDE_ANSWER_BYTES_MAX + 1);
            format!(
                "HTTP/1.1 401 No\r\nx-why: long\r\ncontent-length: {}\r\n\r\n{page}",
                page.len()
            )
        });
        let policies = asking(provider(AuthorizationProtocol::Http(HttpAuthorization::default())));
        let (mesh, requests) = mesh(reactor, (port, AppProtocol::Http11), policies);
        let answer = Client::new(mesh.connect(80)).get("/account");
        assert_eq!((answer.status(), answer.text()), (401, ""));
        assert_eq!(answer.header("x-why"), Some("long"));
        assert!(requests.try_recv().is_err());
    });
}

/// Who goes away while somebody waits for his body leaves nothing behind, and nobody is asked.
#[test]
fn a_body_that_does_not_come_is_not_asked_about() {
    on_both(|reactor| {
        let (port, questions) = serve_grpc(|_| Ok(allowed(&[])));
        let body = AuthorizationBody { bytes_max: 8, allow_partial: true, as_bytes: false };
        let provider =
            AuthorizationProvider { body: Some(body), ..provider(AuthorizationProtocol::Grpc) };
        let (mesh, requests) = mesh(reactor, (port, AppProtocol::Grpc), asking(provider));
        let mut client = Client::new(mesh.connect(80));
        client.send("POST /account HTTP/1.1\r\nhost: web\r\ncontent-length: 9\r\n\r\nhalf");
        drop(client);
        assert!(mesh.record().code != 200);
        assert!(questions.try_recv().is_err() && requests.try_recv().is_err());
    });
}

#[test]
fn an_authorizer_decides_by_http() {
    on_both(|reactor| {
        let said = HttpAuthorization {
            path_prefix: "/check".into(),
            include: vec![TextMatch::Exact("x-team".into())],
            upstream: vec![TextMatch::Exact("x-user".into())],
            downstream_on_allow: vec![TextMatch::Prefix("set-".into())],
            ..HttpAuthorization::default()
        };
        let (port, questions) = serve_http(|_, asked| {
            match asked.header("x-team") {
            Some("a") => "HTTP/1.1 200 OK\r\nx-user: me\r\nx-other: no\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n".into(),
            Some(_) => "HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".into(),
            None => "HTTP/1.1 401 No\r\nwww-authenticate: Basic\r\ncontent-length: 2\r\n\r\nno".into(),
        }
        });
        let policies = asking(provider(AuthorizationProtocol::Http(said)));
        let (mesh, requests) = mesh(reactor, (port, AppProtocol::Http11), policies);
        let mut client = Client::new(mesh.connect(80));
        client.send("POST /account?a=b HTTP/1.1\r\nhost: web\r\nx-team: a\r\nx-secret: s\r\ncontent-length: 4\r\n\r\nbody");
        let answer = client.receive();
        assert_eq!((answer.status(), answer.header("set-cookie")), (200, Some("a=b")));
        assert_eq!(answer.header("x-other"), None);
        let asked = questions.recv().expect("asked");
        assert_eq!(asked.line, "POST /check/account?a=b HTTP/1.1");
        assert_eq!((asked.header("host"), asked.header("x-secret")), (Some("web"), None));
        assert!(asked.body.is_empty());
        let request = requests.recv().expect("it was passed on");
        assert_eq!((request.header("x-user"), request.text()), (Some("me"), "body"));

        let answer = client.get("/account");
        assert_eq!((answer.status(), answer.text()), (401, "no"));
        assert_eq!(answer.header("www-authenticate"), Some("Basic"));
        client.send("GET /account HTTP/1.1\r\nhost: web\r\nx-team: b\r\n\r\n");
        assert_eq!(client.receive().status(), 403, "it has failed");
        assert!(requests.try_recv().is_err(), "nothing else was passed on");
    });
}

#[test]
fn an_authorizer_sees_the_body_up_to_a_bound() {
    on_both(|reactor| {
        let (port, questions) = serve_grpc(|asked| match asked.has("good") {
            true => Ok(allowed(&[])),
            false => Ok(denied(&[])),
        });
        for allow_partial in [false, true] {
            let body = AuthorizationBody { bytes_max: 8, allow_partial, as_bytes: false };
            let provider =
                AuthorizationProvider { body: Some(body), ..provider(AuthorizationProtocol::Grpc) };
            let (mesh, requests) = mesh(reactor, (port, AppProtocol::Grpc), asking(provider));
            let post = |body: &str| {
                let length = body.len();
                // A body that is not taken ends the connection.
                let mut client = Client::new(mesh.connect(80));
                client.send(&format!(
                    "POST /account HTTP/1.1\r\nhost: web\r\ncontent-length: {length}\r\n\r\n{body}"
                ));
                client.receive().status()
            };
            assert_eq!(post("it goods"), 200);
            assert_eq!(requests.recv().expect("passed on").text(), "it goods");
            assert_eq!(post("bad"), 403);
            let long = format!("good{}", "x".repeat(100_000));
            if allow_partial {
                assert_eq!(post(&long), 200);
                assert_eq!(requests.recv().expect("passed on").text(), long, "all of it");
                let asked: Vec<Asked> = questions.try_iter().collect();
                let last = asked.last().expect("asked");
                assert!(last.has("goodxxxx") && !last.has("goodxxxxx"), "its beginning");
            } else {
                assert_eq!(post(&long), 413);
                assert!(requests.try_recv().is_err());
            }
        }
    });
}

/// `RateLimitResponse`: a code, one limit of three a minute with so many left, and more.
fn counted(code: u8, left: u8, more: &[u8]) -> Vec<u8> {
    let limit = field(2, &[0x08, 3, 0x10, 2]);
    let status = [&[0x08, code][..], &limit, &[0x18, left], &field(4, &[0x08, 30])].concat();
    [&[0x08, code][..], &field(2, &status), more].concat()
}

fn limited(fail_open: bool) -> Policies {
    let entry = |name: &str, value| Descriptor { name: name.into(), value };
    let user = HeaderName::from_static("x-user");
    let global = GlobalRateLimit {
        service: service(),
        domain: "shop".into(),
        descriptors: vec![
            vec![
                entry("user", DescriptorValue::Header(user)),
                entry("path", DescriptorValue::Path),
            ],
            vec![entry("caller", DescriptorValue::SourceIdentity)],
        ],
        timeout: Duration::from_secs(30),
        fail_open,
    };
    let policy = RateLimitPolicy { local: Vec::new(), global: Some(global) };
    Policies { rate_limits: vec![attached("slowly", policy)], ..Policies::default() }
}

#[test]
fn a_rate_limit_service_counts() {
    on_both(|reactor| {
        let left = Arc::new(Mutex::new(1));
        let (port, questions) = serve_grpc(move |_| {
            let mut left = left.lock().expect("whole");
            *left -= 1;
            let told = |key: &str| [field(1, key.as_bytes()), field(2, b"yes")].concat();
            Ok(match *left {
                0 => counted(1, 0, &field(4, &told("x-counted"))),
                _ => counted(2, 0, &[field(3, &told("x-over")), field(5, b"later")].concat()),
            })
        });
        let (mesh, requests) = mesh(reactor, (port, AppProtocol::Grpc), limited(false));
        let mut client = Client::new(mesh.connect(80));
        client.send("GET /./a HTTP/1.1\r\nhost: web\r\nx-user: me\r\n\r\n");
        let answer = client.receive();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3, 3;w=60"));
        assert_eq!(answer.header("x-ratelimit-reset"), Some("30"));
        assert_eq!(requests.recv().expect("passed on").header("x-counted"), Some("yes"));
        assert_eq!(mesh.record().code, 200);
        let asked = questions.recv().expect("asked");
        let method = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
        assert_eq!(asked.path, method);
        let pair = |key: &str, value: &str| {
            [field(1, key.as_bytes()), field(2, value.as_bytes())].concat()
        };
        let caller = pair("caller", "cluster.local/ns/shop/sa/client");
        let by_user = [field(1, &pair("user", "me")), field(1, &pair("path", "/a"))].concat();
        let want = [field(1, b"shop"), field(2, &by_user), field(2, &field(1, &caller))].concat();
        assert_eq!(asked.message, want);

        let answer = client.get("/a");
        assert_eq!((answer.status(), answer.text()), (429, "later"));
        for (name, value) in
            [("x-envoy-ratelimited", "true"), ("x-over", "yes"), ("x-ratelimit-remaining", "0")]
        {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        let record = mesh.record();
        assert!(record.flags.has(ResponseFlag::RateLimited));
        assert_eq!(&*record.details, "request_rate_limited");
        assert!(requests.try_recv().is_err());
        let asked = questions.recv().expect("asked");
        assert!(!asked.has("user"), "what is not there is not told apart");
    });
}

#[test]
fn a_rate_limit_service_that_does_not_answer() {
    on_both(|reactor| {
        let (failing, _asked) = serve_grpc(|_| Err(Failure::Status(14)));
        for (fail_open, status) in [(true, 200), (false, 500)] {
            let (mesh, _requests) = mesh(reactor, (failing, AppProtocol::Grpc), limited(fail_open));
            let mut client = Client::new(mesh.connect(80));
            assert_eq!(client.get("/").status(), status);
            let record = mesh.record();
            assert_eq!(record.flags.has(ResponseFlag::RateLimitServiceError), !fail_open);
            let outcome =
                if fail_open { OutsideOutcome::FailedOpen } else { OutsideOutcome::FailedClosed };
            assert_eq!(count(&mesh, OutsideService::RateLimit, outcome), 1);
            let told = mesh.waypoint.telemetry().http().next_failed_open();
            let want = FailedOpenRecord {
                service: OutsideService::RateLimit,
                name: "shop/slowly".into(),
                called: "shop/web.shop.svc.cluster.local:80".into(),
                why: "it has answered with gRPC's status 14".into(),
            };
            assert_eq!(told, fail_open.then_some(want));
        }
    });
}
