//! Exhaustive models of what Ringway's threads share.
//!
//! The files under test are the engine's own, compiled here against `sync`: atomics, queues and counts
//! of which [loom](https://docs.rs/loom) tries every order that the memory model allows, with up to three preemptions. Each
//! model is a small story that two or three threads tell together, and what must hold in every telling.
//!
//! | file | what is shown |
//! |---|---|
//! | `runtime/mailbox`, `runtime/waker`, `runtime/remote` | no message is left lying while its shard sleeps; the end of the senders is heard |
//! | `publish` | a shard that sees a version sees that snapshot or a later one, whole |
//! | `telemetry/records` | every record is taken once, or counted as lost |
//! | `placement/count` | a destination's count is right once all is over, and never wraps |
//!
//! `flawed` shows that the models can see: a wake-up without its fence, a version that is raised too early.
#![cfg(test)]

#[path = "../../src/placement/count.rs"]
mod count;
mod flawed;
mod placement;
#[path = "../../src/publish.rs"]
#[allow(dead_code, reason = "the model needs a part of what the engine does")]
mod publish;
mod publishing;
mod recording;
#[path = "../../src/telemetry/records.rs"]
mod records;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the models need a part of what the engine does, and show nobody"
)]
mod runtime;
mod snapshot;
mod sync;
mod waking;

/// Tries every order with up to three preemptions.
fn model(story: impl Fn() + Send + Sync + 'static) {
    model_with(3, story);
}

/// Tries every order with so many preemptions: two senders and a sleeper have too many orders for three.
fn model_with(preemptions: usize, story: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // A long beginning by one thread alone is one order.
    builder.max_branches = 10_000;
    builder.check(story);
}
