//! TLS from a waypoint to a backend, inside the tunnel to the backend's node.

use std::{
    io::{BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, channel},
    },
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use ringway_engine::{
    close::{BackendTls, CloseReason},
    snapshot::AppProtocol,
    telemetry::http::ResponseFlag,
};
use ringway_http::model::{
    policy::{Attached, Policies, PolicyName, Target},
    traffic::{
        AlternativeName, Belief, ClientCertificate, TlsOrigination, TlsSettings, TrafficPolicy,
    },
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::{
    application::{Client, ok, read_message, serve},
    mesh::{Mesh, Plan, connection_record, on_both, wait_for, web},
};

const NAME: &str = "secure.example";

/// Signs for servers and clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
struct Shown {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a root"))
    }

    fn sign(&self, name: &str, until: i32) -> Shown {
        self.sign_as(name, until, 1)
    }

    fn sign_as(&self, name: &str, until: i32, serial: u64) -> Shown {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let chain = params.signed_by(&key, &self.0).expect("signed").pem();
        Shown { chain, key: key.serialize_pem() }
    }

    /// Its list of one certificate that counts no more, in PEM.
    fn revoke(&self, serial: u64) -> String {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2024, 2, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).expect("signed").pem().expect("a list")
    }

    /// What a policy says that believes whom it has signed for.
    fn believed(&self, belief: Belief) -> TlsSettings {
        let authorities = self.0.pem().into_bytes().into();
        let (server_name, revoked) = (NAME.into(), None);
        TlsSettings { server_name, authorities, revoked, belief, client: None }
    }
}

/// What a server has seen of a session.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    server_name: Option<String>,
    protocol: Option<String>,
    has_client_certificate: bool,
}

fn server_config(shown: &Shown, protocols: &[&str], clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("some");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.0.der().clone()).expect("good");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("good"))
        }
    };
    let chain = CertificateDer::pem_slice_iter(shown.chain.as_bytes());
    let chain = chain.collect::<Result<_, _>>().expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).expect("PEM");
    let mut config = builder.with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

type Session = StreamOwned<ServerConnection, TcpStream>;

/// Serves TLS: `each` gets a session whose handshake is complete. Returns the port, and what each connection was like;
/// none: its handshake failed.
fn serve_tls(
    config: ServerConfig,
    each: impl Fn(usize, &mut Session) + Send + Sync + 'static,
) -> (u16, Receiver<Option<Seen>>) {
    let (told, seen) = channel();
    let (told, config) = (Mutex::new(told), Arc::new(config));
    let port = serve(move |number, mut stream| {
        let mut session = ServerConnection::new(config.clone()).expect("good");
        let mut complete = true;
        while session.is_handshaking() && complete {
            complete = session.complete_io(&mut stream).is_ok();
        }
        let seen = complete.then(|| Seen {
            server_name: session.server_name().map(str::to_owned),
            protocol: session
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            has_client_certificate: session.peer_certificates().is_some(),
        });
        let _ = told.lock().expect("whole").send(seen);
        if complete {
            let mut session = StreamOwned::new(session, stream);
            each(number, &mut session);
            session.conn.send_close_notify();
            let _ = session.flush();
        }
    });
    (port, seen)
}

