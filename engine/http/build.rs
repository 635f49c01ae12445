//! Compiles `proto/*.proto`: the messages of services outside. What carries them is the engine's.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).open_files(["authorization.proto", "ratelimit.proto"])?;
    tonic_prost_build::configure()
        // In one order, so that what is made of them and what is sent is the same each time.
        .btree_map(".")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
