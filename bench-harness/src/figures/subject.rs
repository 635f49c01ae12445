//! What is measured: a pair of proxies between two pods, and how to start each kind.

use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::http::get_from;
use crate::lab::{Lab, Process, Program, wait_until};
use crate::measure;
use crate::pki;

const PATIENCE: Duration = Duration::from_secs(30);

/// The address of the servers, and what each port does.
pub(super) const ECHO: &str = "10.9.0.2:8080";
/// Throws away what it gets.
pub(super) const DISCARD: &str = "10.9.0.2:8081";

/// A kind of proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Ringway with the reactor it chooses.
    Ringway,
    /// Ringway on epoll.
    RingwayEpoll,
    /// The reference relay with this many threads.
    Reference(usize),
}

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Subject> {
        Ok(match name {
            "ringway" => Subject::Ringway,
            "ringway-epoll" => Subject::RingwayEpoll,
            "reference" => Subject::Reference(2),
            "reference-1" => Subject::Reference(1),
            _ => bail!("no subject is called {name}"),
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Ringway => "ringway",
            Subject::RingwayEpoll => "ringway-epoll",
            Subject::Reference(1) => "reference-1",
            Subject::Reference(_) => "reference",
        })
    }
}

/// The two pods, the servers in one of them, and the rules in both.
pub(super) struct Bench {
    pub(super) lab: Lab,
    ringway: PathBuf,
    program: PathBuf,
    _servers: Vec<Process>,
}

/// A running pair.
pub(super) struct Pair {
    near: Process,
    far: Process,
}

impl Pair {
    /// Processor time of both.
    pub(super) fn processor_time(&self) -> Result<Duration> {
        let of = |process: &Process| measure::processor_time(process.id());
        Ok(of(&self.near)? + of(&self.far)?)
    }

    /// The ids of both.
    pub(super) fn ids(&self) -> [(&'static str, u32); 2] {
        [("near", self.near.id()), ("far", self.far.id())]
    }

    /// Resident bytes of the near and the far one.
    pub(super) fn resident_bytes(&self) -> Result<[u64; 2]> {
        let of = |process: &Process| Ok(measure::memory(process.id())?.resident_bytes);
        [&self.near, &self.far]
            .map(of)
            .into_iter()
            .collect::<Result<Vec<_>>>()?
            .try_into()
            .map_err(|_| anyhow::anyhow!("two values in, two values out"))
    }

    /// The ends of both logs, for when something fails.
    pub(super) fn logs(&self) -> String {
        let end = |process: &Process| {
            let log = process.log();
            let from = log.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
            log[from..].to_owned()
        };
        format!("near:\n{}\nfar:\n{}", end(&self.near), end(&self.far))
    }
}

impl Bench {
    /// Builds the two pods, and takes the redirect rules from Ringway itself, so that every subject
    /// has the same.
    pub(super) fn build(ringway: &Path, congestion_control: &str) -> Result<Bench> {
        let mut lab = Lab::unique()?;
        for (name, address) in [("near", [10, 9, 0, 1]), ("far", [10, 9, 0, 2])] {
            lab.add_island(name, Some(Ipv4Addr::from(address)))?;
            lab.add_island(&format!("{name}-host"), None)?;
        }
        lab.join("near", "far", 24)?;
        lab.set_congestion_control(congestion_control)?;
        for name in ["near", "far"] {
            // Ports of closed connections are free again at once, or the search for a free one would
            // be what is measured.
            lab.namespace(name).set_sysctl("net/ipv4/tcp_max_tw_buckets", "100")?;
        }
        let program = std::env::current_exe()?;
        let mut servers = Vec::new();
        for (behaviour, listen) in [("echo", ECHO), ("discard", DISCARD)] {
            let serve = Program::new(&program).arguments(["serve", behaviour, "--listen", listen]);
            servers.push(lab.start("far", behaviour, &serve)?);
        }
        let bench = Bench { lab, ringway: ringway.to_owned(), program, _servers: servers };
        bench.make_certificates()?;
        bench.take_rules()?;
        Ok(bench)
    }

    /// Starts a pair and waits until bytes pass through it.
    pub(super) fn start(&self, subject: Subject) -> Result<Pair> {
        let pair = match subject {
            Subject::Ringway => self.start_ringway("auto", "none")?,
            Subject::RingwayEpoll => self.start_ringway("epoll", "none")?,
            Subject::Reference(workers) => self.start_reference(workers)?,
        };
        let to: SocketAddr = ECHO.parse().expect("an address");
        let mut last = None;
        let passes = wait_until("bytes pass through the pair", PATIENCE, || {
            let result = self.echo_once(to);
            let good = result.is_ok();
            last = Some(result);
            good
        });
        passes.with_context(|| format!("{subject}: {last:?}\n{}", pair.logs()))?;
        // Let what was needed for starting settle.
        std::thread::sleep(Duration::from_millis(300));
        Ok(pair)
    }

    /// Starts a load program beside the client pod's applications.
    pub(super) fn load(&self, arguments: &[&str]) -> Result<Process> {
        let load = Program::new(&self.program).argument("load").arguments(arguments);
        self.lab.start("near", "load", &load)
    }

