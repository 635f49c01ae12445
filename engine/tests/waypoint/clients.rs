//! Clients of a gateway that show certificates: who gets in, and what backends are told of them.
//!
//! All listeners are at one port, and have one certificate of their own: what tells them apart is only what they ask of
//! clients.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpStream},
    sync::{Arc, mpsc::Receiver},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use ringway_engine::{GatewayRole, Role, snapshot::AppProtocol};
use ringway_http::model::{
    ClientCertificates, ClientDemand, GatewayName, HostPattern, HttpConfig, Listener, ListenerKey,
    ListenerProtocol, ListenerTls, Parent, Route, RouteKind, RouteName,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer},
};

use crate::{
    application::{Message, ok, serve_http},
    mesh::{Mesh, Plan, connection_record, free_port, on_both, rule, uid},
};

const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// What listeners ask of clients, by the name they are for.
const LISTENERS: [(&str, Option<ClientDemand>); 4] = [
    ("plain.example", None),
    ("valid.example", Some(ClientDemand::Valid)),
    ("none.example", Some(ClientDemand::ValidOrNone)),
    ("any.example", Some(ClientDemand::Anything)),
];

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn client(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).expect("a name");
        let uri = "spiffe://elsewhere/ns/shop/sa/client".try_into().expect("letters");
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("its key"))
    }

    fn pem(&self) -> Arc<[u8]> {
        self.0.pem().into_bytes().into()
    }
}

/// A gateway with all listeners, and who may ask it.
struct Front {
    certificate: CertificateDer<'static>,
    config: HttpConfig,
    role: Role,
    port: u16,
}

impl Front {
    fn new(authorities: &Arc<[u8]>, protocol: ListenerProtocol) -> Self {
        let keys = KeyPair::generate().expect("a key");
        let names = LISTENERS.map(|(name, _)| name.to_owned());
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.self_signed(&keys).expect("a certificate");
        let chain: Arc<[u8]> = certificate.pem().into_bytes().into();
        let key: Arc<[u8]> = keys.serialize_pem().into_bytes().into();
        let gateway = GatewayName { namespace: "shop".into(), name: "front".into() };
        let port = free_port();
        let listeners = LISTENERS.map(|(name, demand)| Listener {
            key: ListenerKey {
                namespace: "shop".into(),
                gateway: "front".into(),
                listener: name.into(),
            },
            port,
            protocol,
            hostname: Some(HostPattern::Exact(name.into())),
            tls: Some(ListenerTls::Terminate {
                certificate_chain: chain.clone(),
                private_key: key.clone(),
                clients: demand
                    .map(|demand| ClientCertificates { authorities: authorities.clone(), demand }),
            }),
        });
        let kind = match protocol {
            ListenerProtocol::Tls => RouteKind::Tls,
            _ => RouteKind::Http,
        };
        let route = Route {
            name: RouteName { kind, namespace: "shop".into(), name: "web".into() },
            parents: listeners.iter().map(|one| Parent::Listener(one.key.clone())).collect(),
            hostnames: Vec::new(),
            rules: vec![rule("/")],
        };
        let config = HttpConfig {
            listeners: listeners.to_vec(),
            routes: vec![route],
            waypoints: vec![(uid("waypoint").into(), gateway.clone())],
            tells_client: vec![gateway.clone()],
            ..HttpConfig::default()
        };
        let role = Role::Gateway(Arc::new(GatewayRole { name: gateway, ports: vec![port] }));
        Self { certificate: certificate.der().clone(), config, role, port }
    }

    fn plan(&self, application: u16) -> Plan {
        Plan::of(application, AppProtocol::Http11)
            .at_gateway(self.role.clone(), self.config.clone())
    }

