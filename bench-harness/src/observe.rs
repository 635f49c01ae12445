//! What a proxy tells: metrics as Prometheus reads them, and records of the access log.

use std::collections::BTreeMap;

/// A scrape.
#[derive(Clone, Debug)]
pub struct Metrics(Vec<Sample>);

/// One value of a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name of the metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The value.
    pub value: f64,
}

impl Metrics {
    /// Reads the text format. What is no sample is left out.
    pub fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (name, labels, value) = match line.split_once('{') {
                Some((name, rest)) => {
                    let (labels, value) = rest.rsplit_once('}')?;
                    (name, fields(labels, ','), value)
                }
                None => {
                    let (name, value) = line.split_once(' ')?;
                    (name, BTreeMap::new(), value)
                }
            };
            let value = value.split_whitespace().next()?.parse().ok()?;
            Some(Sample { name: name.to_owned(), labels, value })
        });
        Metrics(samples.collect())
    }

    /// All samples of this name that have all these labels.
    pub fn samples<'m>(
        &'m self,
        name: &'m str,
        labels: &'m [(&str, &str)],
    ) -> impl Iterator<Item = &'m Sample> {
        self.0.iter().filter(move |sample| {
            let has = |(key, value): &(&str, &str)| {
                sample.labels.get(*key).is_some_and(|own| own == value)
            };
            sample.name == name && labels.iter().all(has)
        })
    }

    /// The sum of all samples of this name that have all these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples(name, labels).map(|sample| sample.value).sum()
    }

    /// The labels of the only sample of this name that has all these labels.
    ///
    /// # Panics
    /// When there is none, or more than one: it is for tests.
    pub fn labels(&self, name: &str, labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let all: Vec<_> = self.samples(name, labels).collect();
        assert_eq!(all.len(), 1, "series of {name} with {labels:?}: {all:#?}");
        all[0].labels.clone()
    }
}

/// One line of the access log.
#[derive(Clone, Debug)]
pub struct Record {
    /// `info` or `error`.
    pub level: String,
    /// `connection complete` and the like.
    pub message: String,
    /// `src.addr` and the like.
    pub fields: BTreeMap<String, String>,
}

impl Record {
    /// All access records in a log, oldest first.
    pub fn all(log: &str) -> Vec<Record> {
        log.lines().filter_map(Record::parse).collect()
    }

    /// A field; empty if it is not there.
    pub fn get(&self, name: &str) -> &str {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_may_hold_separators() {
        let record = Record::parse(
            "2026-01-01T00:00:00.000000Z\terror\taccess\tconnection complete\tsrc.addr=1.2.3.4:5 \
             error=\"no \\\"way\\\", x=y\" direction=\"outbound\" duration=\"3ms\"",
        );
        let record = record.unwrap();
        assert_eq!(record.get("error"), "no \"way\", x=y");
        assert_eq!((record.get("direction"), record.get("src.addr")), ("outbound", "1.2.3.4:5"));
        let metrics =
            Metrics::parse("# HELP a b\na_total{x=\"1,2\",y=\"}\"} 3\na_total{x=\"2\"} 4\n");
        assert_eq!(metrics.sum("a_total", &[]), 7.0);
        assert_eq!(metrics.sum("a_total", &[("x", "1,2")]), 3.0);
    }
}
