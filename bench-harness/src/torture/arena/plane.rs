//! The control plane of an arena whose proxies are told by one: `ringway-test-plane`, on a host of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::trial::not_run;
use super::{HOSTS, PATIENCE};
use crate::lab::{Lab, Process, Program};

const HOST: &str = "istiod";
const PORT: u16 = 15012;

/// Where an authority or a plane of the arena keeps what is its own.
const FOLDER: &str = "ca";

/// A control plane that runs, or has been killed.
pub(in super::super) struct Plane {
    program: PathBuf,
    process: Process,
}

impl Plane {
    /// Starts it, for the mesh that is in the laboratory's file.
    pub(super) fn start(program: &Path, lab: &mut Lab) -> Result<Plane> {
        if !program.exists() {
            let hint = "cargo build --package ringway-test-plane";
            return Err(not_run(format!("{} is not there: {hint}", program.display())));
        }
        lab.add_host(HOST)?;
        let folder = lab.directory().join(FOLDER);
        fs::create_dir_all(&folder)?;
        Ok(Plane { program: program.to_owned(), process: launch(program, lab)? })
    }

    /// Ends it without warning.
    pub(in super::super) fn kill(&mut self) -> Result<()> {
        self.process.signal(rustix::process::Signal::KILL)?;
        self.process.wait(PATIENCE)?;
        Ok(())
    }

    /// Starts it again after it was killed.
    pub(in super::super) fn restart(&mut self, lab: &Lab) -> Result<()> {
        self.process = launch(&self.program, lab)?;
        Ok(())
    }

    /// The lines of its journal since it was last started.
    pub(in super::super) fn journal(&self, lab: &Lab) -> Result<Vec<Value>> {
        let file = lab.directory().join(FOLDER).join("journal.jsonl");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("cannot read the journal {}", file.display()))?;
        // The last line may still be written.
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let began = lines.iter().rposition(|line| line["what"] == "began");
        ensure!(began.is_some(), "the journal does not begin");
        Ok(lines.into_iter().skip(began.unwrap_or_default()).collect())
    }
}

fn launch(program: &Path, lab: &Lab) -> Result<Process> {
    let folder = lab.directory().join(FOLDER);
    let address = lab.namespace(HOST).address().to_string();
    let plane = Program::new(program)
        .arguments(["serve", "--file"])
        .argument(lab.directory().join("mesh/mesh.yaml"))
        .argument("--directory")
        .argument(&folder)
        .arguments(["--listen", &SocketAddr::from(([0, 0, 0, 0], PORT)).to_string()])
        .arguments(["--name", "istiod.istio-system.svc", "--name", &address]);
    let plane = HOSTS.into_iter().fold(plane, |plane, host| {
        let socket = folder.join(format!("{host}.sock"));
        plane.argument("--agent").argument(format!("{host}={}", socket.display()))
    });
    let mut process = lab.start(HOST, "test-plane", &plane)?;
    process.wait_for_log("ready", PATIENCE)?;
    Ok(process)
}

/// What a proxy in ztunnel's place is told by its environment.
pub(super) fn environment(lab: &Lab, host: &str) -> Vec<(&'static str, String)> {
    let folder = lab.directory().join(FOLDER);
    let file = |name: &str| folder.join(name).display().to_string();
    let plane = format!("https://{}:{PORT}", lab.namespace(HOST).address());
    vec![
        ("XDS_ADDRESS", plane.clone()),
        ("CA_ADDRESS", plane),
        ("XDS_ROOT_CA", file("root-cert.pem")),
        ("CA_ROOT_CA", file("root-cert.pem")),
        ("AUTH_TOKEN", file(&format!("tokens/{host}"))),
        ("INPOD_UDS", file(&format!("{host}.sock"))),
        ("NODE_NAME", host.to_owned()),
        ("POD_NAME", format!("ztunnel-{host}")),
        ("POD_NAMESPACE", "istio-system".to_owned()),
        ("SERVICE_ACCOUNT", "ztunnel".to_owned()),
        ("INSTANCE_IP", lab.namespace(host).address().to_string()),
        (
            "RINGWAY_STATE_DIRECTORY",
            lab.directory().join(format!("state-{host}")).display().to_string(),
        ),
    ]
}
