//! Takes the stack of whichever thread runs, every few milliseconds of CPU time.
//!
//! The signal handler allocates nothing, takes no lock of ours and writes only to memory that is
//! set aside at the program's start; pages of it that are never needed are never there.
//!
//! A signal ends a wait early with `EINTR`. The reactors take that for a wait without news, calls
//! that move bytes are made again, and the kernel restarts all others.
#![allow(unsafe_code)]
// JUSTIFICATION: a signal handler, its registration and the interval timer have no safe interface.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

/// CPU time between two samples, where nothing else is asked for. The kernel looks at its ticks, 1 to 4 ms apart, and
/// takes no more than one sample at each.
pub const INTERVAL: Duration = Duration::from_millis(5);

/// Frames of one stack; of a deeper one the outermost are left out.
const DEPTH_MAX: usize = 128;

/// Room for the samples, 8 MiB: 30,000 stacks of 30 frames, two busy cores for a minute.
const WORDS_MAX: usize = 1 << 20;

/// Stacks one after the other: thread and depth in one word, then the addresses.
static WORDS: [AtomicUsize; WORDS_MAX] = [const { AtomicUsize::new(0) }; WORDS_MAX];
static WORDS_USED: AtomicUsize = AtomicUsize::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicBool = AtomicBool::new(false);
static SAMPLING: AtomicBool = AtomicBool::new(false);
static HANDLERS_RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Why a recording does not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// There is one already; a process has one profiling timer.
    Busy,
    /// The system refuses the timer or the signal handler, with this error number.
    System(i32),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("a profile is being recorded; ask again when it is done"),
            Self::System(errno) => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "the system refuses a profiling timer: {error}")
            }
        }
    }
}

impl std::error::Error for StartError {}

/// A recording under way; the only one. Dropping it stops it.
#[derive(Debug)]
pub struct Recording(());

impl Recording {
    /// Begins to take a sample after each `interval` of CPU time.
    ///
    /// # Errors
    /// When a recording is under way, or the system refuses.
    pub fn start(interval: Duration) -> Result<Recording, StartError> {
        if TAKEN.swap(true, SeqCst) {
            return Err(StartError::Busy);
        }
        let recording = Recording(());
        // The unwinder prepares itself at its first use, which must not be in a signal handler.
        backtrace::trace(|_| true);
        install_handler()?;
        let used = WORDS_USED.swap(0, SeqCst).min(WORDS_MAX);
        WORDS[..used].iter().for_each(|word| word.store(0, SeqCst));
        LOST.store(0, SeqCst);
        SAMPLING.store(true, SeqCst);
        set_timer(interval)?;
        Ok(recording)
    }

    /// Stops, and gives what was seen.
    pub fn finish(self) -> Samples {
        stop();
        Samples { _recording: self }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        stop();
        TAKEN.store(false, SeqCst);
    }
}

/// Stops taking samples. The handler stays: a signal on its way would end the process otherwise.
fn stop() {
    // It can only fail for an argument that is wrong.
    let _ = set_timer(Duration::ZERO);
    SAMPLING.store(false, SeqCst);
    // A handler takes microseconds, once its thread has the processor.
    while HANDLERS_RUNNING.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
}

/// What a recording saw. As long as it is there, no other recording starts.
#[derive(Debug)]
pub struct Samples {
    _recording: Recording,
}

/// One stack.
pub struct Stack {
    /// The thread's id.
    pub thread: u32,
    /// Where the program was, then where that would have returned to, and so on.
    pub addresses: Vec<usize>,
}

