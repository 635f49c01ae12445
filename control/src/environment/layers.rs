//! The mesh's file, `PROXY_CONFIG` above it, and variables above both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::proxy_config::ProxyConfig;
use super::reader::{Origin, Reader};

/// The two places of `ProxyConfig`s, and which of them says what.
pub(super) struct Layers {
    mesh_file: PathBuf,
    mesh: ProxyConfig,
    variable: ProxyConfig,
}

impl Layers {
    pub(super) fn read(reader: &mut Reader, mesh_file: &Path) -> Self {
        let mesh = ProxyConfig::of_mesh_file(mesh_file).unwrap_or_else(|diagnostics| {
            reader.mistake(&mesh_file.display().to_string(), diagnostics.to_string());
            ProxyConfig::default()
        });
        let text = reader.text("PROXY_CONFIG").unwrap_or_default();
        let variable = ProxyConfig::of_text(&text).unwrap_or_else(|diagnostics| {
            reader.mistake("PROXY_CONFIG", diagnostics.to_string());
            ProxyConfig::default()
        });
        Self { mesh_file: mesh_file.to_owned(), mesh, variable }
    }

    /// What the upper of the two says, and which that is.
    pub(super) fn find<T>(&self, of: impl Fn(&ProxyConfig) -> Option<T>) -> Option<(T, Origin)> {
        let variable = of(&self.variable).map(|value| (value, Origin::ProxyConfig));
        variable.or_else(|| Some((of(&self.mesh)?, Origin::File(self.mesh_file.clone()))))
    }

    /// A port, with its default; noted under `name`.
    pub(super) fn port(
        &self,
        reader: &mut Reader,
        name: &str,
        default: u16,
        of: impl Fn(&ProxyConfig) -> Option<u16>,
    ) -> u16 {
        let (port, origin) = self.find(of).unwrap_or((default, Origin::Default));
        reader.note(name, port.to_string(), origin);
        port
    }
}

/// Everything that is told of this node beside what we know: files, then texts, then JSON; later ones win.
pub(super) fn metadata(reader: &mut Reader, files: &Layers) -> Map<String, Value> {
    let mut all: BTreeMap<String, (Value, Origin)> = BTreeMap::new();
    let file = Origin::File(files.mesh_file.clone());
    for (layer, origin) in [(&files.mesh, file), (&files.variable, Origin::ProxyConfig)] {
        let entries = layer.metadata.iter();
        all.extend(
            entries.map(|(key, text)| (key.clone(), (Value::String(text.clone()), origin.clone()))),
        );
    }
    for (key, text) in reader.family("ISTIO_META_") {
        let origin = Origin::Variable(format!("ISTIO_META_{key}"));
        all.insert(key, (Value::String(text), origin));
    }
    for (key, text) in reader.family("ISTIO_METAJSON_") {
        let name = format!("ISTIO_METAJSON_{key}");
        match serde_json::from_str(&text) {
            Ok(value) => drop(all.insert(key, (value, Origin::Variable(name)))),
            Err(error) => reader.wrong(&name, &text, &format!("JSON ({error})")),
        }
    }
    for (key, (value, origin)) in &all {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        reader.note(&format!("metadata.{key}"), shown, origin.clone());
    }
    all.into_iter().map(|(key, (value, _))| (key, value)).collect()
}
