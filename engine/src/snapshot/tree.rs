//! A persistent sorted multiset: clones share everything, a change copies one path.
//!
//! This is a B+ tree of `Arc`ed nodes. Entries are ordered by a 64-bit key (a hash, mostly); equal
//! keys are allowed and keep the order in which they came. Every branch knows how many entries and
//! how much weight lie below it, so the n-th entry and the entry at a weight are found on the way down.
//!
//! It promises:
//! * `clone` is one reference count;
//! * a change to a tree whose nodes are shared copies [`NODE_ENTRIES_MAX`] entries per level at most,
//!   and nothing at all when the nodes are not shared, so loading is done in place;
//! * a clone taken earlier never sees a later change.

use std::collections::HashSet;
use std::sync::Arc;

use super::footprint::Footprint;

/// Entries of a leaf, children of a branch. Bigger nodes waste less but copy (and count up) more per
/// change; 32 keeps a change to 150,000 entries at four nodes and under 4 KiB.
pub(crate) const NODE_ENTRIES_MAX: usize = 32;
/// Under this many entries a node tries to move in with a neighbour.
const NODE_ENTRIES_MIN: usize = NODE_ENTRIES_MAX / 4;
/// Nodes grow by this many entries at a time: doubling would leave a quarter of the memory unused.
const NODE_GROWTH: usize = 4;
const _: () = assert!(NODE_ENTRIES_MAX.is_multiple_of(2 * NODE_GROWTH));
const _: () = assert!(NODE_ENTRIES_MIN >= 1);

/// What a tree holds: something with a place in the order and, where it is chosen at random, a weight.
pub(crate) trait Entry: Clone {
    /// Where the entry stands in the order.
    fn key(&self) -> u64;

    /// The share of random choices this entry gets.
    fn weight(&self) -> u64 {
        0
    }
}

/// The multiset.
#[derive(Clone, Debug)]
pub(crate) struct Tree<E> {
    root: Arc<Node<E>>,
}

#[derive(Clone, Debug)]
enum Node<E> {
    Leaf(Vec<E>),
    Branch(Vec<Child<E>>),
}

#[derive(Clone, Debug)]
struct Child<E> {
    /// The greatest key below.
    last: u64,
    entries: usize,
    weight: u64,
    node: Arc<Node<E>>,
}

impl<E> Default for Tree<E> {
    fn default() -> Tree<E> {
        Tree { root: Arc::new(Node::Leaf(Vec::new())) }
    }
}

impl<E: Entry> Tree<E> {
    /// Puts `entry` behind those with the same key.
    pub(crate) fn insert(&mut self, entry: E) {
        if let Some(right) = Node::insert(&mut self.root, entry) {
            let left = std::mem::take(self).root;
            self.root = Arc::new(Node::Branch(vec![Child::of(left), Child::of(right)]));
        }
    }

    /// Takes out the first entry with this key that `is_it` accepts.
    pub(crate) fn remove(&mut self, key: u64, is_it: impl FnMut(&E) -> bool) -> Option<E> {
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
    pub(crate) fn find(&self, key: u64, mut is_it: impl FnMut(&E) -> bool) -> Option<&E> {
        self.range(key, key).find(|entry| is_it(entry))
    }

    /// The entries with `first <= key <= last`, in order.
    pub(crate) fn range(&self, first: u64, last: u64) -> Range<'_, E> {
        Range { tree: self, first, last, taken: 0, leaf: self.root.leaf_at(first) }
    }

