//! The descriptor table: how much of it the data plane leaves to the rest of the process.
//!
//! Linux gives out the lowest number that is free, so a descriptor's own number tells how full the table is: one of
//! the last [`DESCRIPTOR_RESERVE`] numbers means that only the reserve is left. Nothing has to be counted, and
//! whatever else holds descriptors is counted in.

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Descriptors left to admin requests, certificates, reloads and the log (a quarter of all at most).
pub const DESCRIPTOR_RESERVE: u64 = 32;

/// Descriptors the data plane may fill the table up to.
pub fn descriptors_max() -> u64 {
    less_reserves(1)
}

/// Descriptors that accepting may fill the table up to: as many again are left to dials, so that who has a tunnel
/// already is not locked out by those who have not.
pub(crate) fn accepts_max() -> u64 {
    less_reserves(2)
}

fn less_reserves(reserves: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    limit - reserves * DESCRIPTOR_RESERVE.min(limit / 4)
}

/// Whether `number` is one of the reserve.
pub(crate) fn is_reserved(number: u64, descriptors_max: u64) -> bool {
    number >= descriptors_max
}

/// Gives back what was just made when it is one of the reserve.
///
/// # Errors
/// `EMFILE`, as if the limit were that of the data plane.
pub(crate) fn unless_reserved<D: AsFd>(made: D) -> Result<D, Errno> {
    let number = made.as_fd().as_raw_fd() as u64;
    if is_reserved(number, KNOWN_MAX.get()) {
        // The limit may have been raised since.
        KNOWN_MAX.set(descriptors_max());
    }
    if is_reserved(number, KNOWN_MAX.get()) { Err(Errno::MFILE) } else { Ok(made) }
}

thread_local! {
    /// What [`descriptors_max`] was when it was last asked: a system call for each dial is one too many.
    static KNOWN_MAX: Cell<u64> = const { Cell::new(0) };
}
