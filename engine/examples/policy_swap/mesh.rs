//! An engine with one workload, and peers with identities of their own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
};

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use ringway_engine::{
    Engine, EngineConfig, OriginalSource, Ports,
    runtime::{NetNamespace, ReactorChoice},
    snapshot::{
        AuthorizationPolicy, Interner, PolicyAction, PolicyClause, PolicyMatch, PolicyRule,
        PolicyScope, Snapshot, TextMatch, TunnelProtocol, WorkloadDescription,
    },
};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Material, Options},
};
use rustls_pki_types::PrivateKeyDer;

use crate::peer::Peer;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const UID: &str = "cluster//Pod/shop/web";

pub(crate) struct Mesh {
    pub(crate) engine: Engine,
    snapshot: Mutex<Snapshot>,
    issuer: CertifiedIssuer<'static, KeyPair>,
    hbone: SocketAddr,
}

impl Mesh {
    pub(crate) fn new(reactor: ReactorChoice) -> Mesh {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a root");
        let mut snapshot = Snapshot::new("");
        snapshot.set_credentials(issue(&issuer, &identity("web")));
        snapshot.upsert_workload(Interner::new().workload(web()).expect("well described"));

        let [outbound, inbound_plaintext, hbone] = free_ports();
        let config = EngineConfig {
            reactor,
            ports: Ports { outbound, inbound_plaintext, hbone, ..Ports::default() },
            packet_mark: None,
            original_source: OriginalSource::Never,
            ipv6: false,
            ..EngineConfig::default()
        };
        let engine = Engine::start(config, snapshot.clone()).expect("an engine");
        let here = NetNamespace::current().expect("our own");
        engine.enroll(UID.into(), here).expect("free ports");
        Mesh { engine, snapshot: Mutex::new(snapshot), issuer, hbone: (HERE, hbone).into() }
    }

    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.lock().expect("one thread");
        change(&mut snapshot);
        self.engine.publish(snapshot.clone());
    }

    /// A tunnel of this service account with so many streams to the application at `port`.
    pub(crate) fn open(&self, account: &str, port: u16, streams: usize) -> Peer {
        let credentials = issue(&self.issuer, &identity(account));
        Peer::connect(self.hbone, &credentials, identity("web"), (HERE, port).into(), streams)
    }
}

/// Denies a service account what is in a namespace.
pub(crate) fn deny(namespace: &str, account: &str) -> AuthorizationPolicy {
    let principal = format!("cluster.local/ns/shop/sa/{account}");
    let whom = PolicyMatch {
        principals: vec![TextMatch::Exact(principal.into())],
        ..PolicyMatch::default()
    };
    AuthorizationPolicy {
        name: "no".into(),
        namespace: namespace.into(),
        scope: PolicyScope::Namespace,
        action: PolicyAction::Deny,
        rules: vec![PolicyRule { clauses: vec![PolicyClause { matches: vec![whom] }] }],
        dry_run: false,
    }
}

fn web() -> WorkloadDescription {
    WorkloadDescription {
        uid: UID.to_owned(),
        name: "web".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "web".to_owned(),
        addresses: vec![HERE],
        protocol: TunnelProtocol::Hbone,
        ..WorkloadDescription::default()
    }
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).expect("a good name")
}

fn issue(issuer: &CertifiedIssuer<'static, KeyPair>, identity: &Identity) -> Arc<Credentials> {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let uri = identity.to_string().try_into().expect("an ASCII identity");
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf = params.signed_by(&key, issuer).expect("a leaf");
    let material = Material {
        chain: vec![leaf.der().clone()],
        key: PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS #8"),
        trust_anchors: vec![issuer.der().clone()],
    };
    Arc::new(Credentials::new(material, &Options::default()).expect("good material"))
}

fn free_ports() -> [u16; 3] {
    let held = [(); 3].map(|()| TcpListener::bind((HERE, 0)).expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").port())
}
