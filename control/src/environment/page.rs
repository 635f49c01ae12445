//! `docs/environment.md`, made from the table.

use std::fmt::Write as _;

use super::table::GROUPS;

const HEAD: &str = "# The environment of `ringway proxy ztunnel`

In ztunnel's place Ringway is told what ztunnel is told: by variables, and by the mesh's file. Names, defaults and forms
are the same, so nothing but the image changes. This page is made from `control/src/environment/table.rs`; a test keeps
it so, and another that no other variable is read.

`ringway proxy ztunnel --print-config` prints every setting with its value and where it came from, and starts nothing.

* A value that is not understood stops the start, except of `LOG_FORMAT`; every such value is told at once.
* A variable that begins with `RINGWAY_` or `ZTUNNEL_` and is not read here is told as a warning, because it may be misspelt; not those that Kubernetes sets
  for Services of such names. Others that are not named here are not looked at.
* Booleans are `true` and `false`. Durations have units: `90s`, `1m30s`, `500ms`, `24h`.
* An empty variable is the same as one that is not set, except `XDS_ADDRESS`.

";

const TAIL: &str = "## The mesh's file and `PROXY_CONFIG`

`./etc/istio/config/mesh`, from the working directory, may be there: a MeshConfig, of which `defaultConfig` is read.
`PROXY_CONFIG` is the same without that key around it, and wins, field by field; variables win over both.

| field | default | the variable that wins over it |
|---|---|---|
| `discoveryAddress` | | `XDS_ADDRESS` |
| `proxyAdminPort` | 15000 | |
| `statsPort` | 15020 | |
| `concurrency` | | `ZTUNNEL_WORKER_THREADS` |
| `proxyMetadata` | | `ISTIO_META_*`; its own keys may have that prefix, too |

Other fields are not looked at.

## How many threads

The first of these that is set: `ZTUNNEL_WORKER_THREADS`; `concurrency`; `ZTUNNEL_RESOURCE_CPU_LIMIT`, or the request
where that is more. Otherwise a quarter of the CPUs, rounded up, but no fewer than the CPU request and no fewer than two.
";

/// The page.
pub fn documentation() -> String {
    let mut text = HEAD.to_owned();
    for (title, variables) in GROUPS {
        let _ = writeln!(text, "## {title}\n\n| variable | default | meaning |\n|---|---|---|");
        for variable in *variables {
            let default = match variable.default {
                "" => String::new(),
                default if default.contains([' ', '`']) => default.to_owned(),
                default => format!("`{default}`"),
            };
            let _ = writeln!(text, "| `{}` | {default} | {} |", variable.name, variable.meaning);
        }
        text.push('\n');
    }
    text.push_str(TAIL);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test -p ringway-control environment` writes it.
    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/environment.md");
        let want = documentation();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &want).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == want,
            "{path} is not up to date: UPDATE=1 cargo test -p ringway-control environment"
        );
    }
}