    /// Every entry, in order.
    pub(crate) fn iter(&self) -> Range<'_, E> {
        self.range(0, u64::MAX)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.root.entries()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
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
    #[cfg(test)]
    pub(crate) fn is_same(&self, other: &Tree<E>) -> bool {
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

impl<E: Entry> Node<E> {
    /// Inserts below; when this node had to be split, returns its new right neighbour.
    fn insert(this: &mut Arc<Node<E>>, entry: E) -> Option<Arc<Node<E>>> {
        let key = entry.key();
        match Arc::make_mut(this) {
            Node::Leaf(entries) => {
                let index = entries.partition_point(|other| other.key() <= key);
                insert_or_split(entries, index, entry).map(|right| Arc::new(Node::Leaf(right)))
            }
            Node::Branch(children) => {
                let after_equals = children.partition_point(|child| child.last <= key);
                let index = after_equals.min(children.len() - 1);
                let split = Node::insert(&mut children[index].node, entry);
                children[index].measure();
                let right = Child::of(split?);
                insert_or_split(children, index + 1, right)
                    .map(|right| Arc::new(Node::Branch(right)))
            }
        }
    }

    /// Removes the entry at `position`, which must exist.
    fn remove_at(this: &mut Arc<Node<E>>, mut position: usize) -> E {
        match Arc::make_mut(this) {
            Node::Leaf(entries) => entries.remove(position),
            Node::Branch(children) => {
                let mut index = 0;
                while position >= children[index].entries {
                    position -= children[index].entries;
                    index += 1;
                }
                let removed = Node::remove_at(&mut children[index].node, position);
                children[index].measure();
                move_in_with_neighbour(children, index);
                removed
            }
        }
    }

    /// The leaf of the first entry with `key` or a greater one, from there on; nothing behind the last.
    fn leaf_at(&self, key: u64) -> &[E] {
        match self {
            Node::Leaf(entries) => &entries[entries.partition_point(|entry| entry.key() < key)..],
            Node::Branch(children) => {
                let index = children.partition_point(|child| child.last < key);
                children.get(index).map_or(&[], |child| child.node.leaf_at(key))
            }
        }
    }

    fn entries_before(&self, key: u64) -> usize {
        match self {
            Node::Leaf(entries) => entries.partition_point(|entry| entry.key() < key),
            Node::Branch(children) => {
                let index = children.partition_point(|child| child.last < key);
                let whole: usize = children[..index].iter().map(|child| child.entries).sum();
                whole + children.get(index).map_or(0, |child| child.node.entries_before(key))
            }
        }
    }

    /// The leaf of the entry at `position`, from there on; nothing behind the last.
    fn leaf_from(&self, mut position: usize) -> &[E] {
        match self {
            Node::Leaf(entries) => entries.get(position..).unwrap_or_default(),
            Node::Branch(children) => {
                for child in children {
                    if position < child.entries {
                        return child.node.leaf_from(position);
                    }
                    position -= child.entries;
                }
                &[]
            }
        }
    }

    /// The weight of the entries at the front whose keys `is_in` accepts.
    fn weight_while(&self, is_in: impl Fn(u64) -> bool + Copy) -> u64 {
        match self {
            Node::Leaf(entries) => {
                entries.iter().take_while(|entry| is_in(entry.key())).map(E::weight).sum()
            }
            Node::Branch(children) => {
                let index = children.partition_point(|child| is_in(child.last));
                let whole: u64 = children[..index].iter().map(|child| child.weight).sum();
                whole + children.get(index).map_or(0, |child| child.node.weight_while(is_in))
            }
        }
    }

    fn at_weight(&self, mut offset: u64) -> Option<&E> {
        match self {
            Node::Leaf(entries) => entries.iter().find(|entry| take(&mut offset, entry.weight())),
            Node::Branch(children) => children
                .iter()
                .find(|child| take(&mut offset, child.weight))
                .and_then(|child| child.node.at_weight(offset)),
        }
    }

    fn gather(this: &Arc<Node<E>>, nodes: &mut HashSet<*const Node<E>>) {
        nodes.insert(Arc::as_ptr(this));
        if let Node::Branch(children) = &**this {
            children.iter().for_each(|child| Node::gather(&child.node, nodes));
        }
    }

    fn measure_beside(
        this: &Arc<Node<E>>,
        shared: &HashSet<*const Node<E>>,
        footprint: &mut Footprint,
    ) {
        if shared.contains(&Arc::as_ptr(this)) {
            return;
        }
        let two_counts = 2 * size_of::<usize>();
        let items = match &**this {
            Node::Leaf(entries) => entries.capacity() * size_of::<E>(),
            Node::Branch(children) => {
                let measure =
                    |child: &Child<E>| Node::measure_beside(&child.node, shared, footprint);
                children.iter().for_each(measure);
                children.capacity() * size_of::<Child<E>>()
            }
        };
        *footprint += Footprint { nodes: 1, bytes: two_counts + size_of::<Node<E>>() + items };
    }

    fn entries(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.iter().map(|child| child.entries).sum(),
        }
    }

    fn weight(&self) -> u64 {
        match self {
            Node::Leaf(entries) => entries.iter().map(E::weight).sum(),
            Node::Branch(children) => children.iter().map(|child| child.weight).sum(),
        }
    }

    fn last(&self) -> u64 {
        match self {
            Node::Leaf(entries) => entries.last().map_or(0, E::key),
            Node::Branch(children) => children.last().map_or(0, |child| child.last),
        }
    }

    /// How full the node itself is.
    fn width(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

impl<E: Entry> Child<E> {
    fn of(node: Arc<Node<E>>) -> Child<E> {
        Child { last: node.last(), entries: node.entries(), weight: node.weight(), node }
    }

    fn measure(&mut self) {
        self.last = self.node.last();
        self.entries = self.node.entries();
        self.weight = self.node.weight();
    }
}

/// Steps over `weight`; true when `offset` falls inside it.
fn take(offset: &mut u64, weight: u64) -> bool {
    let inside = *offset < weight;
    if !inside {
        *offset -= weight;
    }
    inside
}

/// Inserts into a node's vector; a full one is halved first and its right half returned.
fn insert_or_split<T>(items: &mut Vec<T>, index: usize, item: T) -> Option<Vec<T>> {
    const HALF: usize = NODE_ENTRIES_MAX / 2;
    if items.len() < NODE_ENTRIES_MAX {
        insert_growing(items, index, item);
        return None;
    }
    let mut right = items.split_off(HALF);
    items.shrink_to(HALF + NODE_GROWTH);
    if index > HALF {
        insert_growing(&mut right, index - HALF, item);
    } else {
        insert_growing(items, index, item);
    }
    Some(right)
}

fn insert_growing<T>(items: &mut Vec<T>, index: usize, item: T) {
    if items.len() == items.capacity() {
        items.reserve_exact(NODE_GROWTH);
    }
    items.insert(index, item);
}

/// After a removal: forgets an empty child, and joins a nearly empty one with a neighbour that has room.
fn move_in_with_neighbour<E: Entry>(children: &mut Vec<Child<E>>, index: usize) {
    let width = children[index].node.width();
    if width == 0 {
        children.remove(index);
        return;
    }
    if width >= NODE_ENTRIES_MIN || children.len() == 1 {
        return;
    }
    let left = index.saturating_sub(1);
    let together = children[left].node.width() + children[left + 1].node.width();
    if together > NODE_ENTRIES_MAX {
        return;
    }
    let right = children.remove(left + 1);
    match (Arc::make_mut(&mut children[left].node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(into), Node::Leaf(from)) => into.extend(from),
        (Node::Branch(into), Node::Branch(from)) => into.extend(from),
        _ => unreachable!("all leaves of a tree have the same depth"),
    }
    children[left].measure();
}

/// Walks part of a tree in order.
#[derive(Debug)]
pub(crate) struct Range<'a, E> {
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
