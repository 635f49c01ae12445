//! The recipe of the image.

use super::text;

const INSTRUCTIONS: [&str; 8] =
    ["FROM", "RUN", "WORKDIR", "COPY", "USER", "ENTRYPOINT", "CMD", "LABEL"];

/// Its instructions, without comments, with continued lines joined.
fn instructions() -> Vec<(String, String)> {
    let recipe = text("container/Containerfile").replace("\\\n", " ");
    let lines = recipe.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').expect(line);
            assert!(INSTRUCTIONS.contains(&word), "{word}");
            (word.to_owned(), rest.to_owned())
        })
        .collect()
}

#[test]
fn the_last_stage_is_small_and_starts_what_charts_ask_for() {
    let instructions = instructions();
    let last = instructions.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let stage = &instructions[last..];
    assert!(stage[0].1.contains("/distroless/"), "{:?}", stage[0]);
    assert!(stage.iter().all(|(word, _)| word != "RUN"), "there is no shell");
    let of = |word: &str| {
        let found = stage.iter().find(|(one, _)| one == word);
        found.unwrap_or_else(|| panic!("no {word}")).1.clone()
    };
    assert_eq!(of("WORKDIR"), "/", "roots and tokens are looked for from there");
    let entry: Vec<String> = serde_json::from_str(&of("ENTRYPOINT")).unwrap();
    let arguments: Vec<String> = serde_json::from_str(&of("CMD")).unwrap();
    assert_eq!(arguments, ["proxy", "ztunnel"]);
    assert!(of("COPY").ends_with(&format!(" {}", entry[0])));
    assert_eq!(of("USER"), "0:1337");
}

#[test]
fn what_is_copied_is_what_is_built() {
    let instructions = instructions();
    let build = instructions.iter().find(|(word, rest)| word == "RUN" && rest.contains("cargo"));
    let (_, build) = build.expect("something is built");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../proxy/Cargo.toml");
    let manifest = std::fs::read_to_string(manifest).unwrap();
    assert!(manifest.contains("name = \"ringway\"") && build.contains("--package ringway "));
    let copied = instructions.iter().any(|(word, rest)| {
        word == "COPY" && rest.contains("--from=build /source/target/release/ringway ")
    });
    assert!(copied && build.contains("--release") && build.contains("--locked"));
}
