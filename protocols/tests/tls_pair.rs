//! Two of our own sessions, with no network between them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use ringway_protocols::{
    identity::Identity,
    tls::{
        Credentials, Handshake, Material, Opened, Options, Progress, RECORD_HEADER_BYTES,
        RECORD_TRAILER_BYTES, Records,
    },
};
use rustls_pki_types::PrivateKeyDer;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, identity: &Identity) -> Arc<Credentials> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let material = Material {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            trust_anchors: vec![self.0.der().clone()],
        };
        Arc::new(Credentials::new(material, &Options::default()).unwrap())
    }
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

/// Shakes hands, handing over `cut` bytes at a time.
fn shake(
    mut client: Handshake,
    mut server: Handshake,
    cut: usize,
) -> Result<(Records, Records), String> {
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    let mut done = (false, false);
    for _ in 0..100_000 {
        if !done.0 {
            done.0 = client
                .advance(&mut at_client, &mut to_server)
                .map_err(|e| format!("client: {e}"))?
                == Progress::Complete;
        }
        if !done.1 {
            done.1 = server
                .advance(&mut at_server, &mut to_client)
                .map_err(|e| format!("server: {e}"))?
                == Progress::Complete;
        }
        if done == (true, true) && to_server.is_empty() {
            let mut client = client.finish().unwrap();
            at_client.append(&mut to_client);
            while !at_client.is_empty() {
                match client.open(&mut at_client).unwrap() {
                    Opened::Control { consumed } => drop(at_client.drain(..consumed)),
                    other => panic!("{other:?}"),
                }
            }
            return Ok((client, server.finish().unwrap()));
        }
        at_server.extend(to_server.drain(..cut.min(to_server.len())));
        at_client.extend(to_client.drain(..cut.min(to_client.len())));
    }
    panic!("the handshake does not end");
}

fn send(from: &mut Records, to: &mut Records, text: &[u8]) {
    let mut record = vec![0; RECORD_HEADER_BYTES];
    record.extend_from_slice(text);
    record.resize(record.len() + RECORD_TRAILER_BYTES, 0);
    from.seal(&mut record).unwrap();
    match to.open(&mut record).unwrap() {
        Opened::Data { consumed, plaintext } => {
            assert_eq!(consumed, record.len());
            assert_eq!(&record[plaintext], text);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_session_is_made_however_the_bytes_are_cut() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    for cut in [1, 2, 5, 7, 100, 1 << 20] {
        let expected: Arc<[Identity]> = [identity("x"), identity("b")].into();
        let client = Handshake::client(&a, expected).unwrap();
        let server = Handshake::server(&b).unwrap();
        let (mut client, mut server) = shake(client, server, cut).unwrap();
        assert_eq!(client.peer(), Some(&identity("b")));
        assert_eq!(server.peer(), Some(&identity("a")));
        send(&mut client, &mut server, b"hello");
        send(&mut server, &mut client, &[7; 16_384]);
    }
}

#[test]
fn a_server_that_is_somebody_else_is_refused() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    let client = Handshake::client(&a, [identity("c")].into()).unwrap();
    let refused = shake(client, Handshake::server(&b).unwrap(), 1 << 20).err().unwrap();
    assert!(refused.contains("spiffe://cluster.local/ns/shop/sa/b"), "{refused}");
}

#[test]
fn a_client_of_another_root_is_refused() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let client = Handshake::client(&theirs.issue(&identity("a")), [identity("b")].into()).unwrap();
    let server = Handshake::server(&ours.issue(&identity("b"))).unwrap();
    assert!(shake(client, server, 1 << 20).is_err());
}

#[test]
fn a_second_session_is_resumed_with_the_same_peer() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    let mut resumed = Vec::new();
    for _ in 0..3 {
        let client = Handshake::client(&a, [identity("b")].into()).unwrap();
        let (client, server) = shake(client, Handshake::server(&b).unwrap(), 1 << 20).unwrap();
        assert_eq!(client.peer(), Some(&identity("b")));
        assert_eq!(server.peer(), Some(&identity("a")));
        resumed.push(client.resumed());
    }
    assert_eq!(resumed, [false, true, true]);
}

#[test]
fn data_that_comes_with_the_end_of_the_handshake_is_left_to_the_records() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    let mut client = Handshake::client(&a, [identity("b")].into()).unwrap();
    let mut server = Handshake::server(&b).unwrap();
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    assert_eq!(client.advance(&mut Vec::new(), &mut to_server).unwrap(), Progress::NeedsInput);
    assert_eq!(server.advance(&mut to_server, &mut to_client).unwrap(), Progress::NeedsInput);
    assert_eq!(client.advance(&mut to_client, &mut to_server).unwrap(), Progress::Complete);
    let mut client = client.finish().unwrap();
    let mut record = vec![0; RECORD_HEADER_BYTES];
    record.extend_from_slice(b"at once");
    record.resize(record.len() + RECORD_TRAILER_BYTES, 0);
    client.seal(&mut record).unwrap();
    to_server.extend_from_slice(&record);

    assert_eq!(server.advance(&mut to_server, &mut to_client).unwrap(), Progress::Complete);
    let mut server = server.finish().unwrap();
    match server.open(&mut to_server).unwrap() {
        Opened::Data { plaintext, .. } => assert_eq!(&to_server[plaintext], b"at once"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_is_refused_is_told_by_an_alert() {
    let authority = Authority::new();
    let b = authority.issue(&identity("b"));
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[22, 3, 1, 0, 4, 1, 0, 0, 0], &[23, 3, 3, 0, 1, 0]]
    {
        let mut server = Handshake::server(&b).unwrap();
        let mut to_send = Vec::new();
        server.advance(&mut garbage.to_vec(), &mut to_send).unwrap_err();
        assert_eq!(to_send.first(), Some(&21), "an alert record for {garbage:?}");
    }
}
