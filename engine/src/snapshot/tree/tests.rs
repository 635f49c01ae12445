//! The tree against a sorted vector, and clones against what they were.

use proptest::prelude::*;

use super::node::NODE_ENTRIES_MAX;
use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    key: u64,
    weight: u64,
    serial: usize,
}

impl Entry for Item {
    fn key(&self) -> u64 {
        self.key
    }

    fn weight(&self) -> u64 {
        self.weight
    }
}

/// What the tree must be equal to.
#[derive(Clone, Default)]
struct Naive(Vec<Item>);

impl Naive {
    fn insert(&mut self, item: Item) {
        let index = self.0.partition_point(|other| other.key <= item.key);
        self.0.insert(index, item);
    }

    fn remove(&mut self, key: u64, serial: usize) -> Option<Item> {
        let index = self.0.iter().position(|item| item.key == key && item.serial == serial)?;
        Some(self.0.remove(index))
    }

    fn weight_between(&self, first: u64, last: u64) -> u64 {
        let inside = |item: &&Item| first <= item.key && item.key <= last;
        self.0.iter().filter(inside).map(|item| item.weight).sum()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u64, weight: u64 },
    RemoveNth(usize),
    RemoveUnknown(u64),
    Clone,
}

fn step(keys: u64) -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..keys, 0..4u64).prop_map(|(key, weight)| Step::Insert { key, weight }),
        3 => any::<usize>().prop_map(Step::RemoveNth),
        1 => (0..keys).prop_map(Step::RemoveUnknown),
        1 => Just(Step::Clone),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few keys make long runs of equals, which then cross nodes; many make it deep.
    prop_oneof![Just(3u64), Just(40), Just(u64::MAX)]
        .prop_flat_map(|keys| prop::collection::vec(step(keys), 0..1500))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn behaves_like_a_sorted_vector_and_clones_never_change(steps in steps()) {
        let mut tree = Tree::default();
        let mut naive = Naive::default();
        let mut clones: Vec<(Tree<Item>, Naive)> = Vec::new();
        for (serial, step) in steps.into_iter().enumerate() {
            match step {
                Step::Insert { key, weight } => {
                    tree.insert(Item { key, weight, serial });
                    naive.insert(Item { key, weight, serial });
                }
                Step::RemoveNth(nth) if !naive.0.is_empty() => {
                    let Item { key, serial, .. } = naive.0[nth % naive.0.len()].clone();
                    let removed = tree.remove(key, |item| item.serial == serial);
                    prop_assert_eq!(removed, naive.remove(key, serial));
                }
                Step::RemoveNth(_) => {}
                Step::RemoveUnknown(key) => {
                    prop_assert_eq!(tree.remove(key, |item| item.serial == usize::MAX), None);
                }
                Step::Clone => clones.push((tree.clone(), naive.clone())),
            }
        }
        clones.push((tree, naive));
        for (tree, naive) in &clones {
            check_shape(tree);
            prop_assert_eq!(tree.len(), naive.0.len());
            prop_assert!(tree.iter().eq(&naive.0));
        }
    }

    #[test]
    fn weights_add_up(items in prop::collection::vec((0..60u64, 0..5u64), 0..400), first in 0..60u64, last in 0..60u64) {
        let mut tree = Tree::default();
        let mut naive = Naive::default();
        for (serial, (key, weight)) in items.into_iter().enumerate() {
            tree.insert(Item { key, weight, serial });
            naive.insert(Item { key, weight, serial });
        }
        let range = tree.weight_between(first, last);
        prop_assert_eq!(range.weight, naive.weight_between(first, last));
        let wanted: Vec<&Item> = naive.0.iter()
            .filter(|item| first <= item.key && item.key <= last)
            .flat_map(|item| (0..item.weight).map(move |_| item))
            .collect();
        let got: Vec<&Item> =
            (0..range.weight).filter_map(|offset| tree.at_weight(range.before + offset)).collect();
        prop_assert_eq!(got, wanted);
        let all = naive.0.iter().map(|item| item.weight).sum();
        prop_assert_eq!(tree.at_weight(all), None);
    }
}

#[test]
fn an_unknown_key_finds_nothing() {
    let mut tree = Tree::default();
    assert!(tree.is_empty());
    assert_eq!(tree.find(7, |_| true), None);
    for serial in 0..200 {
        tree.insert(Item { key: serial as u64 * 2, weight: 1, serial });
    }
    assert_eq!(tree.find(7, |_| true), None);
    assert_eq!(tree.find(8, |_| true).map(|item| item.serial), Some(4));
}

#[test]
fn a_failed_removal_leaves_the_tree_shared() {
    let mut tree = Tree::default();
    for serial in 0..200 {
        tree.insert(Item { key: serial as u64, weight: 1, serial });
    }
    let before = tree.clone();
    assert_eq!(tree.remove(7, |_| false), None);
    assert!(tree.is_same(&before), "nothing was found, so nothing is copied");
}

/// All leaves equally deep, no node over its bound or (but for the root) empty, sums right.
fn check_shape(tree: &Tree<Item>) {
    fn depth(node: &Node<Item>, is_root: bool) -> usize {
        assert!(node.width() <= NODE_ENTRIES_MAX);
        assert!(is_root || node.width() > 0);
        match node {
            Node::Leaf(_) => 0,
            Node::Branch(children) => {
                let depths: Vec<usize> = children
                    .iter()
                    .map(|child| {
                        assert_eq!(child.last, child.node.last());
                        assert_eq!(child.entries, child.node.entries());
                        assert_eq!(child.weight, child.node.weight());
                        depth(&child.node, false)
                    })
                    .collect();
                assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
                depths[0] + 1
            }
        }
    }
    depth(&tree.root, true);
}
