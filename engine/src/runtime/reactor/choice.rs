//! Which reactor is asked for, and which one it became.

use std::fmt;

/// Which reactor a runtime shall have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReactorChoice {
    /// The ring if the kernel lets us and its self-test passes, otherwise epoll.
    #[default]
    Auto,
    /// io_uring, or an error that says what is in the way.
    Ring,
    /// epoll.
    Epoll,
}

/// Which reactor a runtime has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReactorKind {
    /// io_uring as the wait point.
    Ring,
    /// epoll as the wait point.
    Epoll,
}

impl fmt::Display for ReactorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReactorKind::Ring => "io_uring",
            ReactorKind::Epoll => "epoll",
        })
    }
}

/// Queue lengths of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Submission queue entries; halved, down to 256, while the kernel has no memory for them.
    pub submissions: u32,
    /// Completion queue entries. At least four times the submissions, unless a test wants overflow.
    pub completions: u32,
}

impl Default for RingSizes {
    fn default() -> Self {
        RingSizes { submissions: 1024, completions: 8192 }
    }
}

/// What was chosen and why; `Display` is the one line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactorReport {
    pub(super) kind: ReactorKind,
    pub(super) reason: String,
}

impl ReactorReport {
    /// What was chosen.
    pub fn kind(&self) -> ReactorKind {
        self.kind
    }

    /// Why, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl fmt::Display for ReactorReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reactor {}: {}", self.kind, self.reason)
    }
}
