//! Ringway itself, one process on each pod's host.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::company::{self, Company, Service};
use super::{
    Bench, Changing, Group, Handshakes, InMesh, Options, Pair, Populating, Programs, Replacing,
    Resumption, Rules, Subject, service_mesh, tail,
};
use crate::handover::hand_over;
use crate::http::get_from;
use crate::lab::{Process, Program, wait_until};
use crate::mesh::Mesh;

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
    pub(super) program: PathBuf,
    way: Way,
}

impl Ringway {
    pub(super) fn new(programs: &Programs, way: Way) -> Ringway {
        Ringway { program: programs.ringway.clone(), way }
    }

    /// The settings of a host. What it captures is to follow.
    pub(super) fn node_document(&self, name: &str, options: &Options) -> String {
        let reactor = if self.way == Way::AloneOnEpoll { "epoll" } else { "auto" };
        let redirect = if self.way == Way::InIstio { "none" } else { "nftables" };
        let resumption = options.handshakes == Handshakes::Usual;
        let workers = options.workers();
        format!(
            "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}}}\n\
             spec:\n  reactor: {reactor}\n  redirect: {redirect}\n  cores: {workers}\n  \
             sessionResumption: {resumption}\n  certificateAuthority: {{directory: ca}}\n  \
             log: {{level: \"info,access=off\"}}\n  workloads:\n"
        )
    }

    /// The mesh: both nodes, the pods they capture, and what differs from version to version.
    fn configuration(&self, bench: &Bench, options: &Options, version: u32) -> String {
        let mut text = String::new();
        for (side, node) in ["near", "far"].into_iter().enumerate() {
            text.push_str(&self.node_document(node, options));
            let pods = || Bench::pairs(options).iter().map(|pair| pair[side]);
            for pod in pods() {
                let path = bench.lab.namespace(pod).path().display();
                text.push_str(&format!("  - {{name: {pod}, networkNamespace: {path}}}\n"));
            }
            for pod in pods() {
                let address = bench.lab.namespace(pod).address();
                text.push_str(&format!(
                    "---\napiVersion: v1\nkind: Pod\n\
                     metadata: {{name: {pod}, labels: {{version: \"{version}\"}}}}\n\
                     spec: {{serviceAccountName: {pod}, nodeName: {node}}}\n\
                     status: {{podIP: {address}}}\n",
                ));
            }
        }
        if version % 2 == 1 {
            text.push_str(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {name: guest, annotations: \
                 {ambient.istio.io/redirection: enabled}}\n\
                 spec: {serviceAccountName: guest, nodeName: elsewhere}\n\
                 status: {podIP: 10.9.0.9}\n",
            );
        }
        text
    }

