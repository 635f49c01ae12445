//! The nodes of a tree: all the work, from one node downwards.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Entry, Footprint};

/// Entries of a leaf, children of a branch. Bigger nodes waste less but copy (and count up) more per
/// change; 32 keeps a change to 150,000 entries at four nodes and under 4 KiB.
pub(super) const NODE_ENTRIES_MAX: usize = 32;
/// Under this many entries a node tries to move in with a neighbour.
const NODE_ENTRIES_MIN: usize = NODE_ENTRIES_MAX / 4;
/// Nodes grow by this many entries at a time: doubling would leave a quarter of the memory unused.
const NODE_GROWTH: usize = 4;
const _: () = assert!(NODE_ENTRIES_MAX.is_multiple_of(2 * NODE_GROWTH));
const _: () = assert!(NODE_ENTRIES_MIN >= 1);

#[derive(Clone, Debug)]
pub(super) enum Node<E> {
    Leaf(Vec<E>),
    Branch(Vec<Child<E>>),
}

#[derive(Clone, Debug)]
pub(super) struct Child<E> {
    /// The greatest key below.
    pub(super) last: u64,
    pub(super) entries: usize,
    pub(super) weight: u64,
    pub(super) node: Arc<Node<E>>,
}

impl<E: Entry> Node<E> {
    /// Inserts below; when this node had to be split, returns its new right neighbour.
    pub(super) fn insert(this: &mut Arc<Node<E>>, entry: E) -> Option<Arc<Node<E>>> {
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
    pub(super) fn remove_at(this: &mut Arc<Node<E>>, mut position: usize) -> E {
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
    pub(super) fn leaf_at(&self, key: u64) -> &[E] {
        match self {
            Node::Leaf(entries) => &entries[entries.partition_point(|entry| entry.key() < key)..],
            Node::Branch(children) => {
                let index = children.partition_point(|child| child.last < key);
                children.get(index).map_or(&[], |child| child.node.leaf_at(key))
            }
        }
    }

    pub(super) fn entries_before(&self, key: u64) -> usize {
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
    pub(super) fn leaf_from(&self, mut position: usize) -> &[E] {
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
    pub(super) fn weight_while(&self, is_in: impl Fn(u64) -> bool + Copy) -> u64 {
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

    pub(super) fn at_weight(&self, mut offset: u64) -> Option<&E> {
        match self {
            Node::Leaf(entries) => entries.iter().find(|entry| take(&mut offset, entry.weight())),
            Node::Branch(children) => children
                .iter()
                .find(|child| take(&mut offset, child.weight))
                .and_then(|child| child.node.at_weight(offset)),
        }
    }

    pub(super) fn gather(this: &Arc<Node<E>>, nodes: &mut HashSet<*const Node<E>>) {
        nodes.insert(Arc::as_ptr(this));
        if let Node::Branch(children) = &**this {
            children.iter().for_each(|child| Node::gather(&child.node, nodes));
        }
    }

    pub(super) fn measure_beside(
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

    pub(super) fn entries(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.iter().map(|child| child.entries).sum(),
        }
    }

    pub(super) fn weight(&self) -> u64 {
        match self {
            Node::Leaf(entries) => entries.iter().map(E::weight).sum(),
            Node::Branch(children) => children.iter().map(|child| child.weight).sum(),
        }
    }

    pub(super) fn last(&self) -> u64 {
        match self {
            Node::Leaf(entries) => entries.last().map_or(0, E::key),
            Node::Branch(children) => children.last().map_or(0, |child| child.last),
        }
    }

    /// How full the node itself is.
    pub(super) fn width(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }
}

impl<E: Entry> Child<E> {
    pub(super) fn of(node: Arc<Node<E>>) -> Child<E> {
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
