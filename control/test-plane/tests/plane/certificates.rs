//! Who gets which certificate, and who gets none.

use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use ringway_control::proto::ca::IstioCertificateRequest;
use ringway_control::proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tonic::{Code, Status};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::support::{Running, run, switch};

const WEB: &str = "spiffe://cluster.local/ns/default/sa/web-account";

/// A request as node proxies send it.
fn request(identity: &str) -> IstioCertificateRequest {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.subject_alt_names = vec![SanType::URI(identity.try_into().unwrap())];
    impersonating(identity, &parameters)
}

fn impersonating(identity: &str, parameters: &CertificateParams) -> IstioCertificateRequest {
    let key = KeyPair::generate().unwrap();
    let csr = parameters.serialize_request(&key).unwrap().pem().unwrap();
    let kind = prost_types::value::Kind::StringValue(identity.to_owned());
    let value = prost_types::Value { kind: Some(kind) };
    let fields = [("ImpersonatedIdentity".to_owned(), value)].into();
    let metadata = Some(prost_types::Struct { fields });
    IstioCertificateRequest { csr, validity_duration: 3600, metadata }
}

async fn ask(
    running: &Running,
    node: &str,
    request: IstioCertificateRequest,
) -> Result<Vec<String>, Status> {
    let mut client = IstioCertificateServiceClient::new(running.connect(node).await);
    Ok(client.create_certificate(request).await?.into_inner().cert_chain)
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

#[test]
fn the_chain_leads_from_the_identity_to_the_root() {
    run(async {
        let running = Running::start();
        let chain = ask(&running, "host-a", request(WEB)).await.unwrap();
        let chain: Vec<_> = chain.iter().flat_map(|pem| certificates(pem)).collect();
        let parsed: Vec<_> =
            chain.iter().map(|der| X509Certificate::from_der(der).unwrap().1).collect();
        let [leaf, intermediate, root] = &parsed[..] else { panic!("{} links", parsed.len()) };
        leaf.verify_signature(Some(intermediate.public_key())).unwrap();
        intermediate.verify_signature(Some(root.public_key())).unwrap();
        root.verify_signature(None).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        assert!(names.critical, "without a subject the name must be critical");
        assert!(matches!(&names.value.general_names[..], [GeneralName::URI(WEB)]));
        let seconds =
            leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
        assert_eq!(seconds, 3600 + 120);
        assert_eq!(running.journal("certificate")[0]["identity"], WEB);
    });
}

#[test]
fn nobody_gets_what_runs_elsewhere_or_nowhere() {
    run(async {
        let running = Running::start();
        let nowhere = "spiffe://cluster.local/ns/default/sa/nobody";
        for (node, identity) in [("host-b", WEB), ("host-a", nowhere)] {
            let refused = ask(&running, node, request(identity)).await.unwrap_err();
            assert_eq!(refused.code(), Code::Unauthenticated, "{identity} from {node}");
        }
    });
}

#[test]
fn requests_must_have_their_shape() {
    run(async {
        let running = Running::start();
        let uri = || SanType::URI(WEB.try_into().unwrap());
        let mut subject = CertificateParams::default();
        subject.subject_alt_names = vec![uri()];
        subject.distinguished_name.push(DnType::CommonName, "web");
        let mut two = CertificateParams::default();
        two.distinguished_name = rcgen::DistinguishedName::new();
        two.subject_alt_names = vec![uri(), uri()];
        let mut none = CertificateParams::default();
        none.distinguished_name = rcgen::DistinguishedName::new();
        let nonsense = IstioCertificateRequest { csr: "nonsense".to_owned(), ..request(WEB) };
        let eternal = IstioCertificateRequest { validity_duration: 0, ..request(WEB) };
        let other = impersonating("spiffe://cluster.local/ns/default/sa/other", &{
            let mut parameters = two.clone();
            parameters.subject_alt_names.pop();
            parameters
        });
        for (wrong, request) in [
            ("a subject", impersonating(WEB, &subject)),
            ("two names", impersonating(WEB, &two)),
            ("no name", impersonating(WEB, &none)),
            ("nonsense", nonsense),
            ("no lifetime", eternal),
            ("impersonating another", other),
        ] {
            let refused = ask(&running, "host-a", request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{wrong}: {refused}");
        }
    });
}

#[test]
fn after_a_rotation_both_roots_are_in_the_last_element() {
    run(async {
        let running = Running::start();
        let before = ask(&running, "host-a", request(WEB)).await.unwrap();
        running.tell(json!({"order": "rotate-root", "keep": true}));
        let after = ask(&running, "host-a", request(WEB)).await.unwrap();
        let roots = certificates(after.last().unwrap());
        assert_eq!(roots.len(), 2);
        assert_eq!(roots[1], certificates(before.last().unwrap())[0]);
        running.tell(json!({"order": "rotate-root", "keep": false}));
        let alone = ask(&running, "host-a", request(WEB)).await.unwrap();
        assert_eq!(certificates(alone.last().unwrap()).len(), 1);
    });
}

#[test]
fn it_refuses_for_as_long_as_it_was_told_to() {
    run(async {
        let running = Running::start();
        running.tell(json!({"order": "refuse-certificates", "milliseconds": 600_000}));
        let refused = ask(&running, "host-a", request(WEB)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        running.tell(json!({"order": "refuse-certificates", "milliseconds": 0}));
        ask(&running, "host-a", request(WEB)).await.unwrap();
        running.tell(switch("stop", "ca"));
        let refused = ask(&running, "host-a", request(WEB)).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable);
    });
}
