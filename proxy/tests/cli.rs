//! The command line, by running the built program: help, versions, completions, validation, the authority.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use ringway_control::handover::control_socket;
use serde_json::Value;
use tempfile::TempDir;

const MESH: &str = "\
apiVersion: ringway.dev/v1alpha1
kind: Node
metadata:
  name: host-a
spec:
  drainDeadline: 9s
  workloads:
  - name: web
    namespace: shop
    networkNamespace: web
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: web
  namespace: shop
spec:
  address: 10.0.0.1
  serviceAccount: web
";

/// What a run of the program gave.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A command in an environment that says nothing of its own.
fn ringway(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

fn run(arguments: &[&str]) -> Ran {
    ran(ringway(arguments).output().unwrap())
}

fn run_with_input(arguments: &[&str], input: &str) -> Ran {
    let mut child = ringway(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    ran(child.wait_with_output().unwrap())
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn file(home: &TempDir, name: &str, content: &str) -> String {
    let path = home.path().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn help_begins_with_three_examples_and_fits_a_screen() {
    for arguments in [
        &["--help"][..],
        &["proxy", "--help"],
        &["-h"],
        &["run", "-h"],
        &["ca", "-h"],
        &["validate", "-h"],
        &["handover", "-h"],
        #[cfg(feature = "waypoint")]
        &["waypoint", "-h"],
        #[cfg(feature = "waypoint")]
        &["gateway", "-h"],
    ] {
        let help = run(arguments);
        assert_eq!(help.code, 0, "{arguments:?}");
        let examples: Vec<_> = help
            .stdout
            .lines()
            .filter(|line| line.starts_with("  ringway ") || line.contains("| ringway "))
            .collect();
        assert_eq!(examples.len(), 3, "{arguments:?}: {examples:?}");
        let lines = help.stdout.lines().count();
        // The L7 roles are told about requests, too.
        let most = if matches!(arguments[0], "waypoint" | "gateway") { 72 } else { 60 };
        assert!(lines <= most, "{arguments:?}: {lines} lines");
        assert!(help.stdout.find("Examples:") < help.stdout.find("Usage:"));
    }
}

#[test]
fn mistakes_in_the_command_line_are_usage_errors_with_a_hint() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    //  arguments                                             want on stderr
    let rows: [(&[&str], &str); 10] = [
        (&[], "Usage:"),
        (&["runn"], "'run'"),
        (&["run", "--reactr", "epoll"], "--reactor"),
        (&["run", "-f", &mesh, "--reactor", "uring"], "possible values: auto, ring, epoll"),
        (&["run", "-f", &mesh, "--cores", "0"], "a list such as 0,2,4-7"),
        (&["run", "-f", &mesh, "--leaf-lifetime", "5"], "500ms, 5s, 1m30s"),
        (&["run", "-f", &mesh, "--workload", "web"], "namespace/name"),
        (&["run", "-f", &mesh, "--workload", "shop/web"], "--dedicated"),
        (&["run", "-f", &mesh, "--dedicated", "--workload", "shop/api"], "no workload shop/api"),
        (&["run", "-f", "-", "-f", "-"], "give `-f -` once"),
    ];
    for (arguments, want) in rows {
        let ran = run(arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

#[test]
fn a_misspelt_variable_is_told_and_stops_nothing() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    for words in
        [&["proxy", "ztunnel", "--print-config"][..], &["run", "-f", &mesh, "--print-config"]]
    {
        let mut command = ringway(words);
        // The others are a flag's twin, and what Kubernetes says of a Service.
        command.env("RINGWAY_REACTR", "epoll").env("RINGWAY_SERVICE_HOST", "10.96.0.7");
        let ran = ran(command.env("RINGWAY_ACCESS_LOG", "json").output().unwrap());
        let want =
            "warning: RINGWAY_REACTR: this variable is not read; did you mean `RINGWAY_REACTOR`?\n";
        assert_eq!((ran.code, &*ran.stderr), (0, want), "{words:?}");
        assert!(!ran.stdout.contains("warning"), "{words:?}");
    }
}

/// Whoever misspells a role does not get another one, least of all the one that captures pods.
#[test]
fn a_role_that_is_none_starts_nothing() {
    //  words                                     want on stderr
    let rows: [(&[&str], &str); 6] = [
        (&["proxy"], "<ztunnel|waypoint|gateway>"),
        (&["proxy", "ztunel"], "'ztunnel'"),
        (&["proxy", "waypont"], "'waypoint'"),
        (&["proxy", "nonsense"], "possible values: ztunnel, waypoint, gateway, agentgateway"),
        (&["proxy", "nonsense", "--print-config"], "'nonsense'"),
        (&["proxy", "ztunnel", "--config", "{}"], "a waypoint or gateway"),
    ];
    for (words, want) in rows {
        let ran = run(words);
        assert_eq!((ran.code, &*ran.stdout), (64, ""), "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{words:?}: {}", ran.stderr);
    }
    //  words that charts, istiod and people start it with
    let node: [&[&str]; 3] = [
        &["proxy", "ztunnel", "--print-config"],
        &["proxy", "--print-config"],
        &["proxy", "ztunnel", "whatever", "--print-config"],
    ];
    for words in node {
        let ran = run(words);
        assert_eq!(ran.code, 0, "{words:?}: {}", ran.stderr);
        assert!(ran.stdout.contains("PROXY_MODE\tshared"), "{words:?}: {}", ran.stdout);
    }
    #[cfg(feature = "waypoint")]
    for words in [&["proxy", "waypoint"][..], &["--config", "{}"], &["proxy", "--config", "{}"]] {
        let ran = run(words);
        assert_eq!(ran.code, 64, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains("GATEWAY: is not set"), "{words:?}: {}", ran.stderr);
    }
}

#[cfg(feature = "waypoint")]
#[test]
fn mistakes_about_a_waypoint_are_told_with_what_there_is() {
    let home = TempDir::new().unwrap();
    let gateway = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web, namespace: shop}
spec: {gatewayClassName: ringway-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";
    let mesh = file(&home, "mesh.yaml", &format!("{MESH}{gateway}"));
    let with = |more: &[&str]| {
        let mut arguments = vec!["waypoint", "-f", &mesh];
        arguments.extend(more);
        run(&arguments)
    };
    //  arguments                                            want on stderr
    let rows: [(&[&str], &str); 7] = [
        (&[], "--name"),
        (&["--name", "web"], "is not namespace/name"),
        (&["--name", "shop/api"], "the configuration has no workload shop/api"),
        (
            &["--name", "shop/api", "--workload", "shop/web"],
            "no waypoint shop/api: it has shop/web",
        ),
        (&["--name", "shop/web", "--access-log", "fancy"], "use text, istio, json, off"),
        (&["--name", "shop/web", "--traces", "ftp://c"], "neither `https` nor `http`"),
        (&["--name", "shop/web", "--traces-share", "2"], "a number from 0 to 1"),
    ];
    for (arguments, want) in rows {
        let ran = with(arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{arguments:?}: {}", ran.stderr);
    }
    let as_gateway = run(&["gateway", "-f", &mesh, "--name", "shop/web"]);
    assert_eq!(as_gateway.code, 64);
    assert!(as_gateway.stderr.contains("use `ringway waypoint`"), "{}", as_gateway.stderr);

    let printed =
        with(&["--name", "shop/web", "--traces", "http://c:4317", "--print-config", "-o", "json"]);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let settings = json(&printed.stdout);
    assert_eq!(settings["gateway"]["value"], "shop/web");
    assert_eq!(settings["accessLog"], serde_json::json!({ "value": "text", "origin": "default" }));
    assert_eq!(settings["traces.collector"]["origin"], "flag --traces");
    assert_eq!(settings["traces.share"]["value"], "0.01");
    assert_eq!(settings["redirect"], serde_json::json!({ "value": "none", "origin": "role" }));
}

#[test]
fn the_version_is_text_or_json() {
    let text = run(&["version"]);
    assert_eq!(text.code, 0);
    assert!(text.stdout.starts_with(concat!("ringway ", env!("CARGO_PKG_VERSION"), " (revision ")));
    let parsed = json(&run(&["version", "-o", "json"]).stdout);
    for key in ["version", "gitRevision", "rustVersion", "buildProfile", "cryptoProvider"] {
        assert!(parsed[key].as_str().is_some_and(|value| !value.is_empty()), "{key}: {parsed}");
    }
    assert_eq!(run(&["--version"]).code, 0);
}

#[test]
fn completions_know_every_verb() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, 0, "{shell}");
        for verb in ["validate", "authorize", "completions", "rotate", "handover"] {
            assert!(script.stdout.contains(verb), "{shell}: {verb}");
        }
    }
    assert_eq!(run(&["completions", "dos"]).code, 64);
}

#[test]
fn a_good_configuration_is_valid() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    let ran = run(&["validate", "-f", &mesh]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let strict = "istio-system/istio_converted_static_strict\tDENY\tselector\t1\t1\t-\n";
    assert_eq!(
        ran.stdout,
        format!("valid: 1 workload, 0 services; host-a captures 1 workload\n{strict}")
    );

    let from_directory = run(&["validate", "-f", home.path().to_str().unwrap(), "-o", "json"]);
    let parsed = json(&from_directory.stdout);
    assert_eq!(parsed["valid"], true);
    assert_eq!(parsed["mesh"]["captured"].as_array().unwrap().len(), 1);

    let from_input = run_with_input(&["validate", "-f", "-", "--node", "host-a"], MESH);
    assert_eq!(from_input.code, 0, "{}", from_input.stderr);
}

const POLICIES: &str = "\
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  rules:
  - from: [{source: {serviceAccounts: [reader]}}]
    to: [{operation: {ports: ['80']}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: soon, namespace: shop, annotations: {istio.io/dry-run: 'true'}}
spec: {action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}
";

#[test]
fn policies_are_listed_with_whom_they_are_for() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", &(MESH.to_owned() + POLICIES));
    let ran = run(&["validate", "-f", &mesh]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = ran.stdout.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            "istio-system/istio_converted_static_strict\tDENY\tselector\t1\t1\t-",
            "shop/readers\tALLOW\tnamespace\t1\t1\t-",
            "shop/soon\tDENY\tnamespace\t1\t1\tdry run",
        ]
    );
    let parsed = json(&run(&["validate", "-f", &mesh, "-o", "json"]).stdout);
    let readers = &parsed["mesh"]["policies"][1];
    assert_eq!((&readers["name"], &readers["workloads"]), (&"shop/readers".into(), &1.into()));
}

#[test]
fn authorize_tells_who_may_connect() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", &(MESH.to_owned() + POLICIES));
    let ask = |from: &str, to: &str, more: &[&str]| {
        let mut arguments = vec!["authorize", "-f", &mesh, "--from", from, "--to", to];
        arguments.extend(["--port", "80"]);
        arguments.extend(more);
        run(&arguments)
    };
    let rows = [
        ("shop/reader", 0, "allowed by shop/readers, rule 0\n"),
        ("spiffe://cluster.local/ns/shop/sa/reader", 0, "allowed by shop/readers, rule 0\n"),
        (
            "other/reader",
            1,
            "denied: there are ALLOW policies for this workload, and none matches\n",
        ),
        ("none", 1, "denied by istio-system/istio_converted_static_strict, rule 0\n"),
    ];
    for (from, code, want) in rows {
        let ran = ask(from, "shop/web", &[]);
        let dry_run = "dry run: shop/soon, rule 0, would deny it\n";
        let in_shop = from.contains("shop");
        let want = if in_shop { want.to_owned() + dry_run } else { want.to_owned() };
        assert_eq!((ran.code, ran.stdout), (code, want), "{from}: {}", ran.stderr);
    }
    let answer = json(&ask("none", "shop/web", &["--source-ip", "10.9.9.9", "-o", "json"]).stdout);
    assert_eq!((&answer["allowed"], &answer["rule"]), (&false.into(), &0.into()));

    let nobody = ask("none", "shop/wep", &[]);
    assert_eq!(nobody.code, 69);
    assert!(nobody.stderr.contains("did you mean `web`?"), "{}", nobody.stderr);
    for arguments in [["--from", "nobody", "--to", "shop/web"], ["--from", "none", "--to", "web"]] {
        let ran = run(&[&["authorize", "-f", &mesh, "--port", "80"], &arguments[..]].concat());
        assert_eq!(ran.code, 64, "{}", ran.stderr);
    }
}

#[test]
fn a_hand_over_that_did_not_happen_is_told_once() {
    let home = TempDir::new().unwrap();
    let path = control_socket::path(home.path(), "host-a").unwrap();
    let listener = UnixListener::bind(path).unwrap();
    // A node that refuses.
    let node = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"outcome\": \"rolled_back\", \"why\": \"because\"}\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // A socket that is closed with something unread in it loses the answer.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let directory = home.path().to_str().unwrap();
    let ran = run(&["handover", "--state-directory", directory, "--node", "host-a"]);
    node.join().unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "error: no hand-over, because\n"));
}

