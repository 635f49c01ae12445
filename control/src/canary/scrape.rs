//! What a waypoint counted of two backends between two scrapes.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use super::statistics::Counted;

const REQUESTS: &str = "istio_requests_total";
const BUCKETS: &str = "istio_request_duration_milliseconds_bucket";

/// gRPC's statuses that are the server's fault, as OpenTelemetry has it.
const GRPC_FAULTS: [&str; 6] = ["2", "4", "12", "13", "14", "15"];

/// Which endpoints are meant, by labels of the metrics: `version=v2`, `workload=reviews-v2`, or a word that is either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector(Vec<(&'static str, String)>);

/// What a part of a selector is called, and the label it is about.
const KEYS: [(&str, &str); 6] = [
    ("version", "destination_version"),
    ("workload", "destination_workload"),
    ("namespace", "destination_workload_namespace"),
    ("app", "destination_app"),
    ("canonical-service", "destination_canonical_service"),
    ("principal", "destination_principal"),
];

/// The label of a word alone.
const EITHER: &str = "";

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            let keys = KEYS.map(|(key, _)| key).join(", ");
            format!(
                "{part:?} selects nothing: write a version or workload alone, or KEY=VALUE with one of {keys}"
            )
        };
        let read = |part: &str| match part.split_once('=') {
            _ if part.is_empty() => Err(wrong(part)),
            None => Ok((EITHER, part.to_owned())),
            Some((key, value)) => {
                let known = KEYS.iter().find(|(known, _)| *known == key);
                let (_, label) = known.filter(|_| !value.is_empty()).ok_or_else(|| wrong(part))?;
                Ok((*label, value.to_owned()))
            }
        };
        text.split(',').map(read).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (label, value)) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            match KEYS.iter().find(|(_, known)| known == label) {
                Some((key, _)) => write!(f, "{separator}{key}={value}")?,
                None => write!(f, "{separator}{value}")?,
            }
        }
        Ok(())
    }
}

impl Selector {
    fn selects(&self, labels: &Labels<'_>) -> bool {
        self.0.iter().all(|(label, value)| match *label {
            EITHER => {
                labels.is("destination_version", value) || labels.is("destination_workload", value)
            }
            label => labels.is(label, value),
        })
    }
}

/// The service whose requests are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    namespace: Option<String>,
    name: String,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if name.is_empty() || name.contains('/') || namespace.is_some_and(str::is_empty) {
            return Err(format!("{text:?} is neither a name nor namespace/name"));
        }
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }
}

impl Service {
    fn is_of(&self, labels: &Labels<'_>) -> bool {
        let namespace = self.namespace.as_ref();
        labels.is("destination_service_name", &self.name)
            && namespace.is_none_or(|one| labels.is("destination_service_namespace", one))
    }
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Only of this service.
    pub service: Option<Service>,
    /// The version that is known.
    pub baseline: Selector,
    /// The version that is tried.
    pub canary: Selector,
}

/// What was counted of one backend in a while.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    /// Requests that failed by the backend's fault, of those whose client waited for the end.
    pub failures: Counted,
    /// How long requests took: upper ends in milliseconds, growing, and how many were in each and in none before.
    pub buckets: Vec<(f64, u64)>,
}

impl Block {
    /// Adds another while.
    pub fn add(&mut self, other: &Self) {
        self.failures = self.failures.and(other.failures);
        for (upper, count) in &other.buckets {
            match self.buckets.iter_mut().find(|(known, _)| known == upper) {
                Some((_, sum)) => *sum += count,
                None => self.buckets.push((*upper, *count)),
            }
        }
        self.buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    }

    /// Those that took longer than this.
    pub fn slower_than(&self, milliseconds: f64) -> Counted {
        let sum = |fits: &dyn Fn(f64) -> bool| {
            self.buckets.iter().filter(|(upper, _)| fits(*upper)).map(|(_, count)| count).sum()
        };
        Counted { some: sum(&|upper| upper > milliseconds), all: sum(&|_| true) }
    }
}

/// A pair of selectors that both select this.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous(pub String);

/// The last scrape of one process. Counters that have begun anew count from 0, as in Prometheus.
#[derive(Debug, Default)]
pub struct Scraped(Option<HashMap<String, u64>>);

