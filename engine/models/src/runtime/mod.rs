//! The engine's runtime, as far as other threads touch it.

#[path = "../../../src/runtime/key.rs"]
pub(crate) mod key;
#[path = "../../../src/runtime/mailbox.rs"]
pub(crate) mod mailbox;
#[path = "../../../src/runtime/remote.rs"]
pub(crate) mod remote;
#[path = "../../../src/runtime/waker.rs"]
pub(crate) mod waker;

/// What is ready on this thread: in the models wakes come from other threads, and whose task it is, is of no account.
pub(crate) mod ready {
    use super::key::TaskKey;

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct TenantId;

    pub(crate) struct Ready;

    impl Ready {
        pub(crate) fn push(&self, _: TenantId, _: TaskKey) {
            unreachable!("nobody is at home");
        }
    }

    pub(crate) fn current_if(_: u32) -> Option<Ready> {
        None
    }
}

/// The eventfd: a wait ends when it was written to since the last wait.
pub(crate) mod wakeup {
    use std::sync::Arc;

    use loom::sync::Notify;

    #[derive(Clone, Debug)]
    pub(crate) struct Wakeup(Arc<Notify>);

    impl Wakeup {
        pub(crate) fn new() -> Self {
            Self(Arc::new(Notify::new()))
        }

        pub(crate) fn wake(&self) {
            self.0.notify();
        }

        pub(crate) fn wait(&self) {
            self.0.wait();
        }
    }
}
