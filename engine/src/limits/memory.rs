//! What a process must be allowed to have, so that it can start and serve.

ringway_protocols::bounds! {
    /// Room for what the program does not have yet when it starts: its heaps, and the stacks of threads that are no
    /// shard's. Seen: 24 MiB; the rest is for what comes while it serves. Where less is left a thread fails at its start,
    /// which the standard library answers with a signal.
    pub const START_MEMORY_BYTES: u64 = 40 << 20;
    Bytes per Process: "the program says what is missing, and ends with exit code 71"

    /// The same for each shard: its stack, its heap, its scratch. Seen: 3.5 MiB.
    pub const SHARD_MEMORY_BYTES: u64 = 4 << 20;
    Bytes per Shard: "the program says what is missing, and ends with exit code 71"
}
