//! What a large mesh costs: time to load it, and memory.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::record::Record;
use crate::http::get_from;
use crate::lab::{Lab, Program, wait_until};
use crate::measure;
use crate::mesh::{Format, Mesh};

/// Starts Ringway with a large mesh in each format and records what it takes.
pub(super) fn measure(
    ringway: &Path,
    workloads: u32,
    round: u32,
    record: &mut Record,
) -> Result<()> {
    let mut lab = Lab::unique()?;
    lab.add_island("host", None)?;
    for (name, format) in [("documents", Format::Documents), ("ztunnel", Format::Ztunnel)] {
        let file = lab.directory().join(format!("{name}.yaml"));
        let mut out = BufWriter::new(File::create(&file)?);
        write!(
            out,
            "apiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: host-0}}\nspec:\n  \
             certificateAuthority: {{directory: ca}}\n---\n"
        )?;
        let others = Mesh { workloads, services: workloads / 25, hosts: 1000, format };
        // ztunnel's format is no stream of documents, so it is a file of its own.
        let second = lab.directory().join(format!("{name}-mesh.yaml"));
        let mut files = vec![file.clone()];
        if format == Format::Ztunnel {
            others.write(&mut BufWriter::new(File::create(&second)?))?;
            files.push(second);
        } else {
            others.write(&mut out)?;
        }
        out.flush()?;
        drop(out);
        let mut program = Program::new(ringway).arguments(["run", "--node", "host-0"]);
        for file in &files {
            program = program.argument("--file").argument(file);
        }
        let start = Instant::now();
        let mut process = lab.start("host", &format!("ringway-{name}"), &program)?;
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        wait_until("ringway is ready", Duration::from_secs(120), || {
            !process.is_running()
                || get_from(lab.namespace("host"), ready, "/healthz/ready")
                    .is_ok_and(|(status, _)| status == 200)
        })?;
        ensure!(process.is_running(), "ringway ended:\n{}", process.log());
        let took = start.elapsed();
        std::thread::sleep(Duration::from_secs(5));
        let memory = measure::memory(process.id())?;
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let metric = |what: &str| format!("scale-{workloads}-{name}-{what}");
        record.add("ringway", round, &metric("load"), "s", took.as_secs_f64())?;
        record.add("ringway", round, &metric("rss"), "MB", mega(memory.resident_bytes))?;
        record.add("ringway", round, &metric("peak"), "MB", mega(memory.peak_bytes))?;
        process.terminate(Duration::from_secs(30))?;
    }
    Ok(())
}
