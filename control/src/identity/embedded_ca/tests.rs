//! The authority in real directories: first start, races, crashes, wrong permissions, rotation, import.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::Authority;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn web() -> Identity {
    Identity::new("cluster.local", "shop", "web").unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn new_ca(directory: &TempDir) -> EmbeddedCa {
    EmbeddedCa::open(&directory.path().join("ca"), CaOptions::default(), now()).unwrap()
}

/// Judges a leaf as a peer would: path to one of the anchors, dates, usage.
fn verify(
    material: &Material,
    anchors: &[CertificateDer<'static>],
    at: SystemTime,
) -> Result<(), String> {
    let leaf = webpki::EndEntityCert::try_from(&material.chain[0]).map_err(|e| e.to_string())?;
    let anchors: Vec<_> =
        anchors.iter().map(|anchor| webpki::anchor_from_trusted_cert(anchor).unwrap()).collect();
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &material.chain[1..],
            UnixTime::since_unix_epoch(seconds),
            usage,
            None,
            None,
        )
        .map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[test]
fn the_first_start_makes_a_root_with_the_right_modes() {
    let home = TempDir::new().unwrap();
    let ca = new_ca(&home);
    assert_eq!(mode(ca.path()), 0o700);
    assert_eq!(mode(&ca.path().join("root-cert.pem")), 0o644);
    assert_eq!(mode(&ca.path().join("root-key.pem")), 0o600);

    let description = &ca.describe(now())[0];
    assert_eq!(description.role, Role::Current);
    assert!(description.certificate.subject.starts_with("CN=Ringway root "), "{description:?}");
    let (from, until) = certificate::validity(&ca.trust_bundle(now())[0]).unwrap();
    assert!(from < now() && until > now() + Duration::from_secs(9 * 366 * 24 * 3600));

    let root = ca.trust_bundle(now()).remove(0);
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    let constraints = root.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
}

#[test]
fn a_second_start_finds_the_same_root() {
    let home = TempDir::new().unwrap();
    let first = new_ca(&home).trust_bundle(now());
    assert_eq!(new_ca(&home).trust_bundle(now()), first);
}

#[test]
fn a_leaf_is_what_peers_expect() {
    let home = TempDir::new().unwrap();
    let ca = new_ca(&home);
    let material = ca.issue(&web(), now()).unwrap();
    assert_eq!(material.chain.len(), 1, "the root is not sent");
    verify(&material, &ca.trust_bundle(now()), now()).unwrap();

    let (_, leaf) = X509Certificate::from_der(&material.chain[0]).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0, "the subject is empty");
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(
        names.value.general_names,
        [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]
    );
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.flags, 1, "digitalSignature and nothing else");
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(!leaf.is_ca());

    let (from, until) = certificate::validity(&material.chain[0]).unwrap();
    assert!(from < now() && from > now() - HOUR);
    assert_eq!(until, now() + LEAF_LIFETIME);
}

#[test]
fn every_leaf_has_a_key_of_its_own() {
    let home = TempDir::new().unwrap();
    let ca = new_ca(&home);
    let (one, two) = (ca.issue(&web(), now()).unwrap(), ca.issue(&web(), now()).unwrap());
    assert_ne!(one.key.secret_der(), two.key.secret_der());
    assert_ne!(one.chain, two.chain);
}

#[test]
fn a_lifetime_of_seconds_is_kept() {
    let home = TempDir::new().unwrap();
    let options = CaOptions { leaf_lifetime: Duration::from_secs(10), ..CaOptions::default() };
    let ca = EmbeddedCa::open(&home.path().join("ca"), options, now()).unwrap();
    let material = ca.issue(&web(), now()).unwrap();
    let (from, until) = certificate::validity(&material.chain[0]).unwrap();
    assert_eq!((from, until), (now() - Duration::from_secs(1), now() + Duration::from_secs(10)));
    let late = now() + Duration::from_secs(11);
    assert!(verify(&material, &ca.trust_bundle(now()), late).unwrap_err().contains("CertExpired"));
}

