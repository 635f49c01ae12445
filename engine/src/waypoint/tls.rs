//! TLS of clients outside the mesh, which ends here: a task between the client's socket and one end of a pair in
//! memory, so that everything behind it has a plain connection.

use std::{
    collections::HashMap,
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use ringway_http::model::ListenerTls;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{Acceptor, WebPkiClientVerifier},
};

use crate::{
    close::CloseReason,
    limits::{CLIENT_HELLO_BYTES_MAX, INNER_TUNNEL_BYTES_MAX, TERMINATORS_MAX},
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
    session.set_buffer_limit(Some(INNER_TUNNEL_BYTES_MAX));
    let mut unread = &hello.bytes[..];
    while !unread.is_empty() {
        session.read_tls(&mut unread).map_err(|_| CloseReason::HandshakeCut)?;
    }
    let (near, far) = TcpStream::pair(INNER_TUNNEL_BYTES_MAX);
    let mut between = Between {
        socket,
        far,
        session,
        held: Vec::new(),
        client_ended: false,
        server_ended: false,
    };
    runtime::spawn(async move {
        if poll_fn(|cx| between.poll(cx)).await.is_err() {
            between.far.reset_on_close();
            between.socket.reset_on_close();
        }
    });
    Ok(Rc::new(near))
}

/// The task between the two.
struct Between {
    socket: TcpStream,
    far: TcpStream,
    session: ServerConnection,
    /// What the client has said and nobody has taken.
    held: Vec<u8>,
    client_ended: bool,
    server_ended: bool,
}

impl Between {
    /// Ready when both directions have ended, or one was aborted.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut moved = self.decrypt()?;
            moved |= self.deliver(cx)?;
            moved |= self.take(cx)?;
            moved |= self.send(cx)?;
            moved |= self.receive(cx)?;
            if !moved {
                break;
            }
        }
        if self.server_ended && !self.session.wants_write() {
            // The client may go on talking; nobody listens.
            let _ = self.socket.shutdown_write();
            return Poll::Ready(Ok(()));
        }
        if self.far.poll_closed(cx).is_ready() && self.far.is_aborted() {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        Poll::Pending
    }

    /// Reads from the client, unless what it said before waits.
    fn receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.client_ended || !self.held.is_empty() || !self.session.wants_read() {
            return Ok(false);
        }
        if self.socket.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        let read = runtime::scratch(|scratch| {
            let most = scratch.len().min(runtime::visit_bytes_max()).min(CLIENT_HELLO_BYTES_MAX);
            let read = match self.socket.try_read(&mut scratch[..most]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                other => other?,
            };
            let mut unread = &scratch[..read];
            while !unread.is_empty() {
                self.session.read_tls(&mut unread)?;
                self.session.process_new_packets().map_err(io::Error::other)?;
                drain(&mut self.session, &mut self.held, &mut self.client_ended)?;
            }
            Ok::<_, io::Error>(Some(read))
        })?;
        let Some(read) = read else { return Ok(false) };
        runtime::moved_bytes(read);
        if read == 0 {
            // Without close_notify, and so cut: never a clean end.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(true)
    }

    /// What came with the first message.
    fn decrypt(&mut self) -> io::Result<bool> {
        if let Err(error) = self.session.process_new_packets() {
            // The alert that says why. Best effort: it is over either way.
            let _ = self.session.write_tls(&mut Sending(&self.socket));
            return Err(io::Error::other(error));
        }
        let before = self.held.len();
        drain(&mut self.session, &mut self.held, &mut self.client_ended)?;
        Ok(self.held.len() > before)
    }

    fn deliver(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.held.is_empty() {
            if self.client_ended && !self.far.is_hung_up() {
                // Told more than once it is the same.
                let _ = self.far.shutdown_write();
            }
            return Ok(false);
        }
        if self.far.poll_writable(cx).is_pending() {
            return Ok(false);
        }
        match self.far.try_write(&self.held) {
            Ok(written) => {
                self.held.drain(..written);
                Ok(written > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes what is for the client.
    fn take(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if self.server_ended || self.session.wants_write() || self.session.is_handshaking() {
            return Ok(false);
        }
        if self.far.poll_readable(cx).is_pending() {
            return Ok(false);
        }
        runtime::scratch(|scratch| {
            match self.far.try_read(&mut scratch[..INNER_TUNNEL_BYTES_MAX / 2]) {
                Ok(0) => {
                    self.server_ended = true;
                    self.session.send_close_notify();
                    Ok(true)
                }
                Ok(read) => {
                    self.session.writer().write_all(&scratch[..read])?;
                    Ok(true)
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut sent = false;
        while self.session.wants_write() && self.socket.poll_writable(cx).is_ready() {
            match self.session.write_tls(&mut Sending(&self.socket)) {
                Ok(_) => sent = true,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }
}

/// Moves what was decrypted.
fn drain(session: &mut ServerConnection, held: &mut Vec<u8>, ended: &mut bool) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match session.reader().read(&mut buffer) {
            Ok(0) => {
                *ended = true;
                return Ok(());
            }
            Ok(read) => held.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A socket to write to, as `std` has it.
struct Sending<'a>(&'a TcpStream);

impl Write for Sending<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_writev(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
