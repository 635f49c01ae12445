//! `Secret` and `ConfigMap`: certificates and keys for listeners and backends.
//!
//! Their text may stand in the document, as in a cluster; or an annotation names a file for each key, so that a private
//! key stays where it is kept.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::source::context::Context;
use crate::source::diagnostics::{Place, Problem, Reporter};
use crate::source::kubernetes::metadata;
use crate::source::yaml::fields::mapping;
use crate::source::yaml::scalars::nonempty;
use crate::source::yaml::value::{Value, shortened};

/// `ringway.dev/file.tls.key: /etc/keys/tls.key`: what the key `tls.key` is, relative to the document's directory.
const FILE: &str = "ringway.dev/file.";

/// Bytes of a file that is named; Kubernetes stores objects up to 1 MiB.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A Secret or ConfigMap.
pub(crate) struct SecretObject {
    /// Of the name.
    pub(crate) place: Place,
    /// `Secret` or `ConfigMap`.
    pub(crate) kind: &'static str,
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    /// By key.
    pub(crate) data: BTreeMap<Box<str>, Arc<[u8]>>,
}

pub(super) fn secret(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<SecretObject> {
    mapping("Secret", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "immutable", "type"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let mut data = BTreeMap::new();
        let place = fields.place("metadata");
        fields.optional("data", |value, reporter| {
            entries("data", value, (place, decoded), &mut data, reporter)
        });
        fields.optional("stringData", |value, reporter| {
            entries("stringData", value, (place, plain), &mut data, reporter)
        });
        files(value, directory, &mut data, fields.reporter);
        let metadata = metadata?;
        let (place, namespace, name) = (metadata.place, metadata.namespace, metadata.name);
        Some(SecretObject { place, kind: "Secret", namespace, name, data })
    })?
}

pub(super) fn config_map(
    value: &Value,
    directory: &Path,
    context: &mut Context,
    reporter: &mut Reporter,
) -> Option<SecretObject> {
    mapping("ConfigMap", value, reporter, |fields| {
        fields.ignore(&["apiVersion", "kind", "immutable"]);
        let metadata =
            fields.required("metadata", |value, reporter| metadata(value, context, reporter));
        let mut data = BTreeMap::new();
        let place = fields.place("metadata");
        fields.optional("data", |value, reporter| {
            entries("data", value, (place, plain), &mut data, reporter)
        });
        fields.optional("binaryData", |value, reporter| {
            entries("binaryData", value, (place, decoded), &mut data, reporter)
        });
        files(value, directory, &mut data, fields.reporter);
        let metadata = metadata?;
        let (place, namespace, name) = (metadata.place, metadata.namespace, metadata.name);
        Some(SecretObject { place, kind: "ConfigMap", namespace, name, data })
    })?
}

type Data = BTreeMap<Box<str>, Arc<[u8]>>;

/// What reads a value, and where to tell that it is wrong: its own line may be a secret.
type Read = (Place, fn(&str) -> Result<Arc<[u8]>, &'static str>);

fn entries(
    what: &'static str,
    value: &Value,
    (place, read): Read,
    data: &mut Data,
    reporter: &mut Reporter,
) -> Option<()> {
    let Some(entries) = value.entries() else {
        let message = format!("`{what}` is not a mapping");
        reporter.report(Problem::error(place, message));
        return None;
    };
    for (key, value) in entries {
        match value.text().ok_or("is not text").and_then(read) {
            Ok(bytes) => {
                data.insert(key.text.clone(), bytes);
            }
            Err(fault) => {
                let message = format!("`{}` under `{what}` {fault}", key.text);
                reporter.report(Problem::error(place, message));
            }
        }
    }
    Some(())
}

fn plain(text: &str) -> Result<Arc<[u8]>, &'static str> {
    Ok(text.as_bytes().into())
}

fn decoded(text: &str) -> Result<Arc<[u8]>, &'static str> {
    let compact: String = text.split_whitespace().collect();
    STANDARD
        .decode(compact)
        .map(Arc::from)
        .map_err(|_| "is not base64; text as it is belongs under `stringData`")
}

/// The files that annotations name.
fn files(object: &Value, directory: &Path, data: &mut Data, reporter: &mut Reporter) {
    let annotations = object.get("metadata").and_then(|metadata| metadata.get("annotations"));
    for (key, value) in annotations.and_then(Value::entries).unwrap_or_default() {
        let Some(key) = key.text.strip_prefix(FILE) else { continue };
        let Some(path) = nonempty(value, reporter) else { continue };
        let path = directory.join(path);
        match read(&path) {
            Ok(bytes) => {
                data.insert(key.into(), bytes.into());
            }
            Err(reason) => {
                let message = format!("{}: {reason}", shortened(&path.display().to_string()));
                reporter.report(Problem::error(value.place, message));
            }
        }
    }
}

/// What a file holds that a document names.
///
/// # Errors
/// Why it cannot be read, as what follows its name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!(
            "a file of certificates, a key or lists has at most {FILE_BYTES_MAX} bytes, this has {size}"
        ));
    }
    fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}
