//! Compiles `proto/*.proto`: messages, clients, and servers for whoever plays a control plane.

use std::env;
use std::error::Error;
use std::path::PathBuf;

const FILES: [&str; 8] = [
    "discovery.proto",
    "workload.proto",
    "security.proto",
    "zds.proto",
    "ca.proto",
    "trace.proto",
    "agent.proto",
    "spiffe.proto",
];

/// Servers are for tests only: the program has none.
const SERVERS_ONLY: &str = r#"#[cfg(any(test, feature = "test-plane"))]"#;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true).open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // For the test that pins the numbers of all fields.
    std::fs::write(out.join("messages.bin"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_transport(false)
        // In one order, so that what is made of them and what is sent is the same each time.
        .btree_map(".")
        .server_mod_attribute(".", SERVERS_ONLY)
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