#[test]
fn a_leaf_never_outlives_its_root() {
    let home = TempDir::new().unwrap();
    let options = CaOptions { root_lifetime: HOUR, ..CaOptions::default() };
    let ca = EmbeddedCa::open(&home.path().join("ca"), options, now()).unwrap();
    let material = ca.issue(&web(), now()).unwrap();
    assert_eq!(certificate::validity(&material.chain[0]).unwrap().1, now() + HOUR);
    let error = ca.issue(&web(), now() + 2 * HOUR).err().unwrap().to_string();
    assert!(error.contains("expired at 2027-01-15T09:00:00Z"), "{error}");
}

#[test]
fn what_others_could_read_or_replace_is_refused() {
    //  name                         file             mode    want in the message
    let rows = [
        ("key readable by group", "root-key.pem", 0o640, "chmod 600"),
        ("key readable by the world", "root-key.pem", 0o604, "chmod 600"),
        ("key writable by group", "root-key.pem", 0o620, "chmod 600"),
        ("directory writable by group", "", 0o770, "chmod 700"),
        ("directory writable by the world", "", 0o1777, "chmod 700"),
    ];
    for (name, file, mode, want) in rows {
        let home = TempDir::new().unwrap();
        let path = new_ca(&home).path().to_owned();
        set_mode(&path.join(file), mode);
        let error = EmbeddedCa::open(&path, CaOptions::default(), now()).err().expect(name);
        assert!(error.to_string().contains(want), "{name}: {error}");
        assert!(error.to_string().contains(&format!("{mode:04o}")), "{name}: {error}");
    }
}

#[test]
fn broken_files_are_named_and_never_replaced() {
    let home = TempDir::new().unwrap();
    let other = TempDir::new().unwrap();
    let foreign = new_ca(&other);
    let foreign_key = fs::read(foreign.path().join("root-key.pem")).unwrap();
    //  name                      file             content                  want in the message
    let rows: [(&str, &str, &[u8], &str); 6] = [
        ("no PEM", "root-cert.pem", b"hello", "there is no certificate in it"),
        ("empty", "root-cert.pem", b"", "there is no certificate in it"),
        ("no key", "root-key.pem", b"hello", "there is no private key in it"),
        ("another's key", "root-key.pem", &foreign_key, "does not belong"),
        (
            "DER rubbish",
            "root-cert.pem",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "X.509",
        ),
        ("state rubbish", "ca-state.json", b"{}", "not a state file"),
    ];
    for (name, file, content, want) in rows {
        let path = home.path().join(name);
        drop(EmbeddedCa::open(&path, CaOptions::default(), now()).unwrap());
        fs::write(path.join(file), content).unwrap();
        let error = EmbeddedCa::open(&path, CaOptions::default(), now()).err().expect(name);
        assert!(error.to_string().contains(want), "{name}: {error}");
        assert_eq!(fs::read(path.join(file)).unwrap(), content, "{name}: left as it was");
    }
}

#[test]
fn a_missing_key_is_named() {
    let home = TempDir::new().unwrap();
    let path = new_ca(&home).path().to_owned();
    fs::remove_file(path.join("root-key.pem")).unwrap();
    let error = EmbeddedCa::open(&path, CaOptions::default(), now()).err().unwrap().to_string();
    assert!(error.contains("root-key.pem is missing; restore it"), "{error}");
}

#[test]
fn a_start_killed_between_key_and_certificate_heals() {
    let home = TempDir::new().unwrap();
    let ca = new_ca(&home);
    let (path, old) = (ca.path().to_owned(), ca.issue(&web(), now()).unwrap());
    fs::remove_file(path.join("root-cert.pem")).unwrap();
    fs::write(path.join(".root-cert.pem.77.tmp"), "half").unwrap();

    let healed = EmbeddedCa::open(&path, CaOptions::default(), now() + HOUR).unwrap();
    // The same key and name: what was signed before is still good.
    verify(&old, &healed.trust_bundle(now()), now()).unwrap();
    assert!(!path.join(".root-cert.pem.77.tmp").exists());
}

