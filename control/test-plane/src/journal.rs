//! What clients sent and what became of it, as lines of JSON: tests read them.
//!
//! Every line has `at` (milliseconds since the plane began) and `what`. Tokens are never written down.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// The name of the file in the plane's directory.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// Appends lines.
pub(crate) struct Journal {
    file: Mutex<File>,
    began: Instant,
}

impl Journal {
    /// Goes on with the journal in `directory`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(directory: &Path) -> Result<Journal> {
        let path = directory.join(JOURNAL_FILE);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let journal = Journal { file: Mutex::new(file), began: Instant::now() };
        journal.record("began", json!({ "process": std::process::id() }));
        Ok(journal)
    }

    /// Adds a line; `details` is an object.
    pub(crate) fn record(&self, what: &str, details: Value) {
        let mut line = json!({ "at": self.began.elapsed().as_millis() as u64, "what": what });
        if let (Value::Object(line), Value::Object(details)) = (&mut line, details) {
            line.extend(details);
        }
        let mut file = self.file.lock().expect("writing a line does not panic");
        // A journal on a full disk loses lines; the tests that read it will say so.
        let _ = file.write_all(format!("{line}\n").as_bytes());
    }
}