/// What the pages show is what is said: every `$ ringway authorize …` and `$ ringway validate …` in them, with the lines
/// below.
#[test]
fn the_pages_show_what_the_program_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    //  page             commands in it
    for (page, want) in [("README.md", 2), ("docs/policy.md", 2)] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let mut lines = text.lines().peekable();
        let mut shown = 0;
        while let Some(line) = lines.next() {
            let Some(arguments) = line.strip_prefix("$ ringway ") else { continue };
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let ran = ran(ringway(&arguments).current_dir(&root).output().unwrap());
            let below = std::iter::from_fn(|| {
                lines.next_if(|line| !line.starts_with("```") && !line.starts_with("$ "))
            });
            // Where it writes to a terminal there are headings, and columns that are aligned.
            let below = below.filter(|line| !line.starts_with("POLICY "));
            let said = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let below: Vec<String> = below.map(said).collect();
            let told: Vec<String> = ran.stdout.lines().map(said).collect();
            assert_eq!(told, below, "{page}: {line}: {}", ran.stderr);
            shown += 1;
        }
        assert_eq!(shown, want, "{page}");
    }
}

#[test]
fn every_mistake_of_a_bad_configuration_is_shown_at_once() {
    let home = TempDir::new().unwrap();
    let bad =
        MESH.replace("drainDeadline: 9s", "drainDedline: 9s").replace("10.0.0.1", "10.0.0.999");
    let mesh = file(&home, "mesh.yaml", &bad);
    let ran = run(&["validate", "-f", &mesh]);
    assert_eq!((ran.code, ran.stdout.as_str()), (65, ""));
    for want in ["mesh.yaml:6:3", "drainDedline", "`drainDeadline`", "10.0.0.999", "^", "2 errors"]
    {
        assert!(ran.stderr.contains(want), "{want} is not in\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("next: "), "it tells to do what was just done: {}", ran.stderr);
    let parsed = json(&run(&["validate", "-f", &mesh, "-o", "json"]).stdout);
    assert_eq!(parsed["valid"], false);
    assert_eq!(parsed["errors"].as_array().unwrap().len(), 2);
    assert_eq!(parsed["errors"][0]["line"], 6);

    let started = run(&["run", "-f", &mesh, "--ca-directory", "/nowhere"]);
    assert_eq!(started.code, 65, "run refuses it the same way");
    assert!(started.stderr.contains("`ringway validate` checks them"), "{}", started.stderr);
}

#[test]
fn what_a_variable_names_is_refused_by_the_name_of_the_variable() {
    let home = TempDir::new().unwrap();
    let ca = home.path().join("ca");
    //  variable and value                         verb                      want on stderr
    let path = "next: correct what LOCAL_XDS_PATH names, or the variable";
    let rows = [
        ("LOCAL_XDS_PATH", "/nowhere/mesh.yaml", &["proxy", "ztunnel"][..], path),
        ("LOCAL_XDS_PATH", "/nowhere/mesh.yaml", &["validate"], path),
        (
            "LOCAL_XDS",
            "workloads: [1]",
            &["proxy", "ztunnel"],
            "next: correct the YAML in LOCAL_XDS\n",
        ),
    ];
    for (variable, value, words, want) in rows {
        let mut command = ringway(words);
        command.env(variable, value).env("XDS_ADDRESS", "").env("FAKE_CA", "true");
        // Dedicated and without a mark, so that no capability is missed first.
        command.env("PROXY_MODE", "dedicated").env("PROXY_WORKLOAD_INFO", "shop/web/web");
        let ran = ran(command.env("RINGWAY_CA_DIRECTORY", &ca).output().unwrap());
        assert_eq!(ran.code, 65, "{variable} {words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(want), "{variable} {words:?}: {}", ran.stderr);
    }
}

#[test]
fn a_missing_file_is_an_error_and_not_an_empty_mesh() {
    let ran = run(&["validate", "-f", "/nowhere/mesh.yaml"]);
    assert_eq!(ran.code, 65);
    assert!(ran.stderr.contains("/nowhere/mesh.yaml"), "{}", ran.stderr);
}

#[test]
fn print_config_tells_where_each_setting_comes_from() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    let printed =
        ringway(&["run", "-f", &mesh, "--print-config", "-o", "json", "--reactor", "epoll"])
            .env("RINGWAY_LEAF_LIFETIME", "1h")
            .env("RINGWAY_REACTOR", "ring")
            .env("RUST_LOG", "debug")
            .output()
            .unwrap();
    let printed = ran(printed);
    assert_eq!(printed.code, 0, "{}", printed.stderr);
    let settings = json(&printed.stdout);
    let rows = [
        ("reactor", "epoll", "flag --reactor"),
        ("certificateAuthority.leafLifetime", "3600s", "environment RINGWAY_LEAF_LIFETIME"),
        ("log.level", "debug", "environment RUST_LOG"),
        ("drainDeadline", "9s", "file"),
        ("mode", "shared", "default"),
    ];
    for (name, value, origin) in rows {
        assert_eq!(settings[name]["value"], value, "{name}");
        assert_eq!(settings[name]["origin"], origin, "{name}");
    }
    // In a pipe: three columns split by tabs, no heading.
    let table = run(&["run", "-f", &mesh, "--print-config"]).stdout;
    assert!(table.lines().any(|line| line == "drainDeadline\t9s\tfile"), "{table}");
    assert!(table.lines().all(|line| line.split('\t').count() == 3), "{table}");
}

#[test]
fn istios_environment_makes_a_dedicated_process() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    let print = |workload: &str| {
        let printed = ringway(&["run", "--print-config", "-o", "json"])
            .env("LOCAL_XDS_PATH", &mesh)
            .env("PROXY_MODE", "dedicated")
            .env("PROXY_WORKLOAD_INFO", workload)
            .env("LOG_FORMAT", "json")
            .output()
            .unwrap();
        ran(printed)
    };
    let printed = print("shop/web/web");
    let settings = json(&printed.stdout);
    assert_eq!(settings["mode"]["origin"], "environment PROXY_MODE");
    assert_eq!(settings["log.format"]["value"], "json");
    assert_eq!(print("shop/web/other").code, 64);
    assert!(print("web").stderr.contains("PROXY_WORKLOAD_INFO=\"web\""));
}

#[test]
fn without_capabilities_it_says_which_are_missing() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    let ca = home.path().join("ca");
    let arguments = ["run", "-f", &mesh, "--ca-directory", ca.to_str().unwrap()];
    let run = if rustix::process::geteuid().is_root() {
        let mut dropped = Command::new("setpriv");
        dropped.args(["--bounding-set=-all", "--inh-caps=-all", env!("CARGO_BIN_EXE_ringway")]);
        dropped.args(arguments).output()
    } else {
        ringway(&arguments).output()
    };
    let ran = ran(run.unwrap());
    assert_eq!(ran.code, 77, "{}", ran.stderr);
    for want in ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "setcap"] {
        assert!(ran.stderr.contains(want), "{}", ran.stderr);
    }
    assert!(!ca.exists(), "nothing was begun");
}