#[test]
fn starts_at_the_same_moment_end_with_one_root() {
    let home = TempDir::new().unwrap();
    let path = Arc::new(home.path().join("mesh").join("ca"));
    let barrier = Arc::new(std::sync::Barrier::new(16));
    let starts: Vec<_> = (0..16)
        .map(|_| {
            let (path, barrier) = (Arc::clone(&path), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                let ca = EmbeddedCa::open(&path, CaOptions::default(), now()).unwrap();
                let leaf = ca.issue(&web(), now()).unwrap();
                (ca.trust_bundle(now()), leaf)
            })
        })
        .collect();
    let ends: Vec<_> = starts.into_iter().map(|start| start.join().unwrap()).collect();
    for (bundle, leaf) in &ends {
        assert_eq!(bundle, &ends[0].0);
        verify(leaf, &ends[0].0, now()).unwrap();
    }
}

#[test]
fn creating_twice_is_refused() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("ca");
    EmbeddedCa::create(&path, CaOptions::default(), now()).unwrap();
    let error = EmbeddedCa::create(&path, CaOptions::default(), now()).err().unwrap();
    assert!(error.to_string().contains("ca rotate"), "{error}");
    let nothing = home.path().join("nothing");
    let error = EmbeddedCa::open_existing(&nothing, CaOptions::default(), now()).err().unwrap();
    assert!(error.to_string().contains("ca create"), "{error}");
    assert!(!nothing.exists(), "looking makes nothing");
}

#[test]
fn a_rotation_keeps_every_pair_of_hosts_talking() {
    let home = TempDir::new().unwrap();
    let mut writer = new_ca(&home);
    let mut reader = new_ca(&home);
    let rotation = Rotation { new_signs_after: HOUR, old_trusted_for: 48 * HOUR };
    writer.rotate(&rotation, None, now()).unwrap();

    let steps = [0, 1, 30 * 60, 3600, 7200, 30 * 3600, 48 * 3600, 50 * 3600];
    let mut leaves: Vec<(SystemTime, Material)> = Vec::new();
    for step in steps {
        let at = now() + Duration::from_secs(step);
        reader.refresh(at).unwrap();
        // A leaf made at any step is good for as long as it lives, on a host that reads the directory.
        leaves.push((at, reader.issue(&web(), at).unwrap()));
        for (made, leaf) in &leaves {
            if at < *made + LEAF_LIFETIME {
                verify(leaf, &writer.trust_bundle(at), at).unwrap();
            }
        }
    }
    assert_eq!(reader.trust_bundle(now() + HOUR).len(), 2);
    let after = now() + 49 * HOUR;
    assert_eq!(reader.trust_bundle(after).len(), 1, "the old root retires");
    assert_eq!(reader.describe(after).len(), 1);
}

#[test]
fn the_epoch_changes_exactly_when_credentials_must() {
    let home = TempDir::new().unwrap();
    let mut ca = new_ca(&home);
    let quiet = ca.epoch(now());
    assert_eq!(ca.epoch(now() + 1000 * HOUR), quiet);
    let rotation = Rotation { new_signs_after: HOUR, old_trusted_for: HOUR };
    ca.rotate(&rotation, None, now()).unwrap();
    let epochs = [0, 1, 2].map(|hours| ca.epoch(now() + hours * HOUR));
    assert_ne!(epochs[0], quiet, "the new root is trusted");
    assert_ne!(epochs[1], epochs[0], "the new root signs");
    assert_ne!(epochs[2], epochs[1], "the old root retires");
    assert_eq!(ca.epoch(now() + 3 * HOUR), epochs[2]);
}

