//! What is said about text that is not YAML.

use granit_parser::{ErrorKind, ScanError};

use crate::source::diagnostics::{FileId, Place, Problem, Reporter};

pub(crate) fn report(error: &ScanError, file: FileId, reporter: &mut Reporter) {
    let mark = error.marker();
    let (line, column) = (mark.line().max(1) as u32, mark.col() as u32 + 1);
    let message = match error.kind() {
        ErrorKind::Custom(message) | ErrorKind::InputDecoding { message } => message.clone(),
        ErrorKind::InputByteLimitExceeded { limit } => {
            format!("one value may take {} MiB of text, this is longer", limit >> 20)
        }
        kind => format!("this is not YAML: {kind}"),
    };
    let place = Place { file, line, column, width: 1 };
    reporter.report(Problem::error(place, message).help(help(error.kind())));
}

/// What the commonest syntax errors come from.
fn help(kind: &ErrorKind) -> Option<String> {
    let help = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation => "indent with spaces, not with tabs",
        ErrorKind::MappingValueNotAllowed => {
            "is this line indented as the one above? text that contains `: ` must be in quotes"
        }
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::InvalidIndentation => "is this line indented as the one above?",
        ErrorKind::UnclosedQuotedScalar => "the quote that was opened here is never closed",
        ErrorKind::MissingAnchorOrAliasName => {
            "text that begins with `*` or `&` must be written in quotes"
        }
        ErrorKind::SimpleKeyExpected => "a key must be followed by `: `",
        _ => return None,
    };
    Some(help.to_owned())
}
