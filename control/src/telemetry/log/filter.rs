//! Which log lines are wanted: a level for everything, and levels for scopes.
//!
//! The syntax of `RUST_LOG`: `level` or `scope=level`, comma separated. `scope:level`, which `istioctl` documents, is
//! accepted too, and so are its level names `warning` and `critical`.

use tracing::Level;
use tracing::level_filters::LevelFilter;

/// Directives in one filter; more than anybody writes.
const DIRECTIVES_MAX: usize = 64;

/// Library crates whose prefix is cut from the scope of a line, and may be left out of a directive.
const OWN_CRATES: [&str; 4] = ["ringway_control", "ringway_engine", "ringway_protocols", "ringway"];

/// A parsed filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    default: LevelFilter,
    /// Longest scope first: the most precise directive decides.
    scopes: Vec<(String, LevelFilter)>,
}

/// Why a filter is no good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilterError {
    /// A level that is none.
    UnknownLevel(String),
    /// A scope that is none.
    BadScope(String),
    /// Too many directives.
    TooMany,
}

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownLevel(text) => write!(
                f,
                "{text:?} is no log level; use off, error, warn, info, debug or trace, or scope=level"
            ),
            Self::BadScope(text) => {
                write!(f, "{text:?} is no scope; use letters, digits, _ and ::")
            }
            Self::TooMany => write!(f, "more than {DIRECTIVES_MAX} directives"),
        }
    }
}

impl std::error::Error for FilterError {}

impl Default for LogFilter {
    fn default() -> Self {
        Self { default: LevelFilter::INFO, scopes: Vec::new() }
    }
}

impl LogFilter {
    /// Parses a whole filter; what it does not say is `info`.
    ///
    /// # Errors
    /// [`FilterError`] names the first part that is wrong.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let mut filter = Self::default();
        filter.extend(text)?;
        Ok(filter)
    }

    /// Adds directives; where they name what is there already, they replace it.
    ///
    /// # Errors
    /// [`FilterError`]; the filter is then unchanged.
    pub fn extend(&mut self, text: &str) -> Result<(), FilterError> {
        let mut changed = self.clone();
        for directive in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            changed.apply(directive)?;
        }
        *self = changed;
        Ok(())
    }

    /// Whether a line of `level` in the scope `target` is wanted.
    pub fn enabled(&self, target: &str, level: Level) -> bool {
        level <= self.level_of(target)
    }

    /// The most that any scope wants.
    pub fn max_level(&self) -> LevelFilter {
        self.scopes.iter().map(|(_, level)| *level).fold(self.default, LevelFilter::max)
    }

    fn level_of(&self, target: &str) -> LevelFilter {
        let short = scope_of(target);
        let directive = self
            .scopes
            .iter()
            .find(|(scope, _)| is_within(target, scope) || is_within(short, scope));
        directive.map_or(self.default, |(_, level)| *level)
    }

    fn apply(&mut self, directive: &str) -> Result<(), FilterError> {
        let Some((scope, level)) = split_directive(directive) else {
            // A word alone is a level; as a scope it would be everything of that scope, which nobody means.
            self.default = parse_level(directive)?;
            return Ok(());
        };
        let level = parse_level(level)?;
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
        if scope.is_empty() || scope.len() > 100 || !scope.chars().all(valid) {
            return Err(FilterError::BadScope(scope.to_owned()));
        }
        self.scopes.retain(|(known, _)| known != scope);
        if self.scopes.len() >= DIRECTIVES_MAX {
            return Err(FilterError::TooMany);
        }
        self.scopes.push((scope.to_owned(), level));
        self.scopes.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
        Ok(())
    }
}

impl std::fmt::Display for LogFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (scope, level) in self.scopes.iter().rev() {
            write!(f, "{scope}={level},")?;
        }
        write!(f, "{}", self.default)
    }
}

