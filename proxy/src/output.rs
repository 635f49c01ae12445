//! Answers on standard output: aligned columns for a terminal, tabs for a pipe, JSON for a program.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde_json::Value;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// Columns.
    #[default]
    Table,
    /// JSON.
    Json,
}

/// Prints rows under their heading. Without a terminal: no heading, columns separated by tabs.
pub(crate) fn table(heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let aligned = io::stdout().is_terminal();
    print(&render_table(heading, rows, aligned))
}

/// Prints a value.
pub(crate) fn json(value: &Value) -> io::Result<()> {
    print(&format!("{value:#}\n"))
}

/// Prints text. A reader that has gone is not an error: `ringway … | head` is fine.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

fn render_table(heading: &[&str], rows: &[Vec<String>], aligned: bool) -> String {
    if !aligned {
        return rows.iter().map(|row| row.join("\t") + "\n").collect();
    }
    let heading: Vec<String> = heading.iter().map(|name| name.to_uppercase()).collect();
    let all = || std::iter::once(&heading).chain(rows);
    let widths: Vec<usize> = (0..heading.len())
        .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in all() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}   "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_columns_and_a_pipe_tabs() {
        let rows = [vec!["a".to_owned(), "long value".to_owned()], vec!["bcd".into(), "x".into()]];
        assert_eq!(
            render_table(&["name", "value"], &rows, true),
            "NAME   VALUE\na      long value\nbcd    x\n"
        );
        assert_eq!(render_table(&["name", "value"], &rows, false), "a\tlong value\nbcd\tx\n");
    }
}
