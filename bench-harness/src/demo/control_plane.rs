//! The other way to show it: a control plane for tests, and node proxies in ztunnel's place.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::bookstore::{HOSTS, PATIENCE};
use crate::lab::{Lab, Process, Program};

/// The host the control plane is on; it is there before the mesh.
pub(super) const HOST: &str = "istiod";

const PORT: u16 = 15012;

/// A control plane that runs.
pub(super) struct ControlPlane {
    program: PathBuf,
    /// Where its root, its tokens and its sockets are.
    directory: PathBuf,
    address: String,
    process: Process,
}

impl ControlPlane {
    /// Starts it for the files in `mesh`, and waits until it serves.
    pub(super) fn start(lab: &Lab, program: &Path, mesh: &Path) -> Result<ControlPlane> {
        let address = lab.namespace(HOST).address().to_string();
        let directory = mesh.join("ca");
        let mut serve = Program::new(program)
            // A proxy that listens already refuses nobody while an application that runs joins.
            .arguments(["serve", "--proxy-first", "--name", &address, "--listen"])
            .argument(format!("{address}:{PORT}"))
            .argument("--file")
            .argument(mesh)
            .argument("--directory")
            .argument(&directory);
        for host in HOSTS {
            let socket = directory.join(format!("{host}.sock"));
            serve = serve.argument("--agent").argument(format!("{host}={}", socket.display()));
        }
        let mut process = lab.start(HOST, "control-plane", &serve)?;
        process.wait_for_log("ready", PATIENCE)?;
        Ok(ControlPlane { program: program.to_owned(), directory, address, process })
    }

    /// `program` in ztunnel's place on `host`.
    pub(super) fn proxy(&self, program: Program, host: &str) -> Program {
        let file = |name: &str| self.directory.join(name);
        let address = format!("https://{}:{PORT}", self.address);
        program
            .arguments(["proxy", "ztunnel"])
            .environment("XDS_ADDRESS", &address)
            .environment("CA_ADDRESS", &address)
            .environment("XDS_ROOT_CA", file("root-cert.pem"))
            .environment("CA_ROOT_CA", file("root-cert.pem"))
            .environment("AUTH_TOKEN", file("tokens").join(host))
            .environment("INPOD_UDS", file(&format!("{host}.sock")))
            .environment("RINGWAY_STATE_DIRECTORY", file(&format!("state-{host}")))
            .environment("NODE_NAME", host)
            .environment("POD_NAME", format!("ztunnel-{host}"))
            .environment("POD_NAMESPACE", "istio-system")
            .environment("SERVICE_ACCOUNT", "ztunnel")
    }

    /// Has all pods leave the mesh: their rules go, and the proxies are told.
    pub(super) fn remove_all_pods(&self) -> Result<()> {
        let mut tell = Command::new(&self.program);
        let socket = self.directory.join("orders.sock");
        let output = tell.arg("tell").arg(socket).arg(r#"{"order": "remove-all-pods"}"#).output();
        let output = output.context("cannot give an order to the control plane")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the control plane refused: {complaint}");
        Ok(())
    }

    /// Ends it.
    pub(super) fn end(mut self) -> Result<()> {
        let status = self.process.terminate(PATIENCE)?;
        ensure!(status.success(), "{status}:\n{}", self.process.log());
        Ok(())
    }
}