/// Answers each request with its body, and with the number of the connection it came by.
fn http(number: usize, session: &mut Session) {
    let mut reader = BufReader::new(session);
    while let Some(request) = read_message(&mut reader, false) {
        let answer = ok(&format!("{number}{}", request.text()));
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The service, with TLS to it.
fn under(tls: Option<TlsOrigination>, plan: Plan) -> Plan {
    let name = PolicyName { namespace: "shop".into(), name: "web".into() };
    let targets = vec![Target::Service { service: web(), port: None }];
    let policy = TrafficPolicy { tls, ..TrafficPolicy::default() };
    plan.under(Policies {
        traffic: vec![Attached { name, targets, policy }],
        ..Policies::default()
    })
}

fn by(settings: TlsSettings) -> Option<TlsOrigination> {
    Some(TlsOrigination::By(Arc::new(settings)))
}

/// How often a waypoint says that TLS failed for a reason.
fn failures(mesh: &Mesh, reason: &str) -> u64 {
    let all = mesh.waypoint.telemetry().http().backend_tls_failures();
    all.into_iter().find(|(name, _)| *name == reason).expect("a reason").1
}

#[test]
fn requests_go_inside_tls_and_share_connections() {
    on_both(|reactor| {
        let authority = Authority::new();
        let shown = authority.sign(NAME, 2040);
        for protocol in [AppProtocol::Http11, AppProtocol::Unknown] {
            let config = server_config(&shown, &["h2", "http/1.1"], None);
            let (port, seen) = serve_tls(config, http);
            let tls = by(authority.believed(Belief::ServerName));
            let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, protocol)));
            let mut client = Client::new(mesh.connect(80));
            assert_eq!(client.get("/").text(), "0");
            let want = Seen {
                server_name: Some(NAME.to_owned()),
                protocol: Some("http/1.1".to_owned()),
                has_client_certificate: false,
            };
            assert_eq!(seen.recv().expect("it came"), Some(want));
            let body = "x".repeat(1 << 20);
            client.send(&format!(
                "POST / HTTP/1.1\r\nhost: web\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
            assert_eq!(client.receive().text(), format!("0{body}"));
            let mut other = Client::new(mesh.connect(80));
            assert_eq!(other.get("/").text(), "0", "it is kept for whoever comes next");
        }
    });
}

#[test]
fn what_is_declared_to_be_http2_is_offered_as_that() {
    on_both(|reactor| {
        let authority = Authority::new();
        let config = server_config(&authority.sign(NAME, 2040), &["http/1.1", "h2"], None);
        let (told, prefaces) = channel();
        let told = Mutex::new(told);
        let (port, seen) = serve_tls(config, move |_, session| {
            let mut preface = [0; 24];
            session.read_exact(&mut preface).expect("a preface");
            let _ = told.lock().expect("whole").send(preface);
        });
        let tls = by(authority.believed(Belief::ServerName));
        let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Http2)));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").status(), 503, "it says no more than that it is there");
        let seen = seen.recv().expect("it came").expect("a session");
        assert_eq!(seen.protocol.as_deref(), Some("h2"));
        assert_eq!(&prefaces.recv().expect("one"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    });
}

#[test]
fn a_server_that_is_not_believed_gets_no_request() {
    on_both(|reactor| {
        let (ours, stranger) = (Authority::new(), Authority::new());
        let names = |name: &str| Belief::OneOf(vec![AlternativeName::read(name)]);
        let server = Belief::ServerName;
        //  name                  signed by   for              until  belief                      reason
        let rows = [
            ("its name", &ours, NAME, 2040, server.clone(), None),
            ("another name", &ours, "other.example", 2040, server.clone(), Some("untrusted")),
            ("another authority", &stranger, NAME, 2040, server.clone(), Some("untrusted")),
            ("past its end", &ours, NAME, 2020, server, Some("untrusted")),
            ("a name that is wanted", &ours, "b.example", 2040, names("b.example"), None),
            ("none that is wanted", &ours, NAME, 2040, names("b.example"), Some("untrusted")),
            ("any name", &ours, "b.example", 2040, Belief::AnyName, None),
            ("any name, by another", &stranger, NAME, 2040, Belief::AnyName, Some("untrusted")),
            ("anybody", &stranger, "b.example", 2020, Belief::Anybody, None),
        ];
        for (name, signer, of, until, belief, reason) in rows {
            let config = server_config(&signer.sign(of, until), &[], None);
            let (port, seen) = serve_tls(config, http);
            let tls = by(ours.believed(belief));
            let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Http11)));
            let answer = Client::new(mesh.connect(80)).get("/");
            let record = mesh.record();
            assert_eq!(seen.recv().expect("it came").is_some(), reason.is_none(), "{name}");
            let Some(reason) = reason else {
                assert_eq!(answer.status(), 200, "{name}");
                continue;
            };
            assert_eq!(answer.status(), 503, "{name}");
            assert!(record.flags.has(ResponseFlag::UpstreamConnectionFailure), "{name}");
            assert_eq!(
                record.details,
                "upstream_reset_before_response_started{remote_connection_failure|TLS_error}",
                "{name}"
            );
            let why = record.upstream_failure.expect("it says why");
            assert!(why.starts_with("backend tls error: "), "{name}: {why}");
            assert!(failures(&mesh, reason) > 0, "{name}");
        }
    });
}

