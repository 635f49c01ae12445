//! The HTTP client: asks once or many times, and counts what failed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::http::{Client, Response, get};

/// What to ask, and how often.
#[derive(Clone, Debug, Args)]
pub struct Get {
    /// http://ADDRESS:PORT/PATH
    url: String,
    /// How many requests; 0: until the duration is over or SIGTERM comes.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Requests per second; without it, one after the other as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    /// Ask everything on one connection. A failed connection is replaced by a new one.
    #[arg(long)]
    keep_alive: bool,
    /// How long to wait for an answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    timeout: f64,
    /// Print every answer's body instead of the result.
    #[arg(long)]
    print: bool,
    /// Write a line of JSON with the counts so far to this file ten times a second.
    #[arg(long, value_name = "FILE")]
    progress: Option<std::path::PathBuf>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// Requests made.
    pub requests: u64,
    /// Requests without an answer of status 200.
    pub failures: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Failures by their text.
    pub errors: BTreeMap<String, u64>,
    /// Answers by the pod that gave them.
    pub pods: BTreeMap<String, u64>,
    /// Latency percentiles in microseconds: p50, p99, max.
    pub latency_us: BTreeMap<&'static str, u64>,
    /// The last answer's body, as JSON if it is JSON.
    pub last: Option<Value>,
}

impl Get {
    /// Asks, prints, and tells whether everything succeeded.
    pub async fn run(self) -> Result<bool> {
        let (address, target) = split(&self.url)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut outcome = Outcome::default();
        let asking = self.ask(address, target, &mut outcome);
        tokio::select! {
            result = asking => result?,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        if !self.print {
            println!("{}", serde_json::to_string(&outcome)?);
        }
        self.write_progress(&outcome)?;
        Ok(outcome.failures == 0 && outcome.requests > 0)
    }

    async fn ask(&self, address: SocketAddr, target: &str, outcome: &mut Outcome) -> Result<()> {
        let start = Instant::now();
        let end = self.duration.map(|seconds| start + Duration::from_secs_f64(seconds));
        let mut client = None;
        let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?;
        let mut progress_due = start;
        while self.count == 0 || outcome.requests < self.count {
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(outcome.requests as f64 / rate);
                tokio::time::sleep_until((start + due).into()).await;
            }
            let asked = Instant::now();
            if end.is_some_and(|end| asked >= end) {
                break;
            }
            let patience = Duration::from_secs_f64(self.timeout);
            let answer =
                tokio::time::timeout(patience, self.ask_once(address, target, &mut client));
            let answer = answer.await.unwrap_or_else(|_| {
                Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"))
            });
            if answer.is_err() {
                client = None;
            }
            latency.saturating_record(asked.elapsed().as_micros() as u64);
            outcome.record(answer, self.print);
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                outcome.latency_us.insert(name, latency.value_at_quantile(quantile));
            }
            if Instant::now() >= progress_due {
                progress_due = Instant::now() + Duration::from_millis(100);
                self.write_progress(outcome)?;
            }
        }
        Ok(())
    }

    async fn ask_once(
        &self,
        address: SocketAddr,
        target: &str,
        client: &mut Option<Client>,
    ) -> std::io::Result<Response> {
        if !self.keep_alive {
            return get(address, target).await;
        }
        let client = match client {
            Some(client) => client,
            None => client.insert(Client::connect(address).await?),
        };
        client.get(target).await
    }

    fn write_progress(&self, outcome: &Outcome) -> Result<()> {
        let Some(path) = &self.progress else { return Ok(()) };
        // Whoever reads never sees half a line.
        let next = path.with_extension("next");
        std::fs::write(&next, serde_json::to_string(outcome)?)?;
        std::fs::rename(&next, path).context("cannot write the progress file")
    }
}

impl Outcome {
    fn record(&mut self, answer: std::io::Result<Response>, print: bool) {
        self.requests += 1;
        match answer {
            Ok(response) => {
                *self.statuses.entry(response.status).or_default() += 1;
                if response.status != 200 {
                    self.failures += 1;
                }
                let text = String::from_utf8_lossy(&response.body);
                if print {
                    print!("{text}");
                }
                let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| text.into());
                if let Some(pod) = value["pod"].as_str() {
                    *self.pods.entry(pod.to_owned()).or_default() += 1;
                }
                self.last = Some(value);
            }
            Err(error) => {
                self.failures += 1;
                if print {
                    eprintln!("failed: {error}");
                }
                *self.errors.entry(error.to_string()).or_default() += 1;
            }
        }
    }
}

fn split(url: &str) -> Result<(SocketAddr, &str)> {
    let rest = url.strip_prefix("http://").context("a URL here starts with http://")?;
    let (authority, target) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let address = authority.parse().with_context(|| format!("{authority} is not IP:PORT"))?;
    Ok((address, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_addresses_and_paths() {
        let address = "10.96.0.1:9080".parse().unwrap();
        assert_eq!(split("http://10.96.0.1:9080/a?b").unwrap(), (address, "/a?b"));
        assert_eq!(split("http://10.96.0.1:9080").unwrap(), (address, "/"));
        assert!(split("https://10.96.0.1:9080/").is_err());
        assert!(split("http://details/").is_err());
    }

    #[test]
    fn only_status_200_is_a_success() {
        let mut outcome = Outcome::default();
        outcome.record(Ok(Response::new(200, "application/json", "{\"pod\":\"a\"}")), false);
        outcome.record(Ok(Response::new(502, "text/plain", "no")), false);
        outcome.record(Err(std::io::ErrorKind::ConnectionReset.into()), false);
        assert_eq!((outcome.requests, outcome.failures), (3, 2));
        assert_eq!(outcome.pods["a"], 1);
    }
}
