//! What a proxy tells: metrics and access records.

use std::collections::BTreeMap;

/// A scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    pub(crate) fn parse(text: &str) -> Metrics {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(|line| {
                let (name, labels, value) = match line.split_once('{') {
                    Some((name, rest)) => {
                        let (labels, value) = rest.rsplit_once('}').expect("closed braces");
                        (name, fields(labels, ','), value)
                    }
                    None => {
                        let (name, value) = line.split_once(' ').expect("a value");
                        (name, BTreeMap::new(), value)
                    }
                };
                (name.to_owned(), labels, value.trim().parse().expect("a number"))
            })
            .collect();
        Metrics(samples)
    }

    /// The sum of all series of this name that have all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(_, _, value)| value).sum()
    }

    /// The labels of the only series of this name that has all these labels.
    pub(crate) fn labels(&self, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all: Vec<_> = self.matching(name, labels).collect();
        assert_eq!(all.len(), 1, "series of {name} with {labels:?}: {all:#?}");
        all[0].1.clone()
    }

    fn matching<'m>(
        &'m self,
        name: &'m str,
        labels: &'m [(&str, &str)],
    ) -> impl Iterator<Item = &'m (String, BTreeMap<String, String>, f64)> {
        self.0.iter().filter(move |(own, has, _)| {
            own == name
                && labels.iter().all(|(key, value)| has.get(*key).is_some_and(|own| own == value))
        })
    }
}

/// One line of the access log.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) level: String,
    pub(crate) message: String,
    pub(crate) fields: BTreeMap<String, String>,
}

impl Record {
    /// All access records in a log, oldest first.
    pub(crate) fn all(log: &str) -> Vec<Record> {
        log.lines().filter_map(Record::parse).collect()
    }

    /// A field; empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// `<time>\t<level>\t<scope>\t<message>\t<fields>`
    fn parse(line: &str) -> Option<Record> {
        let mut columns = line.split('\t');
        let (_time, level, scope) = (columns.next()?, columns.next()?, columns.next()?);
        let message = columns.next()?;
        if scope.trim() != "access" {
            return None;
        }
        let rest: Vec<&str> = columns.collect();
        Some(Record {
            level: level.trim().to_owned(),
            message: message.trim().to_owned(),
            fields: fields(&rest.join("\t"), ' '),
        })
    }
}

/// `key=value` or `key="quoted \"value\""`, separated by `separator`.
fn fields(text: &str, separator: char) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = text.trim();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let mut value = String::new();
                let mut characters = quoted.char_indices();
                let mut end = quoted.len();
                while let Some((at, character)) = characters.next() {
                    match character {
                        '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
                        '"' => {
                            end = at + 1;
                            break;
                        }
                        _ => value.push(character),
                    }
                }
                (value, &quoted[end..])
            }
            None => {
                let end = after.find(separator).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        fields.insert(key.trim().to_owned(), value);
        rest = after.trim_start_matches([separator, ' ']);
    }
    fields
}

#[test]
fn quoted_fields_may_hold_separators() {
    let record = Record::parse(
        "2026-01-01T00:00:00.000000Z\terror\taccess\tconnection complete\tsrc.addr=1.2.3.4:5 \
         error=\"no \\\"way\\\", x=y\" direction=\"outbound\" duration=\"3ms\"",
    );
    let record = record.unwrap();
    assert_eq!(record.get("error"), "no \"way\", x=y");
    assert_eq!((record.get("direction"), record.get("src.addr")), ("outbound", "1.2.3.4:5"));
    let metrics = Metrics::parse("# HELP a b\na_total{x=\"1,2\",y=\"}\"} 3\na_total{x=\"2\"} 4\n");
    assert_eq!(metrics.sum("a_total", &[]), 7.0);
    assert_eq!(metrics.sum("a_total", &[("x", "1,2")]), 3.0);
}