    fn echo_once(&self, to: SocketAddr) -> Result<()> {
        use std::io::{Read, Write};
        let mut stream = self.lab.namespace("near").connect(to)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"?")?;
        Ok(stream.read_exact(&mut [0; 1])?)
    }

    fn start_ringway(&self, reactor: &str, redirect: &str) -> Result<Pair> {
        let file = self.lab.directory().join("mesh.yaml");
        fs::write(&file, self.configuration(reactor, redirect))?;
        let start = |name: &str| {
            let program = Program::new(&self.ringway)
                .arguments(["run", "--node", name, "--file"])
                .argument(&file);
            self.lab.start(&format!("{name}-host"), &format!("ringway-{name}"), &program)
        };
        let mut pair = Pair { near: start("near")?, far: start("far")? };
        for (name, process) in [("near", &mut pair.near), ("far", &mut pair.far)] {
            let host = self.lab.namespace(&format!("{name}-host"));
            let ready = SocketAddr::from(([127, 0, 0, 1], 15021));
            wait_until("ringway is ready", PATIENCE, || {
                !process.is_running()
                    || get_from(host, ready, "/healthz/ready").is_ok_and(|(code, _)| code == 200)
            })
            .with_context(|| process.log())?;
            ensure!(process.is_running(), "ringway ended:\n{}", process.log());
        }
        Ok(pair)
    }

    fn configuration(&self, reactor: &str, redirect: &str) -> String {
        let mut text = String::new();
        for name in ["near", "far"] {
            let path = self.lab.namespace(name).path().display();
            text.push_str(&format!(
                "---\napiVersion: ringway.dev/v1alpha1\nkind: Node\nmetadata: {{name: {name}}}\n\
                 spec:\n  reactor: {reactor}\n  redirect: {redirect}\n  cores: 2\n  \
                 certificateAuthority: {{directory: ca}}\n  log: {{level: \"info,access=off\"}}\n  \
                 workloads: [{{name: {name}, networkNamespace: {path}}}]\n---\napiVersion: v1\n\
                 kind: Pod\nmetadata: {{name: {name}}}\nspec: {{serviceAccountName: {name}, nodeName: {name}}}\n\
                 status: {{podIP: {}}}\n",
                self.lab.namespace(name).address()
            ));
        }
        text
    }

    fn start_reference(&self, workers: usize) -> Result<Pair> {
        let start = |name: &str, arguments: &[&str]| {
            let folder = self.lab.directory();
            let program = Program::new(self.program.with_file_name("ringway-bench-reference"))
                .arguments(arguments)
                .arguments(["--mark", "1337", "--workers", &workers.to_string(), "--certificate"])
                .argument(folder.join(format!("{name}.pem")))
                .argument("--key")
                .argument(folder.join(format!("{name}.key")))
                .argument("--roots")
                .argument(folder.join("root.pem"));
            let mut process = self.lab.start(name, &format!("relay-{name}"), &program)?;
            process.wait_for_log("listening", PATIENCE)?;
            Ok::<_, anyhow::Error>(process)
        };
        let far = start("far", &["inbound", "--listen", "0.0.0.0:15008", "--original-source"])?;
        let expect = "spiffe://cluster.local/ns/default/sa/far";
        let near = start("near", &["outbound", "--listen", "0.0.0.0:15001", "--expect", expect])?;
        Ok(Pair { near, far })
    }

    fn make_certificates(&self) -> Result<()> {
        let folder = self.lab.directory();
        pki::Root { name: folder.join("root") }.write()?;
        for name in ["near", "far"] {
            let leaf = pki::Leaf {
                name: folder.join(name),
                root: folder.join("root.pem"),
                root_key: folder.join("root.key"),
                identity: format!("spiffe://cluster.local/ns/default/sa/{name}"),
            };
            leaf.write()?;
        }
        Ok(())
    }

    /// Has Ringway install its rules once, and keeps a copy of them in both pods.
    fn take_rules(&self) -> Result<()> {
        let mut pair = self.start_ringway("auto", "nftables")?;
        let rules: Vec<String> = ["near", "far"]
            .iter()
            .map(|name| self.tool(name, "nft", &["list", "ruleset"], None))
            .collect::<Result<_>>()?;
        pair.near.terminate(PATIENCE)?;
        pair.far.terminate(PATIENCE)?;
        for (name, rules) in ["near", "far"].iter().zip(rules) {
            ensure!(rules.contains("15001"), "Ringway installed no rules in {name}");
            self.tool(name, "nft", &["-f", "-"], Some(&rules))?;
            for arguments in [
                "rule add fwmark 0x111/0xfff priority 32764 lookup 100",
                "route add local 0.0.0.0/0 dev lo table 100",
            ] {
                self.tool(name, "ip", &arguments.split(' ').collect::<Vec<_>>(), None)?;
            }
        }
        Ok(())
    }

    fn tool(
        &self,
        place: &str,
        program: &str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String> {
        use std::io::Write;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.lab.namespace(place).enter(|| command.spawn())??;
        child.stdin.take().expect("stdin is piped").write_all(input.unwrap_or("").as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "{program} {} failed in {place}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }
}
