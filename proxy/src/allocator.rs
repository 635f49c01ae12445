//! The allocator: small, fast for many threads, and gives memory back to the system.
#![allow(unsafe_code)]
// JUSTIFICATION: the allocator has no safe call by which a thread that has become idle could give back what it freed.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives back what the calling thread has freed. Takes up to a few milliseconds after many allocations.
pub(crate) fn collect() {
    // SAFETY: `mi_collect` may be called by any thread at any time; it touches the heap of the calling thread, and of
    // others only what they have given up.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
