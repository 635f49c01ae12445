//! A persistent sorted multiset: clones share everything, a change copies one path.
//!
//! This is a B+ tree of `Arc`ed nodes. Entries are ordered by a 64-bit key (a hash, mostly); equal
//! keys are allowed and keep the order in which they came. Every branch knows how many entries and
//! how much weight lie below it, so the n-th entry and the entry at a weight are found on the way down.
//!
//! It promises:
//! * `clone` is one reference count;
//! * a change to a tree whose nodes are shared copies 32 entries per level at most,
//!   and nothing at all when the nodes are not shared, so loading is done in place;
//! * a clone taken earlier never sees a later change.

mod node;

use std::collections::HashSet;
use std::sync::Arc;

use self::node::{Child, Node};
use super::footprint::Footprint;

/// What a tree holds: something with a place in the order and, where it is chosen at random, a weight.
pub trait Entry: Clone {
    /// Where the entry stands in the order.
    fn key(&self) -> u64;

    /// The share of random choices this entry gets.
    fn weight(&self) -> u64 {
        0
    }
}

/// The multiset.
#[derive(Clone, Debug)]
pub struct Tree<E> {
    root: Arc<Node<E>>,
}

impl<E> Default for Tree<E> {
    fn default() -> Tree<E> {
        Tree { root: Arc::new(Node::Leaf(Vec::new())) }
    }
}

impl<E: Entry> Tree<E> {
    /// Puts `entry` behind those with the same key.
    pub fn insert(&mut self, entry: E) {
        if let Some(right) = Node::insert(&mut self.root, entry) {
            let left = std::mem::take(self).root;
            self.root = Arc::new(Node::Branch(vec![Child::of(left), Child::of(right)]));
        }
    }

    /// Takes out the first entry with this key that `is_it` accepts.
    pub fn remove(&mut self, key: u64, is_it: impl FnMut(&E) -> bool) -> Option<E> {
        let position = self.position(key, is_it)?;
        let removed = Node::remove_at(&mut self.root, position);
        while let Node::Branch(children) = &*self.root
            && children.len() == 1
        {
            self.root = Arc::clone(&children[0].node);
        }
        Some(removed)
    }

    /// The first entry with this key that `is_it` accepts.
    pub fn find(&self, key: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<&E> {
        self.range(key, key).find(|entry| is_it(entry))
    }

    /// The entries with `first <= key <= last`, in order.
    pub fn range(&self, first: u64, last: u64) -> Range<'_, E> {
        Range { tree: self, first, last, taken: 0, leaf: self.root.leaf_at(first) }
    }

    /// Every entry, in order.
    pub fn iter(&self) -> Range<'_, E> {
        self.range(0, u64::MAX)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.root.entries()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The weight of all entries with `first <= key <= last`, and of all before them.
    pub(crate) fn weight_between(&self, first: u64, last: u64) -> WeightRange {
        let before = self.root.weight_while(|key| key < first);
        let through = self.root.weight_while(|key| key <= last);
        WeightRange { before, weight: through.saturating_sub(before) }
    }

    /// The entry over which the running sum of weights passes `offset`.
    pub(crate) fn at_weight(&self, offset: u64) -> Option<&E> {
        self.root.at_weight(offset)
    }

    /// Whether both are the very same tree, not merely equal.
    pub fn is_same(&self, other: &Tree<E>) -> bool {
        Arc::ptr_eq(&self.root, &other.root)
    }

    /// The nodes that `other` does not share.
    pub(crate) fn footprint_beside(&self, other: &Tree<E>) -> Footprint {
        let mut shared = HashSet::new();
        Node::gather(&other.root, &mut shared);
        let mut footprint = Footprint::default();
        Node::measure_beside(&self.root, &shared, &mut footprint);
        footprint
    }

    fn position(&self, key: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<usize> {
        let mut range = self.range(key, key);
        range.find(|entry| is_it(entry))?;
        Some(self.root.entries_before(key) + range.taken - 1)
    }
}

/// A run of entries, measured by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WeightRange {
    /// The weight of what stands before the run.
    pub(crate) before: u64,
    /// The weight of the run.
    pub(crate) weight: u64,
}

/// Walks part of a tree in order.
#[derive(Debug)]
pub struct Range<'a, E> {
    tree: &'a Tree<E>,
    first: u64,
    last: u64,
    /// How many entries were returned.
    taken: usize,
    /// The next entries, as far as their node goes.
    leaf: &'a [E],
}

impl<'a, E: Entry> Iterator for Range<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        if self.leaf.is_empty() {
            let root = &self.tree.root;
            self.leaf = root.leaf_from(root.entries_before(self.first) + self.taken);
        }
        let (next, rest) = self.leaf.split_first()?;
        if next.key() > self.last {
            return None;
        }
        self.leaf = rest;
        self.taken += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests;
