//! Two of our own sessions, with no network between them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use ringway_protocols::{
    identity::Identity,
    tls::{
        Credentials, Error, Handshake, Material, Opened, Options, Progress, RECORD_HEADER_BYTES,
        RECORD_TRAILER_BYTES, RecordLayer, Records,
    },
};
use rustls::{AlertDescription, time_provider::TimeProvider};
use rustls_pki_types::{PrivateKeyDer, UnixTime};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, identity: &Identity) -> Arc<Credentials> {
        self.issue_with(identity, &Options::default(), |_| {})
    }

    fn issue_with(
        &self,
        identity: &Identity,
        options: &Options,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Arc<Credentials> {
        Arc::new(Credentials::new(self.material(identity, change), options).unwrap())
    }

    fn material(
        &self,
        identity: &Identity,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Material {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Material {
            chain: vec![leaf.der().clone()],
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            trust_anchors: vec![self.0.der().clone()],
        }
    }

    /// A client of rustls' buffered interface, which looks at no name.
    fn plain_client(
        &self,
        with_certificate: bool,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        self.plain_client_with(provider, with_certificate, alpn, versions)
    }

    fn plain_client_with(
        &self,
        provider: Arc<rustls::crypto::CryptoProvider>,
        with_certificate: bool,
        alpn: &[&[u8]],
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> Arc<rustls::ClientConfig> {
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
        let mut config = if with_certificate {
            let material = self.material(&identity("a"), |_| {});
            builder.with_client_auth_cert(material.chain, material.key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// A handshake of a client of rustls' own with ours: who it is.
fn plain_handshake(
    config: Arc<rustls::ClientConfig>,
    server: &Arc<Credentials>,
) -> Result<Option<Identity>, String> {
    let name = rustls_pki_types::ServerName::try_from("b.example").unwrap();
    let mut client = rustls::ClientConnection::new(config, name).unwrap();
    let mut server = Handshake::server(server).unwrap();
    let (mut at_server, mut to_client) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        while client.wants_write() {
            client.write_tls(&mut at_server).unwrap();
        }
        if server.advance(&mut at_server, &mut to_client).map_err(|error| error.to_string())?
            == Progress::Complete
        {
            return Ok(server.finish().unwrap().peer().cloned());
        }
        let mut bytes = std::mem::take(&mut to_client);
        let mut bytes: &[u8] = &mut bytes;
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
    }
    Err("no end".to_owned())
}

/// Accepts whatever a server shows.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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

// What goes wrong, and what must still go right.

fn options(records: RecordLayer, records_per_key: u64) -> Options {
    Options { records, records_per_key, ..Options::default() }
}

/// A clock that stands where it is put.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

fn sessions(a: &Credentials, b: &Credentials) -> Result<(Records, Records), String> {
    let client = Handshake::client(a, [identity("b")].into()).unwrap();
    shake(client, Handshake::server(b).unwrap(), 1 << 20)
}

/// What is to be sent besides data goes across and is taken in.
fn exchange_control(from: &mut Records, to: &mut Records) {
    let mut bytes = Vec::new();
    from.take_output(&mut bytes);
    while !bytes.is_empty() {
        match to.open(&mut bytes).unwrap() {
            Opened::Control { consumed } => drop(bytes.drain(..consumed)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn both_record_layers_understand_each_other() {
    let authority = Authority::new();
    for (near, far) in [
        (RecordLayer::Own, RecordLayer::Rustls),
        (RecordLayer::Rustls, RecordLayer::Own),
        (RecordLayer::Rustls, RecordLayer::Rustls),
    ] {
        let a = authority.issue_with(&identity("a"), &options(near, 1 << 20), |_| {});
        let b = authority.issue_with(&identity("b"), &options(far, 1 << 20), |_| {});
        let (mut client, mut server) = sessions(&a, &b).unwrap();
        for bytes in [1, 5, 16_384] {
            send(&mut client, &mut server, &vec![7; bytes]);
            send(&mut server, &mut client, &vec![9; bytes]);
        }
        let mut end = Vec::new();
        client.close_notify(&mut end);
        let consumed = end.len();
        assert_eq!(server.open(&mut end).unwrap(), Opened::Closed { consumed });
    }
}

#[test]
fn keys_are_renewed_before_they_are_used_up() {
    let authority = Authority::new();
    for (near, far) in [
        (RecordLayer::Own, RecordLayer::Own),
        (RecordLayer::Own, RecordLayer::Rustls),
        (RecordLayer::Rustls, RecordLayer::Own),
    ] {
        let a = authority.issue_with(&identity("a"), &options(near, 3), |_| {});
        let b = authority.issue_with(&identity("b"), &options(far, 5), |_| {});
        let (mut client, mut server) = sessions(&a, &b).unwrap();
        for round in 0..40 {
            exchange_control(&mut client, &mut server);
            exchange_control(&mut server, &mut client);
            send(&mut client, &mut server, format!("there {round}").as_bytes());
            send(&mut server, &mut client, format!("back {round}").as_bytes());
        }
    }
}

#[test]
fn who_asks_for_post_quantum_keys_only_refuses_those_who_have_none() {
    let authority = Authority::new();
    let strict = Options { post_quantum_only: true, ..Options::default() };
    let b = authority.issue_with(&identity("b"), &strict, |_| {});
    sessions(&authority.issue_with(&identity("a"), &strict, |_| {}), &b).unwrap();
    sessions(&authority.issue(&identity("a")), &b).expect("by default it is known");

    let ends_well = |group: &'static dyn rustls::crypto::SupportedKxGroup| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.kx_groups = vec![group];
        let tls13 = [&rustls::version::TLS13];
        let config = authority.plain_client_with(Arc::new(provider), true, &[b"h2"], &tls13);
        plain_handshake(config, &b).is_ok()
    };
    assert!(ends_well(rustls::crypto::aws_lc_rs::kx_group::X25519MLKEM768));
    assert!(!ends_well(rustls::crypto::aws_lc_rs::kx_group::X25519));
}

#[test]
fn an_altered_record_ends_the_session_and_says_so() {
    let authority = Authority::new();
    let (mut client, mut server) =
        sessions(&authority.issue(&identity("a")), &authority.issue(&identity("b"))).unwrap();
    let mut record = vec![0; RECORD_HEADER_BYTES];
    record.extend_from_slice(b"altered on the way");
    record.resize(record.len() + RECORD_TRAILER_BYTES, 0);
    client.seal(&mut record).unwrap();
    record[10] ^= 1;
    assert_eq!(server.open(&mut record).unwrap_err(), Error::BadRecord);
    let mut alert = Vec::new();
    assert!(server.take_output(&mut alert));
    let told = client.open(&mut alert).unwrap_err();
    assert!(matches!(told, Error::PeerAlert(AlertDescription::BadRecordMac)), "{told}");
    assert!(server.open(&mut [23, 3, 3, 0, 20]).is_err(), "a failed session stays failed");
}

#[test]
fn certificates_are_judged_by_the_clock_they_are_given() {
    let authority = Authority::new();
    let clock = Arc::new(Clock(AtomicU64::new(1_700_000_000)));
    let options = Options { time: clock.clone(), ..Options::default() };
    let issue = |account| {
        authority.issue_with(&identity(account), &options, |params| {
            params.not_before = rcgen::date_time_ymd(2023, 1, 1);
            params.not_after = rcgen::date_time_ymd(2024, 1, 1);
        })
    };
    let (a, b) = (issue("a"), issue("b"));
    let (client, _) = sessions(&a, &b).unwrap();
    assert!(client.peer_not_after().is_some());
    assert!(sessions(&a, &b).unwrap().0.resumed(), "in time, the second session is resumed");
    // 2025: the ticket, too, must be worth nothing.
    clock.0.store(1_740_000_000, Ordering::Relaxed);
    let refused = sessions(&a, &b).err().expect("an expired certificate");
    assert!(refused.contains("expired"), "{refused}");
    clock.0.store(1_600_000_000, Ordering::Relaxed);
    assert!(sessions(&a, &b).is_err(), "not valid yet");
}

#[test]
fn renewed_credentials_are_shown_in_a_full_handshake() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    sessions(&a, &b).unwrap();
    let renewed = authority.issue(&identity("b"));
    assert!(!sessions(&a, &renewed).unwrap().0.resumed());
    assert!(!sessions(&authority.issue(&identity("a")), &renewed).unwrap().0.resumed());
}

#[test]
fn a_certificate_for_another_purpose_or_trust_domain_is_refused() {
    let authority = Authority::new();
    let (a, b) = (authority.issue(&identity("a")), authority.issue(&identity("b")));
    let only_server = authority.issue_with(&identity("a"), &Options::default(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(sessions(&only_server, &b).is_err());
    let only_client = authority.issue_with(&identity("b"), &Options::default(), |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert!(sessions(&a, &only_client).is_err());
    let elsewhere = Identity::new("elsewhere.example", "shop", "a").unwrap();
    let refused = sessions(&authority.issue(&elsewhere), &b).err().unwrap();
    assert!(refused.contains("spiffe://elsewhere.example/ns/shop/sa/a"), "{refused}");
}

#[test]
fn an_ordinary_tls_client_is_served_only_if_it_speaks_h2_and_shows_a_certificate() {
    let authority = Authority::new();
    let b = authority.issue(&identity("b"));
    let talk = |with_certificate: bool,
                alpn: &[&[u8]],
                versions: &[&'static rustls::SupportedProtocolVersion]| {
        plain_handshake(authority.plain_client(with_certificate, alpn, versions), &b)
    };
    let tls13 = [&rustls::version::TLS13];
    assert_eq!(talk(true, &[b"h2"], &tls13), Ok(Some(identity("a"))));
    assert!(talk(false, &[b"h2"], &tls13).is_err(), "no certificate");
    assert!(talk(true, &[b"http/1.1"], &tls13).is_err(), "another protocol");
    let none = talk(true, &[], &tls13).unwrap_err();
    assert!(none.contains("h2"), "no protocol at all: {none}");
}

proptest! {
    #[test]
    fn no_bytes_make_a_server_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
        let authority = Authority::new();
        let mut server = Handshake::server(&authority.issue(&identity("b"))).unwrap();
        let (mut received, mut to_send) = (Vec::new(), Vec::new());
        for chunk in chunks {
            received.extend_from_slice(&chunk);
            if server.advance(&mut received, &mut to_send).is_err() {
                break;
            }
        }
    }

    #[test]
    fn no_bytes_make_open_records_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let authority = Authority::new();
        let (_, mut server) =
            sessions(&authority.issue(&identity("a")), &authority.issue(&identity("b"))).unwrap();
        let mut record = vec![23, 3, 3, (bytes.len() >> 8) as u8, bytes.len() as u8];
        record.extend_from_slice(&bytes);
        prop_assert!(server.open(&mut record).is_err());
        let _ = server.open(&mut bytes.clone());
    }
}

#[test]
fn what_is_an_identity_and_what_is_not() {
    let long = format!("spiffe://cluster.local/ns/a/sa/{}", "x".repeat(2048));
    let rows = [
        ("an identity", "spiffe://cluster.local/ns/shop/sa/web", true),
        ("capitals in the path", "spiffe://cluster.local/ns/Shop/sa/Web", true),
        ("the scheme in capitals", "SPIFFE://cluster.local/ns/shop/sa/web", false),
        ("another scheme", "https://cluster.local/ns/shop/sa/web", false),
        ("no trust domain", "spiffe:///ns/shop/sa/web", false),
        ("no namespace", "spiffe://cluster.local/ns//sa/web", false),
        ("no service account", "spiffe://cluster.local/ns/shop/sa/", false),
        ("one piece more", "spiffe://cluster.local/ns/shop/sa/web/x", false),
        ("one piece fewer", "spiffe://cluster.local/ns/shop/sa", false),
        ("other words", "spiffe://cluster.local/namespace/shop/sa/web", false),
        ("a NUL byte", "spiffe://cluster.local/ns/shop\0/sa/web", false),
        ("a percent escape", "spiffe://cluster.local/ns/shop%2fsa/sa/web", false),
        ("a way up", "spiffe://cluster.local/ns/../sa/web", false),
        ("not ASCII", "spiffe://cluster.local/ns/sh\u{f6}p/sa/web", false),
        ("a query", "spiffe://cluster.local/ns/shop/sa/web?x", false),
        ("a fragment", "spiffe://cluster.local/ns/shop/sa/web#x", false),
        ("a port", "spiffe://cluster.local:443/ns/shop/sa/web", false),
        ("user information", "spiffe://me@cluster.local/ns/shop/sa/web", false),
        ("capitals in the trust domain", "spiffe://Cluster.Local/ns/shop/sa/web", false),
        ("too long", &long, false),
    ];
    for (name, uri, good) in rows {
        let parsed = Identity::parse(uri);
        assert_eq!(parsed.is_ok(), good, "{name}: {parsed:?}");
        if let Ok(identity) = parsed {
            assert_eq!(identity.to_string(), uri, "{name}");
        }
    }
}
