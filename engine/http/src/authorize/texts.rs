//! A set of texts, told by what they are, begin with or end in.

use std::sync::Arc;

use crate::model::policy::TextMatch;

/// The texts are sorted and searched; what they begin with and end in is short in practice, and tried one by one.
#[derive(Debug)]
pub(super) struct TextSet {
    exact: Box<[Arc<str>]>,
    prefixes: Box<[Arc<str>]>,
    suffixes: Box<[Arc<str>]>,
    presence: bool,
}

impl TextSet {
    pub(super) fn of<'t>(list: impl IntoIterator<Item = &'t TextMatch>) -> TextSet {
        let (mut exact, mut prefixes, mut suffixes) = (Vec::new(), Vec::new(), Vec::new());
        let mut presence = false;
        for text in list {
            match text {
                TextMatch::Exact(text) => exact.push(text.clone()),
                TextMatch::Prefix(text) => prefixes.push(text.clone()),
                TextMatch::Suffix(text) => suffixes.push(text.clone()),
                TextMatch::Presence => presence = true,
            }
        }
        exact.sort_unstable();
        TextSet {
            exact: exact.into(),
            prefixes: prefixes.into(),
            suffixes: suffixes.into(),
            presence,
        }
    }

    /// Of hosts, which are compared in lower case.
    pub(super) fn of_lower_case(list: &[TextMatch]) -> TextSet {
        let lower = |text: &Arc<str>| -> Arc<str> { text.to_ascii_lowercase().into() };
        let list: Vec<TextMatch> = list
            .iter()
            .map(|text| match text {
                TextMatch::Exact(text) => TextMatch::Exact(lower(text)),
                TextMatch::Prefix(text) => TextMatch::Prefix(lower(text)),
                TextMatch::Suffix(text) => TextMatch::Suffix(lower(text)),
                TextMatch::Presence => TextMatch::Presence,
            })
            .collect();
        TextSet::of(&list)
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        (self.presence && !text.is_empty())
            || self.exact.binary_search_by(|exact| (**exact).cmp(text)).is_ok()
            || self.prefixes.iter().any(|prefix| text.starts_with(&**prefix))
            || self.suffixes.iter().any(|suffix| text.ends_with(&**suffix))
    }
}
