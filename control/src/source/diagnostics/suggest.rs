//! "Did you mean …?": the nearest of the words that would have been right.

/// Words longer than this are not compared: nobody mistypes them, and the cost grows with the square.
const WORD_CHARACTERS_MAX: usize = 128;

/// The candidate nearest to `word`, unless even that is something else altogether. Case does not count.
pub(crate) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let word = lower(word)?;
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(&word, &lower(candidate)?), candidate)))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The sentence to show, or nothing when no candidate is near.
pub(crate) fn did_you_mean<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

/// `a, b or c`, for a set that is small enough to be listed.
pub(crate) fn one_of<'c>(candidates: impl IntoIterator<Item = &'c str>) -> String {
    let quoted: Vec<String> = candidates.into_iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn lower(word: &str) -> Option<Vec<char>> {
    let word: Vec<char> =
        word.chars().take(WORD_CHARACTERS_MAX + 1).flat_map(char::to_lowercase).collect();
    (word.len() <= WORD_CHARACTERS_MAX).then_some(word)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 5] = ["name", "namespace", "networkNamespace", "drainDeadline", "ports"];

    #[test]
    fn nearest_word_is_found() {
        for (word, want) in [
            ("drainDeadlin", Some("drainDeadline")),
            ("draindeadline", Some("drainDeadline")),
            ("prots", Some("ports")),
            ("netnamespace", Some("namespace")),
            ("nmae", Some("name")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, KEYS), want, "{word}");
        }
    }

    #[test]
    fn a_set_reads_as_a_sentence() {
        assert_eq!(one_of(["a"]), "`a`");
        assert_eq!(one_of(["a", "b", "c"]), "`a`, `b` or `c`");
    }
}
