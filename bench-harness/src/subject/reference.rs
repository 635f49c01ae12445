//! The reference relay of this harness, one process in each pod.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, Group, MARK, Options, Pair, Programs, Resumption, Rules, Subject};
use crate::lab::{Process, Program};

/// The relay with some number of threads.
pub(super) struct Reference {
    program: PathBuf,
    workers: usize,
}

impl Reference {
    pub(super) fn new(programs: &Programs, workers: usize) -> Reference {
        let program = programs.own.with_file_name("ringway-bench-reference");
        Reference { program, workers }
    }

    fn start_side(
        &self,
        bench: &Bench,
        name: &str,
        arguments: &[&str],
        options: &Options,
    ) -> Result<Process> {
        let workers = options.cores.unwrap_or(self.workers);
        let folder = bench.lab.directory();
        let program = Program::new(&self.program)
            .arguments(arguments)
            .arguments([
                "--mark",
                &MARK.to_string(),
                "--workers",
                &workers.to_string(),
                "--certificate",
            ])
            .argument(folder.join(format!("{name}.pem")))
            .argument("--key")
            .argument(folder.join(format!("{name}.key")))
            .argument("--roots")
            .argument(folder.join("root.pem"));
        let mut process =
            bench.lab.start(name, &format!("relay-{name}"), &options.placed(program))?;
        process.wait_for_log("listening", Duration::from_secs(30))?;
        Ok(process)
    }
}

impl Subject for Reference {
    fn name(&self) -> &str {
        if self.workers == 1 { "reference-1" } else { "reference" }
    }

    fn group(&self) -> Group {
        Group::L4
    }

    fn programs(&self) -> Vec<PathBuf> {
        vec![self.program.clone()]
    }

    fn rules(&self) -> Rules {
        Rules::Node
    }

    fn resumption(&self) -> Resumption {
        Resumption::Never
    }

    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair> {
        ensure!(
            self.program.exists(),
            "there is no program {}; build it: cargo build --release -p ringway-bench",
            self.program.display()
        );
        let inbound = ["inbound", "--listen", "0.0.0.0:15008", "--original-source"];
        let expect = bench.identity("far");
        let outbound = ["outbound", "--listen", "0.0.0.0:15001", "--expect", &expect];
        let far = vec![self.start_side(bench, "far", &inbound, options)?];
        let near = vec![self.start_side(bench, "near", &outbound, options)?];
        Ok(Pair { near, far, ..Pair::default() })
    }
}