/// The authority in a directory of its own.
struct Authority {
    home: TempDir,
}

impl Authority {
    fn new() -> Self {
        Self { home: TempDir::new().unwrap() }
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let directory = self.path("ca");
        let all: Vec<&str> = ["ca", "--directory", &directory]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        run(&all)
    }

    fn show(&self) -> Value {
        json(&self.run(&["show", "-o", "json"]).stdout)
    }
}

#[test]
fn an_authority_is_made_shown_and_rotated() {
    let authority = Authority::new();
    let absent = authority.run(&["show"]);
    assert_eq!(absent.code, 69);
    assert!(absent.stderr.contains("ringway ca create"), "{}", absent.stderr);

    assert_eq!(authority.run(&["create"]).code, 0);
    let again = authority.run(&["create"]);
    assert_eq!(again.code, 1);
    assert!(again.stderr.contains("ca rotate"), "{}", again.stderr);

    let shown = authority.show();
    assert_eq!(shown["authorities"].as_array().unwrap().len(), 1);
    assert_eq!(shown["authorities"][0]["role"], "current");
    assert_eq!(shown["authorities"][0]["fingerprint"].as_str().unwrap().len(), 64);
    assert!(shown["trustBundle"].as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    let table = authority.run(&["show"]).stdout;
    assert!(table.starts_with("current\tCN=Ringway root "), "{table}");

    let rotated = authority.run(&["rotate", "--new-signs-after", "1h", "--old-trusted-for", "2d"]);
    assert_eq!(rotated.code, 0, "{}", rotated.stderr);
    let roles: Vec<Value> = authority.show()["authorities"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["role"].clone())
        .collect();
    assert_eq!(roles, ["current", "next"]);
    let pending = authority.run(&["rotate"]);
    assert_eq!(pending.code, 65);
    assert!(pending.stderr.contains("already under way"), "{}", pending.stderr);
}

#[test]
fn a_certificate_is_issued_into_files_only_their_owner_reads() {
    let authority = Authority::new();
    authority.run(&["create"]);
    let out = authority.path("out");
    let identity = "spiffe://cluster.local/ns/shop/sa/probe";
    let issued = authority.run(&["issue", identity, "--out", &out, "--lifetime", "1h"]);
    assert_eq!(issued.code, 0, "{}", issued.stderr);
    let mode =
        |name: &str| fs::metadata(Path::new(&out).join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("key.pem"), mode("cert-chain.pem")), (0o600, 0o644));
    let bundle = authority.show()["trustBundle"].as_str().unwrap().to_owned();
    assert_eq!(fs::read_to_string(Path::new(&out).join("root-cert.pem")).unwrap(), bundle);

    let wrong = authority.run(&["issue", "probe", "--out", &out]);
    assert_eq!(wrong.code, 64);
    assert!(wrong.stderr.contains("spiffe://"), "{}", wrong.stderr);
    let never = authority.run(&["issue", identity, "--out", &out, "--lifetime", "0s"]);
    assert_eq!(never.code, 64, "{}", never.stderr);

    let key = fs::read(Path::new(&out).join("key.pem")).unwrap();
    let again = authority.run(&["issue", identity, "--out", &out]);
    assert_eq!(again.code, 1, "{}", again.stderr);
    assert!(again.stderr.contains("--replace"), "{}", again.stderr);
    assert_eq!(fs::read(Path::new(&out).join("key.pem")).unwrap(), key, "nothing is lost");
    let anew = authority.run(&["issue", identity, "--out", &out, "--replace"]);
    assert_eq!(anew.code, 0, "{}", anew.stderr);
    assert_ne!(fs::read(Path::new(&out).join("key.pem")).unwrap(), key);
}

