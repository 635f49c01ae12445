//! Which of many selectors the labels of a workload fulfil.

use std::collections::HashMap;

use crate::source::objects::Labels;

/// Selectors by the namespace they select in and the first label they ask for, so that a workload looks at few of them.
pub(super) struct LabelIndex<'s> {
    selectors: Vec<&'s Labels>,
    by_label: HashMap<(&'s str, &'s str, &'s str), Vec<usize>>,
}

/// Selects in all namespaces; no namespace has this name.
pub(super) const EVERYWHERE: &str = "";

impl<'s> LabelIndex<'s> {
    /// Selectors with their namespaces, numbered in this order. One that asks for nothing selects nobody.
    pub(super) fn new(selectors: impl Iterator<Item = (&'s str, &'s Labels)>) -> LabelIndex<'s> {
        let mut index = LabelIndex { selectors: Vec::new(), by_label: HashMap::new() };
        for (number, (namespace, selector)) in selectors.enumerate() {
            if let Some((key, value)) = selector.first() {
                let label = (namespace, &**key, &**value);
                index.by_label.entry(label).or_default().push(number);
            }
            index.selectors.push(selector);
        }
        index
    }

    /// The numbers of those that select a workload, ascending.
    pub(super) fn select(&self, namespace: &str, labels: &Labels) -> Vec<usize> {
        let mut selected: Vec<usize> = Vec::new();
        for (key, value) in labels {
            for namespace in [namespace, EVERYWHERE] {
                let candidates = self.by_label.get(&(namespace, &**key, &**value));
                let fulfilled = candidates
                    .into_iter()
                    .flatten()
                    .filter(|number| is_subset(self.selectors[**number], labels));
                selected.extend(fulfilled);
            }
        }
        selected.sort_unstable();
        selected
    }
}

/// Both are sorted by key.
fn is_subset(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|pair| labels.binary_search(pair).is_ok())
}