impl Scraped {
    /// What was counted since the last scrape: nothing the first time.
    ///
    /// # Errors
    /// When it is not clear whose a series is.
    pub fn advance(&mut self, text: &str, wanted: &Wanted) -> Result<[Block; 2], Ambiguous> {
        let mut blocks = [Block::default(), Block::default()];
        // Buckets come cumulative: what is in each is found when all of a label set are there.
        let mut cumulative: [Vec<(f64, u64)>; 2] = Default::default();
        let mut seen = HashMap::new();
        for line in text.lines() {
            let Some((series, name, labels, value)) = sample(line) else { continue };
            if !wanted.service.as_ref().is_none_or(|service| service.is_of(&labels)) {
                continue;
            }
            let whose = match (wanted.baseline.selects(&labels), wanted.canary.selects(&labels)) {
                (false, false) => continue,
                (true, true) => return Err(Ambiguous(series.to_owned())),
                (is_baseline, _) => usize::from(!is_baseline),
            };
            let before = match &self.0 {
                None => value,
                Some(known) => {
                    known.get(series).copied().filter(|known| *known <= value).unwrap_or(0)
                }
            };
            seen.insert(series.to_owned(), value);
            let since = value - before;
            if name == REQUESTS {
                count(&mut blocks[whose].failures, &labels, since);
            } else if let Some(upper) = labels.get("le").and_then(upper) {
                let all = &mut cumulative[whose];
                match all.iter_mut().find(|(known, _)| *known == upper) {
                    Some((_, sum)) => *sum += since,
                    None => all.push((upper, since)),
                }
            }
        }
        for (block, mut all) in blocks.iter_mut().zip(cumulative) {
            all.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let mut below = 0;
            for (upper, within) in all {
                block.buckets.push((upper, within.saturating_sub(below)));
                below = below.max(within);
            }
        }
        self.0 = Some(seen);
        Ok(blocks)
    }
}

fn count(failures: &mut Counted, labels: &Labels<'_>, requests: u64) {
    let code = labels.get("response_code").unwrap_or_default();
    let flags = labels.get("response_flags").unwrap_or_default();
    let is_gone = flags.split(',').any(|flag| flag == "DC");
    // Nobody waited for its end: how it would have ended is not known.
    if is_gone && code == "0" {
        return;
    }
    let grpc = labels.get("grpc_response_status").unwrap_or_default();
    let is_failure = code == "0" || code.starts_with('5') || GRPC_FAULTS.contains(&grpc);
    failures.all += requests;
    failures.some += if is_failure { requests } else { 0 };
}

