//! Ringway itself, one process on each pod's host.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Bench, Group, Handshakes, Options, Pair, Programs, Rules, Subject, WORKERS, tail};
use crate::http::get_from;
use crate::lab::{Process, Program, wait_until};

const PATIENCE: Duration = Duration::from_secs(30);

/// A way in which Ringway runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By itself: it installs its own redirect rules and chooses its reactor.
    Alone,
    /// The same on epoll.
    AloneOnEpoll,
    /// As in ztunnel's place: somebody else has installed Istio's rules.
    InIstio,
}

/// Ringway in one of its ways.
pub(super) struct Ringway {
    program: PathBuf,
    way: Way,
}

impl Ringway {
    pub(super) fn new(programs: &Programs, way: Way) -> Ringway {
        Ringway { program: programs.ringway.clone(), way }
    }

    fn configuration(&self, bench: &Bench) -> String {
        let mut text = String::new();
        for name in ["near", "far"] {
            let path = bench.lab.namespace(name).path().display();
            let address = bench.lab.namespace(name).address();
            let reactor = if self.way == Way::AloneOnEpoll { "epoll" } else { "auto" };
            let redirect = if self.way == Way::InIstio { "none" } else { "nftables" };
            text.push_str(&format!(
                "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}}}\n\
                 spec:\n  reactor: {reactor}\n  redirect: {redirect}\n  cores: {WORKERS}\n  \
                 certificateAuthority: {{directory: ca}}\n  log: {{level: \"info,access=off\"}}\n  \
                 workloads: [{{name: {name}, networkNamespace: {path}}}]\n---\napiVersion: v1\n\
                 kind: Pod\nmetadata: {{name: {name}}}\n\
                 spec: {{serviceAccountName: {name}, nodeName: {name}}}\n\
                 status: {{podIP: {address}}}\n",
            ));
        }
        text
    }

    fn wait_until_ready(bench: &Bench, name: &str, process: &mut Process) -> Result<()> {
        let host = bench.lab.namespace(&format!("{name}-host"));
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        let waited = wait_until("ringway is ready", PATIENCE, || {
            !process.is_running()
                || get_from(host, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
        });
        waited.with_context(|| tail(&process.log()))?;
        ensure!(process.is_running(), "ringway ended at once: {}", tail(&process.log()));
        Ok(())
    }
}

impl Subject for Ringway {
    fn name(&self) -> &str {
        match self.way {
            Way::Alone => "ringway",
            Way::AloneOnEpoll => "ringway-epoll",
            Way::InIstio => "ringway-istio",
        }
    }

    fn group(&self) -> Group {
        Group::L4
    }

    fn programs(&self) -> Vec<PathBuf> {
        vec![self.program.clone()]
    }

    fn rules(&self) -> Rules {
        if self.way == Way::InIstio { Rules::Node } else { Rules::Own }
    }

    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair> {
        ensure!(
            options.handshakes == Handshakes::Usual,
            "it cannot be told not to resume sessions"
        );
        ensure!(
            self.program.exists(),
            "there is no program {}; build it (cargo build --release -p ringway) or name it with \
             --ringway",
            self.program.display()
        );
        let configuration = self.configuration(bench);
        let file = bench.lab.directory().join("mesh.yaml");
        fs::write(&file, &configuration)?;
        let start = |name: &str| {
            let program = Program::new(&self.program)
                .arguments(["run", "--node", name, "--file"])
                .argument(&file);
            bench.lab.start(&format!("{name}-host"), &format!("ringway-{name}"), &program)
        };
        let (mut near, mut far) = (start("near")?, start("far")?);
        Self::wait_until_ready(bench, "near", &mut near)?;
        Self::wait_until_ready(bench, "far", &mut far)?;
        // Its log tells which reactor it has taken.
        let configurations = vec![
            ("mesh.yaml".to_owned(), configuration),
            ("near.log".to_owned(), near.log()),
            ("far.log".to_owned(), far.log()),
        ];
        Ok(Pair { near: vec![near], far: vec![far], configurations })
    }
}
