//! A rule among others, and what was found.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::head::RequestHead;
use crate::model::traffic::{SessionCarrier, SessionPersistence};
use crate::model::{Match, PathMatch, RouteName, Rule, ValueMatch};
use crate::session::cookie_path;

/// A rule of a route.
#[derive(Debug)]
pub struct RouteRule {
    /// Its place in [`super::Tables::rules`]: for what is kept beside it. Another configuration has other numbers.
    pub id: u32,
    /// Of which route.
    pub route: RouteName,
    /// Its place in the route.
    pub index: usize,
    /// What it says; its matches' paths are canonical.
    pub rule: Rule,
}

/// What a request has met.
#[derive(Clone, Copy, Debug)]
pub struct Found<'t> {
    /// The rule; cheap to keep.
    pub rule: &'t Arc<RouteRule>,
    /// Which of its matches it was; a rule without matches has none, and this is 0.
    pub matched: usize,
}

impl<'t> Found<'t> {
    /// The prefix that was matched, which redirects and rewrites may replace; none: it was another kind of match.
    /// A rule that names no path has matched `/`.
    pub fn prefix(&self) -> Option<&'t str> {
        match self.rule.rule.matches.get(self.matched).and_then(|it| it.path.as_ref()) {
            None => Some("/"),
            Some(PathMatch::Prefix(prefix)) => Some(prefix),
            Some(PathMatch::Exact(_) | PathMatch::Regex(_)) => None,
        }
    }

    /// The sessions that the rule says, with the path of the match for their cookie (GEP-1619, "Path").
    pub fn session(&self) -> Option<SessionPersistence> {
        let mut session = self.rule.rule.session.clone()?;
        if let SessionCarrier::Cookie { path: path @ None, .. } = &mut session.by {
            let of_match = self.rule.rule.matches.get(self.matched);
            *path = Some(cookie_path(of_match.and_then(|it| it.path.as_ref())));
        }
        Some(session)
    }
}

/// A match of a rule, where its path fits already.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub(super) rule: Arc<RouteRule>,
    pub(super) matched: usize,
}

impl Candidate {
    /// None: the rule has no matches, and fits every request.
    pub(super) fn pattern(&self) -> Option<&Match> {
        self.rule.rule.matches.get(self.matched)
    }

    /// Who goes first, of those whose paths are as good. A rule's id grows with its route's age and its place.
    pub(super) fn rank(&self) -> impl Ord + use<> {
        let (method, headers, query) = self.pattern().map_or((false, 0, 0), |pattern| {
            (pattern.method.is_some(), pattern.headers.len(), pattern.query.len())
        });
        (Reverse(method), Reverse(headers), Reverse(query), self.rule.id, self.matched)
    }

    pub(super) fn try_for(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        count_step();
        let fits = self.pattern().is_none_or(|pattern| fits_beside_path(pattern, head));
        fits.then_some(Found { rule: &self.rule, matched: self.matched })
    }
}

/// Candidates of one path, in order.
#[derive(Debug, Default)]
pub(super) struct Cell(Vec<Candidate>);

impl Cell {
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        self.0.iter().find_map(|candidate| candidate.try_for(head))
    }

    pub(super) fn push(&mut self, candidate: Candidate) {
        self.0.push(candidate);
    }

    pub(super) fn sort(&mut self) {
        self.0.sort_by_key(Candidate::rank);
        self.0.shrink_to_fit();
    }
}

/// Method, headers and parameters.
fn fits_beside_path(pattern: &Match, head: &RequestHead<'_>) -> bool {
    pattern.method.as_ref().is_none_or(|method| method == head.method())
        && pattern.headers.iter().all(|header| {
            head.header(&header.name).is_some_and(|value| is_value(&header.value, &value))
        })
        && pattern.query.iter().all(|parameter| {
            head.parameter(&parameter.name)
                .is_some_and(|value| is_value(&parameter.value, value.as_bytes()))
        })
}

/// Expressions are of text: what is no UTF-8 fits none.
fn is_value(wanted: &ValueMatch, value: &[u8]) -> bool {
    match wanted {
        ValueMatch::Exact(exact) => exact.as_bytes() == value,
        ValueMatch::Regex(expression) => {
            std::str::from_utf8(value).is_ok_and(|value| expression.is_match(value))
        }
    }
}

/// Tests count what a look-up does.
pub(super) fn count_step() {
    #[cfg(test)]
    super::tests::STEPS.with(|steps| steps.set(steps.get() + 1));
}
