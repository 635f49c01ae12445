//! The mesh of one service, and Ringway's nodes on both of its hosts; its waypoint is for others to start.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{Bench, ECHO, Pair, SERVICE, SERVICE_PORTS, WORKERS, tail};
use crate::http::get_from;
use crate::lab::{Process, Program, wait_until};

/// The nodes, and the pod that each of them captures.
pub(super) const NODES: [&str; 2] = ["near", "far"];

/// How long whatever is in it may take to be ready.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Rules of one route.
const RULES_PER_ROUTE: u32 = 100;

/// Starts both nodes, in a mesh whose service has its waypoint, or has none; `settings` are those of
/// the near and of the far one.
pub(super) fn start_nodes(
    program: &Path,
    settings: &[String; 2],
    bench: &Bench,
    rules: u32,
    has_waypoint: bool,
) -> Result<Pair> {
    let file = file(bench);
    let folder = file.parent().context("the file is in a folder")?;
    fs::create_dir_all(folder.join("ca"))?;
    // The authority whose certificates Envoy has, too.
    for (own, kept, mode) in
        [("root.pem", "root-cert.pem", 0o644), ("root.key", "root-key.pem", 0o600)]
    {
        let kept = folder.join("ca").join(kept);
        fs::copy(bench.lab.directory().join(own), &kept)?;
        fs::set_permissions(&kept, fs::Permissions::from_mode(mode))?;
    }
    fs::write(&file, documents(settings, bench, rules, has_waypoint))?;
    let start = |name: &str| {
        let program =
            Program::new(program).arguments(["run", "--node", name, "--file"]).argument(&file);
        bench.lab.start(&format!("{name}-host"), &format!("ringway-{name}"), &program)
    };
    let (mut near, mut far) = (start("near")?, start("far")?);
    wait_until_ready(bench, "near-host", &mut near)?;
    wait_until_ready(bench, "far-host", &mut far)?;
    let mesh = documents(settings, bench, 0, has_waypoint);
    let configurations = vec![("mesh.yaml".to_owned(), mesh)];
    Ok(Pair { near: vec![near], far: vec![far], configurations, ..Pair::default() })
}

/// The mesh's own folder: whatever happens in others, Ringway waits until it is quiet.
pub(super) fn file(bench: &Bench) -> PathBuf {
    bench.lab.directory().join("service-mesh").join("mesh.yaml")
}

fn documents(settings: &[String; 2], bench: &Bench, rules: u32, has_waypoint: bool) -> String {
    let mut text = String::new();
    for (name, settings) in NODES.into_iter().zip(settings) {
        let pod = bench.lab.namespace(name);
        text.push_str(settings);
        text.push_str(&format!(
            "  - {{name: {name}, networkNamespace: {}}}\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: {name}, labels: {{app: {name}}}}}\n\
             spec: {{serviceAccountName: {name}, nodeName: {name}}}\nstatus: {{podIP: {}}}\n",
            pod.path().display(),
            pod.address()
        ));
    }
    let label = if has_waypoint { ", labels: {istio.io/use-waypoint: middle}" } else { "" };
    text.push_str(&format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web{label}}}\n\
         spec:\n  clusterIP: {SERVICE}\n  selector: {{app: far}}\n  ports:\n"
    ));
    let target = port_of_server();
    for (spoken, port) in SERVICE_PORTS {
        let spoken = if spoken == "http1" { "http" } else { spoken };
        text.push_str(&format!("  - {{name: {spoken}, port: {port}, targetPort: {target}}}\n"));
    }
    if !has_waypoint {
        return text;
    }
    text.push_str(&format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: middle}}\nspec:\n  \
         gatewayClassName: ringway-waypoint\n  listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]\n\
         ---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: middle\n  \
         labels: {{gateway.networking.k8s.io/gateway-name: middle}}\n  \
         annotations: {{ambient.istio.io/redirection: enabled}}\n\
         spec: {{serviceAccountName: middle}}\nstatus: {{podIP: {}}}\n\
         ---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: middle}}\nspec:\n  \
         cores: {WORKERS}\n  certificateAuthority: {{directory: ca}}\n",
        bench.lab.namespace("middle").address()
    ));
    text.push_str(&routes(rules));
    text
}

/// So many rules that requests of the load do not meet, and one for everything else.
pub(super) fn routes(rules: u32) -> String {
    let mut text = String::new();
    for first in (0..rules).step_by(RULES_PER_ROUTE as usize) {
        text.push_str(&route(&format!("route-{first}")));
        for number in first..rules.min(first + RULES_PER_ROUTE) {
            text.push_str(&format!(
                "  - matches: [{{path: {{type: PathPrefix, value: {}}}}}]\n    \
                 backendRefs: [{{name: web, port: 80}}]\n",
                path(number)
            ));
        }
    }
    // With its own port each, so that what is declared there is what is spoken.
    for (spoken, port) in SERVICE_PORTS {
        text.push_str(&route(spoken).replace("name: web}", &format!("name: web, port: {port}}}")));
        text.push_str(&format!("  - backendRefs: [{{name: web, port: {port}}}]\n"));
    }
    text
}

fn route(name: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs: [{{group: '', kind: Service, name: web}}]\n  rules:\n"
    )
}

/// What a rule that no request meets is for.
pub(super) fn path(number: u32) -> String {
    format!("/api/v1/resource-{number}/items")
}

pub(super) fn port_of_server() -> u16 {
    ECHO.parse::<SocketAddr>().expect("an address").port()
}

pub(super) fn wait_until_ready(bench: &Bench, place: &str, process: &mut Process) -> Result<()> {
    let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
    let waited = wait_until("ringway is ready", PATIENCE, || {
        !process.is_running()
            || get_from(bench.lab.namespace(place), ready, "/healthz/ready")
                .is_ok_and(|(code, _)| code == 200)
    });
    waited.with_context(|| tail(&process.log()))?;
    ensure!(process.is_running(), "ringway ended at once: {}", tail(&process.log()));
    Ok(())
}
