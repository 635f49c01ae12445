//! Asks variables for their values, and notes what each came to and where from.
//!
//! A value that is wrong is told, and read as if it were not there: one pass finds every mistake.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use super::table;
use super::values::Form;

/// Characters of a wrong value that are repeated in a message.
const QUOTED_CHARACTERS_MAX: usize = 60;

/// Stands for a value that nobody may see.
pub(super) const HIDDEN: &str = "(set, not shown)";

/// Stands for no value.
const NOTHING: &str = "none";

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// It follows from other settings.
    Computed,
    /// A variable of this name.
    Variable(String),
    /// The YAML in `PROXY_CONFIG`.
    ProxyConfig,
    /// A file.
    File(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Computed => f.write_str("computed"),
            Self::Variable(name) => write!(f, "environment {name}"),
            Self::ProxyConfig => f.write_str("environment PROXY_CONFIG"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// What one setting came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable, or what is set otherwise.
    pub name: String,
    /// The value as it would be written; secrets are not shown.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub variable: String,
    /// Its value; `None` for one that nobody may see, or where there is none.
    pub value: Option<String>,
    /// What is wrong, or what is expected.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => {
                let short: String = value.chars().take(QUOTED_CHARACTERS_MAX).collect();
                let more = if short.len() < value.len() { "…" } else { "" };
                write!(f, "{}={short:?}{more}: {}", self.variable, self.message)
            }
            None => write!(f, "{}: {}", self.variable, self.message),
        }
    }
}

/// The variables of a process, being read.
pub(super) struct Reader {
    variables: BTreeMap<String, String>,
    asked: BTreeSet<&'static str>,
    settings: Vec<Setting>,
    mistakes: Vec<Mistake>,
}

impl Reader {
    /// A reader of `variables`. Of those we know, one that is not UTF-8 is a mistake.
    pub(super) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut reader = Self {
            variables: BTreeMap::new(),
            asked: BTreeSet::new(),
            settings: Vec::new(),
            mistakes: Vec::new(),
        };
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(reader.variables.insert(name, value)),
                Err(_) if table::find(&name).is_some() => reader.mistake(&name, "is not UTF-8"),
                Err(_) => {}
            }
        }
        reader
    }

    /// The text of a variable, if it is set and not empty.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.raw(name).filter(|text| !text.is_empty())
    }

    /// The text of a variable, if it is set.
    pub(super) fn raw(&mut self, name: &'static str) -> Option<String> {
        debug_assert!(table::find(name).is_some(), "{name} is not in the table of variables");
        self.asked.insert(name);
        self.variables.get(name).cloned()
    }

    /// The variables whose names begin so, with the rest of their names, in order.
    pub(super) fn family(&mut self, prefix: &'static str) -> Vec<(String, String)> {
        let row = table::family(prefix);
        debug_assert!(row.is_some(), "{prefix}* is not in the table of variables");
        self.asked.extend(row.map(|row| row.name));
        let of = |name: &str| Some(name.strip_prefix(prefix)?.to_owned());
        let members =
            self.variables.iter().filter_map(|(name, value)| Some((of(name)?, value.clone())));
        members.filter(|(rest, _)| !rest.is_empty()).collect()
    }

    /// The names of all variables that are set, ours or not.
    pub(super) fn names(&self) -> Vec<&str> {
        self.variables.keys().map(String::as_str).collect()
    }

    /// A value that there need not be.
    pub(super) fn optional<T: Form>(&mut self, name: &'static str) -> Option<T> {
        let value = self.unnoted(name);
        self.note_variable(name, value.as_ref().map(T::show));
        value
    }

    /// The same, without a note of what it came to.
    pub(super) fn unnoted<T: Form>(&mut self, name: &'static str) -> Option<T> {
        let text = self.text(name)?;
        let value = T::parse(&text);
        if value.is_none() {
            self.wrong(name, &text, T::EXPECTED);
        }
        value
    }

    /// A value with a default.
    pub(super) fn or<T: Form>(&mut self, name: &'static str, default: T) -> T {
        match self.unnoted::<T>(name) {
            Some(value) => {
                self.note(name, value.show(), Origin::Variable(name.to_owned()));
                value
            }
            None => {
                self.note(name, default.show(), Origin::Default);
                default
            }
        }
    }

    /// A whole number between bounds.
    pub(super) fn number(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.wrong(name, &text, &format!("a whole number from {least} to {most}"));
        }
        number
    }

    /// The same with a default.
    pub(super) fn number_or(
        &mut self,
        name: &'static str,
        default: u64,
        least: u64,
        most: u64,
    ) -> u64 {
        let given = self.number(name, least, most);
        let origin = given.map_or(Origin::Default, |_| Origin::Variable(name.to_owned()));
        let number = given.unwrap_or(default);
        self.note(name, number.to_string(), origin);
        number
    }

    /// Notes what a setting came to.
    pub(super) fn note(&mut self, name: &str, value: String, origin: Origin) {
        self.settings.push(Setting { name: name.to_owned(), value, origin });
    }

    /// Notes a value that comes from its variable, or is not there.
    pub(super) fn note_variable(&mut self, name: &str, value: Option<String>) {
        let origin = value.as_ref().map_or(Origin::Default, |_| Origin::Variable(name.to_owned()));
        self.note(name, value.unwrap_or_else(|| NOTHING.to_owned()), origin);
    }

    /// Tells of a value that is not what was expected.
    pub(super) fn wrong(&mut self, name: &str, value: &str, expected: &str) {
        self.mistakes.push(Mistake {
            variable: name.to_owned(),
            value: Some(value.to_owned()),
            message: format!("expected {expected}"),
        });
    }

    /// Tells of anything else, without the value.
    pub(super) fn mistake(&mut self, name: &str, message: impl Into<String>) {
        let message = message.into();
        self.mistakes.push(Mistake { variable: name.to_owned(), value: None, message });
    }

    /// What everything came to, and what is wrong; and which variables were asked for.
    pub(super) fn finish(self) -> (Vec<Setting>, Vec<Mistake>, BTreeSet<&'static str>) {
        (self.settings, self.mistakes, self.asked)
    }
}