#[test]
fn what_is_no_server_is_told_apart() {
    on_both(|reactor| {
        let authority = Authority::new();
        let tls = || by(authority.believed(Belief::ServerName));
        let closes = serve(|_, stream| drop(stream));
        let hears = serve(|_, mut stream| {
            let mut hello = [0; 64];
            let _ = stream.read(&mut hello);
            let _ = stream.shutdown(Shutdown::Both);
        });
        let plain = serve(|_, mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let rows = [
            ("closes", closes, "cut"),
            ("closes later", hears, "cut"),
            ("plain", plain, "handshake"),
        ];
        for (name, port, reason) in rows {
            let mesh = Mesh::start(reactor, &under(tls(), Plan::of(port, AppProtocol::Http11)));
            assert_eq!(Client::new(mesh.connect(80)).get("/").status(), 503, "{name}");
            let why = mesh.record().upstream_failure.expect("it says why");
            assert!(why.starts_with("backend tls error: "), "{name}: {why}");
            assert!(failures(&mesh, reason) > 0, "{name}: {why}");
        }
    });
}

#[test]
fn a_server_whose_certificate_was_revoked_gets_no_request() {
    on_both(|reactor| {
        let ours = Authority::new();
        //  name          list             reason
        let rows =
            [("in it", ours.revoke(7), Some("untrusted")), ("another is", ours.revoke(8), None)];
        for (name, list, reason) in rows {
            let (port, seen) =
                serve_tls(server_config(&ours.sign_as(NAME, 2040, 7), &[], None), http);
            let revoked = Some(list.into_bytes().into());
            let tls = by(TlsSettings { revoked, ..ours.believed(Belief::ServerName) });
            let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Http11)));
            let answer = Client::new(mesh.connect(80)).get("/");
            assert_eq!(seen.recv().expect("it came").is_some(), reason.is_none(), "{name}");
            assert_eq!(answer.status(), if reason.is_some() { 503 } else { 200 }, "{name}");
            let why = mesh.record().upstream_failure;
            let told = why.as_deref().is_some_and(|why| why.contains("Revoked"));
            assert_eq!(told, reason.is_some(), "{name}: {why:?}");
            assert!(reason.is_none_or(|reason| failures(&mesh, reason) > 0), "{name}");
        }
    });
}

/// Nothing is dialled, and above all nothing is sent in the clear.
#[test]
fn settings_that_cannot_be_used_close_the_backend() {
    on_both(|reactor| {
        let (told, connections) = channel();
        let told = Mutex::new(told);
        let port = serve(move |number, _stream| {
            let _ = told.lock().expect("whole").send(number);
        });
        let nobody = TlsSettings {
            server_name: NAME.into(),
            authorities: Arc::from(&b""[..]),
            revoked: None,
            belief: Belief::ServerName,
            client: None,
        };
        for tls in [Some(TlsOrigination::Broken("there is no ConfigMap".into())), by(nobody)] {
            let plan = under(tls, Plan::of(port, AppProtocol::Http11));
            let mesh = Mesh::start(reactor, &plan);
            assert_eq!(Client::new(mesh.connect(80)).get("/").status(), 503);
            assert!(mesh.record().flags.has(ResponseFlag::UpstreamConnectionFailure));
            assert_eq!(failures(&mesh, "unusable"), 1, "another endpoint would be no better");
        }
        assert!(connections.try_recv().is_err(), "nobody was dialled");
    });
}

#[test]
fn a_connection_is_for_the_settings_it_was_made_with() {
    on_both(|reactor| {
        let (ours, stranger) = (Authority::new(), Authority::new());
        let config = server_config(&ours.sign(NAME, 2040), &[], None);
        let (port, _seen) = serve_tls(config, http);
        let plan = |tls| under(tls, Plan::of(port, AppProtocol::Http11));
        let right = || by(ours.believed(Belief::ServerName));
        let mesh = Mesh::start(reactor, &plan(right()));
        let mut client = Client::new(mesh.connect(80));
        assert_eq!(client.get("/").text(), "0");
        mesh.replan(&plan(right()));
        assert_eq!(client.get("/").text(), "0", "it says what it said before");
        let mut until = |served: bool| {
            wait_for(|| ((client.get("/").status() == 200) == served).then_some(()));
        };
        mesh.replan(&plan(by(stranger.believed(Belief::ServerName))));
        until(false);
        mesh.replan(&plan(right()));
        until(true);
        // In the clear it does not speak to anybody.
        mesh.replan(&plan(None));
        until(false);
        mesh.replan(&plan(right()));
        until(true);
    });
}

