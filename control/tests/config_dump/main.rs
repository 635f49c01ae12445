//! A dump of a world that has everything, recorded in `config_dump.json` and checked against what its readers decode.
//!
//! `UPDATE=1 cargo test -p ringway-control --test config_dump` records it anew. What differs with every certificate is
//! not compared: texts of certificates, serial numbers and times; nor are the settings.

mod shape;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::SystemTime;

use ringway_control::admin::config_dump::{
    Connections, DumpInput, VersionInfo, WorkloadInfo, WorkloadState, render, static_config,
};
use ringway_control::environment::Environment;
use ringway_control::identity::{CaOptions, EmbeddedCa, IdentityStatus};
use ringway_control::source::{Source, load};
use ringway_engine::snapshot::Snapshot;
use ringway_protocols::identity::Identity;
use ringway_protocols::tls::{Credentials, Options};
use serde_json::{Value, json};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config_dump/config_dump.json");

fn world() -> Snapshot {
    let text = include_str!("mesh.yaml").to_owned();
    let source = Source::Text { name: "mesh.yaml".to_owned(), text };
    load(&[source], Some("node-a")).unwrap_or_else(|mistakes| panic!("{mistakes}")).snapshot
}

/// One certificate that is there, one that is on its way, and one that is refused.
fn identities() -> Vec<IdentityStatus> {
    let home = tempfile::TempDir::new().unwrap();
    let now = SystemTime::now();
    let ca = EmbeddedCa::open(&home.path().join("ca"), CaOptions::default(), now).unwrap();
    let identity = |name: &str| Identity::new("cluster.local", "shop", name).unwrap();
    let material = ca.issue(&identity("web"), now).unwrap();
    let credentials = Credentials::new(material, &Options::default()).unwrap();
    let status = |name, credentials, error: Option<&str>| IdentityStatus {
        identity: identity(name),
        credentials,
        error: error.map(str::to_owned),
    };
    vec![
        status("web", Some(Arc::new(credentials)), None),
        status("new", None, None),
        status("refused", None, Some("the authority refused")),
    ]
}

fn state(name: &str, state: &'static str) -> WorkloadState {
    let connection = |src: &str, original: Value, actual: &str, protocol: &str| json!({"src": src, "originalDst": original, "actualDst": actual, "protocol": protocol});
    let up = state == "Up";
    let connections = Connections {
        inbound: vec![
            connection("10.1.0.20:40000", json!("web.shop"), "10.1.0.10:8080", "HBONE"),
            connection("[fd00::20]:40001", Value::Null, "[fd00::10]:8080", "TCP"),
        ],
        outbound: vec![
            connection("10.1.0.10:40002", json!("10.2.0.1:80"), "10.1.0.30:15008", "HBONE"),
            connection("10.1.0.10:40003", json!("10.9.0.1:80"), "10.9.0.1:80", "TCP"),
            connection("10.1.0.10:40004", json!("10.8.0.1:80"), "10.7.0.1:15008", "DOUBLEHBONE"),
        ],
    };
    WorkloadState {
        state,
        error: (!up).then(|| "the namespace has gone".to_owned()),
        connections: if up { connections } else { Connections::default() },
        info: WorkloadInfo {
            name: name.to_owned(),
            namespace: "shop".to_owned(),
            trust_domain: if up { "cluster.local".to_owned() } else { String::new() },
            service_account: "web".to_owned(),
        },
    }
}

fn config() -> Value {
    let environment = Environment {
        variables: vec![
            (OsString::from("AUTH_TOKEN"), OsString::from("a-secret")),
            (OsString::from("ISTIO_META_ISTIO_VERSION"), OsString::from("1.31.0")),
            (OsString::from("UNSTABLE_ENABLE_SOCKS5"), OsString::from("true")),
        ],
        mesh_file: "/no/such/file".into(),
        token_file: "/no/such/file".into(),
        cpus: 4,
    };
    environment.read().unwrap().dump()
}

fn dump() -> Value {
    let snapshot = world();
    let input = DumpInput {
        identities: identities(),
        workload_state: [
            ("11111111-web-0".to_owned(), state("web-0", "Up")),
            ("22222222-web-1".to_owned(), state("web-1", "Pending")),
        ]
        .into(),
        config: config(),
        static_config: static_config(Some(&snapshot)),
        version: VersionInfo {
            version: "0.1.0".to_owned(),
            git_revision: "abc".to_owned(),
            rust_version: "rustc 1.95.0".to_owned(),
            build_profile: "release".to_owned(),
            build_status: "Clean".to_owned(),
            istio_version: "1.31.0".to_owned(),
            crypto_provider: "aws-lc-rs".to_owned(),
        },
        snapshot: Arc::new(snapshot),
    };
    serde_json::from_slice(&render(&input)).unwrap()
}

/// Without what is another every time, and without the settings.
fn comparable(mut dump: Value) -> Value {
    fn blank(value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(blank),
            Value::Object(entries) => {
                entries.iter_mut().for_each(|(key, value)| match key.as_str() {
                    "pem" | "serialNumber" | "validFrom" | "expirationTime" => *value = json!("…"),
                    _ => blank(value),
                })
            }
            _ => {}
        }
    }
    blank(&mut dump);
    // For people: docs/environment.md says which settings there are.
    dump["config"] = Value::Null;
    dump
}

