//! Names that control asked the control plane about and that were answered, be it that nobody has them: where workloads and
//! services are told only when they are asked for, this tells what is not there from what is not known yet.

use std::sync::Arc;

use super::address::key_of;
use super::index::Index;

/// See the module's text. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct AnsweredNames(Index<Name>);

#[derive(Debug)]
struct Name(Box<str>);

impl AnsweredNames {
    /// From now on `name` was answered.
    pub fn insert(&mut self, name: &str) {
        if !self.contains(name) {
            self.0.insert(key_of(name), &Arc::new(Name(name.into())));
        }
    }

    /// From now on `name` must be asked about again.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(key_of(name), |other| *other.0 == *name);
    }

    /// Whether `name` was answered.
    pub fn contains(&self, name: &str) -> bool {
        self.0.find(key_of(name), |other| *other.0 == *name).is_some()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_answered_until_it_is_forgotten() {
        let mut names = AnsweredNames::default();
        for n in 0..100 {
            names.insert(&format!("n1/10.0.0.{n}"));
            names.insert(&format!("n1/10.0.0.{n}"));
        }
        let before = names.clone();
        names.remove("n1/10.0.0.7");
        names.remove("n1/10.0.0.7");
        assert!(!names.contains("n1/10.0.0.7") && names.contains("n1/10.0.0.77"));
        assert_eq!((names.len(), before.len()), (99, 100));
    }
}
