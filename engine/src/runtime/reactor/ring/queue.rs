//! The two queues of one ring, and the only requests we put into them.
//!
//! None of the requests points to memory: a poll, an accept without an address, a cancel. So there
//! is nothing a late completion could write to, and dropping anything at any time is sound.
//!
//! What does not fit the submission queue waits in a backlog, in order, and goes with the next
//! enter: a cancel is never lost. The backlog is bounded by the watches, each of which has at most
//! one request and its cancel on the way.
#![allow(unsafe_code)]
// JUSTIFICATION: the ring's submission is unsafe by nature; it is confined to `Queue::try_push`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// What we ask of the kernel. `name` comes back with every completion.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request {
    /// Multishot, edge-triggered poll.
    Poll { fd: RawFd, name: u64 },
    /// Multishot accept.
    Accept { fd: RawFd, name: u64 },
    /// Ends the request called `target`.
    Cancel { target: u64, name: u64 },
}

impl Request {
    const POLL_BITS: u32 = (libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP) as u32;

    fn entry(self, skip_success: bool) -> squeue::Entry {
        match self {
            Request::Poll { fd, name } => {
                let poll = opcode::PollAdd::new(Fd(fd), Request::POLL_BITS).multi(true);
                poll.build().user_data(name)
            }
            Request::Accept { fd, name } => {
                let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
                opcode::AcceptMulti::new(Fd(fd)).flags(flags).build().user_data(name)
            }
            Request::Cancel { target, name } => {
                let cancel = opcode::AsyncCancel::new(target).build().user_data(name);
                // The target's own last completion tells all we want to know.
                if skip_success { cancel.flags(squeue::Flags::SKIP_SUCCESS) } else { cancel }
            }
        }
    }
}

/// What the kernel answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completion {
    pub(super) name: u64,
    pub(super) result: i32,
    /// The request goes on.
    pub(super) more: bool,
}

/// What an enter came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entered {
    Done,
    /// The kernel cannot right now: reap, and try again.
    Refused(Errno),
    /// The kernel never will.
    Broken(Errno),
}

/// What the kernel does at one enter of what it has deferred (since Linux 6.13); the rest waits for the next, in order.
const DEFERRED_PER_ENTER: usize = 20;

/// Enters of one turn. When much happens at once (ten thousand connections are cut), a turn that did one would fall
/// ever further behind, and whoever has something to say would wait at the end of the line.
const ENTERS_MAX: usize = 32;

pub(super) struct Queue {
    uring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    skip_success: bool,
}

impl Queue {
    pub(super) fn new(uring: IoUring) -> Queue {
        let skip_success = uring.params().is_feature_skip_cqe_on_success();
        Queue { uring, backlog: VecDeque::new(), skip_success }
    }

    /// Completions the kernel can tell at a time.
    pub(super) fn completions_max(&self) -> usize {
        self.uring.params().cq_entries() as usize
    }

    /// Queues a request; `false` when it has to wait in the backlog.
    pub(super) fn push(&mut self, request: Request) -> bool {
        let entry = request.entry(self.skip_success);
        if self.backlog.is_empty() && self.try_push(&entry) {
            return true;
        }
        self.backlog.push_back(entry);
        false
    }

