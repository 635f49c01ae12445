//! What is wrong with a configuration, said so that it can be corrected: file, line, column, the line itself, a caret
//! under the place, and what to write instead.
//!
//! While loading, everything that reads tells a [`Reporter`], and goes on: one mistake never hides another. When all
//! files were read the reporter becomes [`Diagnostics`], which are sorted and carry the text of their lines, so that
//! they can be shown long after the files changed.

mod rendering;
pub(crate) mod suggest;

use std::fmt;
use std::sync::Arc;

use self::rendering::Rendering;

/// Problems that are kept with their text; further ones are only counted. A file of 150,000 workloads that all carry
/// the same wrong key is one mistake, not 150,000 pages.
pub const PROBLEMS_MAX: usize = 1000;

/// Which of the files of one load, in the order in which they were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId(pub(crate) u32);

/// Some text in a file. Lines and columns count from 1, columns and width in characters; line 0 is the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) file: FileId,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) width: u32,
}

impl Place {
    /// The file as a whole, for what has no line: it cannot be read, it is empty.
    pub(crate) fn whole(file: FileId) -> Place {
        Place { file, line: 0, column: 0, width: 0 }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but probably does not do what was meant.
    Warning,
}

/// One mistake, while its file is still known by number only.
#[derive(Debug)]
pub(crate) struct Problem {
    severity: Severity,
    place: Place,
    message: String,
    help: Option<String>,
    related: Option<(Place, &'static str)>,
}

impl Problem {
    pub(crate) fn error(place: Place, message: impl Into<String>) -> Problem {
        let message = message.into();
        Problem { severity: Severity::Error, place, message, help: None, related: None }
    }

    pub(crate) fn warning(place: Place, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(place, message) }
    }

    /// What to do about it.
    pub(crate) fn help(mut self, help: impl Into<Option<String>>) -> Problem {
        self.help = help.into();
        self
    }

    /// The other half of a contradiction: `first defined here`.
    pub(crate) fn related(mut self, place: Place, note: &'static str) -> Problem {
        self.related = Some((place, note));
        self
    }
}

/// Collects problems in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    problems: Vec<Problem>,
    errors: usize,
    warnings: usize,
}

impl Reporter {
    pub(crate) fn report(&mut self, problem: Problem) {
        match problem.severity {
            Severity::Error => self.errors += 1,
            Severity::Warning => self.warnings += 1,
        }
        if !self.is_full() {
            self.problems.push(problem);
        }
    }

    /// Whether further problems are only counted.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Errors so far, those that are only counted included.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn has_errors_in(&self, file: FileId) -> bool {
        self.problems.iter().any(|problem| problem.place.file == file)
    }

    /// Sorts, and gives every problem the name of its file and the text of its line.
    pub(crate) fn finish(mut self, sources: &dyn Sources) -> Diagnostics {
        self.problems.sort_by(|a, b| {
            (a.place, a.severity, &a.message).cmp(&(b.place, b.severity, &b.message))
        });
        // What contradicts the same other place contradicts it once.
        self.problems.dedup_by(|b, a| {
            let is_same = a.place == b.place && a.related.is_some() && a.related == b.related;
            self.errors -= usize::from(is_same && b.severity == Severity::Error);
            is_same
        });
        let places: Vec<Place> = self.problems.iter().map(|problem| problem.place).collect();
        let lines = sources.lines(&places);
        let items = self.problems.into_iter().zip(lines);
        Diagnostics {
            items: items.map(|(problem, line)| Diagnostic::new(problem, line, sources)).collect(),
            errors: self.errors,
            warnings: self.warnings,
        }
    }
}

/// Where a reporter finds names and lines when it finishes.
pub(crate) trait Sources {
    fn name(&self, file: FileId) -> Arc<str>;
    /// The text of the line of each place; the places are sorted.
    fn lines(&self, places: &[Place]) -> Vec<String>;
}

/// One mistake.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    severity: Severity,
    file: Arc<str>,
    line: u32,
    column: u32,
    width: u32,
    excerpt: String,
    message: String,
    help: Option<String>,
    related: Option<String>,
}

impl Diagnostic {
    fn new(problem: Problem, excerpt: String, sources: &dyn Sources) -> Diagnostic {
        let Place { file, line, column, width } = problem.place;
        let related = problem.related.map(|(place, note)| {
            format!("{note}: {}:{}:{}", sources.name(place.file), place.line, place.column)
        });
        Diagnostic {
            severity: problem.severity,
            file: sources.name(file),
            line,
            column,
            width,
            excerpt,
            message: clean(problem.message),
            help: problem.help.map(clean),
            related,
        }
    }

    /// Whether this forbids using the configuration.
    pub fn severity(&self) -> Severity {
        self.severity
    }

    /// The file, as the user named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The line, from 1; 0 when the file as a whole is meant.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// The column in characters, from 1; 0 when the file as a whole is meant.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// The line of text the mistake is in.
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }

    /// What is wrong, as a sentence without a full stop.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where the other half of a contradiction is.
    pub(super) fn related(&self) -> Option<&str> {
        self.related.as_deref()
    }

    /// What to do about it, where that is known.
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// How many characters are meant.
    pub(super) fn width(&self) -> u32 {
        self.width
    }
}

/// Messages repeat what the user wrote. What could move the cursor of a terminal is not repeated.
fn clean(text: String) -> String {
    match text.contains(char::is_control) {
        true => text.replace(char::is_control, "\u{fffd}"),
        false => text,
    }
}

/// Every mistake of every file of one load, sorted by file and position. `Display` shows them all, without colour.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// The mistakes, at most [`PROBLEMS_MAX`] of them.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.items.iter()
    }

    /// How many errors there are, the omitted ones included.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there are, the omitted ones included.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The same text with colours for a terminal.
    pub fn coloured(&self) -> impl fmt::Display + '_ {
        Rendering::coloured(self)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Rendering::plain(self).fmt(f)
    }
}

impl std::error::Error for Diagnostics {}
