//! Getting a ring: from the best the kernel has, down, until one is granted and passes its test.
//!
//! A ring is made disabled, restricted to the operations we use, and then enabled on this thread:
//! even a corrupted process cannot make it open a file. The setup flags are an enumeration of the
//! ones we want, so that those with a history of kernel bugs, or of sockets in the wrong namespace
//! (SQPOLL, NO_MMAP, SQE_MIXED, kernel-mapped buffer rings, resizing), cannot be asked for at all.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::register::{Probe, Restriction};
use io_uring::{IoUring, opcode, squeue};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname, listen,
    socket_with, socketpair,
};

use super::super::choice::RingSizes;
use super::queue::{Completion, Entered, Queue, Request};

/// The operations our rings may perform, and nothing else: number and name.
pub const RING_OPERATIONS: [(u8, &str); 3] = [
    (opcode::PollAdd::CODE, "POLL_ADD"),
    (opcode::AcceptMulti::CODE, "ACCEPT"),
    (opcode::AsyncCancel::CODE, "ASYNC_CANCEL"),
];

/// Below this a ring is not worth having.
const SUBMISSIONS_MIN: u32 = 256;

/// What the kernel is asked for, from the best down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// Linux 6.1: completions are run when we ask for them, and at no other time.
    Deferred,
    /// Linux 5.19: completions run at system calls, without interrupting us.
    Cooperative,
    /// Linux 5.13: as it comes.
    Plain,
}

impl Tier {
    const ALL: [Tier; 3] = [Tier::Deferred, Tier::Cooperative, Tier::Plain];

    fn flags(self) -> &'static [SetupFlag] {
        use SetupFlag::{
            Clamp, CoopTaskrun, DeferTaskrun, Disabled, SingleIssuer, SubmitAll, TaskrunFlag,
        };
        match self {
            Tier::Deferred => {
                &[Disabled, Clamp, SubmitAll, SingleIssuer, DeferTaskrun, TaskrunFlag]
            }
            Tier::Cooperative => &[Disabled, Clamp, SubmitAll, CoopTaskrun, TaskrunFlag],
            Tier::Plain => &[Disabled, Clamp],
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Deferred => "deferred task run",
            Tier::Cooperative => "cooperative task run",
            Tier::Plain => "plain task run",
        })
    }
}

/// The setup flags in use. There are no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetupFlag {
    Disabled,
    Clamp,
    SubmitAll,
    SingleIssuer,
    DeferTaskrun,
    CoopTaskrun,
    TaskrunFlag,
}

