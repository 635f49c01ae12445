//! TLS of clients outside the mesh, which ends here: by a listener's certificate, and by what clients show of themselves.
//!
//! ```text
//!  ListenerTls ─ Terminators ─▶ Terminator ─ terminate: the handshake ─▶ between ─▶ HTTP, or the relay
//! ```
//!
//! **Invariant:** nobody behind is told of a client, and nothing is dialled for it, before its handshake is over.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use ringway_http::{
    head::forwarding,
    model::{ClientCertificates, ClientDemand, ListenerTls},
};
use ringway_protocols::tls::LeafNames;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, ServerConnection,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    Between, Hello,
    between::Sending,
    handshake::{receive, send},
};
use crate::{
    accounts::Account,
    close::CloseReason,
    limits::{HANDSHAKE_READ_BYTES_MAX, TERMINATORS_MAX},
    runtime::TcpStream,
};

/// What listeners' certificates have been made into. One whose certificate changes is made anew.
#[derive(Default)]
pub(crate) struct Terminators(HashMap<Key, (ListenerTls, Rc<Terminator>)>);

/// Everything that a terminator is made of: where it stands, which is kept, so that it stays there.
type Key = (*const u8, *const u8, Option<(*const u8, ClientDemand)>);

/// How TLS ends at a listener.
pub(crate) struct Terminator {
    config: Arc<ServerConfig>,
    /// Who judges certificates that were let through unjudged.
    judge: Option<Arc<dyn ClientCertVerifier>>,
}

impl Terminators {
    /// How TLS ends at a listener.
    ///
    /// # Errors
    /// Its certificate, or those of the authorities of clients, cannot be used.
    pub(crate) fn of(&mut self, tls: &ListenerTls) -> Result<Rc<Terminator>, CloseReason> {
        let ListenerTls::Terminate { certificate_chain, private_key, clients } = tls else {
            return Err(unusable("the listener has no certificate"));
        };
        let clients =
            clients.as_ref().map(|clients| (clients.authorities.as_ptr(), clients.demand));
        let key = (certificate_chain.as_ptr(), private_key.as_ptr(), clients);
        if let Some((_, terminator)) = self.0.get(&key) {
            return Ok(terminator.clone());
        }
        let terminator = Rc::new(Terminator::new(tls).map_err(|why| unusable(&why))?);
        if self.0.len() >= TERMINATORS_MAX {
            self.0.clear();
        }
        self.0.insert(key, (tls.clone(), terminator.clone()));
        Ok(terminator)
    }
}

fn unusable(why: &str) -> CloseReason {
    CloseReason::IdentityUnavailable(why.to_owned())
}

impl Terminator {
    fn new(tls: &ListenerTls) -> Result<Self, String> {
        let ListenerTls::Terminate { certificate_chain, private_key, clients } = tls else {
            return Err("the listener has no certificate".to_owned());
        };
        let chain = certificates(certificate_chain)?;
        let key = PrivateKeyDer::from_pem_slice(private_key)
            .map_err(|error| format!("the private key cannot be read: {error}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let (builder, judge) = match clients {
            None => (builder.with_no_client_auth(), None),
            Some(clients) => {
                let verifier = verifier(clients, provider)?;
                match clients.demand {
                    ClientDemand::Valid | ClientDemand::ValidOrNone => {
                        (builder.with_client_cert_verifier(verifier), None)
                    }
                    ClientDemand::Anything => {
                        let lenient = Arc::new(Lenient(verifier.clone()));
                        (builder.with_client_cert_verifier(lenient), Some(verifier))
                    }
                }
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        if clients.is_some() {
            // Each connection is judged by a certificate that was shown for it.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), judge })
    }

    /// What backends are told of a client, by the chain that it has shown and proved to be its own.
    fn describe(&self, chain: &[CertificateDer<'_>]) -> Option<Rc<str>> {
        let (leaf, intermediates) = chain.split_first()?;
        if let Some(judge) = &self.judge
            && judge.verify_client_cert(leaf, intermediates, UnixTime::now()).is_err()
        {
            return None;
        }
        Some(forwarding::described(leaf, &LeafNames::of(leaf)).into())
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    all.map_err(|error| format!("a certificate cannot be read: {error}"))
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&clients.authorities)? {
        roots.add(root).map_err(|error| error.to_string())?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let builder = match clients.demand {
        ClientDemand::Valid => builder,
        ClientDemand::ValidOrNone | ClientDemand::Anything => builder.allow_unauthenticated(),
    };
    builder.build().map_err(|error| error.to_string())
}

/// Lets every certificate pass whose owner has its key.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Lenient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A client whose TLS has ended here.
pub(crate) struct Terminated {
    /// What it says comes out of here, and what is written here goes to it.
    pub(crate) near: Rc<TcpStream>,
    /// What backends may be told of its certificate.
    pub(crate) certificate: Option<Rc<str>>,
}

/// Shakes hands with a client that has said `hello`.
///
/// # Errors
/// Why there is no session: mostly it shows no certificate that the listener's authorities have signed.
pub(crate) async fn terminate(
    socket: TcpStream,
    hello: Hello,
    terminator: &Terminator,
    account: &Arc<Account>,
) -> Result<Terminated, CloseReason> {
    let session = ServerConnection::new(terminator.config.clone());
    let mut session = session.map_err(|error| unusable(&error.to_string()))?;
    let shaking = shake_hands(&socket, &hello.bytes, &mut session);
    if let Err(reason) = shaking.await {
        // Ends in order, so that the alert that says why is not lost. Best effort: it is over either way.
        let _ = session.write_tls(&mut Sending(&socket));
        let _ = socket.shutdown_write();
        return Err(reason);
    }
    let certificate = session.peer_certificates().and_then(|chain| terminator.describe(chain));
    let near = Between::join(Rc::new(socket), session.into(), account);
    Ok(Terminated { near, certificate })
}

async fn shake_hands(
    socket: &TcpStream,
    hello: &[u8],
    session: &mut ServerConnection,
) -> Result<(), CloseReason> {
    hear(session, hello)?;
    loop {
        send(socket, session).await.map_err(|_| CloseReason::HandshakeCut)?;
        if !session.is_handshaking() {
            return Ok(());
        }
        let received = receive(socket, HANDSHAKE_READ_BYTES_MAX)
            .await
            .map_err(|_| CloseReason::HandshakeCut)?;
        if received.is_empty() {
            return Err(CloseReason::HandshakeCut);
        }
        hear(session, &received)?;
    }
}

fn hear(session: &mut ServerConnection, mut unread: &[u8]) -> Result<(), CloseReason> {
    while !unread.is_empty() {
        session.read_tls(&mut unread).map_err(|_| CloseReason::HandshakeCut)?;
        session.process_new_packets().map_err(|error| CloseReason::Handshake(error.into()))?;
    }
    Ok(())
}
