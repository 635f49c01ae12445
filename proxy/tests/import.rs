//! `ringway import`, by running the built program.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const POD: &str =
    "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop}, status: {podIP: 10.0.0.1}}";

fn ringway(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
    command.args(arguments).env_clear().stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that reads nothing has closed its end.
    let _closed = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_directory_becomes_a_file_that_is_valid_and_answers_questions() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster");
    let home = TempDir::new().unwrap();
    let mesh = home.path().join("mesh.yaml");
    let mesh = mesh.to_str().unwrap();
    let ran =
        ringway(&["import", example.to_str().unwrap(), "--node", "worker-1", "--out", mesh], "");
    let told = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(0), "{told}");
    assert!(told.contains("taken: AuthorizationPolicy: 1, "), "{told}");
    assert!(told.contains("note: left out: Deployment (apps/v1), once: "), "{told}");
    assert!(told.ends_with("workloads: 8, services: 7, policies: 2; captured here: 1\n"), "{told}");
    assert_eq!(ringway(&["validate", "-f", mesh, "--node", "worker-1"], "").status.code(), Some(0));
    for (from, code) in [("shop/web", 0), ("shop/cart", 1)] {
        let asked =
            ["authorize", "-f", mesh, "--from", from, "--to", "shop/cart-0", "--port", "9000"];
        assert_eq!(ringway(&asked, "").status.code(), Some(code), "{from}");
    }
}

#[test]
fn objects_come_from_standard_input_and_from_several_files() {
    let piped = ringway(&["import", "-"], POD);
    assert_eq!(piped.status.code(), Some(0), "{}", text(&piped.stderr));
    let home = TempDir::new().unwrap();
    let files = ["a", "b"].map(|name| {
        let path = home.path().join(name);
        fs::write(
            &path,
            POD.replace("name: a", &format!("name: {name}"))
                .replace("0.1", if name == "a" { "0.1" } else { "0.2" }),
        )
        .unwrap();
        path.to_str().unwrap().to_owned()
    });
    let both = ringway(&["import", &files[0], &files[1]], "");
    assert_eq!(text(&both.stdout).matches("\"kind\":\"Pod\"").count(), 2, "{}", text(&both.stderr));
}

#[test]
fn what_cannot_be_imported_is_told_and_nothing_is_written() {
    let home = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let wrong = file("wrong.yaml", &POD.replace("10.0.0.1", "10.0.0.300"));
    let nothing = file("nothing.yaml", "a: b\n");
    let secret = file("secret.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: s}}\n");
    //  arguments                              code  want on stderr
    let rows: [(&[&str], i32, &str); 6] = [
        (&["import"], 64, "DUMP|FILE|DIR"),
        (&["import", &wrong], 65, "wrong.yaml:1:83: error"),
        (&["import", &nothing], 65, "left out: a document, once"),
        (&["import", &secret], 65, "left out: Secret (v1), once"),
        (&["import", "/nowhere"], 69, "/nowhere cannot be read"),
        (&["import", &wrong, &secret, "--node", "x"], 65, "wrong.yaml:1:83: error"),
    ];
    for (arguments, code, want) in rows {
        let ran = ringway(arguments, "");
        let told = text(&ran.stderr);
        assert_eq!((ran.status.code(), ran.stdout.len()), (Some(code), 0), "{arguments:?}: {told}");
        assert!(told.contains(want), "{arguments:?}: {told}");
    }
}
