//! An engine with one workload, and peers with identities of their own.

#[path = "../../tests/support/authority.rs"]
mod authority;
#[path = "../../tests/support/ports.rs"]
mod ports;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use rcgen::CertificateParams;
use ringway_engine::{
    Engine, EngineConfig, OriginalSource,
    runtime::{NetNamespace, ReactorChoice},
    snapshot::{
        AuthorizationPolicy, Interner, PolicyAction, PolicyClause, PolicyMatch, PolicyRule,
        PolicyScope, Snapshot, TextMatch, TunnelProtocol, WorkloadDescription,
    },
};
use ringway_protocols::{
    identity::Identity,
    tls::{Credentials, Options},
};

use authority::Authority;
use ports::free_ports;

use crate::peer::Peer;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const UID: &str = "cluster//Pod/shop/web";

pub(crate) struct Mesh {
    pub(crate) engine: Engine,
    snapshot: Mutex<Snapshot>,
    authority: Authority,
    hbone: SocketAddr,
}

impl Mesh {
    pub(crate) fn new(reactor: ReactorChoice) -> Mesh {
        let authority = Authority::new(CertificateParams::default());
        let mut snapshot = Snapshot::new("");
        snapshot.set_credentials(issue(&authority, "web"));
        snapshot.upsert_workload(Interner::new().workload(web()).expect("well described"));

        let ports = free_ports();
        let config = EngineConfig {
            reactor,
            ports,
            packet_mark: None,
            original_source: OriginalSource::Never,
            ipv6: false,
            ..EngineConfig::default()
        };
        let engine = Engine::start(config, snapshot.clone()).expect("an engine");
        let here = NetNamespace::current().expect("our own");
        engine.enroll(UID.into(), here).expect("free ports");
        Mesh {
            engine,
            snapshot: Mutex::new(snapshot),
            authority,
            hbone: (HERE, ports.hbone).into(),
        }
    }

    pub(crate) fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = self.snapshot.lock().expect("one thread");
        change(&mut snapshot);
        self.engine.publish(snapshot.clone());
    }

    /// A tunnel of this service account with so many streams to the application at `port`.
    pub(crate) fn open(&self, account: &str, port: u16, streams: usize) -> Peer {
        let credentials = issue(&self.authority, account);
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

fn issue(authority: &Authority, account: &str) -> Arc<Credentials> {
    authority.issue(&identity(account), CertificateParams::default(), &Options::default())
}
