//! Takes from the objects of a cluster those that Ringway reads, without what only the cluster needs to know.
//!
//! What is kept is read as any configuration is, so that every mistake in it is told with its place. What is left out is
//! counted by its reason. A Secret is never kept: its kind is none of ours.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json};

use super::kinds::{is_known, is_of_known_group};
use super::kubernetes::{ANNOTATIONS, IGNORED};
use super::mesh::MeshConfig;
use super::yaml::value::{Content, Key, Meaning, Scalar, Value};

/// Names that are told of those that are left out for one reason.
const NAMES_MAX: usize = 8;

/// Decides, and remembers.
#[derive(Default)]
pub(crate) struct Sift {
    kept: Vec<Kept>,
    left_out: BTreeMap<LeftOut, Count>,
}

/// An object that is kept, as a line of JSON.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) kind: Box<str>,
    pub(crate) line: Box<str>,
}

/// Why something is left out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOut {
    /// Ringway reads no such kind.
    Kind {
        /// As the object says.
        kind: String,
        /// As the object says.
        version: String,
    },
    /// A Pod that has ended or not begun.
    EndedPod,
    /// A Service that is an alias.
    ExternalName,
    /// All its endpoints are Pods, or it has none.
    SliceOfPods,
    /// Of a ServiceEntry whose hosts only a request names.
    Resolution(String),
    /// A document that is no object.
    NoObject,
    /// A file with nothing in it.
    EmptyFile,
}

/// How many, and the first of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) times: usize,
    pub(crate) names: Vec<String>,
}

/// What came of it.
pub(crate) struct Sifted {
    /// What the kept objects mean.
    pub(crate) mesh: MeshConfig,
    /// In the order of files and documents.
    pub(crate) kept: Vec<Kept>,
    pub(crate) left_out: BTreeMap<LeftOut, Count>,
}

impl Sift {
    /// The object without what nobody reads, if it is one to be read.
    pub(super) fn take(&mut self, value: &Value) -> Option<Value> {
        let (Some(version), Some(kind)) = (text_of(value, "apiVersion"), text_of(value, "kind"))
        else {
            // One of the two alone was meant as an object, and is told as a mistake.
            let is_object = value.get("apiVersion").is_some() || value.get("kind").is_some();
            return if is_object { Some(value.clone()) } else { self.leave(LeftOut::NoObject, "") };
        };
        let name = full_name(value);
        // An object that says little to a proxy says nothing to a replay; and keys are not copied.
        if matches!(
            kind,
            "ServiceAccount"
                | "Secret"
                | "ConfigMap"
                | "DestinationRule"
                | "XBackendTrafficPolicy"
                | "MeshConfig"
        ) || !(is_known(version, kind) || is_of_known_group(version, kind))
        {
            let (kind, version) = (kind.to_owned(), version.to_owned());
            return self.leave(LeftOut::Kind { kind, version }, &name);
        }
        let spec = value.get("spec");
        let resolution = spec.and_then(|spec| text_of(spec, "resolution")).unwrap_or("NONE");
        if kind == "ServiceEntry" && resolution == "DYNAMIC_DNS" {
            return self.leave(LeftOut::Resolution(resolution.to_owned()), &name);
        }
        Some(trimmed(kind, value))
    }

    /// It was understood; `adds` tells whether any workload or service came of it.
    pub(super) fn keep(&mut self, value: &Value, adds: bool) {
        let kind = text_of(value, "kind").unwrap_or_default();
        let nothing = match kind {
            "Pod" => Some(LeftOut::EndedPod),
            "Service" => Some(LeftOut::ExternalName),
            "EndpointSlice" => Some(LeftOut::SliceOfPods),
            _ => None,
        };
        match nothing.filter(|_| !adds) {
            Some(why) => {
                self.leave::<()>(why, &full_name(value));
            }
            None => {
                let line = json(value).to_string().into();
                self.kept.push(Kept { kind: kind.into(), line });
            }
        }
    }

    /// A document that is no mapping.
    pub(super) fn no_object(&mut self) {
        self.leave::<()>(LeftOut::NoObject, "");
    }

    /// A file has ended.
    pub(super) fn end_of_file(&mut self, found: bool) {
        if !found {
            self.leave::<()>(LeftOut::EmptyFile, "");
        }
    }

    pub(super) fn finish(self, mesh: MeshConfig) -> Sifted {
        Sifted { mesh, kept: self.kept, left_out: self.left_out }
    }

    fn leave<T>(&mut self, why: LeftOut, name: &str) -> Option<T> {
        let count = self.left_out.entry(why).or_default();
        count.times += 1;
        if !name.is_empty() && count.names.len() < NAMES_MAX {
            count.names.push(name.to_owned());
        }
        None
    }
}

fn text_of<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.text()
}

fn full_name(value: &Value) -> String {
    let metadata = value.get("metadata");
    let part = |key| metadata.and_then(|metadata| text_of(metadata, key));
    match (part("namespace"), part("name")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (None, Some(name)) => name.to_owned(),
        (_, None) => String::new(),
    }
}