/// The scope a line shows: its target without the name of our crate.
pub(super) fn scope_of(target: &str) -> &str {
    OWN_CRATES
        .iter()
        .find_map(|name| target.strip_prefix(name)?.strip_prefix("::"))
        .unwrap_or(target)
}

/// `scope=level`, or `scope:level` where the colon is not part of `::`.
fn split_directive(directive: &str) -> Option<(&str, &str)> {
    if let Some(parts) = directive.split_once('=') {
        return Some(parts);
    }
    let (scope, level) = directive.rsplit_once(':')?;
    Some((scope, level))
}

fn parse_level(text: &str) -> Result<LevelFilter, FilterError> {
    let level = match text.to_ascii_lowercase().as_str() {
        "off" | "none" => LevelFilter::OFF,
        "error" | "critical" => LevelFilter::ERROR,
        "warn" | "warning" => LevelFilter::WARN,
        "info" => LevelFilter::INFO,
        "debug" => LevelFilter::DEBUG,
        "trace" => LevelFilter::TRACE,
        _ => return Err(FilterError::UnknownLevel(text.to_owned())),
    };
    Ok(level)
}

fn is_within(target: &str, scope: &str) -> bool {
    target.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_most_precise_directive_decides() {
        //  filter                          target                      level         want
        let rows = [
            ("", "access", Level::INFO, true),
            ("", "access", Level::DEBUG, false),
            ("debug", "anything", Level::DEBUG, true),
            ("access=debug", "access", Level::DEBUG, true),
            ("access=debug", "accessory", Level::DEBUG, false),
            ("access:debug,info", "access", Level::DEBUG, true),
            ("info,run=trace", "ringway_control::run", Level::TRACE, true),
            ("info,run=trace", "ringway_control::run::enroll", Level::TRACE, true),
            ("ringway_control::run=trace", "ringway_control::run", Level::TRACE, true),
            ("ringway_control::run:trace", "ringway_control::run", Level::TRACE, true),
            ("ringway_control=trace", "ringway_control::run", Level::TRACE, true),
            ("run=off,run::enroll=warn", "ringway_control::run", Level::ERROR, false),
            ("run=off,run::enroll=warn", "ringway_control::run::enroll", Level::WARN, true),
            ("warning", "access", Level::INFO, false),
            ("off", "access", Level::ERROR, false),
            ("critical", "access", Level::ERROR, true),
        ];
        for (filter, target, level, want) in rows {
            let parsed = LogFilter::parse(filter).unwrap();
            assert_eq!(parsed.enabled(target, level), want, "{filter:?} {target} {level}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_changes_nothing() {
        let mut filter = LogFilter::parse("access=debug").unwrap();
        for (text, want) in [
            ("access=loud", "\"loud\" is no log level"),
            ("verbose", "\"verbose\" is no log level"),
            ("info,=debug", "\"\" is no scope"),
            ("a b=debug", "\"a b\" is no scope"),
        ] {
            let before = filter.clone();
            let error = filter.extend(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
            assert_eq!(filter, before);
        }
    }

    #[test]
    fn it_prints_as_it_is_written() {
        let mut filter = LogFilter::default();
        assert_eq!(filter.to_string(), "info");
        filter.extend("access=debug,proxy::inbound=trace").unwrap();
        assert_eq!(filter.to_string(), "access=debug,proxy::inbound=trace,info");
        filter.extend("warn").unwrap();
        assert_eq!(LogFilter::parse(&filter.to_string()).unwrap(), filter);
    }

    #[test]
    fn the_number_of_directives_is_bounded() {
        let many: Vec<_> = (0..=DIRECTIVES_MAX).map(|n| format!("scope{n}=debug")).collect();
        assert_eq!(LogFilter::parse(&many.join(",")), Err(FilterError::TooMany));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_parses_is_stable(text in "[a-z:=, ]{0,60}") {
            if let Ok(filter) = LogFilter::parse(&text) {
                prop_assert_eq!(LogFilter::parse(&filter.to_string()).unwrap(), filter);
            }
        }
    }
}
