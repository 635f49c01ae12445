//! The parts of a `ProxyConfig` that concern a node proxy: from the mesh's file, and from `PROXY_CONFIG` above it.
//!
//! Whatever else stands there is for others, and not looked at.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source::diagnostics::{Problem, Reporter};
use crate::source::yaml::fields::expected;
use crate::source::yaml::reader::Reader as YamlReader;
use crate::source::yaml::scalars;
use crate::source::yaml::text::Files;
use crate::source::yaml::value::Value;
use crate::source::{Diagnostics, Source};

use super::threads::THREADS_MAX;
use super::values::Form;
use crate::grpc::Address;

/// What one of them says; everything may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProxyConfig {
    /// Where the mesh is described; empty: nowhere.
    pub(super) discovery_address: Option<String>,
    /// The port of the admin server.
    pub(super) admin_port: Option<u16>,
    /// The port of the metrics.
    pub(super) stats_port: Option<u16>,
    /// Threads; 0: one on each CPU.
    pub(super) concurrency: Option<usize>,
    /// Metadata of the node, with its keys as they are told.
    pub(super) metadata: BTreeMap<String, String>,
}

impl ProxyConfig {
    /// `defaultConfig` of a mesh's file. A file that is not there says nothing.
    pub(super) fn of_mesh_file(path: &Path) -> Result<Self, Diagnostics> {
        if !path.exists() {
            return Ok(Self::default());
        }
        read(&Source::Path(path.to_owned()), |value, reporter| {
            if value.entries().is_none() {
                expected("a mapping", value, reporter);
            }
            value.get("defaultConfig").map(|inner| Self::of(inner, reporter))
        })
    }

    /// The text of `PROXY_CONFIG`.
    pub(super) fn of_text(text: &str) -> Result<Self, Diagnostics> {
        let source = Source::Text { name: "PROXY_CONFIG".to_owned(), text: text.to_owned() };
        read(&source, |value, reporter| Some(Self::of(value, reporter)))
    }

    fn of(value: &Value, reporter: &mut Reporter) -> Self {
        if value.is_null() {
            return Self::default();
        }
        if value.entries().is_none() {
            expected("a mapping", value, reporter);
            return Self::default();
        }
        let given = |key: &str| value.get(key).filter(|value| !value.is_null());
        Self {
            discovery_address: given("discoveryAddress").and_then(|value| address(value, reporter)),
            admin_port: given("proxyAdminPort").and_then(|value| scalars::port(value, reporter)),
            stats_port: given("statsPort").and_then(|value| scalars::port(value, reporter)),
            concurrency: given("concurrency").and_then(|value| threads(value, reporter)),
            metadata: given("proxyMetadata")
                .map(|value| metadata(value, reporter))
                .unwrap_or_default(),
        }
    }
}

/// The first document of a source; an empty one says nothing.
fn read(
    source: &Source,
    of: impl FnOnce(&Value, &mut Reporter) -> Option<ProxyConfig>,
) -> Result<ProxyConfig, Diagnostics> {
    let files = Files::find(std::slice::from_ref(source));
    let mut reporter = Reporter::default();
    let mut config = None;
    if let Some(file) = files.ids().next() {
        match files.characters(file) {
            Ok(characters) => {
                let mut yaml = YamlReader::new(file, characters);
                if yaml.next_document(&mut reporter)
                    && let Ok(value) = yaml.value(&mut reporter)
                    && !value.is_null()
                {
                    config = of(&value, &mut reporter);
                }
            }
            Err(message) => {
                let place = crate::source::diagnostics::Place::whole(file);
                reporter.report(Problem::error(place, message));
            }
        }
    }
    let failed = reporter.has_errors();
    let diagnostics = reporter.finish(&files);
    if failed { Err(diagnostics) } else { Ok(config.unwrap_or_default()) }
}

fn address(value: &Value, reporter: &mut Reporter) -> Option<String> {
    let text = scalars::text(value, reporter)?;
    if text.is_empty() {
        return Some(String::new());
    }
    let address = Address::parse(text);
    if address.is_none() {
        expected(Address::EXPECTED, value, reporter);
    }
    address.map(|address| address.to_string())
}

fn threads(value: &Value, reporter: &mut Reporter) -> Option<usize> {
    scalars::integer(0..=THREADS_MAX as u64)(value, reporter).map(|count| count as usize)
}

/// Texts by name; numbers and booleans are meant as text here.
fn metadata(value: &Value, reporter: &mut Reporter) -> BTreeMap<String, String> {
    let Some(entries) = value.entries() else {
        expected("a mapping", value, reporter);
        return BTreeMap::new();
    };
    let mut metadata = BTreeMap::new();
    for (key, value) in entries {
        match value.text() {
            Some(text) => {
                let name = key.text.strip_prefix("ISTIO_META_").unwrap_or(&key.text);
                metadata.insert(name.to_owned(), text.to_owned());
            }
            None => expected("text", value, reporter),
        }
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_us_is_read_and_the_rest_is_not() {
        let config = ProxyConfig::of_text(
            "discoveryAddress: istiod:15012\nproxyAdminPort: 16000\nstatsPort: 16020\nconcurrency: 0\n\
             tracing: {zipkin: {address: x}}\nproxyMetadata:\n  ISTIO_META_DNS_CAPTURE: \"false\"\n  A: 1\n",
        )
        .unwrap();
        assert_eq!(config.discovery_address.as_deref(), Some("https://istiod:15012"));
        assert_eq!((config.admin_port, config.stats_port), (Some(16000), Some(16020)));
        assert_eq!(config.concurrency, Some(0));
        let metadata: Vec<_> = config.metadata.into_iter().collect();
        assert_eq!(metadata, [("A".into(), "1".into()), ("DNS_CAPTURE".into(), "false".into())]);
    }

    #[test]
    fn nothing_said_is_nothing() {
        for text in ["", "{}", "null", "# only a comment\n", "discoveryAddress:\n"] {
            assert_eq!(ProxyConfig::of_text(text).unwrap(), ProxyConfig::default(), "{text:?}");
        }
        let absent = ProxyConfig::of_mesh_file(Path::new("/no/such/file"));
        assert_eq!(absent.unwrap(), ProxyConfig::default());
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, want) in [
            ("statsPort: 0", "PROXY_CONFIG:1:12"),
            ("concurrency: -1", "a whole number from 0"),
            ("discoveryAddress: ftp://x", "expected an address"),
            ("[1]", "expected a mapping"),
            ("proxyMetadata: [1]", "expected a mapping"),
            ("proxyMetadata: {A: [1]}", "expected text"),
            ("a: b: c", "not YAML"),
        ] {
            let error = ProxyConfig::of_text(text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn a_mesh_file_is_asked_for_its_default() {
        let home = tempfile::TempDir::new().unwrap();
        let file = home.path().join("mesh");
        std::fs::write(&file, "accessLogFile: /dev/stdout\ndefaultConfig:\n  concurrency: 2\n")
            .unwrap();
        assert_eq!(ProxyConfig::of_mesh_file(&file).unwrap().concurrency, Some(2));
        std::fs::write(&file, "accessLogFile: /dev/stdout\n").unwrap();
        assert_eq!(ProxyConfig::of_mesh_file(&file).unwrap(), ProxyConfig::default());
        std::fs::write(&file, "defaultConfig: {concurrency: many}\n").unwrap();
        let error = ProxyConfig::of_mesh_file(&file).unwrap_err().to_string();
        assert!(error.contains("mesh:1:"), "{error}");
    }
}
