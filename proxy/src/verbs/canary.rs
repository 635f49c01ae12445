//! `ringway canary`: two versions behind a running waypoint, compared while it runs.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use ringway_control::canary::ask::{self, AskError};
use ringway_control::canary::scrape::{Ambiguous, Block};
use ringway_control::canary::{Report, Scraped, Terms, Trial, Verdict, Wanted};

use crate::cli::CanaryArguments;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};

/// Looks in a row that find nobody: a waypoint that starts again takes less.
const MISSED_MAX: u32 = 3;

/// Watches both for as long as was said, or until one is worse for certain.
pub(crate) fn run(arguments: &CanaryArguments) -> Result<Exit, Failure> {
    check(arguments)?;
    let mut watched = Watched::new(arguments);
    watched.look().map_err(|error| unreachable(&error, arguments))??;
    let (began, mut missed) = (Instant::now(), 0);
    let mut trial = Trial::new(Terms {
        confidence: arguments.confidence,
        requests_min: arguments.min_requests,
        slow_milliseconds: arguments.slow.map(|slow| slow.as_secs_f64() * 1e3),
    });
    while !trial.is_decided() && began.elapsed() < arguments.duration {
        let left = arguments.duration.saturating_sub(began.elapsed());
        thread::sleep(arguments.interval.min(left));
        match watched.look() {
            Ok(blocks) => {
                missed = 0;
                trial.add(blocks?);
                progress(&trial.report(), began.elapsed());
            }
            Err(error) => {
                missed += 1;
                if missed == MISSED_MAX {
                    return Err(unreachable(&error, arguments));
                }
                eprintln!("warning: {error}; it is asked again");
            }
        }
    }
    tell(&trial.report(), arguments)
}

fn check(arguments: &CanaryArguments) -> Result<(), Failure> {
    let wrong = |message: &str, next: &str| Err(Failure::new(Exit::Usage, message).next(next));
    if arguments.interval.is_zero() || arguments.interval > arguments.duration {
        return wrong(
            "--interval is not within --duration",
            "there must be room for two looks at least: --duration 5m --interval 5s",
        );
    }
    if arguments.baseline == arguments.canary {
        return wrong(
            "--baseline and --canary select the same",
            "say which versions are compared: --baseline v1 --canary v2",
        );
    }
    Ok(())
}

/// The processes that are asked, and what they said last.
struct Watched {
    processes: Vec<(SocketAddr, Scraped)>,
    wanted: Wanted,
}

impl Watched {
    fn new(arguments: &CanaryArguments) -> Self {
        Self {
            processes: arguments.metrics.iter().map(|one| (*one, Scraped::default())).collect(),
            wanted: Wanted {
                service: arguments.service.clone(),
                baseline: arguments.baseline.clone(),
                canary: arguments.canary.clone(),
            },
        }
    }

    /// What all of them counted since the last look. What one that is missing now counts meanwhile comes with the next.
    fn look(&mut self) -> Result<Result<[Block; 2], Failure>, AskError> {
        let texts: Result<Vec<_>, _> = self
            .processes
            .iter()
            .map(|(address, _)| ask::get(*address, "/stats/prometheus"))
            .collect();
        let mut sum = [Block::default(), Block::default()];
        for ((_, scraped), text) in self.processes.iter_mut().zip(texts?) {
            match scraped.advance(&text, &self.wanted) {
                Ok(blocks) => sum.iter_mut().zip(&blocks).for_each(|(sum, block)| sum.add(block)),
                Err(ambiguous) => return Ok(Err(both(&ambiguous))),
            }
        }
        Ok(Ok(sum))
    }
}

fn both(Ambiguous(series): &Ambiguous) -> Failure {
    Failure::new(Exit::Usage, format!("--baseline and --canary both select {series}"))
        .next("say what only one of them has, such as version=v1 and version=v2")
}

fn unreachable(error: &AskError, arguments: &CanaryArguments) -> Failure {
    let known = arguments.metrics.len() > 1;
    let which = if known { "each --metrics" } else { "--metrics" };
    Failure::new(Exit::Unavailable, error.to_string())
        .next(format!("{which} is the metrics server of a running `ringway waypoint`, port 15020"))
}

/// For whoever sits before it.
fn progress(report: &Report, elapsed: Duration) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let side = |failures: ringway_control::canary::statistics::Counted| {
        format!("{} requests, {} failed", failures.all, failures.some)
    };
    eprintln!(
        "{:>5} s  baseline: {}; canary: {}; {}",
        elapsed.as_secs(),
        side(report.baseline.failures),
        side(report.canary.failures),
        report.verdict.as_str()
    );
}

fn tell(report: &Report, arguments: &CanaryArguments) -> Result<Exit, Failure> {
    let selectors = [arguments.baseline.to_string(), arguments.canary.to_string()];
    let selectors = selectors.each_ref().map(String::as_str);
    match arguments.output {
        Format::Table => {
            output::table(&Report::HEADING, &report.rows(selectors))?;
            output::print(&report.sentence())?;
        }
        Format::Json => output::json(&report.as_json(selectors))?,
    }
    Ok(match report.verdict {
        Verdict::Better | Verdict::NoDifference => Exit::Ok,
        Verdict::Worse => Exit::Failed,
        Verdict::Undecided => Exit::Undecided,
    })
}