    /// What is answered to a client that shows this; `None`: its handshake fails.
    fn ask(&self, name: &'static str, shows: Option<&Pair>) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("good");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("some")
            .with_root_certificates(roots);
        let config = match shows {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
                .expect("they belong together"),
        };
        let name_there = name.try_into().expect("a name");
        let session = ClientConnection::new(Arc::new(config), name_there).expect("good");
        let socket = TcpStream::connect((GATEWAY, self.port)).expect("a listener");
        let mut stream = StreamOwned::new(session, socket);
        let head = format!(
            "GET / HTTP/1.1\r\nhost: {name}\r\nx-forwarded-client-cert: forged\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let (mut answer, mut piece) = (String::new(), [0; 4096]);
        while !answer.ends_with("\r\n\r\nin") {
            match stream.read(&mut piece) {
                Ok(count) if count > 0 => {
                    answer += std::str::from_utf8(&piece[..count]).expect("text");
                }
                _ => return None,
            }
        }
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{name}: {answer}");
        Some(answer)
    }
}

/// What came to the application of the last request.
fn told(requests: &Receiver<Message>) -> Option<String> {
    let request = requests.recv().expect("it came");
    request.header("x-forwarded-client-cert").map(str::to_owned)
}

#[test]
fn clients_get_in_by_what_the_listener_asks_of_them() {
    on_both(|reactor| {
        let (ours, stranger) = (Authority::new(), Authority::new());
        let good = ours.client(|_| {});
        let foreign = stranger.client(|_| {});
        let ended = ours.client(|params| params.not_after = date_time_ymd(2021, 1, 1));
        let server_only = ours.client(|params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        });
        let (application, requests) = serve_http(|_, _| ok("in"));
        let front = Front::new(&ours.pem(), ListenerProtocol::Https);
        let mesh = Mesh::start(reactor, &front.plan(application));
        //  what is shown            plain  valid  or none any
        let rows = [
            ("nothing", None, [true, false, true, true]),
            ("a good one", Some(&good), [true, true, true, true]),
            ("of a stranger", Some(&foreign), [true, false, false, true]),
            ("one that has ended", Some(&ended), [true, false, false, true]),
            ("a server's", Some(&server_only), [true, false, false, true]),
        ];
        for (what, shows, want) in rows {
            for ((name, demand), want) in LISTENERS.into_iter().zip(want) {
                assert_eq!(front.ask(name, shows).is_some(), want, "{what} at {name}");
                if !want {
                    let reason = connection_record(&mesh.waypoint).reason.to_string();
                    assert!(reason.contains("tls handshake error"), "{what} at {name}: {reason}");
                    continue;
                }
                // Only what was asked for and holds is told.
                let is_told = demand.is_some() && what == "a good one";
                match told(&requests) {
                    Some(told) => {
                        assert!(is_told, "{what} at {name}: {told}");
                        let by = "By=spiffe://cluster.local/ns/shop/sa/waypoint;Hash=";
                        assert!(told.starts_with(by), "{told}");
                        assert!(
                            told.contains(";Cert=\"-----BEGIN%20CERTIFICATE-----%0A"),
                            "{told}"
                        );
                        let names = ";URI=spiffe://elsewhere/ns/shop/sa/client;DNS=client.example";
                        assert!(told.ends_with(names), "{told}");
                    }
                    None => assert!(!is_told, "{what} at {name}"),
                }
            }
        }
    });
}

#[test]
fn a_change_of_authorities_is_in_force_for_the_next_client() {
    on_both(|reactor| {
        let (old, new) = (Authority::new(), Authority::new());
        let (of_old, of_new) = (old.client(|_| {}), new.client(|_| {}));
        let (application, _requests) = serve_http(|_, _| ok("in"));
        let mut front = Front::new(&old.pem(), ListenerProtocol::Https);
        let mesh = Mesh::start(reactor, &front.plan(application));
        let gets_in = |front: &Front, shows| front.ask("valid.example", Some(shows)).is_some();
        assert!(gets_in(&front, &of_old) && !gets_in(&front, &of_new));

        for listener in &mut front.config.listeners {
            let Some(ListenerTls::Terminate { clients: Some(clients), .. }) = &mut listener.tls
            else {
                continue;
            };
            clients.authorities = new.pem();
        }
        mesh.replan(&front.plan(application));
        // The old one's certificate was believed a moment ago, by the same listener.
        crate::mesh::wait_for(|| gets_in(&front, &of_new).then_some(()));
        assert!(!gets_in(&front, &of_old));
    });
}

/// Whoever is behind a listener that ends TLS of what is no HTTP hears of nobody who was refused.
#[test]
fn nothing_is_dialled_for_a_client_that_is_refused() {
    on_both(|reactor| {
        let ours = Authority::new();
        let good = ours.client(|_| {});
        let (application, requests) = serve_http(|_, _| ok("in"));
        let front = Front::new(&ours.pem(), ListenerProtocol::Tls);
        let mesh = Mesh::start(reactor, &front.plan(application));
        assert!(front.ask("valid.example", None).is_none());
        let record = connection_record(&mesh.waypoint);
        assert!(record.reason.to_string().contains("tls handshake error"), "{:?}", record.reason);
        assert!(mesh.server.telemetry().next_record().is_none(), "nothing came there");
        assert!(front.ask("valid.example", Some(&good)).is_some());
        assert_eq!(told(&requests).as_deref(), Some("forged"), "it is no HTTP here");
    });
}