/// Why a ring of one tier was not to be had.
#[derive(Debug)]
pub(super) enum Refusal {
    /// `io_uring_setup` or `io_uring_register` said so.
    Kernel(&'static str, Errno),
    /// The ring was granted, but does not do what it should.
    SelfTest(&'static str),
    /// An operation we need is missing.
    Missing(&'static str),
}

impl Refusal {
    /// What would come of trying the next tier, or a smaller ring.
    fn remedy(&self) -> Remedy {
        match self {
            Refusal::Kernel(_, Errno::NOMEM) => Remedy::Smaller,
            Refusal::Kernel(_, Errno::INVAL) | Refusal::SelfTest(_) => Remedy::LowerTier,
            Refusal::Kernel(..) | Refusal::Missing(_) => Remedy::None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    Smaller,
    LowerTier,
    None,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Kernel(call, errno) => write!(f, "{call}: {errno} ({})", likely_cause(*errno)),
            Refusal::SelfTest(step) => write!(f, "the self-test failed: {step}"),
            Refusal::Missing(operation) => write!(f, "the kernel lacks {operation}"),
        }
    }
}

fn likely_cause(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM | Errno::ACCESS => "forbidden by a seccomp profile or kernel.io_uring_disabled",
        Errno::NOSYS => "no io_uring in this kernel or sandbox",
        Errno::NOMEM => "too little locked memory allowed, see RLIMIT_MEMLOCK",
        Errno::INVAL => "not known to this kernel",
        Errno::MFILE | Errno::NFILE => "no descriptor left",
        _ => "unexpected",
    }
}

/// A ring that was granted.
pub(super) struct Granted<R> {
    pub(super) ring: R,
    /// How it was got, in words.
    pub(super) story: String,
}

/// A ring that works, or why there is none.
pub(super) fn obtain(sizes: RingSizes) -> Result<Granted<(Queue, bool)>, String> {
    negotiate(sizes, build)
}

/// Tries the tiers in order and halves the ring where memory is short; `attempt` is the kernel.
fn negotiate<R>(
    wanted: RingSizes,
    mut attempt: impl FnMut(Tier, RingSizes) -> Result<R, Refusal>,
) -> Result<Granted<R>, String> {
    let mut sizes = wanted;
    let mut refusals: Vec<String> = Vec::new();
    'tiers: for tier in Tier::ALL {
        loop {
            let refusal = match attempt(tier, sizes) {
                Ok(ring) => return Ok(Granted { ring, story: story(tier, sizes, &refusals) }),
                Err(refusal) => refusal,
            };
            let complaint = format!("{tier} with {} entries: {refusal}", sizes.submissions);
            match refusal.remedy() {
                // Of several sizes refused alike only the last is told.
                Remedy::Smaller if sizes.submissions < wanted.submissions => {
                    refusals.pop();
                }
                _ => {}
            }
            refusals.push(complaint);
            match refusal.remedy() {
                Remedy::Smaller if sizes.submissions > SUBMISSIONS_MIN => {
                    sizes = RingSizes {
                        submissions: (sizes.submissions / 2).max(SUBMISSIONS_MIN),
                        completions: sizes.completions / 2,
                    };
                }
                Remedy::LowerTier => continue 'tiers,
                Remedy::Smaller | Remedy::None => break 'tiers,
            }
        }
    }
    Err(refusals.join("; "))
}

fn story(tier: Tier, sizes: RingSizes, refusals: &[String]) -> String {
    let RingSizes { submissions, completions } = sizes;
    let mut story = format!("{tier}, {submissions}/{completions} entries");
    if !refusals.is_empty() {
        story = format!("{story}, after {}", refusals.join("; "));
    }
    story
}

/// One attempt: make, probe, restrict, enable, test. Tells whether there is a multishot accept.
fn build(tier: Tier, sizes: RingSizes) -> Result<(Queue, bool), Refusal> {
    let mut builder = IoUring::builder();
    builder.dontfork().setup_cqsize(sizes.completions);
    for flag in tier.flags() {
        match flag {
            SetupFlag::Disabled => builder.setup_r_disabled(),
            SetupFlag::Clamp => builder.setup_clamp(),
            SetupFlag::SubmitAll => builder.setup_submit_all(),
            SetupFlag::SingleIssuer => builder.setup_single_issuer(),
            SetupFlag::DeferTaskrun => builder.setup_defer_taskrun(),
            SetupFlag::CoopTaskrun => builder.setup_coop_taskrun(),
            SetupFlag::TaskrunFlag => builder.setup_taskrun_flag(),
        };
    }
    let uring = builder.build(sizes.submissions).map_err(kernel("io_uring_setup"))?;
    let multishot_accept = probe(&uring)?;
    restrict(&uring)?;
    let mut queue = Queue::new(uring);
    self_test(&mut queue, multishot_accept)?;
    Ok((queue, multishot_accept))
}

fn kernel(call: &'static str) -> impl Fn(io::Error) -> Refusal {
    move |error| Refusal::Kernel(call, Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// Whether all our operations are there, and multishot accept with them (which came with SOCKET,
/// 5.19, as multishot poll came with resource tagging, 5.13).
fn probe(uring: &IoUring) -> Result<bool, Refusal> {
    let mut probe = Probe::new();
    uring.submitter().register_probe(&mut probe).map_err(kernel("io_uring_register(PROBE)"))?;
    for (operation, name) in RING_OPERATIONS {
        if !probe.is_supported(operation) {
            return Err(Refusal::Missing(name));
        }
    }
    if !uring.params().is_feature_resource_tagging() || !uring.params().is_feature_ext_arg() {
        return Err(Refusal::Missing("multishot poll (Linux 5.13)"));
    }
    Ok(probe.is_supported(opcode::Socket::CODE))
}

fn restrict(uring: &IoUring) -> Result<(), Refusal> {
    let submitter = uring.submitter();
    let mut allowed: Vec<Restriction> =
        RING_OPERATIONS.iter().map(|(operation, _)| Restriction::sqe_op(*operation)).collect();
    allowed.push(Restriction::sqe_flags_allowed(squeue::Flags::SKIP_SUCCESS.bits()));
    submitter
        .register_restrictions(&mut allowed)
        .map_err(kernel("io_uring_register(RESTRICTIONS)"))?;
    submitter.register_enable_rings().map_err(kernel("io_uring_register(ENABLE_RINGS)"))
}

const TEST_POLL: u64 = 1;
const TEST_ACCEPT: u64 = 2;
const TEST_CANCEL: u64 = 3;

/// Accept, poll and cancel on sockets of our own, as the reactor will use them.
fn self_test(queue: &mut Queue, multishot_accept: bool) -> Result<(), Refusal> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let failed = |step| move |_: Errno| Refusal::SelfTest(step);
    let pair = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let (near, far) = pair.map_err(failed("a socket pair"))?;
    queue.push(Request::Poll { fd: near.as_raw_fd(), name: TEST_POLL });
    let first = expect(queue, TEST_POLL, "no completion for a writable socket")?;
    require(first.result & i32::from(libc::POLLOUT) != 0 && first.more, "poll is not multishot")?;
    rustix::io::write(&far, b"x").map_err(failed("a write"))?;
    let second = expect(queue, TEST_POLL, "no completion for the second edge")?;
    require(second.result & i32::from(libc::POLLIN) != 0 && second.more, "the second edge")?;
    if multishot_accept {
        let listener = listen_anywhere(flags).map_err(failed("a listening socket"))?;
        let address = getsockname(&listener).map_err(failed("its address"))?;
        queue.push(Request::Accept { fd: listener.as_raw_fd(), name: TEST_ACCEPT });
        for _ in 0..2 {
            let client = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
            let client = client.map_err(failed("a socket"))?;
            connect(&client, &address).map_err(failed("a connect"))?;
            let accepted = expect(queue, TEST_ACCEPT, "no completion for a connection")?;
            require(accepted.result >= 0, "accept")?;
            drop(super::adopt(accepted.result));
            require(accepted.more, "accept is not multishot")?;
        }
        cancel(queue, TEST_ACCEPT, "a cancelled accept goes on")?;
    }
    cancel(queue, TEST_POLL, "a cancelled poll goes on")
}

fn listen_anywhere(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // An unnamed address makes the kernel choose a free abstract one.
    bind(&listener, &SocketAddrUnix::new_unnamed())?;
    listen(&listener, 2)?;
    Ok(listener)
}

fn cancel(queue: &mut Queue, target: u64, complaint: &'static str) -> Result<(), Refusal> {
    queue.push(Request::Cancel { target, name: TEST_CANCEL });
    let last = expect(queue, target, complaint)?;
    require(!last.more && last.result == -libc::ECANCELED, complaint)
}

/// The next completion of that name; the test's own cancels may come in between.
fn expect(queue: &mut Queue, name: u64, complaint: &'static str) -> Result<Completion, Refusal> {
    let mut completions = Vec::new();
    for _ in 0..10 {
        match queue.enter(Some(Duration::from_millis(100))) {
            Entered::Done => {}
            Entered::Refused(errno) | Entered::Broken(errno) => {
                return Err(Refusal::Kernel("io_uring_enter", errno));
            }
        }
        queue.reap(&mut completions);
        if let Some(found) = completions.iter().find(|completion| completion.name == name) {
            return Ok(*found);
        }
    }
    Err(Refusal::SelfTest(complaint))
}

fn require(holds: bool, complaint: &'static str) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::SelfTest(complaint)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: RingSizes = RingSizes { submissions: 1024, completions: 8192 };

    /// A kernel that answers from a script.
    fn scripted(
        answers: Vec<Result<(), Refusal>>,
    ) -> (Result<String, String>, Vec<(Tier, RingSizes)>) {
        let mut asked = Vec::new();
        let mut answers = answers.into_iter();
        let granted = negotiate(SIZES, |tier, sizes| {
            asked.push((tier, sizes));
            answers.next().expect("asked more often than expected")
        });
        (granted.map(|granted| granted.story), asked)
    }

    fn errno(errno: Errno) -> Result<(), Refusal> {
        Err(Refusal::Kernel("io_uring_setup", errno))
    }

    #[test]
    fn forbidden_is_not_asked_twice() {
        for refusal in [Errno::PERM, Errno::NOSYS, Errno::ACCESS, Errno::MFILE] {
            let (outcome, asked) = scripted(vec![errno(refusal)]);
            assert_eq!(asked.len(), 1);
            assert!(outcome.expect_err("refused").contains("io_uring_setup"));
        }
    }

    #[test]
    fn an_older_kernel_gets_the_lower_tiers() {
        let (outcome, asked) = scripted(vec![errno(Errno::INVAL), errno(Errno::INVAL), Ok(())]);
        assert!(outcome.expect("granted").starts_with("plain task run, 1024/8192"));
        assert_eq!(asked.iter().map(|(tier, _)| *tier).collect::<Vec<_>>(), Tier::ALL);
        let broken = Err(Refusal::SelfTest("accept is not multishot"));
        let (outcome, asked) = scripted(vec![broken, Ok(())]);
        assert!(outcome.expect("granted").starts_with("cooperative task run"));
        assert_eq!(asked.len(), 2);
    }

    #[test]
    fn short_memory_halves_the_ring_down_to_256() {
        let (outcome, asked) =
            scripted(vec![errno(Errno::NOMEM), errno(Errno::NOMEM), errno(Errno::NOMEM)]);
        assert!(outcome.is_err());
        let sizes: Vec<_> = asked.iter().map(|(_, s)| (s.submissions, s.completions)).collect();
        assert_eq!(sizes, [(1024, 8192), (512, 4096), (256, 2048)]);
        let (outcome, _) = scripted(vec![errno(Errno::NOMEM), Ok(())]);
        assert!(
            outcome.expect("granted").starts_with("deferred task run, 512/4096 entries, after")
        );
    }

    #[test]
    fn the_documented_operations_are_those_that_are_allowed() {
        let text = include_str!("../../../../../docs/security.md");
        let (_, behind) = text.split_once("<!-- ring-operations -->").expect("the list begins");
        let (list, _) = behind.split_once("<!-- /ring-operations -->").expect("the list ends");
        let documented: Vec<&str> =
            list.trim().split(", ").map(|name| name.trim_matches('`')).collect();
        assert_eq!(documented, RING_OPERATIONS.map(|(_, name)| name));
    }

    /// A kernel that grants the best tier grants the others, too: each must pass the same test.
    #[test]
    fn every_tier_passes_the_self_test() {
        for tier in Tier::ALL {
            match build(tier, RingSizes { submissions: 256, completions: 1024 }) {
                Ok((_, multishot_accept)) => assert!(multishot_accept, "{tier}"),
                Err(refusal @ Refusal::Kernel(..)) => println!("NOT RUN: {tier}: {refusal}"),
                Err(refusal) => panic!("{tier}: {refusal}"),
            }
        }
    }
}