fn mistakes(dump: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    shape::check(&shape::DUMP, dump, "", &mut wrong);
    wrong
}

#[test]
fn a_dump_is_as_it_was_recorded_and_as_its_readers_want_it() {
    let dump = dump();
    assert_eq!(mistakes(&dump), [""; 0]);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(GOLDEN, format!("{dump:#}\n")).unwrap();
    }
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    assert_eq!(mistakes(&golden), [""; 0]);
    let (found, want) = (comparable(dump), comparable(golden));
    assert!(
        found == want,
        "{GOLDEN} is not up to date: UPDATE=1 cargo test -p ringway-control --test config_dump\n{found:#}"
    );
}

/// Go matches names without regard to case: what we call a setting must not be one that Kiali expects another type of.
#[test]
fn no_setting_of_ours_has_a_name_that_others_read() {
    let dump = dump();
    let config = dump["config"].as_object().unwrap();
    let names: BTreeSet<String> = config.keys().map(|name| name.to_lowercase()).collect();
    assert_eq!(names.len(), config.len());
    assert!(config["settings"].as_object().unwrap().contains_key("dnsProxy"), "which is a text");
    assert_eq!(config["dnsProxy"], true);
}

/// A key that no dump shows could have any shape: the world must have everything.
#[test]
fn the_recorded_dump_has_every_key_of_the_tables() {
    fn seen(value: &Value, place: &str, keys: &mut BTreeSet<String>, maps: &[String]) {
        match value {
            Value::Array(items) => {
                items.iter().for_each(|item| seen(item, &format!("{place}[]"), keys, maps));
            }
            Value::Object(entries) => {
                for (key, item) in entries {
                    // Where keys are free, the tables write `[]`.
                    let named = format!("{place}.{key}");
                    let known = maps.contains(&named);
                    seen(
                        item,
                        &if known { named.clone() } else { format!("{place}[]") },
                        keys,
                        maps,
                    );
                    keys.insert(named);
                }
            }
            _ => {}
        }
    }
    let mut want = Vec::new();
    shape::keys(&shape::DUMP, "", &mut want);
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(GOLDEN).unwrap()).unwrap();
    let mut found = BTreeSet::new();
    seen(&golden, "", &mut found, &want);
    let missing: Vec<_> = want.iter().filter(|key| !found.contains(*key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn secrets_are_not_in_it() {
    let dump = dump().to_string();
    assert!(!dump.contains("a-secret") && dump.contains("(set, not shown)"));
    assert!(!dump.contains("PRIVATE KEY"));
}

#[test]
fn lists_are_sorted() {
    let dump = dump();
    let rows: [(&str, &[&str]); 4] = [
        ("workloads", &["uid"]),
        ("services", &["hostname"]),
        ("policies", &["namespace", "name"]),
        ("certificates", &["identity"]),
    ];
    for (list, by) in rows {
        let key = |one: &Value| by.iter().map(|key| one[key].to_string()).collect::<Vec<_>>();
        let keys: Vec<_> = dump[list].as_array().unwrap().iter().map(key).collect();
        assert!(keys.is_sorted() && keys.len() > 1, "{list}: {keys:?}");
    }
}

#[test]
fn the_checker_finds_wrong_types_unknown_keys_and_missing_ones() {
    type Change = fn(&mut Value);
    let rows: [(Change, &str); 10] = [
        (|dump| dump["config"]["dnsProxy"] = json!("localhost:15053"), ".config.dnsProxy is"),
        (|dump| dump["workloads"][0]["capacity"] = json!("1"), ".workloads[0].capacity is \"1\""),
        (|dump| dump["workloads"][0]["colour"] = json!(1), ".workloads[0].colour is not in"),
        (|dump| dump["services"][0]["vips"] = json!({}), ".services[0].vips is {}"),
        (|dump| dump["services"][0]["ports"] = json!({"http": 80}), ".services[0].ports is"),
        (|dump| drop(dump.as_object_mut().unwrap().remove("version")), ".version is missing"),
        (
            |dump| dump["certificates"][2]["certChain"][0]["serialNumber"] = json!("0x1f"),
            "serialNumber is \"0x1f\"",
        ),
        (
            |dump| dump["certificates"][2]["certChain"][0]["validFrom"] = json!("today"),
            "validFrom is \"today\"",
        ),
        (
            |dump| dump["policies"][2]["rules"][0][0][0]["principals"][0] = json!("a"),
            "principals[0] is \"a\"",
        ),
        (
            |dump| {
                dump["workloadState"]["11111111-web-0"]["connections"]["inbound"][0]["src"] =
                    json!("a")
            },
            "src is \"a\"",
        ),
    ];
    for (change, want) in rows {
        let mut dump = dump();
        change(&mut dump);
        let wrong = mistakes(&dump).join("\n");
        assert!(wrong.contains(want), "{want}: {wrong}");
    }
}
