//! What mirrors answered, beside what clients got.
//!
//! Of bodies there are lengths and digests only: nothing of what was said leaves the shard.

use std::{
    hash::{DefaultHasher, Hasher},
    time::Duration,
};

use crate::limits::MIRROR_DIGEST_BYTES;

/// What became of one copy of a request.
#[derive(Clone, Debug, PartialEq)]
pub struct MirrorRecord {
    /// The rule whose request was copied.
    pub route: Box<str>,
    /// Who got the copy: `host:port`.
    pub mirror: Box<str>,
    /// The request's method.
    pub method: http::Method,
    /// The request's path, without what may follow a question mark.
    pub path: Box<str>,
    /// How it went.
    pub outcome: MirrorOutcome,
}

/// How a copy went.
#[derive(Clone, Debug, PartialEq)]
pub enum MirrorOutcome {
    /// Both were answered.
    Compared {
        /// What the client's request was answered.
        original: Answer,
        /// What the mirror answered.
        copy: Answer,
    },
    /// The mirror did not answer, or not in time, or not to the end.
    Unanswered,
    /// The client's own answer has no end that it could be compared with.
    Incomplete,
    /// The copy was not sent: its body was too large, or too many were under way.
    Skipped,
}

/// An answer, as far as it is compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `grpc-status`, if it said one.
    pub grpc_status: Option<u8>,
    /// `content-type`
    pub content_type: Option<Box<str>>,
    /// Of the body.
    pub bytes: u64,
    /// From the last byte of the request to the head of the answer.
    pub time: Duration,
    /// Of the body's beginning.
    pub digest: u64,
}

/// In what two answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// One was a success, say, and the other none.
    StatusClass,
    /// The status, or gRPC's.
    Status,
    /// How long the body is.
    Length,
    /// `content-type`
    ContentType,
    /// What the body says, as far as it is looked at.
    Body,
}

impl Difference {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::StatusClass, Self::Status, Self::Length, Self::ContentType, Self::Body];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StatusClass => "status_class",
            Self::Status => "status",
            Self::Length => "length",
            Self::ContentType => "content_type",
            Self::Body => "body",
        }
    }
}

impl Answer {
    /// In what `other` differs. How long they took is not among it.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let differs = |difference: &Difference| match difference {
            Difference::StatusClass => self.status / 100 != other.status / 100,
            Difference::Status => {
                (self.status, self.grpc_status) != (other.status, other.grpc_status)
            }
            Difference::Length => self.bytes != other.bytes,
            Difference::ContentType => self.content_type != other.content_type,
            Difference::Body => self.digest != other.digest,
        };
        Difference::ALL.into_iter().filter(differs).collect()
    }
}

/// The digest of a body's beginning. It tells bodies apart that were not made to look alike.
#[derive(Debug)]
pub(crate) struct Digest {
    hasher: DefaultHasher,
    room: usize,
}

impl Default for Digest {
    fn default() -> Self {
        Self { hasher: DefaultHasher::new(), room: MIRROR_DIGEST_BYTES }
    }
}

impl Digest {
    /// The next bytes of the body, in pieces of any length.
    pub(crate) fn add(&mut self, data: &[u8]) {
        let looked_at = &data[..data.len().min(self.room)];
        self.room -= looked_at.len();
        self.hasher.write(looked_at);
    }

    pub(crate) fn value(&self) -> u64 {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(pieces: &[&[u8]]) -> u64 {
        let mut digest = Digest::default();
        pieces.iter().for_each(|piece| digest.add(piece));
        digest.value()
    }

    #[test]
    fn the_same_bytes_have_the_same_digest_in_whatever_pieces() {
        let whole: Vec<u8> = (0..1000_u32).map(|at| (at % 251) as u8).collect();
        for cut in 0..whole.len() {
            assert_eq!(digest(&[&whole[..cut], &whole[cut..]]), digest(&[&whole]), "cut at {cut}");
        }
        assert_ne!(digest(&[&whole[1..]]), digest(&[&whole]));
    }

    #[test]
    fn what_is_behind_the_bound_is_not_looked_at() {
        let bound = vec![7; MIRROR_DIGEST_BYTES];
        assert_eq!(digest(&[&bound, b"and more"]), digest(&[&bound]));
        assert_ne!(digest(&[&bound[1..], b"x"]), digest(&[&bound]));
    }

    #[test]
    fn answers_differ_in_what_they_differ_in() {
        let answer = Answer {
            status: 200,
            grpc_status: None,
            content_type: Some("text/plain".into()),
            bytes: 3,
            time: Duration::ZERO,
            digest: 1,
        };
        use Difference::{Body, ContentType, Length, Status, StatusClass};
        let slow = Answer { time: Duration::from_secs(9), ..answer.clone() };
        #[rustfmt::skip]
        let rows = [
            ("only slower",         slow,                                                 vec![]),
            ("another success",     Answer { status: 204, ..answer.clone() },             vec![Status]),
            ("a failure",           Answer { status: 503, ..answer.clone() },             vec![StatusClass, Status]),
            ("gRPC's own status",   Answer { grpc_status: Some(14), ..answer.clone() },   vec![Status]),
            ("longer",              Answer { bytes: 4, digest: 2, ..answer.clone() },     vec![Length, Body]),
            ("other words",         Answer { digest: 2, ..answer.clone() },               vec![Body]),
            ("of no type",          Answer { content_type: None, ..answer.clone() },      vec![ContentType]),
        ];
        for (name, other, want) in rows {
            assert_eq!(answer.differences(&other), want, "{name}");
            assert_eq!(other.differences(&answer), want, "{name}, the other way");
        }
    }
}
