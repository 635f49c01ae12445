//! Whom revocation lists and vanished anchors shut out, in a handshake and in a session that is there.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use ringway_protocols::{
    identity::Identity,
    tls::{
        Credentials, Error, Handshake, Material, Opened, Options, Progress, REVOCATION_LISTS_MAX,
        Records, RevocationLists,
    },
};
use rustls::AlertDescription;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate authority: a root, or what a root has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// What leads to the root, the root excluded.
    above: Vec<CertificateDer<'static>>,
    root: CertificateDer<'static>,
}

fn parameters(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    fn root(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(parameters(name), key).unwrap();
        let root = issuer.der().clone();
        Self { issuer, above: Vec::new(), root }
    }

    fn intermediate(&self, name: &str, serial: u64) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = parameters(name);
        params.serial_number = Some(SerialNumber::from(serial));
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap();
        let mut above = vec![issuer.der().clone()];
        above.extend(self.above.iter().cloned());
        Self { issuer, above, root: self.root.clone() }
    }

    fn material(&self, account: &str, serial: u64, anchors: &[&Authority]) -> Material {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = identity(account).to_string().try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![leaf.der().clone()];
        chain.extend(self.above.iter().cloned());
        Material {
            chain,
            key: PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            trust_anchors: anchors.iter().map(|anchor| anchor.root.clone()).collect(),
        }
    }

    fn issue(&self, account: &str, serial: u64, anchors: &[&Authority]) -> Credentials {
        Credentials::new(self.material(account, serial, anchors), &Options::default()).unwrap()
    }

    /// The authority's list of these serial numbers; its next update was due long ago.
    fn revoke(&self, serials: &[u64]) -> Vec<u8> {
        sign_list(&self.issuer, serials)
    }
}

fn sign_list(issuer: &Issuer<'_, KeyPair>, serials: &[u64]) -> Vec<u8> {
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2024, 1, 1),
        next_update: date_time_ymd(2024, 1, 2),
        crl_number: SerialNumber::from(1u64),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

fn lists(ders: &[Vec<u8>]) -> Arc<RevocationLists> {
    Arc::new(RevocationLists::from_der(ders.iter().map(Vec::as_slice)).unwrap())
}

/// What both sides make of each other: the client's view, then the server's.
fn shake(client: &Credentials, server: &Credentials) -> [Result<Records, Error>; 2] {
    let expected: Arc<[Identity]> = vec![server.identity().clone()].into();
    let mut sides =
        [Handshake::client(client, expected).unwrap(), Handshake::server(server).unwrap()];
    let mut inboxes = [Vec::new(), Vec::new()];
    let mut outcomes = [None, None];
    for round in 0..12 {
        let side = round % 2;
        let mut sent = Vec::new();
        if outcomes[side].is_none() {
            match sides[side].advance(&mut inboxes[side], &mut sent) {
                Ok(Progress::NeedsInput) => {}
                Ok(Progress::Complete) => outcomes[side] = Some(Ok(())),
                Err(error) => outcomes[side] = Some(Err(error)),
            }
        }
        inboxes[1 - side].extend(sent);
    }
    let [client, server] = sides;
    let [client_outcome, server_outcome] = outcomes;
    let end = |side: Handshake, outcome: Option<Result<(), Error>>, inbox: &mut Vec<u8>| {
        outcome.expect("the handshake came to an end")?;
        let mut records = side.finish()?;
        // A refusal by the other side comes behind our own end of the handshake.
        while let Opened::Data { consumed, .. } | Opened::Control { consumed } =
            records.open(inbox)?
        {
            inbox.drain(..consumed);
        }
        Ok(records)
    };
    [end(client, client_outcome, &mut inboxes[0]), end(server, server_outcome, &mut inboxes[1])]
}

fn is_revoked<T>(outcome: &Result<T, Error>) -> bool {
    outcome.as_ref().is_err_and(Error::is_revocation)
}

fn was_told<T>(outcome: &Result<T, Error>, alert: AlertDescription) -> bool {
    outcome.as_ref().is_err_and(|error| *error == Error::PeerAlert(alert))
}

