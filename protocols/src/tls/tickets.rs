//! Session tickets of a server: the session itself, sealed with a key that only these credentials hold.
//!
//! Nothing is stored for a client that may never come back. The key lives and dies with the credentials,
//! so a renewed certificate is always shown in a full handshake. A ticket says itself when it ends:
//! never later than the certificate it was given under.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rustls::{
    crypto::{CryptoProvider, SecureRandom},
    server::ProducesTickets,
    time_provider::TimeProvider,
};

use super::{
    bounds::{LIFETIME_MAX, SESSION_BYTES_MAX},
    error::Error,
    trust::system_time,
};

/// What the key is for.
const PURPOSE: &[u8] = b"ringway session ticket";

/// ```text
/// ticket: [nonce 12][sealed: [expires 8][session …]][tag 16]
/// ```
pub(super) struct Tickets {
    key: LessSafeKey,
    random: &'static dyn SecureRandom,
    time: Arc<dyn TimeProvider>,
    not_after: SystemTime,
}

impl Tickets {
    /// Tickets of a certificate that ends at `not_after`.
    pub(super) fn new(
        not_after: SystemTime,
        time: Arc<dyn TimeProvider>,
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let random = provider.secure_random;
        let unusable = || Error::Credentials("no random key for session tickets".to_owned());
        let mut key = [0; 32];
        random.fill(&mut key).map_err(|_| unusable())?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).map_err(|_| unusable())?);
        Ok(Self { key, random, time, not_after })
    }

    fn now(&self) -> Option<SystemTime> {
        self.time.current_time().map(system_time)
    }

    fn remaining(&self) -> Duration {
        let left = self.now().and_then(|now| self.not_after.duration_since(now).ok());
        left.unwrap_or_default().min(LIFETIME_MAX)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.remaining().as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        let remaining = self.remaining();
        // To some peers, a lifetime of 0 means for ever.
        if remaining < Duration::from_secs(1) || session.len() > SESSION_BYTES_MAX {
            return None;
        }
        let expires = seconds(self.now()? + remaining)?;
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(NONCE_LEN + 8 + session.len() + AES_256_GCM.tag_len());
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(&expires.to_be_bytes());
        ticket.extend_from_slice(session);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = &mut ticket[NONCE_LEN..];
        let tag = self.key.seal_in_place_separate_tag(nonce, Aad::from(PURPOSE), sealed).ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        if sealed.len() > 8 + SESSION_BYTES_MAX + AES_256_GCM.tag_len() {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(PURPOSE), &mut sealed).ok()?;
        let (expires, session) = opened.split_first_chunk::<8>()?;
        let in_time = seconds(self.now()?)? < u64::from_be_bytes(*expires);
        in_time.then(|| session.to_vec())
    }
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}
