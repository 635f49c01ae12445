//! Whether an answer is valid OpenMetrics 1.0, by a parser that knows nothing of how it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::tests::facts;
use super::*;

/// A family as it was read.
#[derive(Debug, Default)]
struct Read {
    name: String,
    kind: String,
    unit: Option<String>,
    /// Suffix, labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Reads an answer, or says what is wrong with it.
fn read(text: &str) -> Result<Vec<Read>, String> {
    let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF and a newline")?;
    let mut families: Vec<Read> = Vec::new();
    let mut names = BTreeSet::new();
    for line in body.split_terminator('\n') {
        if let Some(descriptor) = line.strip_prefix("# ") {
            let mut words = descriptor.splitn(3, ' ');
            let (word, name) = (words.next().unwrap_or(""), words.next().ok_or(line)?);
            let rest = words.next().ok_or_else(|| format!("nothing is said: {line}"))?;
            if families.last().is_none_or(|family| family.name != name) {
                if !is_name(name) || !names.insert(name.to_owned()) {
                    return Err(format!("a bad name, or a second family of it: {name}"));
                }
                families.push(Read { name: name.to_owned(), ..Read::default() });
            }
            let family = families.last_mut().expect("just there");
            if !family.samples.is_empty() {
                return Err(format!("described after its samples: {name}"));
            }
            match word {
                "HELP" => {}
                "TYPE" => family.kind = rest.to_owned(),
                "UNIT" => family.unit = Some(rest.to_owned()),
                other => return Err(format!("unknown descriptor {other}")),
            }
        } else {
            let family = families.last_mut().ok_or("a sample before any family")?;
            let (name, labels, value) = sample(line)?;
            let suffix =
                name.strip_prefix(&family.name).ok_or_else(|| format!("{name} is elsewhere"))?;
            family.samples.push((suffix.to_owned(), labels, value));
        }
    }
    families.iter().try_for_each(check)?;
    Ok(families)
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Result<(&str, BTreeMap<String, String>, f64), String> {
    let wrong = |why: &str| format!("{why}: {line}");
    let end = line.find(['{', ' ']).ok_or_else(|| wrong("no value"))?;
    let name = &line[..end];
    let mut labels = BTreeMap::new();
    let mut rest = &line[end..];
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").ok_or_else(|| wrong("no label"))?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let closed = loop {
                match chars.next() {
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => match chars.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, c @ ('"' | '\\'))) => value.push(c),
                        _ => return Err(wrong("a bad escape")),
                    },
                    Some((_, c)) => value.push(c),
                    None => return Err(wrong("a value that does not end")),
                }
            };
            if !is_name(label) || labels.insert(label.to_owned(), value).is_some() {
                return Err(wrong("a bad label, or one twice"));
            }
            rest = &after[closed + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').and_then(|number| number.parse().ok());
    Ok((name, labels, value.ok_or_else(|| wrong("no number"))?))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check(family: &Read) -> Result<(), String> {
    let Read { name, kind, unit, samples } = family;
    if unit.as_ref().is_some_and(|unit| !name.ends_with(&format!("_{unit}"))) {
        return Err(format!("{name} does not end with its unit"));
    }
    let suffixes: &[&str] = match kind.as_str() {
        "counter" => &["_total"],
        "gauge" => &[""],
        "histogram" => &["_bucket", "_sum", "_count"],
        other => return Err(format!("{name}: a type {other:?}")),
    };
    let mut seen = BTreeSet::new();
    for (suffix, labels, value) in samples {
        if !suffixes.contains(&suffix.as_str()) || !seen.insert((suffix, labels)) {
            return Err(format!("{name}{suffix}{labels:?} is not for it, or there twice"));
        }
        if kind != "gauge" && *value < 0.0 {
            return Err(format!("{name}{suffix} counts below zero"));
        }
    }
    if kind == "histogram" { check_histogram(family) } else { Ok(()) }
}

/// Classes grow, are counted together, and the last holds them all.
fn check_histogram(family: &Read) -> Result<(), String> {
    let mut last: Option<(BTreeMap<String, String>, f64, f64)> = None;
    for (suffix, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let end = labels.remove("le").map(|end| match end.as_str() {
            "+Inf" => f64::INFINITY,
            end => end.parse().unwrap_or(f64::NAN),
        });
        match (suffix.as_str(), end) {
            ("_bucket", Some(end)) => {
                let grows = last.as_ref().is_none_or(|(of, before, count)| {
                    *of != labels || (*before < end && count <= value)
                });
                if !grows || end.is_nan() {
                    return Err(format!("{}: a class out of order", family.name));
                }
                last = Some((labels, end, *value));
            }
            ("_count", None) if last != Some((labels.clone(), f64::INFINITY, *value)) => {
                return Err(format!("{}: the classes and the count differ", family.name));
            }
            ("_sum" | "_count", None) => {}
            _ => return Err(format!("{}: a class without an end", family.name)),
        }
    }
    Ok(())
}

#[test]
fn every_answer_is_valid() {
    for facts in [facts(), Facts::default()] {
        let families = read(&render(&facts, TextFormat::OpenMetrics)).unwrap();
        assert_eq!(families.len(), METRICS.len());
    }
    let families = read(&render(&facts(), TextFormat::OpenMetrics)).unwrap();
    for (family, metric) in families.iter().zip(METRICS) {
        let known: BTreeSet<&str> = metric.labels.iter().copied().chain(["le"]).collect();
        for (_, labels, _) in &family.samples {
            assert!(labels.keys().all(|label| known.contains(label.as_str())), "{labels:?}");
        }
    }
}

#[test]
fn what_is_invalid_is_found() {
    for (text, want) in [
        ("# TYPE a counter\na_total 1\n", "# EOF"),
        ("# TYPE a counter\na 1\n# EOF\n", "is not for it"),
        ("# TYPE a gauge\na 1\na 2\n# EOF\n", "there twice"),
        ("# TYPE a gauge\na{b=\"c} 2\n# EOF\n", "does not end"),
        ("# TYPE a gauge\n# UNIT a seconds\n# EOF\n", "its unit"),
        ("# TYPE a gauge\n# TYPE b gauge\n# TYPE a gauge\n# EOF\n", "second family"),
        ("# TYPE a counter\na_total -1\n# EOF\n", "below zero"),
        ("# TYPE a histogram\na_bucket{le=\"+Inf\"} 1\na_count 2\n# EOF\n", "differ"),
        (
            "# TYPE a histogram\na_bucket{le=\"2.0\"} 1\na_bucket{le=\"1.0\"} 1\n# EOF\n",
            "out of order",
        ),
        ("b 1\n# EOF\n", "before any family"),
    ] {
        let error = read(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}
