//! A server's session under a peer that alters, cuts and invents what a good client sends.
#![no_main]

use std::sync::{Arc, LazyLock};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::*;

static PAIR: LazyLock<(Arc<Credentials>, Arc<Credentials>)> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let issue = |account| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            vec![SanType::URI(identity(account).to_string().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &root).unwrap();
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: key.serialize_der().try_into().unwrap(),
            trust_anchors: vec![root.der().clone()],
        };
        Arc::new(Credentials::new(material, &Options::default()).unwrap())
    };
    (issue("a"), issue("b"))
});

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "fuzz", account).unwrap()
}

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    /// The client goes on, and so many of its bytes get through.
    Client(u16),
    /// A byte under way is altered.
    Alter(u16, u8),
    /// Bytes from nowhere.
    Invent(&'a [u8]),
}

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut client = Handshake::client(&PAIR.0, [identity("b")].into()).unwrap();
    let mut server = Handshake::server(&PAIR.1).unwrap();
    let (mut to_server, mut at_server) = (Vec::new(), Vec::new());
    let mut to_client = Vec::new();
    for step in steps.iter().take(32) {
        match step {
            Step::Client(bytes) => {
                let _ = client.advance(&mut to_client, &mut to_server);
                let bytes = usize::from(*bytes).min(to_server.len());
                at_server.extend(to_server.drain(..bytes));
            }
            Step::Alter(at, with) => {
                if let Some(byte) = at_server.get_mut(usize::from(*at)) {
                    *byte ^= with;
                }
            }
            Step::Invent(bytes) => at_server.extend_from_slice(bytes),
        }
        match server.advance(&mut at_server, &mut to_client) {
            Ok(Progress::NeedsInput) => {}
            Ok(Progress::Complete) => break,
            Err(_) => return,
        }
    }
    let Ok(mut records) = server.finish() else { return };
    assert_eq!(records.peer(), Some(&identity("a")), "nobody else is let in");
    let mut received = at_server;
    while let Ok(opened) = records.open(&mut received) {
        match opened {
            Opened::Incomplete { .. } | Opened::Closed { .. } => return,
            Opened::Data { consumed, plaintext } => {
                assert!(plaintext.end <= consumed);
                received.drain(..consumed);
            }
            Opened::Control { consumed } => drop(received.drain(..consumed)),
        }
    }
});
