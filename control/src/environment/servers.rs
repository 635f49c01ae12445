//! The servers of the control plane: where they are, what they must show, and what they are told about us.

use std::path::Path;

use super::layers::Layers;
use super::reader::{HIDDEN, Origin, Reader};
use super::values::Form;
use crate::grpc::{self, Address, Endpoint, Roots, TokenSource};

const ROOTS_FILE: &str = "./var/run/secrets/istio/root-cert.pem";
const IN_CLUSTER: &str = "https://istiod.istio-system.svc:15012";
const OUT_OF_CLUSTER: &str = "https://localhost:15012";

/// Who we are, to both of them.
#[derive(Clone)]
pub(super) struct Caller {
    /// The cluster we are in.
    pub(super) cluster: String,
    /// The token, if there is one.
    pub(super) token: Option<TokenSource>,
    /// Whether only post-quantum key exchange is spoken.
    pub(super) post_quantum_only: bool,
}

/// What the variables of one server are called.
struct Names {
    roots: &'static str,
    alternative_hostname: &'static str,
    headers: &'static str,
}

const DISCOVERY: Names = Names {
    roots: "XDS_ROOT_CA",
    alternative_hostname: "ALT_XDS_HOSTNAME",
    headers: "XDS_HEADER_",
};

const AUTHORITY: Names =
    Names { roots: "CA_ROOT_CA", alternative_hostname: "ALT_CA_HOSTNAME", headers: "CA_HEADER_" };

/// Where the mesh is described. Empty means nowhere, in the variable as well as in a file.
pub(super) fn discovery(reader: &mut Reader, files: &Layers, caller: &Caller) -> Option<Endpoint> {
    let from_file = files.find(|layer| layer.discovery_address.clone());
    let (text, origin) = match reader.raw("XDS_ADDRESS") {
        Some(text) => (text, Origin::Variable("XDS_ADDRESS".to_owned())),
        None => from_file.unwrap_or_else(|| (usual_address(reader), Origin::Default)),
    };
    let mut address = None;
    if text.is_empty() {
        reader.note("XDS_ADDRESS", "none".to_owned(), origin);
    } else {
        match Address::parse(&text) {
            Some(found) => {
                reader.note("XDS_ADDRESS", found.show(), origin);
                address = Some(found);
            }
            None => reader.wrong("XDS_ADDRESS", &text, Address::EXPECTED),
        }
    }
    endpoint(reader, &DISCOVERY, address, caller)
}

/// Who signs certificates; nobody but ourselves where that is `fake`.
pub(super) fn certificate_authority(
    reader: &mut Reader,
    fake: bool,
    caller: &Caller,
) -> Option<Endpoint> {
    let given = reader.unnoted::<Address>("CA_ADDRESS");
    let origin =
        given.as_ref().map_or(Origin::Default, |_| Origin::Variable("CA_ADDRESS".to_owned()));
    let address = given.or_else(|| Address::parse(&usual_address(reader)));
    let shown = match &address {
        Some(address) if !fake => address.show(),
        _ => "none, FAKE_CA signs".to_owned(),
    };
    reader.note("CA_ADDRESS", shown, origin);
    endpoint(reader, &AUTHORITY, address.filter(|_| !fake), caller)
}

/// Reads what belongs to a server in any case, so that a mistake in it is told.
fn endpoint(
    reader: &mut Reader,
    names: &Names,
    address: Option<Address>,
    caller: &Caller,
) -> Option<Endpoint> {
    let roots = roots(reader, names.roots);
    let alternative_hostname = reader.optional(names.alternative_hostname);
    let headers = headers(reader, names.headers);
    let Caller { cluster, token, post_quantum_only } = caller.clone();
    Some(Endpoint {
        uri: address?,
        roots,
        alternative_hostname,
        token,
        cluster_id: cluster,
        headers,
        post_quantum_only,
    })
}

fn usual_address(reader: &mut Reader) -> String {
    let in_cluster = reader.text("KUBERNETES_SERVICE_HOST").is_some();
    if in_cluster { IN_CLUSTER.to_owned() } else { OUT_OF_CLUSTER.to_owned() }
}

/// Certificates themselves are long, so only that they are there is shown.
fn roots(reader: &mut Reader, name: &'static str) -> Roots {
    let given = reader.text(name);
    let origin = given.as_ref().map_or(Origin::Default, |_| Origin::Variable(name.to_owned()));
    let text = given.unwrap_or_else(|| ROOTS_FILE.to_owned());
    let roots = Roots::of_setting(&text);
    let shown = match &roots {
        Roots::Pem(pem) => format!("PEM, {} bytes", pem.len()),
        Roots::File(_) | Roots::System => text,
    };
    reader.note(name, shown, origin);
    roots
}

fn headers(
    reader: &mut Reader,
    prefix: &'static str,
) -> Vec<(hyper::header::HeaderName, hyper::header::HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in reader.family(prefix) {
        let variable = format!("{prefix}{name}");
        match grpc::header(&name, &value) {
            Ok((name, mut value)) => {
                // Nobody knows what it is; it may be a key.
                value.set_sensitive(true);
                headers.push((name, value));
                let origin = Origin::Variable(variable.clone());
                reader.note(&variable, HIDDEN.to_owned(), origin);
            }
            Err(error) => reader.mistake(&variable, error.to_string()),
        }
    }
    headers
}

/// The token that is given, else the usual file if it is there.
pub(super) fn token(reader: &mut Reader, usual: &Path) -> Option<TokenSource> {
    let (token, origin) = match reader.text("AUTH_TOKEN") {
        Some(text) => (TokenSource::of_setting(&text), Origin::Variable("AUTH_TOKEN".to_owned())),
        None if usual.exists() => (TokenSource::File(usual.to_owned()), Origin::Default),
        None => {
            reader.note_variable("AUTH_TOKEN", None);
            return None;
        }
    };
    let shown = match &token {
        TokenSource::File(path) => path.display().to_string(),
        TokenSource::Literal(_) => HIDDEN.to_owned(),
    };
    reader.note("AUTH_TOKEN", shown, origin);
    Some(token)
}
