//! Time as tasks see it: [`now`], [`sleep`], [`timeout`], [`yield_now`].
//!
//! None of these allocates: a waiting timer is a row of the shard's wheel, removed on drop.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::local::{self, Local};
use super::wheel::TimerKey;

/// The time, read once per turn: after the wait, before the tasks it made ready are polled.
///
/// Outside a runtime it reads the clock.
pub fn now() -> Instant {
    local::current().map_or_else(Instant::now, |local| local.now())
}

/// Completes `duration` from now, rounded up to a millisecond; never early.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(now().checked_add(duration).unwrap_or_else(far_future))
}

/// Completes at `deadline`, rounded up to a millisecond; never early.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// What "never" means for a duration too long to be added to the clock.
fn far_future() -> Instant {
    now() + Duration::from_secs(100 * 365 * 86_400)
}

/// The future of [`sleep`]. Dropping it removes the timer.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<Set>,
}

#[derive(Clone, Copy, Debug)]
struct Set {
    local: u32,
    key: TimerKey,
}

impl Sleep {
    /// When it completes.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Starts anew with another deadline; also after completion.
    pub fn reset(&mut self, deadline: Instant) {
        self.cancel();
        self.deadline = deadline;
    }

    /// Whether the deadline has passed, as of [`now`].
    pub fn is_elapsed(&self) -> bool {
        now() >= self.deadline
    }

    fn cancel(&mut self) {
        if let Some(set) = self.timer.take()
            && let Some(local) = local::current_if(set.local)
        {
            // Held until after the borrow: dropping a waker may run foreign code.
            let waker = local.timers.borrow_mut().cancel(set.key);
            drop(waker);
        }
    }

    fn arm(&mut self, local: &Local, cx: &Context<'_>) {
        if let Some(set) = self.timer.filter(|set| set.local == local.id()) {
            let rewoken = local.timers.borrow_mut().rewake(set.key, cx.waker());
            if rewoken.is_some() {
                return;
            }
        }
        let key = local.timers.borrow_mut().insert(self.deadline, cx.waker().clone());
        self.timer = Some(Set { local: local.id(), key });
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let local = local::expect_current("sleep");
        if local.now() >= self.deadline {
            self.cancel();
            return Poll::Ready(());
        }
        self.arm(&local, cx);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The deadline of a [`timeout`] passed before its future completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// Awaits `future` for at most `duration`. A future that is ready wins over a deadline that passed.
pub fn timeout<F: Future>(duration: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(duration) }
}

pin_project! {
    /// The future of [`timeout`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// Lets every other ready task, and the reactor, have its turn first.
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
