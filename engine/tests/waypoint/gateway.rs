//! Gateways: plain listeners, and TLS that ends there.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::Arc,
    thread,
};

use rcgen::{CertificateParams, KeyPair};
use ringway_engine::{GatewayRole, Role, snapshot::AppProtocol};
use ringway_http::model::{
    GatewayName, HostPattern, HttpConfig, Listener, ListenerKey, ListenerProtocol, ListenerTls,
    Parent, Route, RouteKind, RouteName,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::{
    application::{Client, ok, serve_http},
    mesh::{Mesh, Plan, free_port, on_both, rule},
};

pub(crate) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn key(listener: &str) -> ListenerKey {
    ListenerKey { namespace: "shop".into(), gateway: "front".into(), listener: listener.into() }
}

/// For all hosts, and without TLS.
pub(crate) fn listener(name: &str, protocol: ListenerProtocol) -> Listener {
    Listener { key: key(name), port: free_port(), protocol, hostname: None, tls: None }
}

pub(crate) fn gateway(listener: Listener) -> (Role, HttpConfig) {
    let name = GatewayName { namespace: "shop".into(), name: "front".into() };
    let role = GatewayRole { name, ports: vec![listener.port] };
    let route = Route {
        name: RouteName { kind: RouteKind::Http, namespace: "shop".into(), name: "web".into() },
        parents: vec![Parent::Listener(listener.key.clone())],
        hostnames: Vec::new(),
        rules: vec![rule("/")],
    };
    let config =
        HttpConfig { listeners: vec![listener], routes: vec![route], ..HttpConfig::default() };
    (Role::Gateway(Arc::new(role)), config)
}

/// A listener that ends TLS, and clients that trust it.
pub(crate) struct Https {
    pub(crate) listener: Listener,
    client: Arc<ClientConfig>,
}

impl Https {
    /// For this host, whose clients offer these protocols.
    pub(crate) fn of(host: &str, protocols: &[&[u8]]) -> Self {
        let keys = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        let certificate = params.self_signed(&keys).expect("a certificate");
        let tls = ListenerTls::Terminate {
            certificate_chain: certificate.pem().into_bytes().into(),
            private_key: keys.serialize_pem().into_bytes().into(),
            clients: None,
        };
        let listener = Listener {
            hostname: Some(HostPattern::Exact(host.into())),
            tls: Some(tls),
            ..listener("https", ListenerProtocol::Https)
        };
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).expect("good");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("some")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = protocols.iter().map(|one| one.to_vec()).collect();
        Self { listener, client: Arc::new(client) }
    }

    /// A client's connection, which asks for this name.
    pub(crate) fn connect(&self, name: &'static str) -> StreamOwned<ClientConnection, TcpStream> {
        let name = name.try_into().expect("a name");
        let session = ClientConnection::new(self.client.clone(), name).expect("good");
        let at = (GATEWAY, self.listener.port);
        StreamOwned::new(session, TcpStream::connect(at).expect("a listener"))
    }
}

#[test]
fn a_plain_listener_lets_clients_into_the_mesh() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, _| ok("in"));
        let (protocol, hostname) = (ListenerProtocol::Http, Some(HostPattern::Exact("web".into())));
        let listener =
            Listener { key: key("http"), port: free_port(), protocol, hostname, tls: None };
        let at = (GATEWAY, listener.port);
        let (role, config) = gateway(listener);
        let plan = Plan::of(port, AppProtocol::Http11).at_gateway(role, config);
        let mesh = Mesh::start(reactor, &plan);
        let mut client = Client::new(TcpStream::connect(at).expect("a listener"));
        client.send("GET / HTTP/1.1\r\nhost: web\r\nx-forwarded-for: 192.0.2.1\r\n\r\n");
        assert_eq!(client.receive().text(), "in");
        let request = requests.recv().expect("it came");
        assert_eq!(request.header("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"));
        assert_eq!(request.header("x-forwarded-proto"), Some("http"));
        client.send("GET / HTTP/1.1\r\nhost: other\r\n\r\n");
        assert_eq!(client.receive().status(), 404, "it is nobody's host");
        let record = mesh.record();
        assert!(!record.mutual_tls && record.source.identity.is_none());
        assert_eq!(
            record
                .destination
                .and_then(|party| party.workload)
                .map(|it| it.name().to_owned())
                .as_deref(),
            Some("server")
        );
    });
}

