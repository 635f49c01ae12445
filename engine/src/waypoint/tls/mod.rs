//! TLS of clients outside the mesh, which ends here, and TLS to backends, which begins here: a task ([`between`]) between
//! the socket and one end of a pair in memory, so that everything behind it has a plain connection.

mod between;
mod originate;

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    rc::Rc,
    sync::Arc,
};

use ringway_http::model::ListenerTls;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{Acceptor, WebPkiClientVerifier},
};

use self::between::Between;
pub(crate) use self::originate::{Originator, Originators, Through, originate, originator};
use crate::{
    close::CloseReason,
    limits::{CLIENT_HELLO_BYTES_MAX, TERMINATORS_MAX},
    runtime::{self, TcpStream},
};

/// What a client has said first.
pub(crate) struct Hello {
    /// As it came.
    pub(crate) bytes: Vec<u8>,
    pub(crate) server_name: Option<Box<str>>,
}

/// Reads a client's first message.
///
/// # Errors
/// What came is none, or the client left.
pub(crate) async fn client_hello(socket: &TcpStream) -> Result<Hello, CloseReason> {
    let mut bytes = Vec::new();
    loop {
        let mut acceptor = Acceptor::default();
        let mut unread = &bytes[..];
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread).map_err(|_| CloseReason::HandshakeCut)?;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let server_name = accepted.client_hello().server_name().map(Into::into);
                return Ok(Hello { bytes, server_name });
            }
            Ok(None) if bytes.len() < CLIENT_HELLO_BYTES_MAX => {}
            _ => return Err(CloseReason::HandshakeCut),
        }
        read_more(socket, &mut bytes).await?;
    }
}

async fn read_more(socket: &TcpStream, bytes: &mut Vec<u8>) -> Result<(), CloseReason> {
    loop {
        socket.readable().await;
        let read = runtime::scratch(|scratch| {
            let read = socket.try_read(&mut scratch[..CLIENT_HELLO_BYTES_MAX])?;
            bytes.extend_from_slice(&scratch[..read]);
            Ok::<_, io::Error>(read)
        });
        match read {
            Ok(0) => return Err(CloseReason::HandshakeCut),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(CloseReason::DialFailed(error.kind())),
        }
    }
}

/// What listeners' certificates have been made into. One whose certificate changes is made anew.
#[derive(Default)]
pub(crate) struct Terminators(HashMap<(usize, usize), (ListenerTls, Arc<ServerConfig>)>);

impl Terminators {
    /// How TLS ends at a listener.
    ///
    /// # Errors
    /// Its certificate cannot be used.
    pub(crate) fn of(&mut self, tls: &ListenerTls) -> Result<Arc<ServerConfig>, CloseReason> {
        let ListenerTls::Terminate { certificate_chain, private_key, .. } = tls else {
            return Err(unusable("the listener has no certificate"));
        };
        // What is kept holds both, so that their addresses stay theirs.
        let key = (certificate_chain.as_ptr() as usize, private_key.as_ptr() as usize);
        if let Some((_, config)) = self.0.get(&key) {
            return Ok(config.clone());
        }
        let config = Arc::new(config(tls).map_err(|why| unusable(&why))?);
        if self.0.len() >= TERMINATORS_MAX {
            self.0.clear();
        }
        self.0.insert(key, (tls.clone(), config.clone()));
        Ok(config)
    }
}

fn unusable(why: &str) -> CloseReason {
    CloseReason::IdentityUnavailable(why.to_owned())
}

fn config(tls: &ListenerTls) -> Result<ServerConfig, String> {
    let ListenerTls::Terminate { certificate_chain, private_key, client_authorities } = tls else {
        return Err("the listener has no certificate".to_owned());
    };
    let certificates = |pem: &[u8]| {
        let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        all.map_err(|error| format!("a certificate cannot be read: {error}"))
    };
    let chain = certificates(certificate_chain)?;
    let key = PrivateKeyDer::from_pem_slice(private_key)
        .map_err(|error| format!("the private key cannot be read: {error}"))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match client_authorities {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(authorities)? {
                roots.add(root).map_err(|error| error.to_string())?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Ends a client's TLS: what it says comes out of the socket that is returned, and what is written there goes to it.
///
/// # Errors
/// Nothing of what it said first is right.
pub(crate) fn terminate(
    socket: TcpStream,
    hello: Hello,
    config: Arc<ServerConfig>,
) -> Result<Rc<TcpStream>, CloseReason> {
    let mut session =
        ServerConnection::new(config).map_err(|error| unusable(&error.to_string()))?;
    let mut unread = &hello.bytes[..];
    while !unread.is_empty() {
        session.read_tls(&mut unread).map_err(|_| CloseReason::HandshakeCut)?;
    }
    Ok(Between::join(Rc::new(socket), session.into()))
}