#[test]
fn a_broken_change_leaves_the_reader_as_it_was() {
    let home = TempDir::new().unwrap();
    let mut ca = new_ca(&home);
    let before = ca.epoch(now());
    fs::write(ca.path().join("ca-state.json"), "{").unwrap();
    assert!(ca.refresh(now()).is_err());
    assert_eq!(ca.epoch(now()), before);
    ca.issue(&web(), now()).unwrap();
    fs::remove_file(ca.path().join("ca-state.json")).unwrap();
    ca.refresh(now()).unwrap();
}

#[test]
fn a_gap_in_trust_is_refused() {
    let home = TempDir::new().unwrap();
    let mut ca = new_ca(&home);
    let rotation = Rotation { new_signs_after: HOUR, old_trusted_for: Duration::ZERO };
    assert!(matches!(ca.rotate(&rotation, None, now()), Err(CaError::Gap)));
}

#[test]
fn an_emergency_rotation_drops_the_old_root_at_once() {
    let home = TempDir::new().unwrap();
    let mut ca = new_ca(&home);
    let stolen = ca.issue(&web(), now()).unwrap();
    let rotation = Rotation { new_signs_after: Duration::ZERO, old_trusted_for: Duration::ZERO };
    ca.rotate(&rotation, None, now()).unwrap();
    assert!(verify(&stolen, &ca.trust_bundle(now()), now()).is_err());
    let fresh = ca.issue(&web(), now()).unwrap();
    verify(&fresh, &ca.trust_bundle(now()), now()).unwrap();
}

/// A company's root with an intermediate, PEM: (root, intermediate, key of the intermediate).
fn company() -> (String, String, String) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root_key = KeyPair::generate().unwrap();
    let root = params("Company root").self_signed(&root_key).unwrap();
    let issuer = Issuer::new(params("Company root"), root_key);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let intermediate = params("Mesh intermediate").signed_by(&key, &issuer).unwrap();
    (root.pem(), intermediate.pem(), key.serialize_pem())
}

#[test]
fn an_intermediate_can_be_brought_and_is_sent_along() {
    let home = TempDir::new().unwrap();
    let (root, intermediate, key) = company();
    let import = Import {
        certificates: intermediate.as_bytes(),
        key: key.as_bytes(),
        roots: Some(root.as_bytes()),
    };
    let path = home.path().join("ca");
    let ca = EmbeddedCa::import(&path, CaOptions::default(), &import, now()).unwrap();
    assert_eq!(mode(&path.join("ca-key.pem")), 0o600);
    let material = ca.issue(&web(), now()).unwrap();
    assert_eq!(material.chain.len(), 2, "leaf and intermediate");
    let root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    verify(&material, std::slice::from_ref(&root), now()).unwrap();
    assert_eq!(material.trust_anchors, [root]);

    let again = EmbeddedCa::open(&path, CaOptions::default(), now()).unwrap();
    assert_eq!(again.epoch(now()), ca.epoch(now()));
}

#[test]
fn a_home_made_root_can_give_way_to_the_companys() {
    let home = TempDir::new().unwrap();
    let mut ca = new_ca(&home);
    let (root, intermediate, key) = company();
    let import = Import {
        certificates: intermediate.as_bytes(),
        key: key.as_bytes(),
        roots: Some(root.as_bytes()),
    };
    let rotation = Rotation { new_signs_after: HOUR, old_trusted_for: 30 * HOUR };
    let before = ca.issue(&web(), now()).unwrap();
    ca.rotate(&rotation, Some(&import), now()).unwrap();
    let later = now() + 2 * HOUR;
    let after = ca.issue(&web(), later).unwrap();
    for leaf in [&before, &after] {
        verify(leaf, &ca.trust_bundle(later), later).unwrap();
    }
    let company_root = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
    assert_eq!(ca.trust_bundle(now() + 32 * HOUR), [company_root]);
}

