//! The name of a simulated network namespace.

/// Names a namespace of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SimNamespace {
    pub(crate) world: u64,
    pub(crate) index: usize,
}
