//! A set of texts, told by what they are, begin with or end in.

use std::cmp::Ordering;

use crate::snapshot::policy::TextMatch;

/// Places in a list of [`TextMatch`]es, sorted so that the one that could match a text is found by
/// halving.
///
/// Of prefixes those are left out that begin with another one. What is left begins with none of the others, so
/// only the last that does not stand behind a text can be its prefix: whatever stands between a prefix and
/// the text begins with that prefix, too. Suffixes are prefixes read backwards.
#[derive(Debug)]
pub(super) struct TextSet {
    exact: Box<[u32]>,
    prefixes: Box<[u32]>,
    suffixes: Box<[u32]>,
    presence: bool,
}

impl TextSet {
    /// The texts that `list` matches.
    pub(super) fn of(list: &[TextMatch]) -> TextSet {
        let (mut exact, mut prefixes, mut suffixes) = (Vec::new(), Vec::new(), Vec::new());
        for (place, text) in (0..).zip(list) {
            match text {
                TextMatch::Exact(_) => exact.push(place),
                TextMatch::Prefix(_) => prefixes.push(place),
                TextMatch::Suffix(_) => suffixes.push(place),
                TextMatch::Presence => {}
            }
        }
        let text = |place: &u32| said(list, *place);
        exact.sort_unstable_by_key(|place| text(place));
        exact.dedup_by(|next, kept| text(next) == text(kept));
        prefixes.sort_unstable_by_key(|place| text(place));
        prefixes.dedup_by(|next, kept| text(next).starts_with(text(kept)));
        suffixes.sort_unstable_by(|one, other| backwards(text(one), text(other)));
        suffixes.dedup_by(|next, kept| text(next).ends_with(text(kept)));
        TextSet {
            exact: exact.into(),
            prefixes: prefixes.into(),
            suffixes: suffixes.into(),
            presence: list.contains(&TextMatch::Presence),
        }
    }

    /// Whether one entry of `list`, from which this was made, matches `text`.
    pub(super) fn contains(&self, list: &[TextMatch], text: &str) -> bool {
        let said = |place: u32| said(list, place);
        let is_exact = || self.exact.binary_search_by(|&place| said(place).cmp(text)).is_ok();
        let has_prefix = || {
            let last = last_of(&self.prefixes, |place| said(place) <= text);
            last.is_some_and(|place| text.starts_with(said(place)))
        };
        let has_suffix = || {
            let last = last_of(&self.suffixes, |place| backwards(said(place), text).is_le());
            last.is_some_and(|place| text.ends_with(said(place)))
        };
        (self.presence && !text.is_empty()) || is_exact() || has_prefix() || has_suffix()
    }
}

fn said(list: &[TextMatch], place: u32) -> &str {
    match &list[place as usize] {
        TextMatch::Exact(text) | TextMatch::Prefix(text) | TextMatch::Suffix(text) => text,
        TextMatch::Presence => unreachable!("it has no text, so no place of it is kept"),
    }
}

/// How two texts are ordered when they are read from their ends.
fn backwards(one: &str, other: &str) -> Ordering {
    one.bytes().rev().cmp(other.bytes().rev())
}

fn last_of(places: &[u32], is_before: impl Fn(u32) -> bool) -> Option<u32> {
    let behind = places.partition_point(|&place| is_before(place));
    behind.checked_sub(1).map(|last| places[last])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(one: &TextMatch, text: &str) -> bool {
        match one {
            TextMatch::Exact(exact) => text == &**exact,
            TextMatch::Prefix(prefix) => text.starts_with(&**prefix),
            TextMatch::Suffix(suffix) => text.ends_with(&**suffix),
            TextMatch::Presence => !text.is_empty(),
        }
    }

    #[test]
    fn the_empty_text() {
        for (list, is_in) in [
            (vec![], false),
            (vec![TextMatch::Presence], false),
            (vec![TextMatch::Exact("".into())], true),
            (vec![TextMatch::Prefix("".into())], true),
            (vec![TextMatch::Suffix("".into())], true),
            (vec![TextMatch::Prefix("a".into())], false),
        ] {
            assert_eq!(TextSet::of(&list).contains(&list, ""), is_in, "{list:?}");
        }
    }

    proptest! {
        #[test]
        fn a_set_contains_what_one_of_its_entries_matches(
            list in prop::collection::vec((0..4u8, "[ab]{0,4}"), 0..12),
            text in "[ab]{0,5}",
        ) {
            let entry = |(kind, text): (u8, String)| match kind {
                0 => TextMatch::Exact(text.into()),
                1 => TextMatch::Prefix(text.into()),
                2 => TextMatch::Suffix(text.into()),
                _ if text.len() == 4 => TextMatch::Presence,
                _ => TextMatch::Exact(text.into()),
            };
            let list: Vec<TextMatch> = list.into_iter().map(entry).collect();
            let one_does = list.iter().any(|one| matches(one, &text));
            prop_assert_eq!(TextSet::of(&list).contains(&list, &text), one_does);
        }
    }
}
