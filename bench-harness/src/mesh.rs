//! The configuration of a large mesh, for measuring what size costs.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;

use anyhow::Result;
use clap::{Args, ValueEnum};

/// The address of the first workload.
const WORKLOADS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);

/// How many workloads and services, and in which format.
#[derive(Clone, Debug, Args)]
pub struct Mesh {
    /// Workloads.
    #[arg(long, default_value_t = 150_000)]
    pub workloads: u32,
    /// Services; workloads are spread over them evenly.
    #[arg(long, default_value_t = 6_000)]
    pub services: u32,
    /// Hosts the workloads are spread over.
    #[arg(long, default_value_t = 1_000)]
    pub hosts: u32,
    /// The format.
    #[arg(long, default_value = "documents")]
    pub format: Format,
}

/// Which configuration format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Kubernetes-style documents.
    Documents,
    /// ztunnel's local file.
    Ztunnel,
}

impl Mesh {
    /// Prints it.
    pub fn run(&self) -> Result<()> {
        let mut out = BufWriter::new(io::stdout().lock());
        self.write(&mut out)?;
        Ok(out.flush()?)
    }

    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        match self.format {
            Format::Documents => self.write_documents(out),
            Format::Ztunnel => self.write_ztunnel(out),
        }
    }

    fn write_documents(&self, out: &mut impl Write) -> io::Result<()> {
        for Service { name, namespace, vip } in self.services() {
            write!(
                out,
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  \
                 namespace: {namespace}\nspec:\n  clusterIP: {vip}\n  selector:\n    app: {name}\n  \
                 ports:\n  - port: 80\n    targetPort: 8080\n"
            )?;
        }
        for workload in self.workload_list() {
            let Workload { name, service, address, host } = &workload;
            let Service { name: account, namespace, .. } = service;
            write!(
                out,
                "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  \
                 namespace: {namespace}\n  labels:\n    app: {account}\n    version: v1\n  \
                 annotations:\n    ambient.istio.io/redirection: enabled\nspec:\n  \
                 nodeName: {host}\n  serviceAccountName: {account}\nstatus:\n  \
                 podIP: {address}\n"
            )?;
        }
        Ok(())
    }

    fn write_ztunnel(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "workloads:")?;
        for workload in self.workload_list() {
            let Workload { name, service, address, host } = &workload;
            let Service { name: account, namespace, .. } = service;
            write!(
                out,
                "- uid: Kubernetes//Pod/{namespace}/{name}\n  name: {name}\n  \
                 namespace: {namespace}\n  trustDomain: cluster.local\n  \
                 serviceAccount: {account}\n  clusterId: Kubernetes\n  node: {host}\n  \
                 network: \"\"\n  workloadIps: [\"{address}\"]\n  protocol: HBONE\n  \
                 workloadName: {account}\n  workloadType: deployment\n  \
                 canonicalName: {account}\n  canonicalRevision: v1\n  status: Healthy\n  \
                 capacity: 1\n  services:\n    \"{namespace}/{}\":\n      80: 8080\n",
                service.hostname()
            )?;
        }
        writeln!(out, "services:")?;
        for service in self.services() {
            let Service { name, namespace, vip } = &service;
            write!(
                out,
                "- name: {name}\n  namespace: {namespace}\n  hostname: {}\n  \
                 vips: [\"/{vip}\"]\n  ports:\n    80: 8080\n  subjectAltNames: []\n",
                service.hostname()
            )?;
        }
        writeln!(out, "policies: []")
    }

    /// Every service: its hostname, its address, and the addresses of its workloads.
    pub fn endpoints(&self) -> impl Iterator<Item = (String, Ipv4Addr, Vec<Ipv4Addr>)> {
        let first = u32::from(WORKLOADS);
        self.services().zip(0..).map(move |(service, number)| {
            let workloads = (number..self.workloads).step_by(self.services.max(1) as usize);
            let addresses = workloads.map(|workload| Ipv4Addr::from(first + workload));
            (service.hostname(), service.vip, addresses.collect())
        })
    }

    fn services(&self) -> impl Iterator<Item = Service> {
        (0..self.services).map(Service::numbered)
    }

    fn workload_list(&self) -> impl Iterator<Item = Workload> {
        let (services, hosts) = (self.services.max(1), self.hosts.max(1));
        (0..self.workloads).map(move |number| {
            let service = Service::numbered(number % services);
            Workload {
                name: format!("{}-{}", service.name, number / services),
                service,
                address: Ipv4Addr::from(u32::from(WORKLOADS) + number),
                host: Host(number % hosts),
            }
        })
    }
}

struct Service {
    name: String,
    namespace: String,
    vip: Ipv4Addr,
}

impl Service {
    fn numbered(number: u32) -> Service {
        Service {
            name: format!("service-{number}"),
            namespace: format!("team-{}", number / 20),
            vip: Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number),
        }
    }

    fn hostname(&self) -> String {
        format!("{}.{}.svc.cluster.local", self.name, self.namespace)
    }
}

struct Workload {
    name: String,
    service: Service,
    address: Ipv4Addr,
    host: Host,
}

struct Host(u32);

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_workload_and_service_is_written_once() {
        for format in [Format::Documents, Format::Ztunnel] {
            let mut text = Vec::new();
            let mesh = Mesh { workloads: 30, services: 4, hosts: 3, format };
            mesh.write(&mut text).unwrap();
            let text = String::from_utf8(text).unwrap();
            let count = |needle: &str| text.matches(needle).count();
            match format {
                Format::Documents => {
                    assert_eq!((count("kind: Service\n"), count("kind: Pod")), (4, 30));
                }
                Format::Ztunnel => assert_eq!((count("- uid:"), count("- name:")), (30, 4)),
            }
            assert_eq!(count("10.128.0.29"), 1);
            for (hostname, vip, addresses) in mesh.endpoints() {
                assert_eq!(
                    count(&format!("{vip}\n")) + count(&format!("{vip}\"")),
                    1,
                    "{hostname}"
                );
                assert_eq!(addresses.len(), if hostname.as_str() < "service-2" { 8 } else { 7 });
            }
        }
    }
}
