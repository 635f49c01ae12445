//! The tables of a folder: one line a record, written out whole as soon as it is known.
//!
//! What stands in a field never holds a line break, so that a line is a record for `grep` too.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::Origin;

/// The fields that every table begins with.
const ORIGIN: [&str; 4] = ["experiment", "subject", "repetition", "point"];

/// A table that is being written.
#[derive(Debug)]
pub(super) struct Table {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl Table {
    /// Makes the file, with the names of its fields: those of the origin, then `rest`.
    pub(super) fn create(path: PathBuf, rest: &[&str]) -> Result<Table> {
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "{} is there already; results are not overwritten, name another folder",
                path.display()
            ),
            other => other.with_context(|| format!("cannot write {}", path.display()))?,
        };
        let mut table = Table { path, writer: csv::Writer::from_writer(file) };
        table.write(ORIGIN.iter().chain(rest))?;
        Ok(table)
    }

    /// Goes on writing a file that [`Table::create`] made.
    pub(super) fn resume(path: PathBuf) -> Result<Table> {
        let file = OpenOptions::new().append(true).open(&path);
        let file = file.with_context(|| format!("cannot go on writing {}", path.display()))?;
        Ok(Table { path, writer: csv::Writer::from_writer(file) })
    }

    /// Writes one record.
    pub(super) fn append(&mut self, origin: &Origin, rest: &[&str]) -> Result<()> {
        let repetition = origin.repetition.to_string();
        let first = [&*origin.experiment, &*origin.subject, &*repetition, &*origin.point];
        self.write(first.iter().chain(rest))
    }

    fn write<'a>(&mut self, fields: impl Iterator<Item = &'a &'a str>) -> Result<()> {
        let fields = fields.map(|field| field.replace(['\r', '\n'], " "));
        self.writer
            .write_record(fields)
            .and_then(|()| Ok(self.writer.flush()?))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Reads all records of a file, each by `parse`, which gets the origin and the fields after it.
pub(super) fn read<T, const N: usize>(
    path: &Path,
    rest: [&str; N],
    parse: impl Fn(Origin, [&str; N]) -> Result<T>,
) -> Result<Vec<T>> {
    let mut text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Where the disk was full or the machine died, the last line may have been cut short.
    text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(&text[..]);
    let heading: Vec<&str> = ORIGIN.into_iter().chain(rest).collect();
    ensure!(
        reader.headers().is_ok_and(|found| *found == *heading),
        "{} does not begin with {:?}",
        path.display(),
        heading.join(",")
    );
    let mut record = csv::StringRecord::new();
    let mut parsed = Vec::new();
    loop {
        let line = reader.position().line();
        let place = || format!("{}, line {line}", path.display());
        if !reader.read_record(&mut record).with_context(place)? {
            return Ok(parsed);
        }
        parsed.push(one(&record, &parse).with_context(place)?);
    }
}

fn one<T, const N: usize>(
    record: &csv::StringRecord,
    parse: impl Fn(Origin, [&str; N]) -> Result<T>,
) -> Result<T> {
    let fields: Vec<&str> = record.iter().collect();
    let found = fields.len();
    let needed = ORIGIN.len() + N;
    let wrong = || format!("{needed} fields are needed, here are {found}");
    let (first, rest) = fields.split_first_chunk().with_context(wrong)?;
    let [experiment, subject, repetition, point] = *first;
    let origin = Origin {
        experiment: experiment.to_owned(),
        subject: subject.to_owned(),
        repetition: repetition.parse().context("the repetition is no number")?,
        point: point.to_owned(),
    };
    parse(origin, rest.try_into().ok().with_context(wrong)?)
}
