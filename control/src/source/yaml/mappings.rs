//! Keys of one mapping: none twice, and those that are taken over from others by `<<`.

use std::collections::HashSet;

use super::value::{Content, Key, Value};
use crate::source::diagnostics::{Place, Problem, Reporter};

pub(crate) fn report_duplicates(entries: &[(Key, Value)], reporter: &mut Reporter) {
    let mut order: Vec<&Key> = entries.iter().map(|(key, _)| key).collect();
    order.sort_by_key(|key| (&key.text, key.place));
    for pair in order.windows(2).filter(|pair| pair[0].text == pair[1].text) {
        report_duplicate(pair[1], pair[0].place, reporter);
    }
}

pub(crate) fn report_duplicate(key: &Key, first: Place, reporter: &mut Reporter) {
    let message = format!("the key `{}` is given twice", key.text);
    reporter.report(Problem::error(key.place, message).related(first, "first given here"));
}

/// Entries of the mappings under `<<` that are not given by the mapping itself.
pub(crate) fn merged(mut entries: Vec<(Key, Value)>, reporter: &mut Reporter) -> Vec<(Key, Value)> {
    let Some(at) = entries.iter().position(|(key, _)| &*key.text == "<<") else { return entries };
    let (key, merge) = entries.remove(at);
    let mut given: HashSet<Box<str>> = entries.iter().map(|(key, _)| key.text.clone()).collect();
    let sources = match &merge.content {
        Content::Sequence(elements) => elements.as_slice(),
        _ => std::slice::from_ref(&merge),
    };
    for source in sources {
        let Some(inherited) = source.entries() else {
            let message = "`<<` takes over the entries of a mapping, this is none";
            reporter.report(Problem::error(key.place, message));
            continue;
        };
        for (key, value) in inherited {
            if given.insert(key.text.clone()) {
                entries.push((key.clone(), value.clone()));
            }
        }
    }
    entries
}
