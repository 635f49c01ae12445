//! The engine's runtime, as far as other threads touch it.

#[path = "../../../src/runtime/mailbox.rs"]
pub(crate) mod mailbox;
#[path = "../../../src/runtime/remote.rs"]
pub(crate) mod remote;
#[path = "../../../src/runtime/waker.rs"]
pub(crate) mod waker;

/// Whose task it is; of no account here.
pub(crate) mod ready {
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct TenantId;
}

/// The runtime of this thread: in the models wakes come from other threads.
pub(crate) mod local {
    use super::ready::TenantId;
    use super::waker::TaskKey;

    pub(crate) struct Local;

    impl Local {
        pub(crate) fn push_ready(&self, _: TenantId, _: TaskKey) {
            unreachable!("nobody is at home");
        }
    }

    pub(crate) fn current_if(_: u32) -> Option<Local> {
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