#[test]
fn lists_shut_out_those_they_name_and_nobody_else() {
    let root = Authority::root("root");
    let middle = root.intermediate("middle", 50);
    let stranger = Authority::root("stranger");
    let namesake = Authority::root("root");
    //  name                              signer    client's lists, server's lists            client, server
    type Row<'r> = (&'static str, &'r Authority, Vec<Vec<u8>>, Vec<Vec<u8>>, bool, bool);
    let rows: [Row<'_>; 13] = [
        ("no list", &root, vec![], vec![], true, true),
        ("an empty list", &root, vec![root.revoke(&[])], vec![root.revoke(&[])], true, true),
        ("others are listed", &root, vec![root.revoke(&[3])], vec![root.revoke(&[3])], true, true),
        ("the server is listed", &root, vec![root.revoke(&[2])], vec![], false, true),
        ("the client is listed", &root, vec![], vec![root.revoke(&[1])], true, false),
        (
            "a stranger lists the same number",
            &root,
            vec![stranger.revoke(&[2])],
            vec![],
            true,
            true,
        ),
        ("the intermediate is listed", &middle, vec![root.revoke(&[50])], vec![], false, true),
        ("its list names the leaf", &middle, vec![middle.revoke(&[2])], vec![], false, true),
        (
            "an old copy of the list before the new",
            &root,
            vec![root.revoke(&[3]), root.revoke(&[2, 3])],
            vec![],
            false,
            true,
        ),
        (
            "an old copy of the list behind the new",
            &root,
            vec![root.revoke(&[2, 3]), root.revoke(&[3])],
            vec![],
            false,
            true,
        ),
        ("a namesake's list alone", &root, vec![namesake.revoke(&[])], vec![], false, true),
        (
            "a namesake's list before the genuine",
            &root,
            vec![namesake.revoke(&[2]), root.revoke(&[3])],
            vec![],
            true,
            true,
        ),
        (
            "a namesake's list before the genuine that names it",
            &root,
            vec![namesake.revoke(&[]), root.revoke(&[2])],
            vec![],
            false,
            true,
        ),
    ];
    for (name, signer, client_lists, server_lists, client_takes, server_takes) in rows {
        let with = |account, serial, ders: &[Vec<u8>]| {
            signer.issue(account, serial, &[&root]).with_revocation(lists(ders)).unwrap()
        };
        let client = with("a", 1, &client_lists);
        let server = with("b", 2, &server_lists);
        let [at_client, at_server] = shake(&client, &server);
        let namesake_alone = name == "a namesake's list alone";
        assert_eq!(at_client.is_ok(), client_takes && server_takes, "{name}: client");
        assert_eq!(at_server.is_ok(), client_takes && server_takes, "{name}: server");
        if !client_takes && !namesake_alone {
            assert!(is_revoked(&at_client), "{name}: {:?}", at_client.err());
            assert!(
                was_told(&at_server, AlertDescription::CertificateRevoked),
                "{name}: {:?}",
                at_server.err()
            );
        }
        if !server_takes {
            assert!(is_revoked(&at_server), "{name}: {:?}", at_server.err());
            assert!(
                was_told(&at_client, AlertDescription::CertificateRevoked),
                "{name}: {:?}",
                at_client.err()
            );
        }
    }
}

#[test]
fn a_session_is_not_resumed_past_a_revocation() {
    let root = Authority::root("root");
    let client = root.issue("a", 1, &[&root]);
    let server = root.issue("b", 2, &[&root]);
    for expected in [false, true] {
        let [at_client, _] = shake(&client, &server);
        assert_eq!(at_client.unwrap().resumed(), expected);
    }
    let server = server.with_revocation(lists(&[root.revoke(&[1])])).unwrap();
    let [_, at_server] = shake(&client, &server);
    assert!(is_revoked(&at_server));
    // The client's own new lists hold for sessions it would have resumed, too.
    let server = root.issue("b", 2, &[&root]);
    let [at_client, _] = shake(&client, &server);
    assert!(!at_client.unwrap().resumed(), "another server's key");
    let client = client.with_revocation(lists(&[root.revoke(&[2])])).unwrap();
    let [at_client, _] = shake(&client, &server);
    assert!(is_revoked(&at_client));
}

#[test]
fn a_session_with_lists_is_resumed() {
    let root = Authority::root("root");
    let with = |account, serial| {
        let lists = lists(&[root.revoke(&[7])]);
        root.issue(account, serial, &[&root]).with_revocation(lists).unwrap()
    };
    let (client, server) = (with("a", 1), with("b", 2));
    for expected in [false, true] {
        let [at_client, at_server] = shake(&client, &server);
        assert_eq!(at_client.unwrap().resumed(), expected);
        assert!(at_server.is_ok());
    }
}