#[test]
fn istios_cacerts_directory_is_understood() {
    let home = TempDir::new().unwrap();
    let (root, intermediate, key) = company();
    let path = home.path().join("cacerts");
    fs::create_dir(&path).unwrap();
    set_mode(&path, 0o755);
    fs::write(path.join("ca-cert.pem"), &intermediate).unwrap();
    fs::write(path.join("ca-key.pem"), &key).unwrap();
    set_mode(&path.join("ca-key.pem"), 0o600);
    fs::write(path.join("cert-chain.pem"), format!("{intermediate}{root}")).unwrap();
    fs::write(path.join("root-cert.pem"), &root).unwrap();
    let ca = EmbeddedCa::open(&path, CaOptions::default(), now()).unwrap();
    let material = ca.issue(&web(), now()).unwrap();
    assert_eq!(material.chain.len(), 2);
    verify(&material, &ca.trust_bundle(now()), now()).unwrap();
}

#[test]
fn unusable_imports_are_refused_with_the_reason_and_leave_nothing() {
    let (root, intermediate, key) = company();
    let (other_root, ..) = company();
    let home = TempDir::new().unwrap();
    let leaf = new_ca(&home).issue(&web(), now()).unwrap();
    let leaf_pem = certificate::to_pem(&leaf.chain[0]);
    let leaf_key = certificate::encode_pem("PRIVATE KEY", leaf.key.secret_der());
    //  name                  certificates   key        roots               want
    let rows = [
        ("no root", &intermediate, &key, None, "its root certificate is needed"),
        ("a foreign root", &intermediate, &key, Some(&other_root), "does not lead to the root"),
        ("another's key", &intermediate, &leaf_key, Some(&root), "does not belong"),
        ("a leaf", &leaf_pem, &leaf_key, Some(&root), "may not sign others"),
        ("swapped", &key, &intermediate, None, "there is no certificate"),
    ];
    for (name, certificates, key, roots, want) in rows {
        let path = home.path().join(name);
        let import = Import {
            certificates: certificates.as_bytes(),
            key: key.as_bytes(),
            roots: roots.map(|roots: &String| roots.as_bytes()),
        };
        let error =
            EmbeddedCa::import(&path, CaOptions::default(), &import, now()).err().expect(name);
        assert!(error.to_string().contains(want), "{name}: {error}");
        assert!(!path.exists(), "{name}: nothing was made");
    }
}

#[test]
fn an_expired_import_is_refused() {
    let pem = Authority::generate_root(now(), HOUR).unwrap();
    let home = TempDir::new().unwrap();
    let import =
        Import { certificates: pem.certificates.as_bytes(), key: pem.key.as_bytes(), roots: None };
    let path = home.path().join("ca");
    let error = EmbeddedCa::import(&path, CaOptions::default(), &import, now() + 2 * HOUR);
    assert!(error.err().unwrap().to_string().contains("expired"));
    EmbeddedCa::import(&path, CaOptions::default(), &import, now()).unwrap();
}

fn serial_of(material: &Material) -> String {
    let (_, leaf) = X509Certificate::from_der(&material.chain[0]).unwrap();
    format!("0x{}", certificate::hex(leaf.raw_serial()))
}

