//! How the proxies of an arena are set up: their configuration, and how they are started.

use std::path::PathBuf;

use super::super::trial::Settings;
use super::{HOSTS, PODS, SERVED, plane};
use crate::lab::{Lab, Program};

/// How the proxies of an arena are set up.
#[derive(Clone, Debug)]
pub(in super::super) struct Plan {
    reactor: &'static str,
    ringway: PathBuf,
    own: PathBuf,
    leaf_lifetime: String,
    drain_deadline: String,
    log_level: String,
    /// What stands before the program on a host's command line.
    wrappers: Vec<(&'static str, Vec<String>)>,
    environment: Vec<(String, String)>,
    without: Option<&'static str>,
    /// Pods, and the priority of their servers.
    preferred_servers: &'static [(&'static str, u8)],
    pub(super) apart: bool,
    documents: String,
    version: u32,
    /// The program of the control plane that tells the proxies about the mesh; without it, they read it.
    pub(super) plane: Option<PathBuf>,
}

impl Plan {
    /// As a mesh comes, without a line for every connection.
    pub(in super::super) fn new(settings: &Settings) -> Plan {
        Plan {
            reactor: settings.reactor.name(),
            ringway: settings.ringway.clone(),
            own: settings.own.clone(),
            leaf_lifetime: "24h".to_owned(),
            drain_deadline: "5s".to_owned(),
            log_level: "info,access=off".to_owned(),
            wrappers: Vec::new(),
            environment: Vec::new(),
            without: None,
            preferred_servers: &[],
            apart: false,
            documents: String::new(),
            version: 0,
            plane: None,
        }
    }

    /// Certificates of workloads live for so long.
    pub(in super::super) fn leaf_lifetime(mut self, lifetime: &str) -> Plan {
        self.leaf_lifetime = lifetime.to_owned();
        self
    }

    /// What is logged.
    pub(in super::super) fn log_level(mut self, level: &str) -> Plan {
        self.log_level = level.to_owned();
        self
    }

    /// How long open connections may go on at the end.
    pub(in super::super) fn drain_deadline(mut self, deadline: &str) -> Plan {
        self.drain_deadline = deadline.to_owned();
        self
    }

    /// Which reactor the configuration asks for.
    pub(in super::super) fn reactor(mut self, reactor: &'static str) -> Plan {
        self.reactor = reactor;
        self
    }

    /// The proxy of `host` is started by this program.
    pub(in super::super) fn wrapped(mut self, host: &'static str, wrapper: &[&str]) -> Plan {
        let wrapper = wrapper.iter().map(|word| (*word).to_owned()).collect();
        self.wrappers.push((host, wrapper));
        self
    }

    /// Both proxies stand before busy programs as `deploy/systemd/ringway.service` has it.
    pub(in super::super) fn standing(self) -> Plan {
        HOSTS.into_iter().fold(self, |plan, host| plan.wrapped(host, &["nice", "-n", "-10"]))
    }

    /// Both proxies have this in their environment.
    pub(in super::super) fn environment(mut self, name: &str, value: &str) -> Plan {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// This pod is not in the mesh.
    pub(in super::super) fn without(mut self, pod: &'static str) -> Plan {
        self.without = Some(pod);
        self
    }

    /// The null servers of these pods run before whoever else wants the processors, each with its priority.
    pub(in super::super) fn preferred_servers(
        mut self,
        servers: &'static [(&'static str, u8)],
    ) -> Plan {
        self.preferred_servers = servers;
        self
    }

    /// Each host has processors of its own.
    pub(in super::super) fn apart(mut self) -> Plan {
        self.apart = true;
        self
    }

    /// What serves in a pod.
    pub(super) fn server(&self, pod: &str) -> Program {
        let serve = Program::new(&self.own).arguments(["serve", "null", "--listen"]);
        let serve = serve.argument(format!("0.0.0.0:{SERVED}"));
        match self.preferred_servers.iter().find(|(preferred, _)| *preferred == pod) {
            Some((_, priority)) => serve.preferred(*priority),
            None => serve,
        }
    }

    /// The proxies are told by a control plane and an agent, as in a cluster.
    pub(in super::super) fn under_control_plane(mut self) -> Plan {
        self.plane = Some(self.ringway.with_file_name("ringway-test-plane"));
        self
    }

    /// Further documents of the configuration.
    pub(in super::super) fn documents(mut self, documents: &str) -> Plan {
        self.documents = documents.to_owned();
        self
    }

    /// A configuration that differs from that of the version before in the label of every workload
    /// and in whether there is one more.
    pub(in super::super) fn version(mut self, version: u32) -> Plan {
        self.version = version;
        self
    }

    pub(super) fn configuration(&self, lab: &Lab) -> String {
        let mut text = String::new();
        for host in HOSTS {
            text.push_str(&format!(
                "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {host}}}\n\
                 spec:\n  reactor: {}\n  pinCores: false\n  drainDeadline: {}\n  \
                 certificateAuthority: {{directory: ../ca, leafLifetime: {}}}\n  \
                 log: {{level: \"{}\"}}\n  workloads:\n",
                self.reactor, self.drain_deadline, self.leaf_lifetime, self.log_level
            ));
            for (pod, place, _) in PODS {
                if place == host && self.has(pod) {
                    let path = lab.namespace(pod).path().display();
                    text.push_str(&format!("  - {{name: {pod}, networkNamespace: {path}}}\n"));
                }
            }
        }
        for (pod, host, [a, b, c, d]) in PODS.into_iter().filter(|(pod, ..)| self.has(pod)) {
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {pod}, labels: {{app: {pod}, version: \"{}\"}}}}\n\
                 spec: {{serviceAccountName: {pod}, nodeName: {host}}}\n\
                 status: {{podIP: {a}.{b}.{c}.{d}}}\n",
                self.version
            ));
        }
        if self.version % 2 == 1 {
            text.push_str(
                "---\napiVersion: v1\nkind: Pod\nmetadata: {name: guest, annotations: \
                 {ambient.istio.io/redirection: enabled}}\n\
                 spec: {serviceAccountName: guest, nodeName: elsewhere}\n\
                 status: {podIP: 10.9.0.9}\n",
            );
        }
        text + &self.documents
    }

    pub(super) fn program(&self, lab: &Lab, host: &str) -> Program {
        let wrapper = self.wrappers.iter().find(|(wrapped, _)| *wrapped == host);
        let program = match wrapper.map(|(_, words)| &words[..]) {
            Some([program, arguments @ ..]) => {
                Program::new(program).arguments(arguments).argument(&self.ringway)
            }
            _ => Program::new(&self.ringway),
        };
        let program = match self.plane {
            Some(_) => self.told_by_a_plane(program, lab, host),
            None => {
                let file = lab.directory().join("mesh/mesh.yaml");
                program.arguments(["run", "--node", host, "--file"]).argument(file)
            }
        };
        self.environment
            .iter()
            .fold(program, |program, (name, value)| program.environment(name, value))
    }

    fn told_by_a_plane(&self, program: Program, lab: &Lab, host: &str) -> Program {
        plane::environment(lab, host)
            .into_iter()
            .fold(program, |program, (name, value)| program.environment(name, value))
            .environment("SECRET_TTL", &self.leaf_lifetime)
            .environment("CONNECTION_TERMINATION_DEADLINE", &self.drain_deadline)
            .environment("RINGWAY_REACTOR", self.reactor)
            .environment("RUST_LOG", &self.log_level)
            .arguments(["proxy", "ztunnel"])
    }

    fn has(&self, pod: &str) -> bool {
        !matches!(pod, "stranger" | "legacy") && self.without != Some(pod)
    }
}
