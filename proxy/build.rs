//! Tells the program what it was built from and by what. Where git or the compiler do not answer, it says `unknown`.

use std::process::Command;

fn main() {
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let revision = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let modified = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    set("RINGWAY_GIT_REVISION", revision.as_deref());
    set("RINGWAY_RUST_VERSION", output(&compiler, &["--version"]).as_deref());
    set(
        "RINGWAY_BUILD_STATUS",
        modified.map(|changes| if changes.is_empty() { "Clean" } else { "Modified" }),
    );
    println!("cargo::rerun-if-changed=build.rs");
    if let Some(log) = output("git", &["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

fn set(name: &str, value: Option<&str>) {
    println!("cargo::rustc-env={name}={}", value.unwrap_or("unknown"));
}
