//! Load held.

mod descriptors;
mod slow;

pub(super) use self::descriptors::descriptors;
pub(super) use self::slow::slow;
