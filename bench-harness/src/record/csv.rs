//! Comma-separated values (RFC 4180), one record a line: what stands here never holds a line break.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::Origin;

/// One line: the origin's fields, then `rest`.
pub(super) fn line(origin: &Origin, rest: &[&str]) -> String {
    let repetition = origin.repetition.to_string();
    let first = [&*origin.experiment, &*origin.subject, &*repetition, &*origin.point];
    let fields: Vec<String> = first.iter().chain(rest).map(|field| quoted(field)).collect();
    fields.join(",") + "\n"
}

/// Reads all lines of a file, each by `parse`, which gets the origin and the fields after it.
pub(super) fn read<T>(
    path: &Path,
    heading: &str,
    parse: impl Fn(Origin, &[String]) -> Result<T>,
) -> Result<Vec<T>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = text.lines().enumerate();
    ensure!(
        lines.next().is_some_and(|(_, first)| first == heading),
        "{} does not begin with {heading:?}",
        path.display()
    );
    lines
        .map(|(index, line)| {
            let parsed = fields(line).and_then(|fields| {
                let [experiment, subject, repetition, point, rest @ ..] = &fields[..] else {
                    bail!("too few fields");
                };
                let origin = Origin {
                    experiment: experiment.clone(),
                    subject: subject.clone(),
                    repetition: repetition.parse().context("the repetition is no number")?,
                    point: point.clone(),
                };
                parse(origin, rest)
            });
            parsed.with_context(|| format!("{}, line {}", path.display(), index + 1))
        })
        .collect()
}

fn quoted(field: &str) -> String {
    let field = field.replace(['\r', '\n'], " ");
    if field.contains([',', '"']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field }
}

fn fields(line: &str) -> Result<Vec<String>> {
    let (mut fields, mut field, mut inside) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if inside && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => inside = !inside,
            ',' if !inside => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    ensure!(!inside, "a quotation mark is not closed");
    fields.push(field);
    Ok(fields)
}
