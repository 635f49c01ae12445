//! The log: one line an event, on standard output, in the form Istio's tools read.
//!
//! Events of this program come through `tracing`; access lines are made from the engine's records and handed in
//! directly. Both end in one bounded [`LogWriter`].

mod filter;
mod line;
mod writer;

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

pub use self::filter::{FilterError, LogFilter};
#[cfg(feature = "waypoint")]
pub(in crate::telemetry) use self::line::prefix;
pub use self::line::{LINE_BYTES_MAX, Line, LogFormat, TEXT_BYTES_MAX};
pub use self::writer::LogWriter;

use self::filter::scope_of;

/// At exit, this long is waited for the last lines.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// The log of the process: its form, filter and writer. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

struct Shared {
    format: LogFormat,
    writer: LogWriter,
    initial: LogFilter,
    filter: RwLock<LogFilter>,
    decisions_at_info: AtomicBool,
}

impl Log {
    /// A log that is not the process's yet.
    pub fn new(format: LogFormat, filter: LogFilter, writer: LogWriter) -> Self {
        let initial = filter.clone();
        let (filter, decisions_at_info) = (RwLock::new(filter), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { format, writer, initial, filter, decisions_at_info }) }
    }

    /// Makes it the process's: every event of `tracing` comes here. Returns whether it was the first.
    pub fn install(&self) -> bool {
        tracing::subscriber::set_global_default(self.clone()).is_ok()
    }

    /// Whether a line of `level` in `scope` is wanted.
    pub fn wants(&self, scope: &str, level: Level) -> bool {
        self.read_filter().enabled(scope, level)
    }

    /// Tells what policies say of connections at level info, not debug.
    pub fn tell_decisions_at_info(&self) {
        self.shared.decisions_at_info.store(true, Relaxed);
    }

    /// The level of lines that say what policies say.
    pub(super) fn decision_level(&self) -> Level {
        match self.shared.decisions_at_info.load(Relaxed) {
            true => Level::INFO,
            false => Level::DEBUG,
        }
    }

    /// Begins a line that is handed to [`Log::write`].
    pub fn line(&self, time: SystemTime, level: Level, scope: &str, message: &str) -> Line {
        Line::new(self.shared.format, time, level, scope, message)
    }

    /// Writes a finished line.
    pub fn write(&self, line: Line) {
        self.shared.writer.write(line.finish());
    }

    /// Writes a line of a form of its own: no part of it is the log's but its end. What is longer than
    /// [`TEXT_BYTES_MAX`] is cut.
    #[cfg(feature = "waypoint")]
    pub fn write_text(&self, mut line: String) {
        let length = prefix(&line, TEXT_BYTES_MAX - 1).len();
        line.truncate(length);
        line.push('\n');
        self.shared.writer.write(line.into_bytes());
    }

    /// What is logged now.
    pub fn filter(&self) -> LogFilter {
        self.read_filter().clone()
    }

    fn read_filter(&self) -> RwLockReadGuard<'_, LogFilter> {
        self.shared.filter.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes what is logged: to the initial filter first if `reset`, then by `directives`.
    ///
    /// # Errors
    /// [`FilterError`]; nothing is changed then.
    pub fn change_filter(&self, reset: bool, directives: &str) -> Result<LogFilter, FilterError> {
        let mut filter = if reset { self.shared.initial.clone() } else { self.filter() };
        filter.extend(directives)?;
        self.set_filter(filter.clone());
        Ok(filter)
    }

    /// Replaces what is logged.
    pub fn set_filter(&self, filter: LogFilter) {
        let mut current =
            self.shared.filter.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        *current = filter;
        drop(current);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Lines that were dropped because nobody took them in time.
    pub fn lines_lost(&self) -> u64 {
        self.shared.writer.lost()
    }

    /// Whether lines of which there may be very many should be handed in: the others need some room, too.
    pub fn has_room(&self) -> bool {
        self.shared.writer.has_room()
    }

    /// Waits a moment for the last lines to be written. Returns whether they are.
    pub fn flush(&self) -> bool {
        self.shared.writer.flush(FLUSH_PATIENCE)
    }
}

/// Spans are not kept: a line says what it is about in its own fields.
impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.wants(metadata.target(), *metadata.level())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.filter().max_level())
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut message = Message(String::new());
        event.record(&mut message);
        let scope = scope_of(metadata.target());
        let mut line = self.line(SystemTime::now(), *metadata.level(), scope, &message.0);
        event.record(&mut Fields(&mut line));
        self.write(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const MESSAGE: &str = "message";

/// Finds the message among the fields.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == MESSAGE {
            self.0 = format!("{value:?}");
        }
    }
}

/// Writes the other fields.
struct Fields<'a>(&'a mut Line);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != MESSAGE {
            self.0.bare(field.name(), format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != MESSAGE {
            self.0.text(field.name(), value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.number(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.boolean(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.float(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.text(field.name(), &value.to_string());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{self, Write};
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `work` is done.
    pub(crate) fn logged(format: LogFormat, work: impl FnOnce(&Log)) -> String {
        let sink = Sink::default();
        let writer = LogWriter::new(sink.clone()).unwrap();
        let log = Log::new(format, LogFilter::default(), writer);
        tracing::subscriber::with_default(log.clone(), || work(&log));
        assert!(log.shared.writer.flush(Duration::from_secs(20)));
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// What follows the time.
    fn columns(line: &str) -> &str {
        line.split_once('\t').unwrap().1
    }

    #[test]
    fn an_event_becomes_a_line() {
        let text = logged(LogFormat::Plain, |_| {
            tracing::info!(
                target: "ringway_control::run::reload",
                generation = 3,
                path = "/etc/mesh.yaml",
                error = %"it is\nbroken",
                "configuration {}",
                "reloaded"
            );
        });
        assert_eq!(
            columns(&text),
            "info\trun::reload\tconfiguration reloaded\tgeneration=3 path=\"/etc/mesh.yaml\" \
             error=\"it is\\nbroken\"\n"
        );
    }

    #[test]
    fn an_event_becomes_a_json_object() {
        let text =
            logged(LogFormat::Json, |_| tracing::warn!(target: "access", open = true, "odd"));
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["level"], "warn");
        assert_eq!(parsed["scope"], "access");
        assert_eq!(parsed["message"], "odd");
        assert_eq!(parsed["open"], true);
    }

    #[test]
    fn the_filter_changes_while_running_and_resets() {
        let text = logged(LogFormat::Plain, |log| {
            let shout = || tracing::debug!(target: "access", "heard");
            shout();
            log.change_filter(false, "access:debug").unwrap();
            shout();
            assert!(log.change_filter(false, "access=loud").is_err());
            shout();
            assert_eq!(log.change_filter(true, "").unwrap().to_string(), "info");
            shout();
        });
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn spans_are_harmless() {
        let text = logged(LogFormat::Plain, |_| {
            let span = tracing::error_span!("outer", a = 1);
            let _entered = span.enter();
            tracing::info!(target: "x", "inside");
        });
        assert_eq!(columns(&text), "info\tx\tinside\n");
    }
}
