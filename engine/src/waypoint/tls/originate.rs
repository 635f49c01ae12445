//! TLS to a backend, as policies ask for it: over a socket, or over a stream in a tunnel.
//!
//! ```text
//!  TlsSettings ─ Originators ─▶ Originator ─ originate: room, steps, deadline ─▶ between ─▶ HTTP, or the relay
//! ```
//!
//! **Invariant:** where policies ask for TLS, a backend is sent nothing in the clear, whatever is wrong with them.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use ringway_http::model::traffic::{self, TlsOrigination, TlsSettings};
use ringway_protocols::tls;
use rustls::{ClientConfig, ClientConnection, pki_types::ServerName};

use super::{
    between::{Between, Sending},
    handshake::{receive, send},
};
use crate::{
    close::{BackendTls, CloseReason},
    handshakes::Handshaking,
    limits::{CLIENT_HELLO_BYTES_MAX, HANDSHAKE_TIMEOUT, ORIGINATORS_MAX},
    reach::Call,
    runtime::{self, TcpStream},
    waypoint::serve::Downstream,
};

/// What sessions with a backend are made of.
#[derive(Debug)]
pub(crate) struct Originator {
    /// Nobody else's, ever: what was dialled with other settings is never taken for it.
    pub(crate) id: u64,
    server_name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

/// Through what a backend is spoken to.
#[derive(Clone, Copy)]
pub(crate) struct Through<'o> {
    pub(crate) originator: &'o Originator,
    /// What is spoken inside, as TLS names it (RFC 7301); none: it does not say.
    pub(crate) protocol: Option<&'static [u8]>,
}

/// What begins TLS to a backend as a policy says.
///
/// # Errors
/// The policy says nothing that can be used. It is counted.
pub(crate) fn originator(
    downstream: &Downstream,
    tls: &TlsOrigination,
) -> Result<Rc<Originator>, CloseReason> {
    let originators = &downstream.pod.l7.kept().originators;
    originators.borrow_mut().of(tls).map_err(|why| {
        downstream.shard.telemetry.http().backend_tls_failed(&why);
        CloseReason::BackendTls(why)
    })
}

/// What policies' settings have been made into on this shard. Those that say the same are the same.
#[derive(Default)]
pub(crate) struct Originators {
    /// By the address of the settings, which stays theirs while they are held here.
    known: HashMap<usize, (Arc<TlsSettings>, Made)>,
    ids: u64,
}

/// Settings that cannot be used stay so, and are not tried again for each request.
type Made = Result<Rc<Originator>, Rc<str>>;

impl Originators {
    /// How TLS begins as a policy says.
    ///
    /// # Errors
    /// It says nothing that can be used.
    fn of(&mut self, tls: &TlsOrigination) -> Result<Rc<Originator>, BackendTls> {
        let made = match tls {
            TlsOrigination::By(settings) => self.made(settings),
            TlsOrigination::Broken(why) => Err(Rc::from(&**why)),
        };
        made.map_err(|why| BackendTls::Unusable(why.to_string()))
    }

    fn made(&mut self, settings: &Arc<TlsSettings>) -> Made {
        let key = Arc::as_ptr(settings) as usize;
        if let Some((_, made)) = self.known.get(&key) {
            return made.clone();
        }
        // After a reload they are other ones, and mostly say what they said before.
        let same = self.known.values().find(|(known, _)| known == settings);
        let made = match same {
            Some((_, made)) => made.clone(),
            None => {
                self.ids += 1;
                Originator::new(settings, self.ids).map(Rc::new)
            }
        };
        if self.known.len() >= ORIGINATORS_MAX {
            self.known.clear();
        }
        self.known.insert(key, (settings.clone(), made.clone()));
        made
    }
}

impl Originator {
    fn new(settings: &TlsSettings, id: u64) -> Result<Self, Rc<str>> {
        let name = &settings.server_name;
        let server_name = ServerName::try_from(name.to_string())
            .map_err(|_| format!("{name:?} is the name of no server"))?;
        let client = settings.client.as_ref();
        let origination = tls::Origination {
            authorities: &settings.authorities,
            revoked: settings.revoked.as_deref().unwrap_or_default(),
            belief: belief(&settings.belief),
            client: client.map(|client| (&*client.chain, &*client.key)),
        };
        let config = origination.client_config().map_err(|error| error.to_string())?;
        Ok(Self { id, server_name, config })
    }
}

/// The same in the words of TLS.
fn belief(said: &traffic::Belief) -> tls::Belief<'_> {
    use traffic::{AlternativeName, Belief};
    match said {
        Belief::ServerName => tls::Belief::ServerName,
        Belief::OneOf(names) => tls::Belief::OneOf(
            names
                .iter()
                .map(|name| match name {
                    AlternativeName::Host(host) => tls::AlternativeName::Host(host),
                    AlternativeName::Uri(uri) => tls::AlternativeName::Uri(uri),
                })
                .collect(),
        ),
        Belief::AnyName => tls::Belief::AnyName,
        Belief::Anybody => tls::Belief::Anybody,
    }
}

