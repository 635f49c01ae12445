//! The flags of readiness, as `poll(2)`, `epoll` and io_uring tell them and as we remember them.

/// A set of readiness flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u16);

impl Readiness {
    pub(crate) const NONE: Readiness = Readiness(0);
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(1 << 1);
    /// The peer has sent its last byte (FIN), or the connection is gone.
    pub(crate) const READ_CLOSED: Readiness = Readiness(1 << 2);
    /// Both directions are closed.
    pub(crate) const HUNG_UP: Readiness = Readiness(1 << 3);
    /// The kernel has an error for us.
    pub(crate) const ERROR: Readiness = Readiness(1 << 4);
    /// An error of the connection was seen by some call: from here on an end of stream is no clean
    /// end.
    pub(crate) const ABORTED: Readiness = Readiness(1 << 5);
    /// The reactor could not watch this descriptor.
    pub(crate) const UNWATCHED: Readiness = Readiness(1 << 6);
    pub(super) const READER_WAITS: Readiness = Readiness(1 << 7);
    pub(super) const WRITER_WAITS: Readiness = Readiness(1 << 8);
    pub(super) const CLOSER_WAITS: Readiness = Readiness(1 << 9);

    pub(super) const CLOSED: Readiness = Readiness::HUNG_UP.or(Readiness::ERROR);
    pub(super) const WAKES_READER: Readiness =
        Readiness::READABLE.or(Readiness::READ_CLOSED).or(Readiness::CLOSED);
    pub(super) const WAKES_WRITER: Readiness = Readiness::WRITABLE.or(Readiness::CLOSED);

    /// From the bits of `poll(2)`, which `epoll` and io_uring share.
    pub(crate) fn from_poll(bits: u32) -> Readiness {
        const PAIRS: [(i16, Readiness); 5] = [
            (libc::POLLIN, Readiness::READABLE),
            (libc::POLLOUT, Readiness::WRITABLE),
            (libc::POLLRDHUP, Readiness::READABLE.or(Readiness::READ_CLOSED)),
            (libc::POLLHUP, Readiness::HUNG_UP.or(Readiness::READ_CLOSED)),
            (libc::POLLERR, Readiness::ERROR),
        ];
        PAIRS
            .into_iter()
            .filter(|(bit, _)| bits & *bit as u32 != 0)
            .fold(Readiness::NONE, |all, (_, flag)| all.or(flag))
    }

    pub(crate) const fn or(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }

    pub(crate) const fn has_any(self, of: Readiness) -> bool {
        self.0 & of.0 != 0
    }
}
