//! The rules that keep a shard from the known failures of its kind, each with a test that fails
//! when the rule is broken.

pub(crate) mod cancellation;
pub(crate) mod injection;
pub(crate) mod namespaces;
pub(crate) mod overflow;
pub(crate) mod refusal;
