//! What can be wrong with an authority, in sentences for the operator.

use std::path::PathBuf;

use super::authority::AuthorityError;
use super::directory::DirectoryError;
use super::succession::SuccessionError;

/// Why the embedded authority cannot be used, changed or asked.
#[derive(Debug)]
pub enum CaError {
    /// The directory or a file in it.
    Directory(DirectoryError),
    /// A certificate or key, with the file it stands in.
    Authority(PathBuf, AuthorityError),
    /// The certificate or key given by the operator.
    Given(AuthorityError),
    /// The state file.
    State(PathBuf, SuccessionError),
    /// There is an authority already.
    Exists(PathBuf),
    /// There is no authority.
    Absent(PathBuf),
    /// A file the state names is missing.
    FileMissing(PathBuf),
    /// A certificate is not the one the state was written for.
    Replaced(PathBuf),
    /// The revocation list is none.
    List(PathBuf),
    /// A certificate to be revoked was signed by somebody else.
    NotOurs(String),
    /// A certificate to be revoked is the authority's own.
    Itself(String),
    /// The revocation list would be longer than it may be.
    TooManyRevoked(usize),
    /// The end of trust in the old root lies before the start of the new one.
    Gap,
}

impl std::fmt::Display for CaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(error) => error.fmt(f),
            Self::Authority(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Given(error) => error.fmt(f),
            Self::State(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Exists(path) => write!(
                f,
                "{} holds an authority already; `ringway ca rotate` replaces it without an interruption",
                path.display()
            ),
            Self::Absent(path) => write!(
                f,
                "{} holds no authority; make one with `ringway ca create` or bring one with `ringway ca import`",
                path.display()
            ),
            Self::FileMissing(path) => write!(
                f,
                "{} is missing; restore it, or remove the other files beside it to start with a new authority",
                path.display()
            ),
            Self::Replaced(path) => write!(
                f,
                "{} is not the certificate ca-state.json was written for; restore it, or remove ca-state.json to accept it",
                path.display()
            ),
            Self::List(path) => write!(
                f,
                "{} is not a revocation list; restore it, or remove it to begin a new one",
                path.display()
            ),
            Self::NotOurs(serial) => write!(
                f,
                "the certificate {serial} was not signed by this authority; its own authority must revoke it"
            ),
            Self::Itself(serial) => write!(
                f,
                "the certificate {serial} is the authority's own, and no list of its own can take it back; replace it with \
                 `ringway ca rotate --new-signs-after 0s --old-trusted-for 0s`: then nobody trusts it any more"
            ),
            Self::TooManyRevoked(most) => write!(
                f,
                "no more than {most} certificates can be revoked; `ringway ca rotate` shuts out all that the old root signed"
            ),
            Self::Gap => f.write_str(
                "the old root would stop being trusted before the new one signs; trust it for longer",
            ),
        }
    }
}

impl std::error::Error for CaError {}

impl From<DirectoryError> for CaError {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}
