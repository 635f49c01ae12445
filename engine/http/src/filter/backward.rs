//! What filters do to an answer.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use super::{change, cors};
use crate::model::Filter;
use crate::tables::RouteRule;

/// What is to be done to the answer of a request, noted when the request goes on: kept without the request.
#[derive(Clone, Debug)]
pub struct Backward {
    rule: Arc<RouteRule>,
    /// Its place among the rule's backends.
    backend: Option<usize>,
    origin: Option<HeaderValue>,
}

impl Backward {
    /// For a request as it came in.
    pub fn new(rule: &Arc<RouteRule>, request: &Parts) -> Backward {
        let origin = request.headers.get(header::ORIGIN).cloned();
        Backward { rule: rule.clone(), backend: None, origin }
    }

    /// And that backend's filters first.
    pub fn chosen(&mut self, backend: usize) {
        self.backend = Some(backend);
    }

    /// Does to an answer, of a backend or our own, what the filters say.
    ///
    /// A preflight that was answered here says of origins what there is to say, and is not given here.
    pub fn apply(&self, response: &mut HeaderMap) {
        let rule = &self.rule.rule;
        if let Some(backend) = self.backend.and_then(|at| rule.backends.get(at)) {
            self.apply_all(&backend.filters, response);
        }
        self.apply_all(&rule.filters, response);
    }

    fn apply_all(&self, filters: &[Filter], response: &mut HeaderMap) {
        for filter in filters {
            match filter {
                Filter::ResponseHeaders(changes) => change(changes, response),
                Filter::Cors(rules) => cors::mark(rules, self.origin.as_ref(), response),
                Filter::RequestHeaders(_)
                | Filter::Redirect(_)
                | Filter::Rewrite(_)
                | Filter::Mirror(_) => {}
            }
        }
    }
}
