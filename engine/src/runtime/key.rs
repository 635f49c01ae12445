//! The name of a task.

/// Index and generation of a task; the main future of `block_on` has an index of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl TaskKey {
    pub(crate) const MAIN: TaskKey = TaskKey { index: u32::MAX, generation: 0 };
}
