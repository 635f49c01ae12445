//! The allocator: small, fast for many threads, and gives memory back to the system. When there is no more memory the
//! process says so and ends; nothing goes on with half of what it needs.
#![allow(unsafe_code)]
// JUSTIFICATION: an allocator is unsafe to be one, and this one has no safe call by which a thread that has become idle
// could give back what it freed.

use std::alloc::{GlobalAlloc, Layout};
use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;

use crate::exit::Exit;

#[global_allocator]
static ALLOCATOR: Guarded<mimalloc::MiMalloc> = Guarded(mimalloc::MiMalloc);

/// Gives back what the calling thread has freed. Takes up to a few milliseconds after many allocations.
pub(crate) fn collect() {
    // SAFETY: `mi_collect` may be called by any thread at any time; it touches the heap of the calling thread, and of
    // others only what they have given up.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// The loader of programs calls this before anything is allocated.
#[used]
#[unsafe(link_section = ".init_array.00101")]
static BEFORE_MAIN: extern "C" fn() = take_only_what_is_needed;

/// Where memory is limited, neither allocator takes addresses that nobody wants yet: they are what the stacks of threads
/// need.
extern "C" fn take_only_what_is_needed() {
    if !is_limited(libc::RLIMIT_AS) && !is_limited(libc::RLIMIT_DATA) {
        return;
    }
    // SAFETY: an option of the allocator's may be set at any time, by any thread.
    unsafe { libmimalloc_sys::mi_option_set(ARENA_RESERVE, 0) }
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time; there is one thread yet. What is written in C would have 64 MiB of addresses
    // for each thread.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

fn is_limited(resource: libc::__rlimit_resource_t) -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the limit is this function's own; a call that fails leaves it as it is.
    unsafe { libc::getrlimit(resource, &mut limit) };
    limit.rlim_cur < AMPLE_BYTES
}

/// With so much, what is reserved ahead leaves enough for all else.
const AMPLE_BYTES: u64 = 8 << 30;

/// `mi_option_arena_reserve`, which the bindings have no name for: KiB of addresses to take at a time.
const ARENA_RESERVE: libmimalloc_sys::mi_option_t = 23;

/// An allocator whose callers need not expect that it has nothing.
///
/// Rust's own answer to that is SIGABRT: a core file, if those are on, and a supervisor that reports a crash. Here it is
/// one line and an exit code; the kernel resets what was open, so nobody takes a cut transfer for a whole one.
struct Guarded<A>(A);

// SAFETY: every pointer comes from the inner allocator, for the layout that was asked for, and goes back to it; it keeps
// the promises of the trait, and what is done in between does not unwind and returns no pointer of its own.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Guarded<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what our caller promises is what the inner allocator is promised, each time.
        let allocate = || unsafe { self.0.alloc(layout) };
        never_null(layout.size(), allocate)
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let allocate = || unsafe { self.0.alloc_zeroed(layout) };
        never_null(layout.size(), allocate)
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: it came from the inner allocator, for this layout.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: it came from the inner allocator; one that fails to grow it leaves it as it was, so that it may be
        // asked again.
        let allocate = || unsafe { self.0.realloc(pointer, layout, size) };
        never_null(size, allocate)
    }
}

#[inline]
fn never_null(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    let made = allocate();
    if made.is_null() { once_more(size, &allocate) } else { made }
}

/// Gives back what this thread does not use, and tries again. Without success this is the end.
#[cold]
#[inline(never)]
fn once_more(size: usize, allocate: &dyn Fn() -> *mut u8) -> *mut u8 {
    collect();
    let made = allocate();
    if made.is_null() { end(size) } else { made }
}

/// Says that memory has ended, and ends. Allocates nothing, and runs nobody's destructors: they might.
fn end(size: usize) -> ! {
    let mut line = [0_u8; 256];
    let room = line.len();
    let mut rest = &mut line[..];
    // It fits; and if it did not, its beginning would be written.
    let _ = writeln!(
        rest,
        "ringway: the system gives no more memory ({size} bytes were asked for), so the process ends; allow it more, or \
         lower the limits of the configuration"
    );
    let length = room - rest.len();
    // SAFETY: the descriptor is standard error's; whoever closed it gets an error here, which is nobody's. It is not
    // closed here, because the file is never dropped.
    let mut standard_error = ManuallyDrop::new(unsafe { File::from_raw_fd(2) });
    let _ = standard_error.write_all(&line[..length]);
    // SAFETY: it may be called at any time, and by any thread.
    unsafe { libc::_exit(Exit::System as i32) }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Fails so many times before it has something.
    struct Failing(AtomicUsize);

    impl Failing {
        fn fails(&self) -> bool {
            let less = |left: usize| left.checked_sub(1);
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
        }
    }

    // SAFETY: all pointers are those of the program's allocator, or null.
    unsafe impl GlobalAlloc for Failing {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as the caller promises.
            if self.fails() { std::ptr::null_mut() } else { unsafe { ALLOCATOR.0.alloc(layout) } }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
            // SAFETY: as the caller promises.
            unsafe { ALLOCATOR.0.dealloc(pointer, layout) }
        }
    }

    fn guarded(failures: usize) -> Guarded<Failing> {
        Guarded(Failing(AtomicUsize::new(failures)))
    }

    const LAYOUT: Layout = Layout::new::<[u64; 512]>();

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: an option may be asked for at any time.
        let kib = unsafe { libmimalloc_sys::mi_option_get(ARENA_RESERVE) };
        assert_eq!(kib, 1 << 20, "a GiB is reserved at a time; no other option has this value");
    }

    #[test]
    fn a_shortage_that_passes_is_not_noticed() {
        let allocator = guarded(1);
        // SAFETY: the layout is not empty; the pointer is given back with the layout that it has by then.
        unsafe {
            let made = allocator.alloc(LAYOUT);
            assert!(!made.is_null());
            made.write(7);
            allocator.0.0.store(1, Ordering::Relaxed);
            let grown = allocator.realloc(made, LAYOUT, 2 * LAYOUT.size());
            assert_eq!(grown.read(), 7);
            let layout = Layout::from_size_align(2 * LAYOUT.size(), LAYOUT.align()).unwrap();
            allocator.dealloc(grown, layout);
        }
    }

    #[test]
    fn a_shortage_that_stays_ends_the_process_with_a_line() {
        /// Says to this test that it is in the process which is to end.
        const ENDS: &str = "RINGWAY_TEST_ALLOCATION_ENDS";
        if std::env::var_os(ENDS).is_some() {
            // SAFETY: the layout is not empty.
            unsafe { guarded(usize::MAX).alloc(LAYOUT) };
            return;
        }
        let name = "allocator::tests::a_shortage_that_stays_ends_the_process_with_a_line";
        let mut own = Command::new(std::env::current_exe().unwrap());
        let ended = own.args([name, "--exact", "--nocapture"]).env(ENDS, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(Exit::System as i32), "{said}");
        assert_eq!(said.matches("no more memory (4096 bytes").count(), 1, "{said}");
    }
}