/// RFC 9112 §9.6. Over a socket: who closes it with bytes unread takes the answer back.
#[test]
fn who_is_refused_while_he_sends_is_told_why_and_then_cut() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("in"));
        let listener = listener("http", ListenerProtocol::Http);
        let at = (GATEWAY, listener.port);
        let (role, config) = gateway(listener);
        let plan = Plan::of(port, AppProtocol::Http11).at_gateway(role, config);
        let mesh = Mesh::start(reactor, &plan);

        let mut refused = Client::new(TcpStream::connect(at).expect("a listener"));
        let mut sending = refused.stream.try_clone().expect("a descriptor");
        let sends = thread::spawn(move || {
            sending.write_all(b"GET / HTTP/1.1\r\nhost: web\r\nx: ").expect("room");
            while sending.write_all(&[b'x'; 16 << 10]).is_ok() {}
        });
        assert_eq!(refused.receive().status(), 431);
        assert_eq!((mesh.record().code, refused.is_over()), (431, true));
        let mut other = Client::new(TcpStream::connect(at).expect("a listener"));
        assert_eq!(other.get("/").text(), "in", "others are served meanwhile");
        sends.join().expect("what is sent without end is cut");
    });
}

#[test]
fn tls_ends_at_the_listener_of_its_server_name() {
    on_both(|reactor| {
        let (port, requests) = serve_http(|_, request| ok(request.text()));
        let https = Https::of("web.example", &[]);
        let (role, config) = gateway(https.listener.clone());
        let plan = Plan::of(port, AppProtocol::Http11).at_gateway(role, config);
        let mesh = Mesh::start(reactor, &plan);

        let mut stream = https.connect("web.example");
        let body = vec![b'x'; 1 << 20];
        let head = format!(
            "POST / HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("room");
        stream.write_all(&body).expect("room");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an end in order");
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(&body));
        assert_eq!(requests.recv().expect("it came").header("x-forwarded-proto"), Some("https"));
        assert_eq!(mesh.record().server_name.as_deref(), Some("web.example"));

        let mut stream = https.connect("other.example");
        assert!(stream.write_all(b"GET / HTTP/1.1\r\n\r\n").is_err(), "no listener is for it");
    });
}

/// What is open on a port that goes stays open, and nobody new gets in there.
#[test]
fn ports_come_and_go_without_a_restart() {
    on_both(|reactor| {
        let (port, _requests) = serve_http(|_, _| ok("in"));
        let plain = |name: &str| Listener {
            key: key(name),
            port: free_port(),
            protocol: ListenerProtocol::Http,
            hostname: None,
            tls: None,
        };
        let (old, new) = (plain("old"), plain("new"));
        let [at_old, at_new] = [old.port, new.port].map(|port| (GATEWAY, port));
        let (role, mut config) = gateway(old);
        config.routes[0].parents.push(Parent::Listener(new.key.clone()));
        config.listeners.push(new);
        let mesh =
            Mesh::start(reactor, &Plan::of(port, AppProtocol::Http11).at_gateway(role, config));
        let connect = |at| TcpStream::connect(at).map(Client::new);
        let mut open = connect(at_old).expect("a listener");
        assert_eq!(open.get("/").text(), "in");
        assert!(connect(at_new).is_err(), "not yet");

        let uid = mesh.waypoint.enrolled().remove(0);
        mesh.waypoint.listen_on(&uid, &[at_old.1, at_new.1]).expect("a free port");
        assert_eq!(connect(at_new).expect("a listener").get("/").text(), "in");
        assert_eq!(connect(at_old).expect("a listener").get("/").text(), "in");

        mesh.waypoint.listen_on(&uid, &[at_new.1]).expect("nothing new");
        assert_eq!(open.get("/").text(), "in", "it is open");
        assert_eq!(connect(at_new).expect("a listener").get("/").text(), "in");
        assert!(connect(at_old).is_err(), "it has gone");

        let taken = std::net::TcpListener::bind((GATEWAY, 0)).expect("a port");
        let ports = [at_new.1, taken.local_addr().expect("bound").port()];
        let refused = mesh.waypoint.listen_on(&uid, &ports).expect_err("it is somebody's");
        assert_eq!(refused.port, ports[1]);
        assert_eq!(connect(at_new).expect("a listener").get("/").text(), "in", "as it was");
    });
}