#[test]
fn a_server_that_asks_is_shown_who_we_are() {
    on_both(|reactor| {
        let authority = Authority::new();
        let own = authority.sign("waypoint.example", 2040);
        let config = || server_config(&authority.sign(NAME, 2040), &[], Some(&authority));
        let client = ClientCertificate {
            chain: own.chain.into_bytes().into(),
            key: own.key.into_bytes().into(),
        };
        for (client, status) in [(Some(client), 200), (None, 503)] {
            let (port, seen) = serve_tls(config(), http);
            let settings = TlsSettings { client, ..authority.believed(Belief::ServerName) };
            let plan = under(by(settings), Plan::of(port, AppProtocol::Http11));
            let mesh = Mesh::start(reactor, &plan);
            assert_eq!(Client::new(mesh.connect(80)).get("/").status(), status);
            let seen = seen.recv().expect("it came");
            assert_eq!(seen.is_some_and(|seen| seen.has_client_certificate), status == 200);
        }
    });
}

#[test]
fn connections_that_are_no_http_go_inside_tls_too() {
    on_both(|reactor| {
        let authority = Authority::new();
        let config = server_config(&authority.sign(NAME, 2040), &["anything"], None);
        let (port, seen) = serve_tls(config, |_, session| {
            session.write_all(b"220 welcome\r\n").expect("room");
            let mut said = Vec::new();
            session.read_to_end(&mut said).expect("an end that TLS says");
            session.write_all(&said).expect("a half-closed session is not closed");
        });
        let tls = by(authority.believed(Belief::ServerName));
        let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Tcp)));
        let mut client = mesh.connect(80);
        let mut welcome = [0; 13];
        client.read_exact(&mut welcome).expect("the server speaks first");
        assert_eq!(&welcome, b"220 welcome\r\n");
        let body = vec![b'y'; 1 << 20];
        client.write_all(&body).expect("room");
        client.shutdown(Shutdown::Write).expect("open");
        let mut echo = Vec::new();
        client.read_to_end(&mut echo).expect("half-closed is not closed");
        assert_eq!(echo, body);
        let record = connection_record(&mesh.waypoint);
        assert!(matches!(record.reason, CloseReason::Finished), "{}", record.reason);
        let seen = seen.recv().expect("it came").expect("a session");
        assert_eq!((seen.server_name.as_deref(), seen.protocol), (Some(NAME), None));

        let wrong = TlsSettings {
            server_name: "other.example".into(),
            ..authority.believed(Belief::ServerName)
        };
        mesh.replan(&under(by(wrong), Plan::of(port, AppProtocol::Tcp)));
        // What was begun before the change ends as it likes.
        let reason = wait_for(|| {
            let _ = mesh.connect(80).read(&mut [0; 13]);
            let reason = connection_record(&mesh.waypoint).reason;
            matches!(reason, CloseReason::BackendTls(BackendTls::Handshake(_))).then_some(reason)
        });
        assert_eq!(reason.response_flag(), "TLS_FAILURE");
    });
}

/// TLS inside TLS is what nobody means: a port that is declared to speak it is spoken to by its clients.
#[test]
fn what_is_tls_already_goes_as_it_is() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| {
            let mut said = [0; 5];
            stream.read_exact(&mut said).expect("five bytes");
            stream.write_all(&said).expect("room");
        });
        let tls = Some(TlsOrigination::Broken("nobody is to ask".into()));
        let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Tls)));
        let mut client = mesh.connect(80);
        client.write_all(&[22, 3, 1, 0, 1]).expect("room");
        let mut echo = [0; 5];
        client.read_exact(&mut echo).expect("it passed");
        assert_eq!(echo, [22, 3, 1, 0, 1]);
    });
}

/// The deadline of handshakes, and no other: the backend takes the connection, and says nothing.
#[test]
fn a_server_that_never_answers_the_handshake_is_given_up() {
    on_both(|reactor| {
        let port = serve(|_, mut stream| drop(stream.read_to_end(&mut Vec::new())));
        let tls = by(Authority::new().believed(Belief::ServerName));
        let mesh = Mesh::start(reactor, &under(tls, Plan::of(port, AppProtocol::Tcp)));
        let mut client = mesh.connect(80);
        assert!(!matches!(client.read(&mut [0; 1]), Ok(1..)), "nothing comes of it");
        let reason = connection_record(&mesh.waypoint).reason;
        assert!(matches!(reason, CloseReason::BackendTls(BackendTls::TimedOut)), "{reason}");
        assert_eq!(failures(&mesh, "timed_out"), 1);
    });
}
