//! The measured span of a run, and the marks by which others know when it begins and ends.
//!
//! ```text
//!  origin          start                       end          at most `grace` later
//!    │   warm-up     │          measured        │  what is under way │
//! ```

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Seconds a run lasts before a terminal is told how far it is.
const PROGRESS_FROM: Duration = Duration::from_secs(2);

/// Warm-up and measured time, from the origin of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub(super) start: Duration,
    pub(super) end: Duration,
    /// How long after the end answers are still waited for.
    pub(super) grace: Duration,
}

/// What a run waits for answers after its end unless told otherwise.
pub const GRACE_SECONDS: f64 = 3.0;

impl Span {
    /// # Errors
    /// When nothing would be measured.
    pub(super) fn new(warm_up: f64, duration: f64) -> Result<Span> {
        ensure!(
            duration > 0.0 && duration <= 1e6,
            "nothing to measure in {duration} s: give --duration more than zero"
        );
        ensure!((0.0..=1e6).contains(&warm_up), "--warm-up {warm_up}: seconds, zero or more");
        let start = Duration::from_secs_f64(warm_up);
        let grace = Duration::from_secs_f64(GRACE_SECONDS);
        Ok(Span { start, end: start + Duration::from_secs_f64(duration), grace })
    }

    /// # Errors
    /// When it is no time.
    pub(super) fn with_grace(self, seconds: f64) -> Result<Span> {
        ensure!((0.0..=1e6).contains(&seconds), "--grace {seconds}: seconds, zero or more");
        Ok(Span { grace: Duration::from_secs_f64(seconds), ..self })
    }

    pub(super) fn contains(&self, moment: Duration) -> bool {
        self.start <= moment && moment < self.end
    }

    pub(super) fn seconds(&self) -> f64 {
        (self.end - self.start).as_secs_f64()
    }

    /// Waits through the run, marks where the span begins and ends, and shows progress.
    /// Returns early when `is_over` says that nobody works any more.
    pub(super) fn watch(
        &self,
        origin: Instant,
        marks: &Marks,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        let shown = std::io::stderr().is_terminal() && self.end > PROGRESS_FROM;
        for (until, mark) in [(self.start, "start"), (self.end, "end")] {
            while let Some(left) =
                until.checked_sub(origin.elapsed()).filter(|left| !left.is_zero())
            {
                if is_over() {
                    return Ok(());
                }
                if shown {
                    self.show(origin.elapsed());
                }
                std::thread::sleep(left.min(Duration::from_millis(100)));
            }
            marks.write(mark)?;
        }
        if shown {
            eprint!("\r\x1b[K");
        }
        Ok(())
    }

    fn show(&self, now: Duration) {
        const WIDTH: usize = 32;
        let share = (now.as_secs_f64() / self.end.as_secs_f64()).min(1.0);
        let done = (share * WIDTH as f64) as usize;
        let what = if now < self.start { "warming up" } else { "measuring" };
        eprint!(
            "\r\x1b[K[{}{}] {:.0} of {:.0} s, {what}",
            "#".repeat(done),
            ".".repeat(WIDTH - done),
            now.as_secs_f64(),
            self.end.as_secs_f64()
        );
    }
}

/// A file in which `start` and `end` appear as they happen; none if nobody wants to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks(pub(super) Option<PathBuf>);

impl Marks {
    pub(super) fn write(&self, mark: &str) -> Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot write marks to {}", path.display()))?;
        writeln!(file, "{mark}").with_context(|| format!("cannot write to {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_without_time_is_refused() {
        for (warm_up, duration) in [(0.0, 0.0), (0.0, -1.0), (-1.0, 1.0), (0.0, f64::NAN)] {
            let error = Span::new(warm_up, duration).unwrap_err().to_string();
            assert!(error.contains("--duration") || error.contains("--warm-up"), "{error}");
        }
        let span = Span::new(1.0, 2.0).unwrap();
        let inside = |seconds| span.contains(Duration::from_secs_f64(seconds));
        assert!(!inside(0.999) && inside(1.0) && inside(2.999) && !inside(3.0));
    }

    #[test]
    fn marks_are_in_order_and_not_made_when_the_work_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("marks");
        let marks = Marks(Some(path.clone()));
        let span = Span::new(0.01, 0.01).unwrap();
        span.watch(Instant::now(), &marks, || false).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "start\nend\n");
        let long = Span::new(1000.0, 1000.0).unwrap();
        long.watch(Instant::now(), &marks, || true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "start\nend\n");
    }
}
