//! Traces: a span for each request that is to be traced, sent to a collector in OpenTelemetry's protocol.
//!
//! ```text
//!   record ─▶ span ─▶ queue (bounded) ─▶ batch: 512 spans, or what 5 s brought ─▶ OTLP over gRPC or HTTP
//! ```
//!
//! **Invariant:** a collector that is slow, wrong or gone touches nothing but its own spans: those that find no room are counted as lost.

mod collector;
mod options;
mod span;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringway_engine::telemetry::http::RequestRecord;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

pub use self::options::{Protocol, TraceError, TraceFlags, TraceOptions};
pub use self::span::Origin;

use self::collector::{Collector, Outcome};
use crate::proto::trace::Span;

/// Spans in one export.
const BATCH_MAX: usize = 512;

/// A span waits no longer for others.
const BATCH_PATIENCE: Duration = Duration::from_secs(5);

/// Spans that wait while the collector cannot be reached: some seconds of a busy waypoint.
const WAITING_MAX: usize = 8 * BATCH_MAX;

/// How long one export may take, its connection included.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// After an export that failed, so long until the next; doubled each time, up to the second.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long the last spans are waited for at the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(2);

/// What became of spans.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpanCounts {
    /// The collector took them.
    pub exported: u64,
    /// It said that it does not want them.
    pub refused: u64,
    /// It could not be reached in time, or they were too many.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
}

/// Sends spans. Lives on the control thread; what it holds ends with it.
pub struct Exporter {
    origin: Origin,
    spans: Option<Sender<Span>>,
    counters: Arc<Counters>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Exporter {
    /// One that sends to where `options` say. Must run in a `LocalSet`.
    pub fn start(options: TraceOptions, origin: Origin) -> Self {
        let counters = Arc::new(Counters::default());
        let (sender, spans) = channel(WAITING_MAX);
        let collector = Collector::new(options, &origin);
        let task = tokio::task::spawn_local(export(collector, spans, Arc::clone(&counters)));
        Self { origin, spans: Some(sender), counters, task: Some(task) }
    }

    /// Sends the span of `record`, if it has one.
    pub fn offer(&self, record: &RequestRecord) {
        let Some(span) = span::of(record, &self.origin) else { return };
        let sent = self.spans.as_ref().is_some_and(|spans| spans.try_send(span).is_ok());
        if !sent {
            self.counters.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells what became of spans, on any thread.
    pub fn teller(&self) -> Arc<dyn Fn() -> SpanCounts + Send + Sync> {
        let counters = Arc::clone(&self.counters);
        Arc::new(move || SpanCounts {
            exported: counters.exported.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            lost: counters.lost.load(Ordering::Relaxed),
        })
    }

    /// Takes no more. The future waits a moment for the last to be sent.
    pub fn flush(&mut self) -> impl Future<Output = ()> + use<> {
        self.spans = None;
        let task = self.task.take();
        async {
            if let Some(task) = task {
                let _ = timeout(FLUSH_PATIENCE, task).await;
            }
        }
    }
}

/// Sends what comes until nobody can send any more.
async fn export(mut collector: Collector, mut spans: Receiver<Span>, counters: Arc<Counters>) {
    let mut pause = RETRY_PAUSE;
    while let Some(batch) = next_batch(&mut spans).await {
        let count = batch.len() as u64;
        let outcome = timeout(EXPORT_TIMEOUT, collector.export(batch));
        let outcome =
            outcome.await.unwrap_or_else(|_| Outcome::Failed("no answer in time".to_owned()));
        match outcome {
            Outcome::Taken { refused, why } => {
                let refused = refused.min(count);
                counters.exported.fetch_add(count - refused, Ordering::Relaxed);
                counters.refused.fetch_add(refused, Ordering::Relaxed);
                if !why.is_empty() {
                    tracing::warn!(collector = %collector, refused, why, "the collector of traces complains");
                }
                pause = RETRY_PAUSE;
            }
            Outcome::Refused(why) => {
                counters.refused.fetch_add(count, Ordering::Relaxed);
                tracing::warn!(collector = %collector, spans = count, why, "the collector of traces refuses spans");
                pause = RETRY_PAUSE;
            }
            Outcome::Failed(why) => {
                // They are not kept: by the time it is back there are others, and these are old.
                counters.lost.fetch_add(count, Ordering::Relaxed);
                tracing::warn!(collector = %collector, spans = count, why, "spans are lost; traffic goes on");
                let ended = wait(&mut spans, pause, &counters).await;
                if ended {
                    return;
                }
                pause = (pause * 2).min(RETRY_PAUSE_MAX);
            }
        }
    }
}

/// Waits, while the queue fills and overflows by itself. Returns whether nobody sends any more: then nothing is waited for.
async fn wait(spans: &mut Receiver<Span>, pause: Duration, counters: &Counters) -> bool {
    let until = tokio::time::Instant::now() + pause;
    loop {
        if spans.is_closed() {
            counters.lost.fetch_add(spans.len() as u64, Ordering::Relaxed);
            return true;
        }
        let now = tokio::time::Instant::now();
        if now >= until {
            return false;
        }
        tokio::time::sleep((until - now).min(Duration::from_millis(100))).await;
    }
}

/// The next spans, none once nobody sends any more.
async fn next_batch(spans: &mut Receiver<Span>) -> Option<Vec<Span>> {
    let mut batch = Vec::new();
    batch.push(spans.recv().await?);
    let gathered = async {
        while batch.len() < BATCH_MAX {
            match spans.recv().await {
                Some(span) => batch.push(span),
                None => break,
            }
        }
    };
    // What was received is in the batch, whether or not the time is up.
    let _ = timeout(BATCH_PATIENCE, gathered).await;
    Some(batch)
}
