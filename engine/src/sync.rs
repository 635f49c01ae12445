//! What threads share is made of these. The exhaustive models in `engine/models` compile the same files
//! against their own set, in which every order of every access is tried.

pub(crate) use std::sync::{Arc, Mutex, PoisonError, atomic};

pub(crate) use arc_swap::ArcSwap;
pub(crate) use crossbeam_queue::{ArrayQueue, SegQueue};
