//! `trafficPolicy.tls` of a DestinationRule: TLS to a service's endpoints.
//!
//! | mode | what comes of it |
//! |---|---|
//! | `DISABLE`, `ISTIO_MUTUAL` | nothing beside the mesh's own, which is there in any case |
//! | `SIMPLE` | the endpoint's certificate is verified |
//! | `MUTUAL` | the same, and we show one of ours |

use std::path::Path;
use std::sync::Arc;

use ringway_http::model::traffic::{
    AlternativeName, Belief, ClientCertificate, TlsOrigination, TlsSettings,
};
use ringway_protocols::tls::RevocationLists;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::grpc;
use crate::source::diagnostics::{Problem, Reporter};
use crate::source::gateway::read_file;
use crate::source::yaml::fields::{Fields, list, mapping};
use crate::source::yaml::scalars::{boolean, is_host, nonempty, word};
use crate::source::yaml::value::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Simple,
    Mutual,
}

const MODES: &[(&str, Mode)] = &[
    ("DISABLE", Mode::Plain),
    ("ISTIO_MUTUAL", Mode::Plain),
    ("SIMPLE", Mode::Simple),
    ("MUTUAL", Mode::Mutual),
];

/// What is said of TLS to `host`; the inner `None`: that there is none beside the mesh's.
pub(super) fn client_tls(
    value: &Value,
    host: &str,
    directory: &Path,
    reporter: &mut Reporter,
) -> Option<Option<TlsOrigination>> {
    mapping("tls", value, reporter, |fields| {
        let mode = fields.optional("mode", word(MODES)).unwrap_or(Mode::Plain);
        fields.refuse(&["credentialName"]);
        let file = |fields: &mut Fields<'_, '_>, key| {
            fields.optional(key, |value, reporter| pem(value, directory, reporter))
        };
        let authorities = file(fields, "caCertificates");
        let revoked = fields
            .optional("caCrl", |value, reporter| revocation_lists(value, directory, reporter));
        let (chain, key) = (file(fields, "clientCertificate"), file(fields, "privateKey"));
        let sni = fields.optional("sni", nonempty);
        let names = fields.optional("subjectAltNames", |value, reporter| {
            list(value, reporter, |value, reporter| {
                nonempty(value, reporter).map(AlternativeName::read)
            })
        });
        let skip = fields.optional("insecureSkipVerify", boolean).unwrap_or(false);
        if mode == Mode::Plain {
            return Some(None);
        }
        let client = chain.zip(key).map(|(chain, key)| ClientCertificate { chain, key });
        if (mode == Mode::Mutual) != client.is_some() {
            let message =
                "`MUTUAL` goes with `clientCertificate` and `privateKey`, and nothing else does";
            let place = fields.place("mode");
            fields.reporter.report(Problem::error(place, message));
        }
        let server_name = sni.unwrap_or(host);
        if !server_name.contains('.') || !is_host(server_name) {
            let message = format!("a server is not called `{server_name}` in its certificate");
            let help = "write the whole name of the server as `sni`".to_owned();
            let place = fields.place("mode");
            fields.reporter.report(Problem::error(place, message).help(help));
        }
        if skip {
            let message = "whoever answers is believed: `insecureSkipVerify`";
            let place = fields.place("insecureSkipVerify");
            fields.reporter.report(Problem::warning(place, message));
        }
        let names = names.unwrap_or_default();
        let belief = match (skip, names.is_empty()) {
            (true, _) => Belief::Anybody,
            (false, true) => Belief::ServerName,
            (false, false) => Belief::OneOf(names),
        };
        let server_name = server_name.into();
        let by = |authorities| {
            let settings = TlsSettings { server_name, authorities, revoked, belief, client };
            TlsOrigination::By(Arc::new(settings))
        };
        Some(Some(match (authorities, skip) {
            (Some(authorities), _) => by(authorities),
            (None, true) => by(Arc::from(&b""[..])),
            (None, false) => match grpc::system_roots() {
                Ok(roots) => by(roots.into()),
                Err(why) => TlsOrigination::Broken(why.into()),
            },
        }))
    })?
}

/// What a file holds that is named relative to the document's directory.
fn pem(value: &Value, directory: &Path, reporter: &mut Reporter) -> Option<Arc<[u8]>> {
    checked(value, directory, reporter, |bytes| {
        let is_pem = bytes.windows(11).any(|some| some == b"-----BEGIN ");
        let whole = CertificateDer::pem_slice_iter(bytes).all(|one| one.is_ok());
        if is_pem && whole { Ok(()) } else { Err("holds nothing in PEM".to_owned()) }
    })
}

/// The same of a file of revocation lists; one without any revokes nothing.
fn revocation_lists(value: &Value, directory: &Path, reporter: &mut Reporter) -> Option<Arc<[u8]>> {
    checked(value, directory, reporter, |bytes| {
        RevocationLists::from_pem(bytes).map(drop).map_err(|error| error.to_string())
    })
}

fn checked(
    value: &Value,
    directory: &Path,
    reporter: &mut Reporter,
    check: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Option<Arc<[u8]>> {
    let path = directory.join(nonempty(value, reporter)?);
    let read = read_file(&path).and_then(|bytes| check(&bytes).map(|()| bytes));
    match read {
        Ok(bytes) => Some(bytes.into()),
        Err(why) => {
            let message = format!("{}: {why}", path.display());
            reporter.report(Problem::error(value.place, message));
            None
        }
    }
}