#[test]
fn a_session_that_goes_on_is_judged_by_what_is_trusted_now() {
    let (root, next) = (Authority::root("root"), Authority::root("next"));
    let middle = root.intermediate("middle", 50);
    //  name                                 signer   lists                     anchors               holds
    type Row<'r> = (&'static str, &'r Authority, Vec<Vec<u8>>, Vec<&'r Authority>, Result<(), ()>);
    let rows: [Row<'_>; 9] = [
        ("nothing is new", &root, vec![], vec![&root], Ok(())),
        ("an anchor more", &root, vec![], vec![&root, &next], Ok(())),
        ("the anchor is gone", &root, vec![], vec![&next], Err(())),
        ("the anchor of an intermediate is gone", &middle, vec![], vec![&next], Err(())),
        ("others were revoked", &root, vec![root.revoke(&[9])], vec![&root], Ok(())),
        ("both were revoked", &root, vec![root.revoke(&[1, 2])], vec![&root], Err(())),
        ("the intermediate was revoked", &middle, vec![root.revoke(&[50])], vec![&root], Err(())),
        ("a stranger lists their numbers", &root, vec![next.revoke(&[1, 2])], vec![&root], Ok(())),
        (
            "another anchor, others revoked",
            &root,
            vec![root.revoke(&[9])],
            vec![&root, &next],
            Ok(()),
        ),
    ];
    for (name, signer, ders, anchors, holds) in rows {
        let client = signer.issue("a", 1, &[&root]);
        let server = signer.issue("b", 2, &[&root]);
        let [at_client, at_server] = shake(&client, &server);
        for (records, account, serial) in [(at_client, "a", 1), (at_server, "b", 2)] {
            let mut records = records.unwrap();
            let now = signer.issue(account, serial, &anchors).with_revocation(lists(&ders));
            let now = now.unwrap();
            let verdict = records.judge_again(&now);
            assert_eq!(verdict.clone().map_err(|_| ()), holds, "{name}: {verdict:?}");
            // The verdict stands: who was accepted is judged by what is new from now on.
            if holds.is_ok() {
                assert_eq!(records.judge_again(&now), Ok(()), "{name}");
                assert!(!records.take_output(&mut Vec::new()), "{name}: it has nothing to say");
                continue;
            }
            assert!(records.take_output(&mut Vec::new()), "{name}: the peer is told");
            let refused = Err(Error::Closed);
            assert_eq!(records.seal(&mut [0; 32]), refused, "{name}: the session is over");
        }
    }
}

#[test]
fn a_session_that_ended_with_its_certificate_tells_the_peer() {
    let root = Authority::root("root");
    let (client, server) = (root.issue("a", 1, &[&root]), root.issue("b", 2, &[&root]));
    let [at_client, at_server] = shake(&client, &server);
    let (mut at_client, mut at_server) = (at_client.unwrap(), at_server.unwrap());
    at_server.expire();
    let mut alert = Vec::new();
    assert!(at_server.take_output(&mut alert));
    let told = Err(Error::PeerAlert(AlertDescription::CertificateExpired));
    assert_eq!(at_client.open(&mut alert).map(|_| ()), told);
}

#[test]
fn a_chain_that_is_too_long_to_keep_is_refused() {
    let root = Authority::root("root");
    let server = root.issue("b", 2, &[&root]);
    let mut material = root.material("a", 1, &[&root]);
    let filler = root.intermediate("filler", 3).above;
    let count = 13 * 1024 / filler[0].len();
    material.chain.extend(filler.iter().cycle().take(count).cloned());
    let client = Credentials::new(material, &Options::default()).unwrap();
    let [at_client, at_server] = shake(&client, &server);
    let error = at_server.err().expect("refused");
    assert!(error.to_string().contains("chain that is too long"), "{error}");
    assert!(was_told(&at_client, AlertDescription::BadCertificate), "{:?}", at_client.err());
}

#[test]
fn what_is_no_list_is_refused_whole() {
    let root = Authority::root("root");
    let good = root.revoke(&[1]);
    let mut cut = good.clone();
    cut.truncate(good.len() - 1);
    let many = vec![good.clone(); REVOCATION_LISTS_MAX + 1];
    let rows: [(&str, Vec<Vec<u8>>, &str); 4] = [
        ("garbage", vec![good.clone(), b"garbage".to_vec()], "not a usable CRL"),
        ("a certificate", vec![root.root.to_vec()], "not a usable CRL"),
        ("cut", vec![cut], "not a usable CRL"),
        ("too many", many, "more than 64"),
    ];
    for (name, ders, want) in rows {
        let read = RevocationLists::from_der(ders.iter().map(Vec::as_slice));
        let error = read.expect_err(name).to_string();
        assert!(error.contains(want), "{name}: {error}");
    }
    assert!(RevocationLists::from_der([]).unwrap().is_empty());
}
