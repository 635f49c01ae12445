//! A mesh of 150,000 workloads and 6,000 services in both formats, measured:
//!
//! ```sh
//! cargo test --release -p ringway-control scale -- --ignored --nocapture --test-threads 1
//! ```
//!
//! Memory is the whole process's, so that each format needs a process of its own to be compared with the other.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use crate::source::{Source, load, reload};

const WORKLOADS: usize = 150_000;
const SERVICES: usize = 6_000;
const NAMESPACES: usize = 100;
const NODES: usize = 1_500;

/// What the `index`th workload is called, and where it is.
struct Replica {
    service: usize,
    namespace: usize,
    name: String,
    node: usize,
    address: String,
}

impl Replica {
    fn new(index: usize) -> Replica {
        let service = index % SERVICES;
        Replica {
            service,
            namespace: service % NAMESPACES,
            name: format!("web-{service}-5d4f8c7b9d-{index:06x}"),
            node: index % NODES,
            address: format!("10.{}.{}.{}", index / 65_536, index / 256 % 256, index % 256),
        }
    }

    fn local(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Replica { service, namespace, name, node, address } = self;
        writeln!(
            out,
            "- uid: Kubernetes//Pod/ns{namespace}/{name}\n  name: {name}\n  namespace: ns{namespace}\n  \
             trustDomain: cluster.local\n  serviceAccount: web-{service}\n  clusterId: Kubernetes\n  \
             node: node-{node}\n  network: \"\"\n  workloadIps: [\"{address}\"]\n  protocol: HBONE\n  \
             workloadName: web-{service}\n  workloadType: deployment\n  canonicalName: web-{service}\n  \
             canonicalRevision: v1\n  status: Healthy\n  capacity: 1\n  services:\n    \
             \"ns{namespace}/web-{service}.ns{namespace}.svc.cluster.local\":\n      80: 8080"
        )
    }

    fn kubernetes(&self, out: &mut impl Write) -> std::io::Result<()> {
        let Replica { service, namespace, name, node, address } = self;
        writeln!(
            out,
            "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: ns{namespace}\n  \
             labels: {{app: web-{service}, version: v1, pod-template-hash: 5d4f8c7b9d, \
             istio.io/dataplane-mode: ambient}}\n  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, \
             name: web-{service}-5d4f8c7b9d, controller: true, uid: x}}]\nspec:\n  nodeName: node-{node}\n  \
             serviceAccountName: web-{service}\n  containers:\n  - {{name: web, ports: [{{name: http, \
             containerPort: 8080}}]}}\nstatus:\n  phase: Running\n  podIP: {address}\n  \
             conditions: [{{type: Ready, status: \"True\"}}]"
        )
    }
}

fn local_file(directory: &Path) -> std::io::Result<PathBuf> {
    let path = directory.join("local.yaml");
    let mut out = BufWriter::new(fs::File::create(&path)?);
    writeln!(out, "workloads:")?;
    (0..WORKLOADS).try_for_each(|index| Replica::new(index).local(&mut out))?;
    writeln!(out, "services:")?;
    for service in 0..SERVICES {
        let (namespace, address) = (service % NAMESPACES, virtual_address(service));
        writeln!(
            out,
            "- {{name: web-{service}, namespace: ns{namespace}, canonical: true, ports: {{80: 8080}}, \
             hostname: web-{service}.ns{namespace}.svc.cluster.local, vips: [/{address}]}}"
        )?;
    }
    out.flush()?;
    Ok(path)
}

fn kubernetes_file(directory: &Path) -> std::io::Result<PathBuf> {
    let path = directory.join("kubernetes.yaml");
    let mut out = BufWriter::new(fs::File::create(&path)?);
    (0..WORKLOADS).try_for_each(|index| Replica::new(index).kubernetes(&mut out))?;
    for service in 0..SERVICES {
        let (namespace, address) = (service % NAMESPACES, virtual_address(service));
        writeln!(
            out,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web-{service}, namespace: ns{namespace}}}\n\
             spec: {{clusterIP: {address}, selector: {{app: web-{service}}}, \
             ports: [{{name: http, port: 80, targetPort: http}}]}}"
        )?;
    }
    out.flush()?;
    Ok(path)
}

fn virtual_address(service: usize) -> String {
    format!("10.96.{}.{}", service / 256, service % 256)
}

/// A line of `/proc/self/status`, in kB.
fn memory(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn measure(name: &str, path: &Path) {
    let bytes = fs::metadata(path).unwrap().len();
    let sources = [Source::Path(path.into())];
    println!("{name}: {} MB of text, {} kB at the start", bytes / 1_000_000, memory("VmRSS"));
    let began = Instant::now();
    let mesh = load(&sources, None).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    println!(
        "  load {:.2?}: {} kB, at most {} kB",
        began.elapsed(),
        memory("VmRSS"),
        memory("VmHWM")
    );
    assert_eq!(mesh.snapshot.workload_count(), WORKLOADS);
    assert_eq!(mesh.snapshot.service_count(), SERVICES);
    let began = Instant::now();
    let again =
        reload(&sources, None, &mesh.snapshot).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    println!(
        "  reload {:.2?}: {} kB, at most {} kB",
        began.elapsed(),
        memory("VmRSS"),
        memory("VmHWM")
    );
    assert_eq!(again.snapshot.workload_count(), WORKLOADS);
}

#[test]
#[ignore = "takes a minute and 80 MB of disk; run it to measure"]
fn scale_of_a_local_file() {
    let directory = TempDir::new().unwrap();
    measure("local file", &local_file(directory.path()).unwrap());
}

#[test]
#[ignore = "takes a minute and 80 MB of disk; run it to measure"]
fn scale_of_kubernetes_objects() {
    let directory = TempDir::new().unwrap();
    measure("Kubernetes objects", &kubernetes_file(directory.path()).unwrap());
}
