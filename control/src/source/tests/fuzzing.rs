//! No text makes loading panic, whatever it is.

use proptest::prelude::*;

use crate::source::{Source, load};

fn read(text: String) {
    let source = Source::Text { name: "fuzz".to_owned(), text };
    if let Err(diagnostics) = load(&[source], None) {
        let shown = diagnostics.to_string();
        assert!(diagnostics.errors() > 0 && !shown.is_empty());
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
        assert!(diagnostics.coloured().to_string().len() >= diagnostics.to_string().len());
    }
}

/// Texts that go far into the loader, to be damaged.
const SEEDS: [&str; 8] = [
    include_str!("../../../../examples/two-services/mesh.yaml"),
    include_str!("../../../../examples/bookinfo/reviews.yaml"),
    include_str!("../../../../examples/bookinfo/policies.yaml"),
    include_str!("local.yaml"),
    include_str!("diagnostics/policy-warnings.yaml"),
    include_str!("diagnostics/policy-wrong-rules.yaml"),
    include_str!("diagnostics/local-policy.yaml"),
    include_str!("diagnostics/everything-at-once.yaml"),
];

/// What YAML is made of.
const PIECES: [&str; 40] = [
    "\n",
    "\n  ",
    "\n    - ",
    "- ",
    ": ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "---\n",
    "...\n",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "!x ",
    "? ",
    "| ",
    ">-\n",
    "'",
    "\"",
    "#",
    "\t",
    "%YAML 1.2\n",
    "kind",
    "apiVersion",
    "Node",
    "v1",
    "Pod",
    "spec",
    "metadata",
    "name",
    "items",
    "workloads",
    "policies",
    "null",
    "1",
    "\u{feff}",
    "\u{1F980}",
];

proptest! {
    #[test]
    fn arbitrary_text(text in any::<String>()) {
        read(text);
    }

    #[test]
    fn yaml_like_text(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        read(pieces.concat());
    }

    #[test]
    fn damaged_configuration(
        seed in prop::sample::select(&SEEDS[..]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..30usize, prop::sample::select(&PIECES[..])), 1..8),
    ) {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, removed, inserted) in cuts {
            let start = at.index(text.len() + 1);
            let end = (start + removed).min(text.len());
            text.splice(start..end, inserted.chars());
        }
        read(text.into_iter().collect());
    }
}
