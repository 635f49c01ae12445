//! By path: a map of whole paths, a tree of prefixes by their elements, expressions, and what is for every path.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use regex::Regex;

use super::rule::{Candidate, Cell, Found, count_step};
use crate::head::RequestHead;
use crate::model::PathMatch;

/// The candidates of one host.
#[derive(Debug, Default)]
pub(super) struct PathTable {
    exact: HashMap<Arc<str>, Cell>,
    prefixes: Tree,
    expressions: Vec<(Regex, Candidate)>,
    every: Cell,
}

impl PathTable {
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        self.find_exact(head)
            .or_else(|| self.prefixes.find(head))
            .or_else(|| self.find_expression(head))
            .or_else(|| self.every.find(head))
    }

    fn find_exact(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        count_step();
        self.exact.get(head.path())?.find(head)
    }

    fn find_expression(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        self.expressions
            .iter()
            .filter(|(expression, _)| expression.is_match(head.path()))
            .find_map(|(_, candidate)| candidate.try_for(head))
    }

    /// Adds a candidate; [`PathTable::sort`] brings all of them into order.
    pub(super) fn add(&mut self, candidate: Candidate) {
        match candidate.pattern().and_then(|pattern| pattern.path.as_ref()) {
            None => self.every.push(candidate),
            Some(PathMatch::Prefix(prefix)) if &**prefix == "/" => self.every.push(candidate),
            Some(PathMatch::Exact(path)) => {
                self.exact.entry(path.clone()).or_default().push(candidate);
            }
            Some(PathMatch::Prefix(prefix)) => {
                let prefix = prefix.clone();
                self.prefixes.at(&prefix).push(candidate);
            }
            Some(PathMatch::Regex(expression)) => {
                self.expressions.push((expression.clone(), candidate));
            }
        }
    }

    pub(super) fn sort(&mut self) {
        self.exact.values_mut().for_each(Cell::sort);
        self.prefixes.nodes.iter_mut().for_each(|node| node.cell.sort());
        self.expressions.sort_by_key(|(expression, candidate)| {
            (Reverse(expression.as_str().len()), candidate.rank())
        });
        self.every.sort();
    }
}

/// Prefixes by their elements. The root is `/`, and holds nothing: what is for `/` is for every path.
#[derive(Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    parent: usize,
    children: HashMap<Box<str>, usize>,
    cell: Cell,
}

impl Tree {
    /// Down as far as the path goes with us, then up until something fits: the longest first.
    fn find(&self, head: &RequestHead<'_>) -> Option<Found<'_>> {
        let mut at = self.deepest(head.path())?;
        while at != 0 {
            if let Some(found) = self.nodes[at].cell.find(head) {
                return Some(found);
            }
            at = self.nodes[at].parent;
        }
        None
    }

    fn deepest(&self, path: &str) -> Option<usize> {
        let mut at = 0;
        let mut node = self.nodes.first()?;
        for element in path.strip_prefix('/')?.split('/') {
            count_step();
            let Some(child) = node.children.get(element) else { break };
            at = *child;
            node = &self.nodes[at];
        }
        Some(at)
    }

    /// The cell of a prefix that begins with a slash and is more than that.
    fn at(&mut self, prefix: &str) -> &mut Cell {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0;
        for element in prefix[1..].split('/') {
            at = self.child(at, element);
        }
        &mut self.nodes[at].cell
    }

    fn child(&mut self, parent: usize, element: &str) -> usize {
        if let Some(child) = self.nodes[parent].children.get(element) {
            return *child;
        }
        let child = self.nodes.len();
        self.nodes.push(Node { parent, ..Node::default() });
        self.nodes[parent].children.insert(element.into(), child);
        child
    }
}