impl Samples {
    /// The stacks, in the order in which they were taken.
    pub fn stacks(&self) -> impl Iterator<Item = Stack> + use<'_> {
        let used = WORDS_USED.load(SeqCst).min(WORDS_MAX);
        let mut at = 0;
        std::iter::from_fn(move || {
            let heading = WORDS[..used].get(at)?.load(SeqCst);
            let (thread, depth) = ((heading >> 32) as u32, heading & 0xffff_ffff);
            // The end of a stack that was lost for want of room.
            if depth == 0 {
                return None;
            }
            let addresses = WORDS[..used].get(at + 1..at + 1 + depth)?;
            at += 1 + depth;
            let addresses = addresses.iter().map(|word| word.load(SeqCst)).collect();
            Some(Stack { thread, addresses })
        })
    }

    /// Stacks for which there was no room.
    pub fn lost(&self) -> u64 {
        LOST.load(SeqCst)
    }
}

fn install_handler() -> Result<(), StartError> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, no handler.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as *const () as usize;
    // On the thread's own stack: the signal stacks that the standard library sets up for reporting
    // an overflow are too small for the unwinder.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: `action` is initialised and lives through the call; `handle` has the signature that
    // SA_SIGINFO asks for, and does only what is allowed in a signal handler (see there).
    match unsafe { libc::sigaction(libc::SIGPROF, &action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

/// A signal each `interval` of CPU time of the process, to the thread that used it; zero: none.
fn set_timer(interval: Duration) -> Result<(), StartError> {
    let interval =
        libc::timeval { tv_sec: 0, tv_usec: libc::suseconds_t::from(interval.subsec_micros()) };
    let timer = libc::itimerval { it_interval: interval, it_value: interval };
    // SAFETY: `timer` is initialised and lives through the call, which keeps no pointer to it.
    match unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

fn last_error() -> StartError {
    StartError::System(std::io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

/// The signal handler. Whatever the thread was doing, it may have been in the allocator or hold a
/// lock: nothing here allocates or waits.
extern "C" fn handle(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    HANDLERS_RUNNING.fetch_add(1, SeqCst);
    if SAMPLING.load(SeqCst) {
        // SAFETY: the C library's `errno` of this thread, which lives as long as the thread; what
        // was interrupted may be about to read it.
        let errno = unsafe { libc::__errno_location() };
        // SAFETY: as above, it is valid for reads.
        let before = unsafe { errno.read() };
        sample(program_counter(context));
        // SAFETY: as above, it is valid for writes.
        unsafe { errno.write(before) };
    }
    HANDLERS_RUNNING.fetch_sub(1, SeqCst);
}

fn sample(interrupted_at: usize) {
    let mut stack = [0; DEPTH_MAX];
    let (mut depth, mut seen) = (0, false);
    let push = |frame: &backtrace::Frame| {
        let address = frame.ip() as usize;
        // The first frames are this handler's own.
        seen |= address == interrupted_at;
        if seen {
            stack[depth] = address;
            depth += 1;
        }
        depth < DEPTH_MAX
    };
    // SAFETY: unsynchronised means that the unwinder must not be entered twice at a time through a
    // library that is not re-entrant; on Linux it is that of the compiler, which exceptions on all
    // threads share. It reads unwind tables and stacks, and allocates nothing.
    unsafe { backtrace::trace_unsynchronized(push) };
    if depth == 0 {
        // Code without unwind tables.
        stack[0] = interrupted_at;
        depth = 1;
    }
    let start = WORDS_USED.fetch_add(1 + depth, SeqCst);
    let Some(words) = WORDS.get(start..start + 1 + depth) else {
        LOST.fetch_add(1, SeqCst);
        return;
    };
    let thread = rustix::thread::gettid().as_raw_nonzero().get() as usize;
    words[0].store(thread << 32 | depth, SeqCst);
    for (word, address) in words[1..].iter().zip(stack) {
        word.store(address, SeqCst);
    }
}

/// Where the thread was when the signal came.
fn program_counter(context: *mut c_void) -> usize {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: with SA_SIGINFO the kernel passes a `ucontext_t` that lives as long as the handler.
    let at = unsafe { (*context).uc_mcontext.gregs[libc::REG_RIP as usize] as usize };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: with SA_SIGINFO the kernel passes a `ucontext_t` that lives as long as the handler.
    let at = unsafe { (*context).uc_mcontext.pc as usize };
    at
}
