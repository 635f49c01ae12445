//! Which authority signs and which are trusted, at any moment: the state file `ca-state.json`.
//!
//! ```text
//!            made          signs from                      trusted until
//!   old   ━━━━━━━━━━━━━━━━━━━━━━┿━━ trusted, signs no more ━━━━━┥
//!   new      ┝━ trusted only ━━━┿━━━━━━━━━ signs ━━━━━━━━━━━━━━━━━━━━━
//!            next / current     current / previous
//! ```
//!
//! Roles follow from the dates alone, so hosts that share the directory, or only copies of it, change over together
//! without writing anything.

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::identity::certificate;

/// The version of the state file this program writes and reads.
const STATE_VERSION: u32 = 1;

/// Authorities in one state: above it, rotations follow each other faster than they finish.
const AUTHORITIES_MAX: usize = 8;

/// One authority of the succession, by its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// File of its certificate, and what leads to the root.
    pub certificate: String,
    /// File of its private key.
    pub key: String,
    /// File of the root, where the certificate is not one itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// SHA-256 of the certificate: files swapped behind our back are noticed.
    pub fingerprint: String,
    /// From when on it signs.
    #[serde(with = "moment")]
    pub signs_from: SystemTime,
    /// Until when its signatures are trusted; absent: until it expires.
    #[serde(default, with = "optional_moment", skip_serializing_if = "Option::is_none")]
    pub trusted_until: Option<SystemTime>,
}

/// What an authority is to the mesh at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Trusted, not signing yet.
    Next,
    /// Signing.
    Current,
    /// Trusted, not signing any more.
    Previous,
    /// Not trusted any more.
    Retired,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Next => "next",
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Retired => "retired",
        })
    }
}

/// All authorities, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Succession {
    version: u32,
    authorities: Vec<Entry>,
}

/// Why a state is no good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SuccessionError {
    /// Not JSON of our shape.
    Malformed(String),
    /// Written by a later release.
    UnknownVersion(u32),
    /// It names no authority, or too many.
    Count(usize),
    /// A file name that leaves the directory.
    FileName(String),
    /// Nobody signs: every authority is still to come or retired.
    NobodySigns,
    /// A rotation is already prepared.
    Pending(SystemTime),
}

impl std::fmt::Display for SuccessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Malformed(why) => write!(f, "it is not a state file of this program: {why}"),
            Self::UnknownVersion(version) => write!(
                f,
                "it has version {version}, this program knows {STATE_VERSION}; use the release that wrote it"
            ),
            Self::Count(count) => {
                write!(f, "it names {count} authorities; 1 to {AUTHORITIES_MAX} are possible")
            }
            Self::FileName(name) => write!(f, "{name:?} is not the name of a file beside it"),
            Self::NobodySigns => {
                f.write_str("no authority in it may sign at this time; is the clock right?")
            }
            Self::Pending(when) => write!(
                f,
                "a rotation is already under way: the next root signs from {}; wait until then",
                certificate::rfc3339_seconds(*when)
            ),
        }
    }
}

impl std::error::Error for SuccessionError {}

impl Succession {
    /// The succession of an authority that was never rotated.
    pub fn sole(entry: Entry) -> Self {
        Self { version: STATE_VERSION, authorities: vec![entry] }
    }

    /// Reads the state file.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence that follows the file's name.
    pub fn parse(json: &[u8]) -> Result<Self, SuccessionError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| SuccessionError::Malformed(error.to_string());
        let Version { version } = serde_json::from_slice(json).map_err(malformed)?;
        if version != STATE_VERSION {
            return Err(SuccessionError::UnknownVersion(version));
        }
        let succession: Self = serde_json::from_slice(json).map_err(malformed)?;
        let count = succession.authorities.len();
        if count == 0 || count > AUTHORITIES_MAX {
            return Err(SuccessionError::Count(count));
        }
        for entry in &succession.authorities {
            for name in [Some(&entry.certificate), Some(&entry.key), entry.root.as_ref()] {
                check_file_name(name)?;
            }
        }
        Ok(succession)
    }

    /// The state file's text.
    pub fn render(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("plain data serializes");
        json.push('\n');
        json
    }

    /// Every authority with its role at `now`, oldest first.
    pub fn roles(&self, now: SystemTime) -> Vec<(Role, &Entry)> {
        let signer = self.signer_index(now);
        self.authorities
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let role = if entry.trusted_until.is_some_and(|until| until <= now) {
                    Role::Retired
                } else if Some(index) == signer {
                    Role::Current
                } else if entry.signs_from > now {
                    Role::Next
                } else {
                    Role::Previous
                };
                (role, entry)
            })
            .collect()
    }

    /// Position of the authority that signs at `now`: the latest that has begun and is still trusted.
    ///
    /// # Errors
    /// [`SuccessionError::NobodySigns`].
    pub fn signer(&self, now: SystemTime) -> Result<usize, SuccessionError> {
        self.signer_index(now).ok_or(SuccessionError::NobodySigns)
    }

    /// Appends a successor and says goodbye to all before it; what is retired already is dropped.
    ///
    /// # Errors
    /// [`SuccessionError::Pending`] while an earlier successor has not begun to sign.
    pub fn succeed(
        &mut self,
        successor: Entry,
        old_trusted_until: SystemTime,
        now: SystemTime,
    ) -> Result<Vec<Entry>, SuccessionError> {
        if let Some(pending) = self.authorities.iter().find(|entry| entry.signs_from > now) {
            return Err(SuccessionError::Pending(pending.signs_from));
        }
        let retired = |entry: &Entry| entry.trusted_until.is_some_and(|until| until <= now);
        let (gone, kept): (Vec<_>, Vec<_>) = self.authorities.drain(..).partition(retired);
        if kept.len() + 1 > AUTHORITIES_MAX {
            let count = kept.len() + 1;
            self.authorities = gone.into_iter().chain(kept).collect();
            return Err(SuccessionError::Count(count));
        }
        self.authorities = kept;
        for entry in &mut self.authorities {
            let until =
                entry.trusted_until.map_or(old_trusted_until, |until| until.min(old_trusted_until));
            entry.trusted_until = Some(until);
        }
        self.authorities.push(successor);
        Ok(gone)
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        &self.authorities
    }

    fn signer_index(&self, now: SystemTime) -> Option<usize> {
        self.authorities
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.signs_from <= now)
            .filter(|(_, entry)| entry.trusted_until.is_none_or(|until| until > now))
            .max_by_key(|(_, entry)| entry.signs_from)
            .map(|(index, _)| index)
    }
}

fn check_file_name(name: Option<&String>) -> Result<(), SuccessionError> {
    match name {
        Some(name) if name.is_empty() || name.contains('/') || name.starts_with('.') => {
            Err(SuccessionError::FileName(name.clone()))
        }
        _ => Ok(()),
    }
}

/// Dates as RFC 3339 in whole seconds.
mod moment {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer};

    use crate::identity::certificate::{parse_rfc3339, rfc3339_seconds};

    pub(super) fn serialize<S: Serializer>(moment: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&rfc3339_seconds(*moment))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        let text = String::deserialize(from)?;
        parse_rfc3339(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not an RFC 3339 date")))
    }
}

mod optional_moment {
    use std::time::SystemTime;

    use serde::{Deserializer, Serializer};

    use super::moment;

    pub(super) fn serialize<S: Serializer>(
        value: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => moment::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        moment::deserialize(from).map(Some)
    }
}
