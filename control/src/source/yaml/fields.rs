//! Reads the keys of a mapping; what nobody asked for is an unknown key.
//!
//! A key that is wrong or missing is reported and read as `None`. Readers go on with whatever they have, so that one
//! pass finds every mistake; nothing that was read is used once anything was reported.

use super::value::{Content, Key, Value};
use crate::source::diagnostics::suggest::nearest;
use crate::source::diagnostics::{Place, Problem, Reporter};

/// A mapping that is being read.
pub(crate) struct Fields<'v, 'r> {
    /// What the mapping is, as it is called in messages: `spec`, `ports[]`.
    what: &'static str,
    place: Place,
    entries: &'v [(Key, Value)],
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
    nested: Option<(&'static str, &'static [&'static str])>,
    pub(crate) reporter: &'r mut Reporter,
}

/// Reads `value`, which must be a mapping, with `read`, and then reports the keys that `read` did not ask for.
pub(crate) fn mapping<'v, T>(
    what: &'static str,
    value: &'v Value,
    reporter: &mut Reporter,
    read: impl FnOnce(&mut Fields<'v, '_>) -> T,
) -> Option<T> {
    check_tag(value, reporter);
    let Some(entries) = value.entries() else {
        expected("a mapping", value, reporter);
        return None;
    };
    let (known, missing) = (Vec::new(), Vec::new());
    let place = value.place;
    let mut fields = Fields { what, place, entries, known, missing, nested: None, reporter };
    let result = read(&mut fields);
    fields.report();
    Some(result)
}

/// Reads every element of a list; one that is wrong is reported and left out.
pub(crate) fn list<'v, T>(
    value: &'v Value,
    reporter: &mut Reporter,
    mut read: impl FnMut(&'v Value, &mut Reporter) -> Option<T>,
) -> Option<Vec<T>> {
    check_tag(value, reporter);
    let Content::Sequence(elements) = &value.content else {
        expected("a list", value, reporter);
        return None;
    };
    Some(elements.iter().filter_map(|element| read(element, reporter)).collect())
}

/// Reports that something else was wanted.
pub(crate) fn expected(what: &str, value: &Value, reporter: &mut Reporter) {
    let message = format!("expected {what}, found {}", value.found());
    reporter.report(Problem::error(value.place, message));
}

pub(crate) fn check_tag(value: &Value, reporter: &mut Reporter) {
    if let Some(tag) = &value.tag {
        let message = format!("the tag `!{tag}` means nothing here");
        reporter.report(Problem::error(value.place, message));
    }
}

impl<'v> Fields<'v, '_> {
    /// A key that may be left out.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'v Value, &mut Reporter) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        read(value, self.reporter)
    }

    /// A key that must be there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&'v Value, &mut Reporter) -> Option<T>,
    ) -> Option<T> {
        match self.value(key) {
            Some(value) => read(value, self.reporter),
            None => {
                self.missing.push(key);
                None
            }
        }
    }

    /// The value of a key, unless it is left out or null.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'v Value> {
        self.known.push(key);
        let (_, value) = self.entries.iter().find(|(own, _)| &*own.text == key)?;
        (!value.is_null()).then_some(value)
    }

    /// Reports a key with nothing behind it where that is not the same as leaving the key out: all entries of a list
    /// were perhaps made comments.
    pub(crate) fn must_not_be_null(&mut self, key: &'static str, help: &str) {
        let entry = self.entries.iter().find(|(own, _)| &*own.text == key);
        if let Some((own, _)) = entry.filter(|(_, value)| value.is_null()) {
            let message = format!("there is nothing behind `{key}`");
            self.reporter.report(Problem::error(own.place, message).help(help.to_owned()));
        }
    }

    /// Keys that mean something to others, but not to Ringway.
    pub(crate) fn ignore(&mut self, keys: &[&'static str]) {
        self.known.extend(keys);
    }

    /// Keys that mean something to others, and of which nothing would come here: who relies on them is told.
    #[cfg(feature = "waypoint")]
    pub(crate) fn refuse(&mut self, keys: &[&'static str]) {
        for key in keys {
            if self.value(key).is_some() {
                let place = self.place(key);
                let message = format!("`{key}` is not supported: nothing would come of it");
                self.reporter.report(Problem::error(place, message));
            }
        }
    }

    /// Keys that are known, but not here: they belong under `key`.
    pub(crate) fn nest(&mut self, key: &'static str, keys: &'static [&'static str]) {
        self.nested = Some((key, keys));
    }

    /// The place of a key that was given, else of the mapping.
    pub(crate) fn place(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|(own, _)| &*own.text == key);
        entry.map_or(self.place, |(key, _)| key.place)
    }

    /// The place of a value that was given, else of the mapping.
    pub(crate) fn value_place(&self, key: &str) -> Place {
        let entry = self.entries.iter().find(|(own, _)| &*own.text == key);
        entry.map_or(self.place, |(_, value)| value.place)
    }

    /// A required key that is missing is told only when no unknown one was probably meant to be it.
    fn report(mut self) {
        let entries = self.entries;
        for (key, _) in entries.iter().filter(|(key, _)| !self.known.contains(&&*key.text)) {
            let meant = nearest(&key.text, self.known.iter().copied());
            self.missing.retain(|missing| Some(*missing) != meant);
            let help = match (meant, self.nested) {
                (_, Some((nested, keys))) if keys.contains(&&*key.text) => {
                    Some(format!("indent it, it belongs under `{nested}`"))
                }
                (Some(meant), _) if self.has(meant) => Some(format!("`{meant}` is there already")),
                (meant, _) => meant.map(|meant| format!("did you mean `{meant}`?")),
            };
            let message = format!("unknown key `{}` in `{}`", key.text, self.what);
            self.reporter.report(Problem::error(key.place, message).help(help));
        }
        for key in std::mem::take(&mut self.missing) {
            let message = match self.has(key) {
                true => format!("there is nothing behind `{key}`"),
                false => format!("`{}` lacks the required key `{key}`", self.what),
            };
            self.reporter.report(Problem::error(self.place(key), message));
        }
    }

    fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(own, _)| &*own.text == key)
    }
}
