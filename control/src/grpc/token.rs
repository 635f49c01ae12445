//! The token that says who we are: a file that Kubernetes keeps fresh, or a text that never changes.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use hyper::header::HeaderValue;
use zeroize::Zeroizing;

use super::error::GrpcError;

/// Where the token of a process in ztunnel's place is when nothing is said.
pub(crate) const TOKEN_FILE: &str = "./var/run/secrets/tokens/istio-token";

/// Longer than any token that a server would take in a header.
const TOKEN_BYTES_MAX: u64 = 64 << 10;

/// Where the token comes from.
#[derive(Clone)]
pub enum TokenSource {
    /// Read again for every call: a projected token is replaced long before it expires.
    File(PathBuf),
    /// Given as it is.
    Literal(Zeroizing<String>),
}

impl TokenSource {
    /// What a setting means: the path of a file, there already or yet to come, or else the token itself.
    pub fn of_setting(text: &str) -> Self {
        let looks_like_path = text.starts_with('/') || text.starts_with("./");
        match looks_like_path || Path::new(text).exists() {
            true => Self::File(text.into()),
            false => Self::Literal(Zeroizing::new(text.to_owned())),
        }
    }

    /// Whether there is a token now.
    ///
    /// # Errors
    /// [`GrpcError::Token`], as the call itself would say it.
    pub fn check(&self) -> Result<(), GrpcError> {
        self.authorization().map(drop)
    }

    /// The value of `authorization`, which is never logged or indexed.
    pub(super) fn authorization(&self) -> Result<HeaderValue, GrpcError> {
        let refused = |why: &str| GrpcError::Token { of: self.to_string(), why: why.to_owned() };
        let token = match self {
            Self::Literal(token) => Zeroizing::new(token.trim().to_owned()),
            Self::File(path) => {
                read(path).map_err(|error| refused(&format!("cannot be read: {error}")))?
            }
        };
        if token.is_empty() {
            return Err(refused("is empty"));
        }
        let bearer = Zeroizing::new(format!("Bearer {}", *token));
        let mut value = HeaderValue::from_str(&bearer)
            .map_err(|_| refused("has characters that no token has"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What a server that refuses somebody without a token does not say.
pub(crate) fn no_token() -> String {
    format!("no token was sent: AUTH_TOKEN names none, and {TOKEN_FILE} was not there at the start")
}

fn read(path: &Path) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    File::open(path)?.take(TOKEN_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the token file {}", path.display()),
            Self::Literal(_) => f.write_str("the token that was given"),
        }
    }
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_for_every_call() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("istio-token");
        let token = TokenSource::File(path.clone());
        let missing = token.authorization().unwrap_err().to_string();
        assert!(missing.contains("istio-token") && missing.contains("cannot be read"), "{missing}");
        //  name           content          want
        let rows = [
            ("a token", "abc.def", Ok("Bearer abc.def")),
            ("a new one", "ghi\n", Ok("Bearer ghi")),
            ("nothing", "", Err("is empty")),
            ("a line end", "\n", Err("is empty")),
            ("two lines", "a\nb", Err("characters")),
        ];
        for (name, content, want) in rows {
            std::fs::write(&path, content).unwrap();
            match (token.authorization(), want) {
                (Ok(value), Ok(want)) => assert_eq!(value.to_str().unwrap(), want, "{name}"),
                (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{name}"),
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }

    #[test]
    fn a_setting_is_a_path_or_the_token_and_neither_is_shown() {
        let here = TokenSource::of_setting("Cargo.toml");
        assert!(matches!(here, TokenSource::File(_)), "a file that is there");
        let later = TokenSource::of_setting("./var/run/secrets/tokens/istio-token");
        assert!(matches!(later, TokenSource::File(_)), "a file that may come");
        let literal = TokenSource::of_setting("eyJhbGciOi.J9.x");
        assert!(!format!("{literal:?}{literal}").contains("eyJ"));
        let value = literal.authorization().unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer eyJhbGciOi.J9.x");
        assert!(value.is_sensitive() && !format!("{value:?}").contains("eyJ"));
    }
}
