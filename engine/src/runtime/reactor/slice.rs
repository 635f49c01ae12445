//! How soon a thread that was woken has its turn while others keep the processors busy.
//!
//! The scheduler gives every thread its share in slices, and who is woken waits until the slice of whoever runs is over,
//! unless its own is shorter. So a shard asks for short ones (`sched_setattr(2)`, Linux 6.12): its share stays what it
//! was, and comes in more and smaller pieces.
#![allow(unsafe_code)]
// JUSTIFICATION: sched_getattr and sched_setattr have no safe wrapper in rustix or the standard library.

use std::io;
use std::time::Duration;

/// What a shard asks for. The least that Linux grants; its own default is some milliseconds.
pub(crate) const SHARD_SLICE: Duration = Duration::from_micros(100);

/// Asks for slices of this length for the calling thread. Before Linux 6.12, and for a thread that has another policy than
/// the usual one, that changes nothing.
///
/// # Errors
/// Where the system call is not allowed, or not there.
pub(crate) fn ask_for_slice(slice: Duration) -> io::Result<()> {
    let mut attributes = read()?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    // What was read is written back: the call would set the nice value, too.
    attributes.sched_runtime = slice.as_nanos() as u64;
    attributes.sched_flags &= libc::SCHED_FLAG_RESET_ON_FORK as u64;
    // SAFETY: the kernel reads as many bytes from the pointer as the structure says it is long, and that was told by the
    // kernel and is no more than the structure has; it outlives the call. Thread 0 is the calling one.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read() -> io::Result<libc::sched_attr> {
    let size = size_of::<libc::sched_attr>() as u32;
    let mut attributes = libc::sched_attr {
        size,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most `size` bytes to the pointer, which is as many as there are; it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_short_slices_and_keeps_its_nice_value() {
        std::thread::spawn(|| {
            let nice = rustix::process::nice(3).expect("everybody may be nicer");
            let before = read().unwrap();
            ask_for_slice(SHARD_SLICE).unwrap();
            let after = read().unwrap();
            assert_eq!((after.sched_nice, after.sched_policy), (nice, before.sched_policy));
            // A kernel that has slices tells them; an older one tells of none.
            if before.sched_runtime > 0 {
                assert_eq!(after.sched_runtime, SHARD_SLICE.as_nanos() as u64);
            }
        })
        .join()
        .unwrap();
    }
}