/// Whether a peer that reads the published list accepts the leaf.
fn is_revoked(ca: &EmbeddedCa, material: &Material, at: SystemTime) -> bool {
    let pem = fs::read(ca.revocation_list()).unwrap();
    let lists: Vec<_> = rustls_pki_types::CertificateRevocationListDer::pem_slice_iter(&pem)
        .map(|list| webpki::OwnedCertRevocationList::from_der(&list.unwrap()).unwrap().into())
        .collect();
    let lists: Vec<&webpki::CertRevocationList<'_>> = lists.iter().collect();
    let revocation = webpki::RevocationOptionsBuilder::new(&lists)
        .unwrap()
        .with_status_policy(webpki::UnknownStatusPolicy::Deny)
        .build();
    let leaf = webpki::EndEntityCert::try_from(&material.chain[0]).unwrap();
    let anchors: Vec<_> = material
        .trust_anchors
        .iter()
        .map(|anchor| webpki::anchor_from_trusted_cert(anchor).unwrap())
        .collect();
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let verdict = leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &material.chain[1..],
        UnixTime::since_unix_epoch(seconds),
        webpki::KeyUsage::server_auth(),
        Some(revocation),
        None,
    );
    match verdict {
        Ok(_) => false,
        Err(webpki::Error::CertRevoked) => true,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_is_revoked_stays_so_through_further_revocations_and_rotations() {
    let directory = TempDir::new().unwrap();
    let mut ca = new_ca(&directory);
    let [first, second, third] = [(); 3].map(|()| ca.issue(&web(), now()).unwrap());
    ca.revoke(&[Revoke::parse(&serial_of(&first)).unwrap()], now()).unwrap();
    let file = certificate::to_pem(&second.chain[0]);
    ca.revoke(&[Revoke::certificate(file.as_bytes()).unwrap()], now() + HOUR).unwrap();
    let revoked = |ca: &EmbeddedCa| [&first, &second, &third].map(|one| is_revoked(ca, one, now()));
    assert_eq!(revoked(&ca), [true, true, false]);
    assert_eq!(ca.revoked().unwrap().len(), 2);
    assert_eq!(mode(&ca.revocation_list()), 0o644);

    let rotation = Rotation { new_signs_after: Duration::ZERO, old_trusted_for: 100 * HOUR };
    ca.rotate(&rotation, None, now() + HOUR).unwrap();
    let after = now() + 2 * HOUR;
    let fourth = ca.issue(&web(), after).unwrap();
    // The old authority signs its list still, though nothing else.
    ca.revoke(&[Revoke::parse(&serial_of(&third)).unwrap()], after).unwrap();
    assert_eq!(revoked(&ca), [true, true, true]);
    assert!(!is_revoked(&ca, &fourth, after));
    let file = certificate::to_pem(&fourth.chain[0]);
    ca.revoke(&[Revoke::certificate(file.as_bytes()).unwrap()], after).unwrap();
    assert!(is_revoked(&ca, &fourth, after));
    assert_eq!(ca.revoked().unwrap().len(), 4);
}

#[test]
fn what_others_signed_is_theirs_to_revoke() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut ca, other) = (new_ca(&ours), new_ca(&theirs));
    let foreign = certificate::to_pem(&other.issue(&web(), now()).unwrap().chain[0]);
    let refused = ca.revoke(&[Revoke::certificate(foreign.as_bytes()).unwrap()], now());
    assert!(matches!(refused, Err(CaError::NotOurs(_))), "{refused:?}");
    assert!(!ca.revocation_list().exists());
    fs::write(ca.revocation_list(), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        .unwrap();
    let refused = ca.revoke(&[Revoke::parse("1").unwrap()], now());
    assert!(matches!(refused, Err(CaError::List(_))), "{refused:?}");
}

#[test]
fn serial_numbers_are_read_as_people_have_them() {
    let rows = [
        ("255", Some("ff")),
        ("256", Some("0100")),
        ("0xABC", Some("0abc")),
        ("00:ab:cd", Some("abcd")),
        ("1461501637330902918203684832716283019655932542975", Some(&*"ff".repeat(20))),
        ("1461501637330902918203684832716283019655932542976", None),
        ("", None),
        ("0", None),
        ("0x", None),
        ("abc", None),
        ("-1", None),
        ("0x1g", None),
    ];
    for (text, want) in rows {
        let serial = Revoke::parse(text).map(|one| one.serial());
        assert_eq!(serial.as_deref(), want, "{text}");
    }
}
