//! A workload's identity: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest SPIFFE URI that is read (SPIFFE-ID §2.3).
pub const URI_BYTES_MAX: usize = 2048;

/// Parsed once; after that nobody checks again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// It is not of the form `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    WrongForm,
    /// This piece is empty or holds a character that no SPIFFE ID has.
    BadPiece(&'static str),
    /// It is longer than [`URI_BYTES_MAX`].
    TooLong,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongForm => f.write_str(
                "not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
            ),
            Self::BadPiece(piece) => {
                write!(f, "the {piece} is empty or holds a forbidden character")
            }
            Self::TooLong => write!(f, "longer than {URI_BYTES_MAX} bytes"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// An identity from its pieces.
    ///
    /// # Errors
    /// When a piece is empty or holds a character that no SPIFFE ID has.
    pub fn new(
        trust_domain: impl AsRef<str>,
        namespace: impl AsRef<str>,
        service_account: impl AsRef<str>,
    ) -> Result<Self, IdentityError> {
        let trust_domain_byte =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
        let path_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        Ok(Self {
            trust_domain: piece(trust_domain.as_ref(), "trust domain", trust_domain_byte)?,
            namespace: piece(namespace.as_ref(), "namespace", path_byte)?,
            service_account: piece(service_account.as_ref(), "service account", path_byte)?,
        })
    }

    /// Reads a SPIFFE URI.
    ///
    /// # Errors
    /// When it is not exactly of the one accepted form.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        if uri.len() > URI_BYTES_MAX {
            return Err(IdentityError::TooLong);
        }
        let rest = uri.strip_prefix("spiffe://").ok_or(IdentityError::WrongForm)?;
        let pieces: Vec<&str> = rest.split('/').collect();
        let &[trust_domain, "ns", namespace, "sa", service_account] = pieces.as_slice() else {
            return Err(IdentityError::WrongForm);
        };
        Self::new(trust_domain, namespace, service_account)
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

fn piece(
    text: &str,
    name: &'static str,
    allowed: impl Fn(u8) -> bool,
) -> Result<Arc<str>, IdentityError> {
    let dots_only = text.bytes().all(|byte| byte == b'.');
    if text.is_empty() || dots_only || !text.bytes().all(allowed) {
        return Err(IdentityError::BadPiece(name));
    }
    Ok(text.into())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trust_domain, namespace, service_account } = self;
        write!(f, "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}")
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(uri: &str) -> Result<Self, IdentityError> {
        Self::parse(uri)
    }
}
