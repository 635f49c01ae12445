//! Holds a body back until its backend has asked for it.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use crate::{
    limits::CONTINUE_TIME,
    runtime::{self, Sleep},
    waypoint::BoxError,
};

/// A body that is expected to be asked for; dropped when the request is over.
pub(crate) struct Expected(pub(super) Rc<Gate>);

impl Drop for Expected {
    fn drop(&mut self) {
        if self.0.is.get() == Is::Shut {
            self.0.set(Is::Locked);
        }
    }
}

/// Before a body whose client wants to be asked for it.
pub(crate) struct Gate {
    is: Cell<Is>,
    /// Whoever does not ask in time may not know how to.
    patience: RefCell<Option<Sleep>>,
    waker: RefCell<Option<Waker>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Shut,
    Open,
    /// The request was answered without it.
    Locked,
}

/// Nobody wants the body: the backend has answered without it.
#[derive(Debug)]
pub(crate) struct Unwanted;

impl fmt::Display for Unwanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body is not wanted")
    }
}

impl std::error::Error for Unwanted {}

impl Gate {
    pub(super) fn shut_for_now() -> Rc<Self> {
        Rc::new(Self {
            is: Cell::new(Is::Shut),
            patience: RefCell::new(Some(runtime::sleep(CONTINUE_TIME))),
            waker: RefCell::default(),
        })
    }

    /// The backend wants it.
    pub(super) fn open(&self) {
        self.set(Is::Open);
    }

    /// The backend has not asked for it, and will not any more.
    pub(super) fn stay_shut(&self) {
        self.patience.take();
    }

    fn set(&self, is: Is) {
        self.is.set(is);
        self.waker.take().into_iter().for_each(Waker::wake);
    }

    /// Ready when the body may be sent.
    ///
    /// # Errors
    /// When it never will be.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.is.get() == Is::Shut
            && let Some(patience) = &mut *self.patience.borrow_mut()
            && Pin::new(patience).poll(cx).is_ready()
        {
            self.is.set(Is::Open);
        }
        match self.is.get() {
            Is::Open => Poll::Ready(Ok(())),
            Is::Locked => Poll::Ready(Err(Unwanted.into())),
            Is::Shut => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