/// Parts of a Pod that are read. All others are its cluster's, and change with the cluster's version.
const POD: &[&str] =
    &["serviceAccountName", "nodeName", "hostNetwork", "containers", "initContainers"];
const CONTAINER: &[&str] = &["name", "ports"];
const POD_STATUS: &[&str] = &["podIP", "podIPs", "phase", "conditions"];
const CONDITION: &[&str] = &["type", "status"];

fn trimmed(kind: &str, value: &Value) -> Value {
    let edited = edit(value, |key, value| match key {
        "metadata" => Some(metadata(kind, value)),
        "spec" if kind == "Pod" => Some(edit(value, |key, value| {
            let part = only(POD, key, value)?;
            Some(if key.ends_with("ontainers") { each(&part, CONTAINER) } else { part })
        })),
        "status" if kind == "Pod" => Some(edit(value, |key, value| {
            let part = only(POD_STATUS, key, value)?;
            Some(if key == "conditions" { ready_only(&part) } else { part })
        })),
        "status" if kind == "ServiceEntry" => {
            Some(edit(value, |key, value| only(&["addresses"], key, value)))
        }
        // Where a waypoint is reached.
        "status" if kind == "Gateway" => Some(value.clone()),
        "status" => None,
        _ => Some(value.clone()),
    });
    without_empty(edited)
}

/// What the cluster's server notes, and annotations that nobody looks at, go; what is unknown stays and is told.
fn metadata(kind: &str, value: &Value) -> Value {
    edit(value, |key, value| match key {
        // Of two routes the older one goes first.
        "creationTimestamp" | "generation" if kind != "Pod" => Some(value.clone()),
        _ if IGNORED.contains(&key) => None,
        "annotations" => Some(edit(value, |key, value| only(ANNOTATIONS, key, value))),
        "ownerReferences" => Some(each(value, &["kind", "name", "controller"])),
        _ => Some(value.clone()),
    })
}

/// A copy of a mapping with other values; anything else stays as it is, for its reader to judge.
fn edit(value: &Value, change: impl Fn(&str, &Value) -> Option<Value>) -> Value {
    let Content::Mapping(entries) = &value.content else { return value.clone() };
    let entries = entries.iter().filter_map(|(key, value)| {
        Some((Key { place: key.place, text: key.text.clone() }, change(&key.text, value)?))
    });
    Value { content: Content::Mapping(entries.collect()), ..hull(value) }
}

fn only(keys: &[&str], key: &str, value: &Value) -> Option<Value> {
    keys.contains(&key).then(|| value.clone())
}

/// The elements of a list, with these keys only.
fn each(value: &Value, keys: &[&str]) -> Value {
    let Content::Sequence(elements) = &value.content else { return value.clone() };
    let elements = elements.iter().map(|one| edit(one, |key, value| only(keys, key, value)));
    Value { content: Content::Sequence(elements.collect()), ..hull(value) }
}

fn ready_only(value: &Value) -> Value {
    let conditions = each(value, CONDITION);
    let Content::Sequence(elements) = conditions.content else { return conditions };
    let ready = elements.into_iter().filter(|one| text_of(one, "type") == Some("Ready"));
    Value { content: Content::Sequence(ready.collect()), ..hull(value) }
}

/// Without mappings of which nothing is left.
fn without_empty(value: Value) -> Value {
    let is_empty = |value: &Value| value.entries().is_some_and(<[_]>::is_empty);
    let edited = edit(&value, |key, value| match key {
        "metadata" => Some(edit(value, |_, value| (!is_empty(value)).then(|| value.clone()))),
        _ => Some(value.clone()),
    });
    Value { tag: value.tag, ..edited }
}

fn hull(value: &Value) -> Value {
    Value { place: value.place, tag: value.tag.clone(), content: Content::Mapping(Vec::new()) }
}

/// The same value as JSON.
fn json(value: &Value) -> Json {
    match &value.content {
        Content::Mapping(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.text.to_string(), json(value)));
            Json::Object(entries.collect::<Map<_, _>>())
        }
        Content::Sequence(elements) => Json::Array(elements.iter().map(json).collect()),
        Content::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Json::Null,
            Meaning::Boolean => Json::Bool(scalar.text.eq_ignore_ascii_case("true")),
            Meaning::Number => number(scalar),
            Meaning::Text => Json::String(scalar.text.to_string()),
        },
    }
}

/// Where a number is wanted it is a whole one; what JSON cannot say is nothing that was read.
fn number(scalar: &Scalar) -> Json {
    let text = &*scalar.text;
    let whole = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(digits), _) => i64::from_str_radix(digits, 16).ok(),
        (_, Some(digits)) => i64::from_str_radix(digits, 8).ok(),
        _ => text.strip_prefix('+').unwrap_or(text).parse().ok(),
    };
    match whole {
        Some(whole) => Json::Number(whole.into()),
        None => text.parse().ok().and_then(Number::from_f64).map_or(Json::Null, Json::Number),
    }
}