#[test]
fn a_certificate_is_taken_back_by_its_file_or_its_number() {
    let authority = Authority::new();
    authority.run(&["create"]);
    let out = authority.path("out");
    authority.run(&["issue", "spiffe://cluster.local/ns/shop/sa/probe", "--out", &out]);
    assert_eq!(authority.show()["revoked"], json("[]"));
    let chain = Path::new(&out).join("cert-chain.pem").display().to_string();
    let ran = authority.run(&["revoke", &chain, "0x2A"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("ca/crl.pem"), "{}", ran.stderr);
    assert_eq!(authority.show()["revoked"].as_array().unwrap().len(), 2);
    assert!(ran.stdout.contains("2a\t"), "{}", ran.stdout);
    let list = fs::read_to_string(authority.path("ca/crl.pem")).unwrap();
    assert!(list.starts_with("-----BEGIN X509 CRL-----\n"), "{list}");

    let wrong = authority.run(&["revoke", "nobody"]);
    assert_eq!(wrong.code, 64);
    assert!(wrong.stderr.contains("serial number"), "{}", wrong.stderr);
    let key = Path::new(&out).join("key.pem").display().to_string();
    assert_eq!(authority.run(&["revoke", &key]).code, 65, "no certificate in it");
}

#[test]
fn a_node_does_not_start_without_the_list_it_is_to_obey() {
    let home = TempDir::new().unwrap();
    let mesh = file(&home, "mesh.yaml", MESH);
    let ca = home.path().join("ca").display().to_string();
    let ran = ran(ringway(&["run", "-f", &mesh, "--ca-directory", &ca, "--dedicated"])
        .args(["--no-redirect", "--workload", "shop/web"])
        .env("CRL_PATH", home.path().join("missing.crl"))
        .output()
        .unwrap());
    assert_eq!(ran.code, 65, "{}", ran.stderr);
    assert!(ran.stderr.contains("missing.crl"), "{}", ran.stderr);
}

#[test]
fn an_authority_can_be_brought_once() {
    let (company, ours) = (Authority::new(), Authority::new());
    company.run(&["create"]);
    let certificate = company.path("ca/root-cert.pem");
    let key = company.path("ca/root-key.pem");
    let import = ["import", "--certificate", &certificate, "--key", &key];
    let ran = ours.run(&import);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        ours.show()["authorities"][0]["fingerprint"],
        company.show()["authorities"][0]["fingerprint"]
    );
    assert_eq!(ours.run(&import).code, 1, "not over an authority that is there");

    let other = Authority::new();
    let swapped = other.run(&["import", "--certificate", &key, "--key", &certificate]);
    assert_eq!(swapped.code, 65);
    let missing = other.run(&["import", "--certificate", "/nowhere.pem", "--key", &key]);
    assert_eq!(missing.code, 69);
    assert!(missing.stderr.contains("/nowhere.pem"), "{}", missing.stderr);
}

#[test]
fn a_key_others_can_read_is_refused() {
    let authority = Authority::new();
    authority.run(&["create"]);
    let key = authority.path("ca/root-key.pem");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = authority.run(&["show"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&format!("chmod 600 {key}")), "{}", ran.stderr);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let mut child = ringway(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn validate_shows_what_became_of_routes() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bookinfo-waypoint");
    let told = run(&["validate", "-f", example, "--node", "host-a", "--status"]);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let row = "HTTPRoute bookinfo/reviews\tService bookinfo/reviews:9080\tResolvedRefs\tTrue\tResolvedRefs\t-";
    assert!(told.stdout.lines().any(|line| line == row), "{}", told.stdout);
    let told = json(&run(&["validate", "-f", example, "--node", "host-a", "-o", "json"]).stdout);
    let gateway = &told["status"][0];
    assert_eq!(
        (&gateway["kind"], &gateway["metadata"]["name"]),
        (&"Gateway".into(), &"waypoint".into())
    );
    assert_eq!(gateway["status"]["listeners"][0]["conditions"][3]["type"], "Programmed");
}