    /// The mesh of a company, which both hosts know as a whole.
    fn company_configuration(&self, company: &Company) -> String {
        let mut text = String::new();
        for (number, host) in company::HOSTS.into_iter().enumerate() {
            text.push_str(&self.node_document(host, &Options::default()));
            for service in company.services().iter().filter(|service| service.host == number) {
                let path = company.lab.namespace(&service.name).path().display();
                let Service { name, group, .. } = service;
                text.push_str(&format!(
                    "  - {{name: {name}, namespace: {group}, networkNamespace: {path}}}\n"
                ));
            }
        }
        for (number, service) in company.services().iter().enumerate() {
            let Service { name, group, host, address } = service;
            let (high, low) = (number / 250, number % 250 + 1);
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {group}}}\n\
                 spec:\n  clusterIP: 10.96.{high}.{low}\n  selector: {{app: {name}}}\n  \
                 ports: [{{port: 80, targetPort: {}}}]\n---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {name}, namespace: {group}, labels: {{app: {name}}}}}\n\
                 spec: {{serviceAccountName: {name}, nodeName: {}}}\nstatus: {{podIP: {address}}}\n",
                company::PORT,
                company::HOSTS[*host],
            ));
        }
        text
    }

    /// Starts both sides in the mesh of a service that has its waypoint, or has none.
    pub(super) fn start_nodes(
        &self,
        bench: &Bench,
        rules: u32,
        has_waypoint: bool,
    ) -> Result<Pair> {
        self.check()?;
        let settings =
            service_mesh::NODES.map(|name| self.node_document(name, &Options::default()));
        service_mesh::start_nodes(&self.program, &settings, bench, rules, has_waypoint)
    }

    fn check(&self) -> Result<()> {
        ensure!(
            self.program.exists(),
            "there is no program {}; build it (cargo build --release -p ringway) or name it with \
             --ringway",
            self.program.display()
        );
        Ok(())
    }

    pub(super) fn wait_until_ready(
        bench: &Bench,
        name: &str,
        process: &mut Process,
        patience: Duration,
    ) -> Result<()> {
        let host = bench.lab.namespace(&format!("{name}-host"));
        let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
        let waited = wait_until("ringway is ready", patience, || {
            !process.is_running()
                || get_from(host, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
        });
        waited.with_context(|| tail(&process.log()))?;
        let state = process.state();
        ensure!(state == "runs", "ringway ended at once ({state}): {}", tail(&process.log()));
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

    fn resumption(&self) -> Resumption {
        Resumption::Optional
    }

    fn start(&self, bench: &Bench, options: &Options) -> Result<Pair> {
        self.check()?;
        let configuration = self.configuration(bench, options, 0);
        let folder = folder(bench);
        fs::create_dir_all(&folder)?;
        let file = folder.join("mesh.yaml");
        fs::write(&file, &configuration)?;
        let start = |name: &str| {
            let program = Program::new(&self.program)
                .arguments(["run", "--node", name, "--file"])
                .argument(&file);
            let program = options.placed(program);
            bench.lab.start(&format!("{name}-host"), &format!("ringway-{name}"), &program)
        };
        let (mut near, mut far) = (start("near")?, start("far")?);
        Self::wait_until_ready(bench, "near", &mut near, PATIENCE)?;
        Self::wait_until_ready(bench, "far", &mut far, PATIENCE)?;
        // Its log tells which reactor it has taken.
        let configurations = vec![
            ("mesh.yaml".to_owned(), configuration),
            ("near.log".to_owned(), near.log()),
            ("far.log".to_owned(), far.log()),
        ];
        Ok(Pair { near: vec![near], far: vec![far], configurations, ..Pair::default() })
    }

    fn changing(&self) -> Option<&dyn Changing> {
        Some(self)
    }

    fn replacing(&self) -> Option<&dyn Replacing> {
        Some(self)
    }

    fn populating(&self) -> Option<&dyn Populating> {
        // The rules of somebody else would have to be in all pods.
        if self.way == Way::InIstio { None } else { Some(self) }
    }

    fn serves_neighbours(&self) -> bool {
        true
    }

    fn start_before_service(&self, bench: &Bench, _rules: u32) -> Result<Pair> {
        ensure!(self.way == Way::Alone, "it stands before a service in the same way as ringway");
        self.start_nodes(bench, 0, false)
    }

    fn start_in_mesh(&self, bench: &Bench, mesh: &Mesh) -> Result<InMesh> {
        ensure!(self.way == Way::Alone, "it knows the mesh in the same way as ringway");
        self.check()?;
        self.start_side_in_mesh(bench, mesh)
    }
}

impl Populating for Ringway {
    fn populate(&self, company: &Company, go_on: &dyn Fn() -> Result<()>) -> Result<Vec<Process>> {
        self.check()?;
        let file = company.lab.directory().join("mesh.yaml");
        fs::write(&file, self.company_configuration(company))?;
        let start = |host: &&str| {
            go_on()?;
            let program = Program::new(&self.program)
                .arguments(["run", "--node", host, "--file"])
                .argument(&file);
            company.lab.start(host, &format!("ringway-{host}"), &program)
        };
        company::HOSTS.iter().map(start).collect()
    }
}

/// Its files have a folder of their own: whatever happens in theirs, Ringway waits until it is quiet.
fn folder(bench: &Bench) -> PathBuf {
    bench.lab.directory().join("mesh")
}

impl Replacing for Ringway {
    fn replace(&self, process: &mut Process) -> Result<Process> {
        hand_over(process, PATIENCE)
    }
}

impl Changing for Ringway {
    fn swap(&self, bench: &Bench, number: u32) -> Result<()> {
        let folder = folder(bench);
        let next = folder.join("mesh.yaml.next");
        fs::write(&next, self.configuration(bench, &Options::default(), number))?;
        fs::rename(next, folder.join("mesh.yaml")).context("cannot rename the configuration")
    }

    fn taken(&self, bench: &Bench) -> Result<u64> {
        let of_side = |name: &str| {
            let host = bench.lab.namespace(&format!("{name}-host"));
            let metrics = SocketAddr::from(([127, 0, 0, 1], 15020));
            let (_, text) = get_from(host, metrics, "/metrics")
                .with_context(|| format!("no metrics of ringway on the {name} side"))?;
            let generation =
                text.lines().find_map(|line| line.strip_prefix("ringway_snapshot_generation "));
            let generation = generation.context("no ringway_snapshot_generation in its metrics")?;
            Ok::<u64, anyhow::Error>(generation.trim().parse()?)
        };
        Ok(of_side("near")?.min(of_side("far")?))
    }
}