/// Shakes hands with the backend at the other end of `socket`, within [`HANDSHAKE_TIMEOUT`] and in the pod's share of the
/// shard's steps: what it is sent goes into the end that is returned.
///
/// # Errors
/// Why there is no session. It is counted.
pub(crate) async fn originate(
    call: &Call<'_>,
    socket: Rc<TcpStream>,
    through: Through<'_>,
) -> Result<Rc<TcpStream>, CloseReason> {
    let Call { shard, pod, .. } = call;
    if let Err(limit) = shard.handshakes.room(&pod.handshakes) {
        return Err(CloseReason::LimitReached(pod.account.refused(limit)));
    }
    let handshaking = shard.handshakes.begin_own(&pod.handshakes);
    let shaking = Box::pin(shake_hands(&socket, through, &handshaking));
    let outcome = runtime::timeout(HANDSHAKE_TIMEOUT, shaking).await;
    match outcome.unwrap_or(Err(BackendTls::TimedOut)) {
        Ok(session) => Ok(Between::join(socket, session.into(), &pod.account)),
        Err(why) => {
            socket.reset_on_close();
            shard.telemetry.http().backend_tls_failed(&why);
            Err(CloseReason::BackendTls(why))
        }
    }
}

async fn shake_hands(
    socket: &TcpStream,
    through: Through<'_>,
    handshaking: &Handshaking,
) -> Result<ClientConnection, BackendTls> {
    let Originator { server_name, config, .. } = through.originator;
    let protocols = through.protocol.map(<[u8]>::to_vec).into_iter().collect();
    let failed = |error: rustls::Error| BackendTls::Handshake(error.into());
    handshaking.step().await;
    let session = ClientConnection::new_with_alpn(config.clone(), server_name.clone(), protocols);
    let mut session = session.map_err(failed)?;
    loop {
        send(socket, &mut session).await.map_err(|_| BackendTls::Cut)?;
        if !session.is_handshaking() {
            return Ok(session);
        }
        let received = receive(socket, CLIENT_HELLO_BYTES_MAX).await;
        let received = received.map_err(|_| BackendTls::Cut)?;
        if received.is_empty() {
            return Err(BackendTls::Cut);
        }
        handshaking.step().await;
        let mut unread = &received[..];
        while !unread.is_empty() {
            session.read_tls(&mut unread).map_err(|_| BackendTls::Cut)?;
            if let Err(error) = session.process_new_packets() {
                // The alert that says why. Best effort: it is over either way.
                let _ = session.write_tls(&mut Sending(socket));
                return Err(failed(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ringway_http::model::traffic::Belief;

    use super::*;

    fn settings(server_name: &str, belief: Belief) -> TlsOrigination {
        let authorities = Arc::from(&b""[..]);
        let server_name = server_name.into();
        let (revoked, client) = (None, None);
        let settings = TlsSettings { server_name, authorities, revoked, belief, client };
        TlsOrigination::By(Arc::new(settings))
    }

    #[test]
    fn settings_that_say_the_same_are_the_same_and_no_others() {
        let mut originators = Originators::default();
        let mut id = |tls: &TlsOrigination| originators.of(tls).expect("they can be used").id;
        let one = settings("a.example", Belief::Anybody);
        let first = id(&one);
        assert_eq!(id(&one), first);
        assert_eq!(id(&settings("a.example", Belief::Anybody)), first, "after a reload");
        assert_ne!(id(&settings("b.example", Belief::Anybody)), first);
        for at in 0..ORIGINATORS_MAX {
            id(&settings(&format!("{at}.example"), Belief::Anybody));
        }
        assert_ne!(id(&one), first, "forgotten, and never taken for another");
        assert!(originators.known.len() <= ORIGINATORS_MAX);
    }

    #[test]
    fn what_cannot_be_used_stays_so() {
        let mut originators = Originators::default();
        let broken = TlsOrigination::Broken("there is no ConfigMap `roots`".into());
        //  name                   settings                                        told
        let rows = [
            ("broken", broken, "there is no ConfigMap `roots`"),
            (
                "no authority",
                settings("a.example", Belief::ServerName),
                "no certificate of an authority",
            ),
            ("no name", settings("a b", Belief::Anybody), "is the name of no server"),
        ];
        for (name, settings, told) in rows {
            for _ in 0..2 {
                let reason = originators.of(&settings).expect_err(name);
                assert!(reason.to_string().contains(told), "{name}: {reason}");
                assert_eq!(reason.name(), "unusable", "{name}");
            }
        }
    }
}