fn upper(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

/// The labels of one sample, as they stand there.
struct Labels<'a>(Vec<(&'a str, &'a str)>);

impl Labels<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// A line of one of the two families: all but its value, its name, its labels, its value.
fn sample(line: &str) -> Option<(&str, &str, Labels<'_>, u64)> {
    let (name, rest) = line.split_once('{')?;
    if name != REQUESTS && name != BUCKETS {
        return None;
    }
    let (labels, rest) = labels(rest)?;
    let value = rest.trim().split(' ').next()?;
    // Counts are whole, whether or not they are written so.
    let value = value.parse::<f64>().ok().filter(|value| *value >= 0.0)? as u64;
    let series = line[..line.len() - rest.len()].trim_end();
    Some((series, name, labels, value))
}

/// Reads `a="b",c="d"}`, and returns what follows. Values with escapes stay as they are written: nothing that is looked for
/// has any.
fn labels(mut rest: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::with_capacity(32);
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(behind) = rest.strip_prefix('}') {
            return Some((Labels(labels), behind));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = behind.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        labels.push((name, &behind[..end]));
        rest = &behind[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(service: &str, baseline: &str, canary: &str) -> Wanted {
        Wanted {
            service: (!service.is_empty()).then(|| service.parse().unwrap()),
            baseline: baseline.parse().unwrap(),
            canary: canary.parse().unwrap(),
        }
    }

    fn requests(version: &str, code: &str, flags: &str, grpc: &str, count: u64) -> String {
        format!(
            "istio_requests_total{{reporter=\"waypoint\",destination_workload=\"web-{version}\",destination_version=\"{version}\",\
             destination_service_name=\"web\",destination_service_namespace=\"shop\",response_code=\"{code}\",\
             grpc_response_status=\"{grpc}\",response_flags=\"{flags}\"}} {count}\n"
        )
    }

    fn buckets(version: &str, counts: [u64; 3]) -> String {
        let line = |(le, count): (&str, u64)| {
            format!(
                "istio_request_duration_milliseconds_bucket{{destination_version=\"{version}\",odd=\"a\\\"}}b\",le=\"{le}\"}} {count}\n"
            )
        };
        ["1.0", "5.0", "+Inf"].into_iter().zip(counts).map(line).collect()
    }

    fn failures(blocks: &[Block; 2]) -> [(u64, u64); 2] {
        blocks.each_ref().map(|block| (block.failures.some, block.failures.all))
    }

    #[test]
    fn what_was_there_before_is_not_counted() {
        let mut scraped = Scraped::default();
        let wanted = wanted("shop/web", "v1", "v2");
        let first = requests("v1", "200", "-", "", 100) + &requests("v2", "503", "UC", "", 5);
        assert_eq!(failures(&scraped.advance(&first, &wanted).unwrap()), [(0, 0), (0, 0)]);
        let second = requests("v1", "200", "-", "", 110)
            + &requests("v2", "503", "UC", "", 6)
            + &requests("v2", "200", "-", "", 3);
        assert_eq!(failures(&scraped.advance(&second, &wanted).unwrap()), [(0, 10), (1, 4)]);
        // It was started again.
        let third = requests("v1", "200", "-", "", 2);
        assert_eq!(failures(&scraped.advance(&third, &wanted).unwrap()), [(0, 2), (0, 0)]);
    }

    #[test]
    fn failures_are_those_of_the_backend() {
        #[rustfmt::skip]
        let rows = [
            ("a success",               "200", "-",  "",   (0, 1)),
            ("what is not there",       "404", "-",  "",   (0, 1)),
            ("a failure",               "500", "-",  "",   (1, 1)),
            ("a timeout here",          "504", "UT", "",   (1, 1)),
            ("the client has left",     "0",   "DC", "",   (0, 0)),
            ("cut without an answer",   "0",   "UC", "",   (1, 1)),
            ("gRPC, all right",         "200", "-",  "0",  (0, 1)),
            ("gRPC, not found",         "200", "-",  "5",  (0, 1)),
            ("gRPC, not available",     "200", "-",  "14", (1, 1)),
        ];
        for (name, code, flags, grpc, want) in rows {
            let mut scraped = Scraped::default();
            let wanted = wanted("web", "v1", "v2");
            scraped.advance("", &wanted).unwrap();
            let blocks = scraped.advance(&requests("v1", code, flags, grpc, 1), &wanted).unwrap();
            assert_eq!(failures(&blocks)[0], want, "{name}");
        }
    }

    #[test]
    fn buckets_are_told_apart() {
        let mut scraped = Scraped::default();
        let wanted = wanted("", "version=v1", "version=v2");
        scraped.advance("", &wanted).unwrap();
        let text = buckets("v1", [2, 6, 7]) + &buckets("v2", [0, 0, 4]) + "garbage{ 3\n# HELP x\n";
        let [one, two] = scraped.advance(&text, &wanted).unwrap();
        assert_eq!(one.buckets, [(1.0, 2), (5.0, 4), (f64::INFINITY, 1)]);
        assert_eq!(one.slower_than(1.0), Counted { some: 5, all: 7 });
        assert_eq!(two.slower_than(5.0), Counted { some: 4, all: 4 });
        let mut sum = one.clone();
        sum.add(&two);
        assert_eq!(sum.buckets, [(1.0, 2), (5.0, 4), (f64::INFINITY, 5)]);
    }

    #[test]
    fn others_are_left_out_and_what_is_both_is_refused() {
        let text = requests("v1", "200", "-", "", 1) + &requests("v3", "200", "-", "", 1);
        let mut scraped = Scraped::default();
        let other = wanted("shop/other", "v1", "v3");
        scraped.advance("", &other).unwrap();
        assert_eq!(failures(&scraped.advance(&text, &other).unwrap()), [(0, 0), (0, 0)]);
        let both = wanted("", "v1", "workload=web-v1");
        let Ambiguous(series) = Scraped::default().advance(&text, &both).unwrap_err();
        assert!(series.contains("web-v1"), "{series}");
    }

    #[test]
    fn selectors_are_read_and_shown() {
        for text in ["v1", "workload=web-v1,namespace=shop", "version=v2"] {
            assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
        }
        for wrong in ["", "colour=red", "version=", "v1,"] {
            let error = wrong.parse::<Selector>().unwrap_err();
            assert!(error.contains("KEY=VALUE"), "{wrong}: {error}");
        }
        for wrong in ["", "a/b/c", "/b", "a/"] {
            assert!(wrong.parse::<Service>().is_err(), "{wrong}");
        }
    }
}
