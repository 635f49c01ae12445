//! Who goes first when the control thread and a shard both want the processor: the shard.
//!
//! To read 100,000 workloads takes the control thread a second of the processor. By its nice value it has a tenth of a shard's
//! share where they meet, and shards and applications are not kept waiting for its slices. Where a process has a control
//! group of its own, as pods and systemd's services have, that says nothing about other processes.

use rustix::process::nice;

/// The calling thread's nice value from now on; threads that it starts later have it, too.
const NICE: i32 = 10;

/// Lets others go first. To be called once there are shards, for those are not to have it.
pub(super) fn go_behind() {
    match nice(NICE) {
        Ok(nice) => tracing::debug!(nice, "the control thread goes behind the shards"),
        // It only costs time.
        Err(error) => tracing::debug!(%error, "the control thread does not go behind the shards"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn only_the_calling_thread_goes_behind() {
        let before = nice(0).unwrap();
        let (go_on, waits) = mpsc::channel::<()>();
        let shard = thread::spawn(move || {
            waits.recv().unwrap();
            nice(0).unwrap()
        });
        let behind = thread::spawn(move || {
            go_behind();
            (nice(0).unwrap(), thread::spawn(|| nice(0).unwrap()).join().unwrap())
        });
        let (behind, its_child) = behind.join().unwrap();
        go_on.send(()).unwrap();
        assert_eq!((behind, its_child), ((before + NICE).min(19), (before + NICE).min(19)));
        assert_eq!(shard.join().unwrap(), before, "a thread that was there before");
    }
}
