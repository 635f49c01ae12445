//! By host: the exact one, then wildcards from the longest, then what is for all.

use std::collections::HashMap;
use std::sync::Arc;

use super::rule::count_step;
use crate::model::HostPattern;

/// The longest host that a pattern can be for (RFC 1035 §2.3.4); longer ones are looked for nowhere but among what is
/// for all, so that a host of ten thousand dots costs nothing.
pub(super) const HOST_BYTES_MAX: usize = 253;

/// Something for each pattern of hosts.
#[derive(Debug)]
pub(super) struct HostMap<T> {
    exact: HashMap<Arc<str>, T>,
    suffixes: HashMap<Arc<str>, T>,
    any: Option<T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        HostMap { exact: HashMap::new(), suffixes: HashMap::new(), any: None }
    }
}

impl<T> HostMap<T> {
    /// The first that `ask` has an answer from, of all that are for `host`, the most specific first.
    pub(super) fn find<'t, A>(
        &'t self,
        host: &str,
        mut ask: impl FnMut(&'t T) -> Option<A>,
    ) -> Option<A> {
        self.exact(host)
            .and_then(&mut ask)
            .or_else(|| self.suffixes(host).find_map(&mut ask))
            .or_else(|| self.any.as_ref().and_then(&mut ask))
    }

    /// The most specific that is for `host`.
    pub(super) fn most_specific(&self, host: &str) -> Option<&T> {
        self.find(host, Some)
    }

    fn exact(&self, host: &str) -> Option<&T> {
        count_step();
        self.exact.get(host)
    }

    /// For `a.b.example.com`: those of `b.example.com`, `example.com`, `com`.
    fn suffixes<'t, 'h>(&'t self, host: &'h str) -> impl Iterator<Item = &'t T> + use<'t, 'h, T> {
        let asked = !self.suffixes.is_empty() && host.len() <= HOST_BYTES_MAX;
        let mut rest = if asked { host } else { "" };
        std::iter::from_fn(move || {
            let (label, suffix) = rest.split_once('.')?;
            rest = suffix;
            Some((label, suffix))
        })
        // `*.example.com` wants at least one label, and `.example.com` has none.
        .skip_while(|(label, _)| label.is_empty())
        .filter_map(|(_, suffix)| {
            count_step();
            self.suffixes.get(suffix)
        })
    }

    /// What is for a pattern (none: for all hosts), to be filled in.
    pub(super) fn entry(&mut self, pattern: Option<&HostPattern>) -> &mut T
    where
        T: Default,
    {
        match pattern {
            None => self.any.get_or_insert_default(),
            Some(HostPattern::Exact(host)) => self.exact.entry(host.clone()).or_default(),
            Some(HostPattern::Suffix(host)) => self.suffixes.entry(host.clone()).or_default(),
        }
    }

    /// What is for a pattern, if there is something.
    pub(super) fn get(&self, pattern: Option<&HostPattern>) -> Option<&T> {
        match pattern {
            None => self.any.as_ref(),
            Some(HostPattern::Exact(host)) => self.exact.get(host),
            Some(HostPattern::Suffix(host)) => self.suffixes.get(host),
        }
    }

    /// Puts something in the place of what is for a pattern.
    pub(super) fn insert(&mut self, pattern: Option<&HostPattern>, value: T) {
        match pattern {
            None => self.any = Some(value),
            Some(HostPattern::Exact(host)) => drop(self.exact.insert(host.clone(), value)),
            Some(HostPattern::Suffix(host)) => drop(self.suffixes.insert(host.clone(), value)),
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.suffixes.values()).chain(&self.any)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.suffixes.values_mut()).chain(&mut self.any)
    }
}

/// Whether there are hosts that both are for.
pub(super) fn intersect(one: &HostPattern, other: &HostPattern) -> bool {
    use HostPattern::{Exact, Suffix};
    match (one, other) {
        (Exact(one), Exact(other)) => one == other,
        (Exact(host), Suffix(suffix)) | (Suffix(suffix), Exact(host)) => is_below(host, suffix),
        (Suffix(one), Suffix(other)) => {
            one == other || is_below(one, other) || is_below(other, one)
        }
    }
}

/// Whether `host` is some labels, a dot, and `suffix`.
fn is_below(host: &str, suffix: &str) -> bool {
    host.strip_suffix(suffix).is_some_and(|front| front.len() > 1 && front.ends_with('.'))
}
