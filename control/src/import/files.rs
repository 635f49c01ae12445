//! Which files an import reads: those that are named, and all below the directories that are.

use std::io;
use std::path::{Path, PathBuf};

use super::ImportError;
use crate::source::Source;

/// Files of one import. A repository that describes a large platform has a few thousand.
const FILES_MAX: usize = 100_000;

/// How deep directories may be nested; deeper ones are a loop of somebody's making.
const DEPTH_MAX: usize = 64;

/// The sources of an import, in the order of their paths.
pub(super) fn find(inputs: &[PathBuf]) -> Result<Vec<Source>, ImportError> {
    let mut found = Vec::new();
    for input in inputs {
        match input.is_dir() {
            true => walk(input, 0, &mut found)?,
            false => found.push(Source::from_argument(input.clone())),
        }
    }
    match found.is_empty() {
        true => Err(ImportError::NoFiles(inputs.to_vec())),
        false => Ok(found),
    }
}

/// Hidden entries are not followed (`.git` is one), nor are links to directories: what they lead to has a place of its own.
fn walk(directory: &Path, depth: usize, found: &mut Vec<Source>) -> Result<(), ImportError> {
    let unreadable = |error: io::Error| ImportError::Unreadable(directory.to_owned(), error);
    if depth > DEPTH_MAX {
        return Err(unreadable(io::Error::other(format!("directories are nested {depth} deep"))));
    }
    let entries = directory.read_dir().and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        if entry.file_type().map_err(unreadable)?.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if has_objects(&path) && !path.is_dir() {
            found.push(Source::Path(path));
        }
        if found.len() > FILES_MAX {
            return Err(unreadable(io::Error::other(format!("more than {FILES_MAX} files"))));
        }
    }
    Ok(())
}

fn has_objects(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
}
