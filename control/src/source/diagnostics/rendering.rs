//! Diagnostics as text: the place as editors understand it, the line, carets under what is meant, and what to do.
//!
//! ```text
//! mesh.yaml:5:3: error: unknown key `drainDeadlin` in `spec`
//! 5 |   drainDeadlin: 5s
//!   |   ^^^^^^^^^^^^
//!   = did you mean `drainDeadline`?
//! ```

use std::fmt;

use super::{Diagnostic, Diagnostics, Severity};

struct Palette {
    bold: &'static str,
    error: &'static str,
    warning: &'static str,
    gutter: &'static str,
    end: &'static str,
}

static PLAIN: Palette = Palette { bold: "", error: "", warning: "", gutter: "", end: "" };
static COLOURED: Palette = Palette {
    bold: "\x1b[1m",
    error: "\x1b[1;31m",
    warning: "\x1b[1;33m",
    gutter: "\x1b[1;34m",
    end: "\x1b[0m",
};

pub(super) struct Rendering<'a> {
    diagnostics: &'a Diagnostics,
    palette: &'static Palette,
}

impl fmt::Display for Rendering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in self.diagnostics.iter() {
            self.item(diagnostic, f)?;
        }
        self.summary(f)
    }
}

impl<'a> Rendering<'a> {
    pub(super) fn plain(diagnostics: &'a Diagnostics) -> Rendering<'a> {
        Rendering { diagnostics, palette: &PLAIN }
    }

    pub(super) fn coloured(diagnostics: &'a Diagnostics) -> Rendering<'a> {
        Rendering { diagnostics, palette: &COLOURED }
    }

    fn item(&self, item: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.heading(item, f)?;
        let digits = item.line().to_string().len();
        if item.line() > 0 {
            self.excerpt(item, digits, f)?;
        }
        for note in item.related().into_iter().chain(item.help()) {
            let Palette { gutter, end, .. } = self.palette;
            writeln!(f, "{:digits$} {gutter}={end} {note}", "")?;
        }
        writeln!(f)
    }

    fn heading(&self, item: &Diagnostic, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Palette { bold, error, warning, end, .. } = self.palette;
        write!(f, "{bold}{}", item.file())?;
        if item.line() > 0 {
            write!(f, ":{}:{}", item.line(), item.column())?;
        }
        match item.severity() {
            Severity::Error => write!(f, ":{end} {error}error:{end} ")?,
            Severity::Warning => write!(f, ":{end} {warning}warning:{end} ")?,
        }
        writeln!(f, "{bold}{}{end}", item.message())
    }

    fn excerpt(&self, item: &Diagnostic, digits: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Palette { error, warning, gutter, end, .. } = self.palette;
        let mark = if item.severity() == Severity::Error { error } else { warning };
        let view = View::new(item.excerpt(), item.column(), item.width());
        writeln!(f, "{gutter}{} |{end} {}", item.line(), view.text)?;
        let carets = "^".repeat(view.carets);
        writeln!(
            f,
            "{:digits$} {gutter}|{end} {:indent$}{mark}{carets}{end}",
            "",
            "",
            indent = view.indent
        )
    }

    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (errors, warnings) = (self.diagnostics.errors(), self.diagnostics.warnings());
        let omitted = (errors + warnings).saturating_sub(self.diagnostics.iter().count());
        if omitted > 0 {
            writeln!(f, "… and {omitted} more\n")?;
        }
        match (errors, warnings) {
            (0, 0) => Ok(()),
            (0, warnings) => writeln!(f, "{}", count(warnings, "warning")),
            (errors, 0) => writeln!(f, "{}", count(errors, "error")),
            (errors, warnings) => {
                writeln!(f, "{}, {}", count(errors, "error"), count(warnings, "warning"))
            }
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Characters of a line that are shown; a JSON file may be one line of a megabyte.
const EXCERPT_CHARACTERS_MAX: usize = 120;

/// The part of a line around a place, safe for a terminal.
struct View {
    text: String,
    indent: usize,
    carets: usize,
}

impl View {
    fn new(line: &str, column: u32, width: u32) -> View {
        let column = (column as usize).saturating_sub(1);
        let skipped = if column < EXCERPT_CHARACTERS_MAX * 3 / 4 {
            0
        } else {
            column - EXCERPT_CHARACTERS_MAX / 4
        };
        let mut shown: String =
            line.chars().skip(skipped).take(EXCERPT_CHARACTERS_MAX).map(printable).collect();
        let characters = shown.chars().count();
        if skipped > 0 {
            shown.insert_str(0, "… ");
        }
        let start = (column - skipped).min(characters);
        let carets = (width as usize).clamp(1, (characters - start).max(1));
        View { text: shown, indent: start + if skipped > 0 { 2 } else { 0 }, carets }
    }
}

/// Tabs take one column, as they did when columns were counted; what could move a terminal's cursor is not repeated.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}
