//! The certificate service, as strict as istiod is and a little stricter: what proxies ask for must have the shape it
//! is documented to have.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateSigningRequestParams, PublicKey};
use ringway_control::proto::ca::istio_certificate_service_server::IstioCertificateService;
use ringway_control::proto::ca::{IstioCertificateRequest, IstioCertificateResponse};
use ringway_protocols::identity::Identity;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tonic::{Request, Response, Status};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256,
};
use x509_parser::prelude::FromDer;

use crate::controls::Service;
use crate::discovery::told_headers;
use crate::plane::Plane;

/// What a certificate request asks for.
struct Asked {
    identity: String,
    key: PublicKey,
}

/// The service, of one plane.
#[derive(Clone)]
pub(crate) struct Certificates {
    plane: Arc<Plane>,
}

impl Certificates {
    /// The service of `plane`.
    pub(crate) fn new(plane: Arc<Plane>) -> Certificates {
        Certificates { plane }
    }

    fn answer(
        &self,
        request: &Request<IstioCertificateRequest>,
    ) -> Result<(String, Vec<String>), Status> {
        self.plane.controls.check(Service::Ca)?;
        let world = self.plane.worlds.current();
        let caller = self.plane.tokens.check(request.metadata(), &world.cluster)?;
        let message = request.get_ref();
        let asked = read(&message.csr)
            .map_err(|problem| Status::invalid_argument(format!("the request: {problem}")))?;
        let seconds = u64::try_from(message.validity_duration).unwrap_or_default();
        if seconds == 0 {
            return Err(Status::invalid_argument("validity_duration must be above 0"));
        }
        let identity = match (&caller.gateway, impersonated(message)) {
            // Processes of a Gateway are nobody else.
            (Some(_), None) => asked.identity.clone(),
            (Some(_), Some(_)) => {
                return Err(Status::unauthenticated("impersonation is for node proxies"));
            }
            (None, impersonated) => {
                impersonated.ok_or_else(|| Status::unauthenticated("no impersonated identity"))?
            }
        };
        if identity != asked.identity {
            return Err(Status::invalid_argument("request and impersonated identity differ"));
        }
        let who = Identity::parse(&identity)
            .map_err(|error| Status::invalid_argument(format!("{identity}: {error}")))?;
        let may = match &caller.gateway {
            None => world.runs_on(&caller.node, who.namespace(), who.service_account()),
            Some(gateway) => {
                (who.namespace(), who.service_account())
                    == (gateway.namespace.as_str(), gateway.service_account.as_str())
            }
        };
        if !may {
            return Err(Status::unauthenticated("authentication failure"));
        }
        let lifetime = Duration::from_secs(seconds).min(self.plane.leaf_lifetime_max);
        let authority = self.plane.authority.lock().expect("no holder of the authority panics");
        let chain = authority
            .issue(&identity, &asked.key, lifetime)
            .map_err(|error| Status::internal(format!("{error:#}")))?;
        Ok((identity, chain))
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Certificates {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        self.plane.controls.think(Service::Ca).await;
        let answer = self.answer(&request);
        let line = json!({
            "headers": told_headers(request.metadata()),
            "validity": request.get_ref().validity_duration,
            "impersonated": impersonated(request.get_ref()),
            "identity": answer.as_ref().ok().map(|(identity, _)| identity),
            "error": answer.as_ref().err().map(Status::to_string),
        });
        self.plane.journal.record("certificate", line);
        let (_, cert_chain) = answer?;
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn impersonated(request: &IstioCertificateRequest) -> Option<String> {
    let metadata = request.metadata.as_ref()?;
    match &metadata.fields.get("ImpersonatedIdentity")?.kind {
        Some(prost_types::value::Kind::StringValue(identity)) => Some(identity.clone()),
        _ => None,
    }
}

/// Reads a request and checks all that is said of its shape: an ECDSA P-256 key, signed with SHA-256, an empty
/// subject, and one extension: a critical subjectAltName with one URI.
fn read(pem: &str) -> Result<Asked, String> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| format!("no PEM: {error}"))?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|error| format!("no PKCS#10: {error}"))?;
    if !rest.is_empty() {
        return Err("something follows it".to_owned());
    }
    request.verify_signature().map_err(|error| format!("its signature: {error}"))?;
    let info = &request.certification_request_info;
    if info.subject.iter().next().is_some() {
        return Err("the subject is not empty".to_owned());
    }
    let key = &info.subject_pki.algorithm;
    let curve = key.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    if key.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY || curve != Some(OID_EC_P256) {
        return Err("the key is not ECDSA P-256".to_owned());
    }
    if request.signature_algorithm.algorithm != OID_SIG_ECDSA_WITH_SHA256 {
        return Err("it is not signed with ECDSA and SHA-256".to_owned());
    }
    let identity = the_uri(&request)?;
    let parameters = CertificateSigningRequestParams::from_der(&der);
    let key = parameters.map_err(|error| error.to_string())?.public_key;
    Ok(Asked { identity, key })
}

fn the_uri(request: &X509CertificationRequest<'_>) -> Result<String, String> {
    let attributes = request.certification_request_info.iter_attributes();
    let extensions: Vec<_> = attributes
        .filter_map(|attribute| match attribute.parsed_attribute() {
            x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(requested) => {
                Some(&requested.extensions)
            }
            _ => None,
        })
        .flatten()
        .collect();
    let [extension] = extensions[..] else {
        return Err(format!("{} extensions instead of one", extensions.len()));
    };
    let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() else {
        return Err("the extension is no subjectAltName".to_owned());
    };
    if !extension.critical {
        return Err("the subjectAltName is not critical".to_owned());
    }
    match &names.general_names[..] {
        [GeneralName::URI(uri)] => Ok((*uri).to_owned()),
        other => Err(format!("the names are {other:?} instead of one URI")),
    }
}
