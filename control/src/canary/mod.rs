//! Whether a new version does worse than the old one, by what a waypoint counts of both.
//!
//! ```text
//!  ask ─▶ scrape: what was counted since the last time ─▶ trial: blocks of both backends ─▶ report: a verdict
//!                                                           └▶ statistics
//! ```
//!
//! It only reads: the waypoint that is asked knows nothing of it. Why this test and no other stands in
//! `docs/decisions/0014-a-test-that-may-be-looked-at.md`.

pub mod ask;
pub mod report;
pub mod scrape;
pub mod statistics;
pub mod trial;

pub use self::report::{Report, Terms, Verdict};
pub use self::scrape::{Scraped, Selector, Service, Wanted};
pub use self::trial::Trial;
