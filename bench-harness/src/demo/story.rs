//! How it is told: headings, and under them claims, each with what was seen.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// The telling.
pub(super) struct Story {
    stop: Arc<AtomicBool>,
    colour: bool,
    failures: usize,
}

impl Story {
    pub(super) fn new(stop: Arc<AtomicBool>) -> Story {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Story { stop, colour, failures: 0 }
    }

    /// Whether every claim held.
    pub(super) fn held(&self) -> bool {
        self.failures == 0
    }

    /// Whether somebody pressed Ctrl-C.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn wait(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.is_stopped() {
                bail!("Ctrl-C");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn heading(&self, text: &str) {
        let (bold, plain) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        println!("\n{bold}{text}{plain}");
    }

    pub(super) fn claim(&mut self, claim: &str, seen: Result<String>) {
        let (green, red, plain) =
            if self.colour { ("\x1b[32m", "\x1b[31m", "\x1b[0m") } else { ("", "", "") };
        match seen {
            Ok(detail) if detail.is_empty() => println!("  {green}ok{plain} {claim}"),
            Ok(detail) => println!("  {green}ok{plain} {claim}: {detail}"),
            Err(error) => {
                self.failures += 1;
                println!("  {red}NO{plain} {claim}: {error:#}");
            }
        }
    }
}
