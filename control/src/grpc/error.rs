//! Why there is no connection, or no call on it, in sentences that end with what to do.

use std::fmt;
use std::io;

use tokio_rustls::rustls::{self, CertificateError};
use tonic::Status;

use super::verifier::is_wrong_name;

/// Why there is no connection, or no call on it.
#[derive(Debug)]
pub enum GrpcError {
    /// An address is none.
    Address {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A header cannot be sent.
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The token cannot be used.
    Token {
        /// Which.
        of: String,
        /// What is wrong with it.
        why: String,
    },
    /// The roots cannot be used.
    Roots {
        /// Which.
        of: String,
        /// What is wrong with them.
        why: String,
    },
    /// The host has no address.
    Resolve {
        /// Its name.
        host: String,
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody answers there.
    Connect {
        /// Where.
        server: String,
        /// What the system said about the last address.
        error: io::Error,
    },
    /// The server is not who it should be, or no TLS server.
    Tls {
        /// Where.
        server: String,
        /// The roots it was held against.
        roots: String,
        /// What TLS said.
        error: io::Error,
    },
    /// The server does not speak HTTP/2.
    Http {
        /// Where.
        server: String,
        /// What the protocol said.
        error: String,
    },
}

impl fmt::Display for GrpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address { text, why } => write!(
                f,
                "{text:?} is not the address of a server: {why}; write it as https://HOST:PORT"
            ),
            Self::Header { name, why } => write!(f, "the header {name:?} cannot be sent: {why}"),
            Self::Token { of, why } => write!(
                f,
                "{of} {why}; it is what the control plane knows us by: is the service account's token mounted there?"
            ),
            Self::Roots { of, why } => write!(
                f,
                "{of} {why}; without them no server can be believed: is the authority's root mounted there?"
            ),
            Self::Resolve { host, error } => write!(
                f,
                "the host {host} has no address ({error}); does the Service exist, and does /etc/resolv.conf reach the cluster's DNS?"
            ),
            Self::Connect { server, error } => connect(f, server, error),
            Self::Tls { server, roots, error } => tls(f, server, roots, error),
            Self::Http { server, error } => {
                write!(f, "{server} does not speak HTTP/2: {error}; is it a gRPC port?")
            }
        }
    }
}

impl std::error::Error for GrpcError {}

impl From<GrpcError> for Status {
    fn from(error: GrpcError) -> Self {
        match &error {
            GrpcError::Token { .. } => Status::unauthenticated(error.to_string()),
            GrpcError::Address { .. } | GrpcError::Header { .. } => {
                Status::invalid_argument(error.to_string())
            }
            _ => Status::unavailable(error.to_string()),
        }
    }
}

/// How rustls says that a connection ended without an end, and on which page of its own one reads more.
const CUT: &str = "peer closed connection without sending TLS close_notify";

/// What a connection died of, cause by cause.
pub(crate) fn lost(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let words = causes.map(|cause| {
        let text = cause.to_string();
        match text.find(CUT) {
            Some(place) => format!(
                "{}the server is gone without a word (no TLS close_notify): was it ended, or does something in between cut connections?",
                &text[..place]
            ),
            None => text,
        }
    });
    words.collect::<Vec<_>>().join(": ")
}

fn connect(f: &mut fmt::Formatter<'_>, server: &str, error: &io::Error) -> fmt::Result {
    let hint = match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens on that port: is it running and ready?"
        }
        io::ErrorKind::TimedOut => {
            "nothing answers: does a firewall or NetworkPolicy stand in between?"
        }
        io::ErrorKind::NotFound => "there is no such socket: is the server running?",
        io::ErrorKind::PermissionDenied => "we may not: who owns the socket?",
        _ => "is there a way to it?",
    };
    write!(f, "no connection to {server} ({error}); {hint}")
}

fn tls(f: &mut fmt::Formatter<'_>, server: &str, roots: &str, error: &io::Error) -> fmt::Result {
    let of_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match of_tls {
        Some(rustls::Error::InvalidCertificate(why)) => certificate(f, server, roots, why),
        Some(rustls::Error::InvalidMessage(_)) => {
            write!(f, "{server} does not speak TLS ({error}); is it its plaintext port?")
        }
        _ => write!(f, "the TLS handshake with {server} failed: {error}"),
    }
}

fn certificate(
    f: &mut fmt::Formatter<'_>,
    server: &str,
    roots: &str,
    why: &CertificateError,
) -> fmt::Result {
    let error = rustls::Error::InvalidCertificate(why.clone());
    match why {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => write!(
            f,
            "{server} shows a certificate that none of {roots} has signed; is that the root of the authority that the server has its certificate from?"
        ),
        _ if is_wrong_name(&error) => write!(
            f,
            "{server} shows a certificate for another name ({error}); dial it by a name that it has, or give that as the alternative host name"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => write!(
            f,
            "{server} shows a certificate that has expired ({error}); is the clock of one of the two hosts wrong?"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => write!(
            f,
            "{server} shows a certificate that is not valid yet ({error}); is the clock of one of the two hosts wrong?"
        ),
        _ => write!(f, "{server} shows a certificate that cannot be used: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_was_cut_is_told_in_our_words() {
        let cut = format!(
            "{CUT}: https://docs.rs/rustls/latest/rustls/manual/_03_howto/index.html#unexpected-eof"
        );
        let told = lost(&io::Error::other(io::Error::new(io::ErrorKind::UnexpectedEof, cut)));
        assert!(told.contains("was it ended") && !told.contains("docs.rs"), "{told}");
    }

    /// What is looked for is what it says.
    #[test]
    fn it_is_rustls_that_says_so() {
        use std::io::Read;
        let config = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        client.read_tls(&mut io::empty()).unwrap();
        let error = client.reader().read(&mut [0; 1]).unwrap_err();
        assert!(error.to_string().starts_with(CUT), "{error}");
    }
}
