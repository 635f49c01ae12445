//! Ringway on the client's host with a large mesh, as documents or as ztunnel's local file.
//!
//! The change is a second file, which has everything that is in the first, and one workload more.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::ringway::Ringway;
use super::{Bench, ECHO, InMesh, Options, PROBE, Rules};
use crate::lab::Program;
use crate::mesh::{Format, Mesh};

const PATIENCE: Duration = Duration::from_secs(120);

impl Ringway {
    pub(super) fn start_side_in_mesh(&self, bench: &Bench, mesh: &Mesh) -> Result<InMesh> {
        // A folder of its own: whatever happens in theirs, Ringway waits until it is quiet.
        let folder = bench.lab.directory().join("scale");
        fs::create_dir_all(&folder)?;
        let (now, next) = (folder.join("mesh.yaml"), folder.join("mesh-next.yaml"));
        let file = folder.join("node.yaml");
        let path = bench.lab.namespace("near").path().display();
        let captured = format!("  - {{name: near, networkNamespace: {path}}}\n");
        fs::write(&file, self.node_document("near", &Options::default()) + &captured)?;
        for (path, changed) in [(&now, false), (&next, true)] {
            let mut out = BufWriter::new(File::create(path)?);
            match mesh.format {
                Format::Documents => {
                    mesh.write(&mut out)?;
                    out.write_all(documents(bench, changed).as_bytes())?;
                }
                Format::Ztunnel => {
                    let mut text = Vec::new();
                    mesh.write(&mut text)?;
                    let text = String::from_utf8(text)?;
                    let (workloads, service) = local(bench, changed);
                    let text = text.replacen("workloads:\n", &workloads, 1);
                    // One that stands at the beginning of a line; others are those of workloads.
                    let text = text.replacen("\nservices:\n", &service, 1);
                    out.write_all(text.as_bytes())?;
                }
            }
            out.flush()?;
        }
        let program = Program::new(&self.program)
            .arguments(["run", "--node", "near", "--file"])
            .argument(&file)
            .argument("--file")
            .argument(&now);
        bench.install_in(&["near", "far"], Rules::None)?;
        let began = Instant::now();
        let mut process = bench.lab.start("near-host", "ringway-scale", &program)?;
        Ringway::wait_until_ready(bench, "near", &mut process, PATIENCE)?;
        Ok(InMesh { process, load_time: began.elapsed(), change: (next, now) })
    }
}

/// The client's pod, the service that is asked for, and after the change the server in it. The server
/// is not in the mesh, so that the change alone is what is waited for.
fn documents(bench: &Bench, changed: bool) -> String {
    let (vip, port) = PROBE.split_once(':').expect("an address and a port");
    let (server, target) = ECHO.split_once(':').expect("an address and a port");
    let near = bench.lab.namespace("near").address();
    let both = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: near}}\n\
         spec: {{serviceAccountName: near, nodeName: near}}\nstatus: {{podIP: {near}}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: probe}}\nspec:\n  clusterIP: {vip}\n  \
         selector: {{app: probe}}\n  ports: [{{port: {port}, targetPort: {target}}}]\n"
    );
    let more = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: probe, labels: {{app: probe}}}}\n\
         spec: {{nodeName: far}}\nstatus: {{podIP: {server}}}\n"
    );
    both + if changed { &more } else { "" }
}

/// The same for a local file: how its lists of workloads and of services begin.
fn local(bench: &Bench, changed: bool) -> (String, String) {
    let (vip, port) = PROBE.split_once(':').expect("an address and a port");
    let (server, target) = ECHO.split_once(':').expect("an address and a port");
    let near = bench.lab.namespace("near").address();
    let mut workloads = format!(
        "workloads:\n- uid: Kubernetes//Pod/default/near\n  name: near\n  namespace: default\n  \
         serviceAccount: near\n  trustDomain: cluster.local\n  node: near\n  protocol: HBONE\n  \
         workloadIps: [\"{near}\"]\n  services: {{}}\n"
    );
    if changed {
        workloads.push_str(&format!(
            "- uid: Kubernetes//Pod/default/probe\n  name: probe\n  namespace: default\n  \
             node: far\n  protocol: TCP\n  workloadIps: [\"{server}\"]\n  services:\n    \
             \"default/probe.default.svc.cluster.local\":\n      {port}: {target}\n"
        ));
    }
    let service = format!(
        "\nservices:\n- name: probe\n  namespace: default\n  \
         hostname: probe.default.svc.cluster.local\n  vips: [\"/{vip}\"]\n  ports:\n    \
         {port}: {target}\n  subjectAltNames: []\n"
    );
    (workloads, service)
}
