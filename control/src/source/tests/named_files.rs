//! Files that a Node names, which `ringway validate` reads and a reload does not.

use std::fs;
use std::time::SystemTime;

use crate::identity::embedded_ca::Revoke;
use crate::identity::{CaOptions, EmbeddedCa};
use crate::source::{Source, check, load};

fn node(name: &str, lists: &str) -> String {
    format!(
        "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}}}\nspec:\n  certificateAuthority:\n    revocationLists:\n{lists}"
    )
}

#[test]
fn each_revocation_list_that_cannot_be_used_is_told_with_its_place() {
    let home = tempfile::tempdir().unwrap();
    let now = SystemTime::now();
    let mut ca = EmbeddedCa::open(&home.path().join("ca"), CaOptions::default(), now).unwrap();
    ca.revoke(&[Revoke::parse("7").unwrap()], now).unwrap();
    fs::copy(ca.revocation_list(), home.path().join("good.pem")).unwrap();
    fs::write(home.path().join("bad.pem"), "no list").unwrap();
    let mesh = home.path().join("mesh.yaml");
    let sources = [Source::Path(mesh.clone())];

    let other = node("host-b", "    - bad.pem\n");
    fs::write(&mesh, node("host-a", "    - good.pem\n") + &other).unwrap();
    let checked = check(&sources, Some("host-a")).unwrap();
    assert!(checked.warnings.is_empty(), "those of other nodes are theirs: {}", checked.warnings);

    // It may be on the node's own host; the start is refused there, where it is not.
    fs::write(&mesh, node("host-a", "    - nofile.pem\n    - good.pem\n")).unwrap();
    let said = check(&sources, Some("host-a")).unwrap().warnings.to_string();
    assert!(said.contains("mesh.yaml:8:7: warning: cannot read the revocation list"), "{said}");

    fs::write(&mesh, node("host-a", "    - nofile.pem\n    - bad.pem\n    - bad.pem\n")).unwrap();
    let said = check(&sources, Some("host-a")).unwrap_err().to_string();
    for place in
        ["mesh.yaml:8:7: warning: cannot read", "mesh.yaml:9:7: error: ", "mesh.yaml:10:7: error: "]
    {
        assert!(said.contains(place), "{place}: {said}");
    }
    // Whoever runs with it reads them himself.
    assert!(load(&sources, Some("host-a")).unwrap().warnings.is_empty());
}