    fn try_push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: an entry comes from `Request::entry` and refers to a descriptor number at most;
        // it has no pointer that would have to stay valid.
        unsafe { self.uring.submission().push(entry) }.is_ok()
    }

    /// Hands everything queued to the kernel and waits for one completion, up to `timeout`. What has happened by
    /// then is told, within reason.
    pub(super) fn enter(&mut self, timeout: Option<Duration>) -> Entered {
        let mut entered = self.enter_once(timeout);
        for round in 1..ENTERS_MAX {
            let is_cut_short =
                self.uring.completion().len() >= round * DEFERRED_PER_ENTER && self.is_asked_for();
            if entered != Entered::Done || !is_cut_short {
                break;
            }
            entered = classify(self.uring.submit());
        }
        entered
    }

    fn enter_once(&mut self, timeout: Option<Duration>) -> Entered {
        while !self.backlog.is_empty() {
            self.drain_backlog();
            if self.backlog.is_empty() {
                break;
            }
            match classify(self.uring.submit()) {
                Entered::Done => {}
                failed => return failed,
            }
            if self.uring.submission().is_full() {
                return Entered::Refused(Errno::AGAIN);
            }
        }
        match timeout {
            Some(Duration::ZERO) if self.is_idle() => Entered::Done,
            Some(Duration::ZERO) => classify(self.uring.submit()),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                let arguments = SubmitArgs::new().timespec(&timespec);
                classify(self.uring.submitter().submit_with_args(1, &arguments))
            }
            None => classify(self.uring.submit_and_wait(1)),
        }
    }

    /// Nothing to hand in, and the kernel has set no flag that asks us to come.
    fn is_idle(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.is_empty() && !submission.cq_overflow() && !submission.taskrun()
    }

    /// The kernel has deferred something until we come. Where nothing is deferred the flag is never set, and
    /// completions need no enter.
    fn is_asked_for(&mut self) -> bool {
        self.uring.submission().taskrun()
    }

    fn drain_backlog(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
    }

    /// Takes all completions that are there; `true` when the kernel keeps more aside for want of
    /// room.
    pub(super) fn reap(&mut self, into: &mut Vec<Completion>) -> bool {
        into.extend(self.uring.completion().map(|completion| Completion {
            name: completion.user_data(),
            result: completion.result(),
            more: cqueue::more(completion.flags()),
        }));
        self.uring.submission().cq_overflow()
    }

    /// Waits without the ring's help: for a completion, or a millisecond.
    pub(super) fn rest(&self) {
        const PAUSE: rustix::event::Timespec =
            rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the ring owns this descriptor and outlives the call.
        let ring = unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) };
        // A signal ends the pause early, which is as good.
        let _ = poll(&mut [PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)], Some(&PAUSE));
    }
}

fn classify(result: std::io::Result<usize>) -> Entered {
    let Err(error) = result else { return Entered::Done };
    match Errno::from_io_error(&error).unwrap_or(Errno::IO) {
        Errno::TIME | Errno::INTR => Entered::Done,
        errno @ (Errno::AGAIN | Errno::BUSY | Errno::NOMEM) => Entered::Refused(errno),
        errno => Entered::Broken(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::choice::RingSizes;
    use super::super::setup::{RING_OPERATIONS, obtain};
    use super::*;

    /// Even a corrupted process cannot make one of our rings open a file or make a socket.
    #[test]
    fn every_operation_not_on_the_list_is_refused() {
        let sizes = RingSizes { submissions: 256, completions: 1024 };
        let (mut queue, _) = match obtain(sizes) {
            Ok(granted) => granted.ring,
            Err(refusal) => return println!("NOT RUN: {refusal}"),
        };
        for operation in 0..=u8::MAX {
            if RING_OPERATIONS.iter().any(|(allowed, _)| *allowed == operation) {
                continue;
            }
            let mut entry = opcode::Nop::new().build().user_data(u64::from(operation));
            // SAFETY: an entry is one `io_uring_sqe`, whose first byte is the operation.
            unsafe { (&raw mut entry).cast::<u8>().write(operation) };
            assert!(queue.try_push(&entry), "the queue is empty");
            let mut completions = Vec::new();
            while completions.is_empty() {
                assert_eq!(queue.enter(Some(Duration::from_secs(1))), Entered::Done);
                queue.reap(&mut completions);
            }
            let result = completions[0].result;
            // What the kernel does not know at all is EINVAL.
            assert!(matches!(-result, libc::EACCES | libc::EINVAL), "{operation}: {result}");
            if operation == 0 {
                assert_eq!(-result, libc::EACCES, "a NOP is harmless, and refused all the same");
            }
        }
    }
}
