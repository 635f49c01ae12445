//! What a handshake leaves behind about the other side, for as long as its session lasts.

use std::{sync::Arc, time::SystemTime};

use rustls::NamedGroup;
use rustls_pki_types::CertificateDer;

use super::trust::{PeerRole, Trust};
use crate::identity::Identity;

/// What the handshake told about the other side.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) identity: Option<Identity>,
    pub(super) not_after: Option<SystemTime>,
    pub(super) accepted: Option<Acceptance>,
    pub(super) resumed: bool,
    pub(super) key_exchange: Option<NamedGroup>,
}

/// What the other side showed, and what it was accepted by.
pub(super) struct Acceptance {
    pub(super) chain: Box<[CertificateDer<'static>]>,
    pub(super) role: PeerRole,
    pub(super) trust: Arc<Trust>,
}
