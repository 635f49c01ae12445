//! What is shown, in its order; each step is a claim and what was seen.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bookstore::{HOSTS, LATE, PAGE, PATIENCE};
use super::client::{end_client, no_failures, start_client};
use super::rights;
use super::stage::Stage;
use super::story::Story;
use super::table::{EdgeKey, Edges};
use super::waypoint;
use crate::lab::{Process, wait_until};
use crate::pki;
use crate::probe;
use crate::relay::Files;

/// Texts of the applications that must not be readable between the hosts.
const SECRETS: [&str; 3] = ["William Shakespeare", "extremely entertaining", "HTTP/1.1"];

/// How long the traffic of one step flows.
const WHILE: Duration = Duration::from_secs(4);

impl Story {
    /// Everything from the first page to the refused strangers; with a waypoint, if there is an example with one.
    pub(super) fn tell(
        &mut self,
        stage: &mut Stage,
        waypoint_example: Option<&Path>,
    ) -> Result<()> {
        let ids = stage.application_ids();
        self.heading(
            "Two hosts, seven applications in pods of their own, a client in an office. No mesh.",
        );
        self.without_mesh(stage)?;

        self.heading(match stage.has_control_plane() {
            true => {
                "A control plane, and `ringway proxy ztunnel` on each host in ztunnel's place. The \
                 applications run on."
            }
            false => "`ringway run` on each host. The applications run on.",
        });
        stage.start_proxies()?;
        self.claim("both proxies are ready", Ok(reactors(stage)));
        self.with_mesh(stage)?;
        self.show(&edges(stage)?);
        self.claim_identities(stage)?;

        self.heading(
            "An application that runs already joins the mesh: its lines are added to the files.",
        );
        self.add_workload(stage)?;

        self.heading("The policies of the mesh: who may call whom.");
        rights::show(self, stage)?;

        if let Some(example) = waypoint_example {
            self.heading(
                "`ringway waypoint` in a pod of its own: HTTP for the reviews, and for nobody else.",
            );
            waypoint::show(self, stage, example)?;
        }

        self.heading("Who is not who he should be is refused.");
        self.refuse_strangers(stage)?;

        let now = stage.application_ids();
        let same = if now == ids {
            Ok(format!("{} processes", ids.len()))
        } else {
            Err(anyhow::anyhow!("before: {ids:?}, now: {now:?}"))
        };
        self.claim("no application was restarted", same);
        Ok(())
    }

    /// Goes on showing the table until Ctrl-C.
    pub(super) fn watch(&self, stage: &Stage) -> Result<()> {
        let _client = start_client(stage, "outside", "watch", PAGE, "/productpage")?;
        let terminal = std::io::stdout().is_terminal();
        let mut shown = 0;
        while !self.is_stopped() {
            let table = edges(stage)?.render();
            if terminal && shown > 0 {
                print!("\x1b[{shown}F\x1b[J");
            }
            let text = format!("\nLive, until Ctrl-C:\n{table}");
            print!("{text}");
            std::io::stdout().flush()?;
            shown = text.lines().count();
            let next = Instant::now() + Duration::from_secs(if terminal { 1 } else { 10 });
            while Instant::now() < next && !self.is_stopped() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        println!();
        Ok(())
    }

    /// The proxies go, and nothing of them stays.
    pub(super) fn end(&mut self, stage: &mut Stage) -> Result<()> {
        self.heading("The proxies are told to stop.");
        stage.leave_mesh()?;
        for (host, process) in &mut stage.proxies {
            let status = process.terminate(PATIENCE)?;
            let ended = if status.success() {
                Ok(String::new())
            } else {
                Err(anyhow::anyhow!("{status}:\n{}", process.log()))
            };
            self.claim(&format!("the proxy of {host} ends in order"), ended);
        }
        let left: Vec<_> = stage
            .applications
            .iter()
            .map(|(pod, _)| *pod)
            .filter(|pod| stage.rules(pod).contains("15001"))
            .collect();
        let gone = if left.is_empty() {
            Ok(String::new())
        } else {
            Err(anyhow::anyhow!("there are rules in {}", left.join(", ")))
        };
        self.claim("no rule of theirs is left in any pod", gone);
        let page = stage.page().map(|_| "without a mesh, as before".to_owned());
        self.claim("the applications still work", page);
        Ok(())
    }

    fn without_mesh(&mut self, stage: &mut Stage) -> Result<()> {
        let capture = start_capture(stage, "before")?;
        for _ in 0..3 {
            stage.page()?;
        }
        let report = end_capture(capture)?;
        let seen = between_hosts(&report["secrets_seen"]);
        self.claim(
            "a packet capture between the hosts can read everything",
            if seen > 0 {
                Ok(format!("{seen} texts of the applications read"))
            } else {
                Err(anyhow::anyhow!("the capture read nothing: {report}"))
            },
        );
        Ok(())
    }

    fn with_mesh(&mut self, stage: &mut Stage) -> Result<()> {
        let capture = start_capture(stage, "mesh")?;
        let client = start_client(stage, "outside", "office", PAGE, "/productpage")?;
        self.wait(WHILE)?;
        let outcome = end_client(client)?;
        self.claim("a client outside the mesh gets the page every time", no_failures(&outcome));
        let mut versions = BTreeSet::new();
        for _ in 0..40 {
            versions.insert(stage.page()?["reviews"]["pod"].to_string());
        }
        self.claim(
            "all three versions of the reviews are asked",
            if versions.len() == 3 {
                Ok(String::new())
            } else {
                Err(anyhow::anyhow!("only {versions:?}"))
            },
        );
        let report = end_capture(capture)?;
        self.claim("the same capture now reads nothing between the hosts", judge(&report));
        let control = report["secrets_seen"].as_object().is_some_and(|seen| !seen.is_empty());
        self.claim(
            "and it is not blind: the client in the office is readable as ever",
            if control { Ok(String::new()) } else { Err(anyhow::anyhow!("{report}")) },
        );
        Ok(())
    }

    fn claim_identities(&mut self, stage: &Stage) -> Result<()> {
        let edges = edges(stage)?;
        for (from, to) in [
            ("productpage", "details-v1"),
            ("productpage", "reviews-v2"),
            ("reviews", "ratings-v1"),
        ] {
            let identity = format!("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-{from}");
            let edge =
                edges.sum(|key: &EdgeKey| key.from == identity && key.to == to && key.mutual_tls);
            let seen = if edge.connections > 0.0 && edge.request_bytes > 0.0 {
                Ok(format!("{} connections", edge.connections))
            } else {
                Err(anyhow::anyhow!("no traffic as {identity}"))
            };
            self.claim(&format!("{from} talks to {to} as itself, over mutual TLS"), seen);
        }
        if let Some(line) = access_line(stage, |line| line.contains("dst.hbone_addr")) {
            println!("     a line of the access log:\n     {line}");
        }
        Ok(())
    }

    fn add_workload(&mut self, stage: &mut Stage) -> Result<()> {
        let ids: Vec<u32> = stage.proxies.iter().map(|(_, process)| process.id()).collect();
        let inside =
            start_client(stage, "productpage-v1", "inside", "10.2.0.11:9080", "/details/0")?;
        let outside = start_client(stage, "outside", "around", PAGE, "/productpage")?;
        self.wait(WHILE / 4)?;
        let start = Instant::now();
        stage.add_late_workload()?;
        let tunnelled = |stage: &Stage| {
            edges(stage).is_ok_and(|edges| {
                edges.sum(|key| key.to == LATE && key.mutual_tls).connections > 0.0
            })
        };
        let joined = wait_until("it is reached over mutual TLS", PATIENCE, || tunnelled(stage));
        let took = start.elapsed();
        self.claim(
            &format!("{LATE} is in the mesh"),
            joined.map(|()| format!("{} ms after the files were written", took.as_millis())),
        );
        // A connection that was open already when it joined ends as it began: in the clear.
        self.wait(WHILE / 2)?;
        stage.close_late_workload()?;
        self.wait(WHILE / 4)?;
        let capture = start_capture(stage, "joined")?;
        self.wait(WHILE / 2)?;
        let (inside, outside) = (end_client(inside)?, end_client(outside)?);
        let report = end_capture(capture)?;
        self.claim("no request to it failed meanwhile", no_failures(&inside));
        self.claim("nor any request for the page", no_failures(&outside));
        self.claim("nothing of it is readable any more", silent_between_hosts(&report));
        let now: Vec<u32> = stage.proxies.iter().map(|(_, process)| process.id()).collect();
        let running = stage.proxies.iter_mut().all(|(_, process)| process.is_running());
        self.claim(
            "no proxy was restarted",
            if ids == now && running {
                Ok(String::new())
            } else {
                Err(anyhow::anyhow!("a proxy ended"))
            },
        );
        Ok(())
    }

    fn refuse_strangers(&mut self, stage: &Stage) -> Result<()> {
        let folder = stage.lab.directory();
        let authority = stage.mesh.join("ca");
        pki::Root { name: folder.join("other") }.write()?;
        let other = (folder.join("other.pem"), folder.join("other.key"));
        let own = (authority.join("root-cert.pem"), authority.join("root-key.pem"));
        let right = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-productpage";
        let foreign = "spiffe://elsewhere.example/ns/bookinfo/sa/bookinfo-productpage";
        for (claim, name, (root, root_key), identity, let_in) in [
            (
                "the right identity under the mesh's root is let in",
                "right",
                own.clone(),
                right,
                true,
            ),
            ("the right identity under another root is refused", "wrong-root", other, right, false),
            (
                "an identity of another trust domain is refused",
                "wrong-domain",
                own.clone(),
                foreign,
                false,
            ),
        ] {
            let leaf = folder.join(name);
            pki::Leaf { name: leaf.clone(), root, root_key, identity: identity.to_owned() }
                .write()?;
            let files = Files {
                certificate: leaf.with_extension("pem"),
                key: leaf.with_extension("key"),
                roots: own.0.clone(),
            };
            let before = stage.log_of("host-b").lines().count();
            let got_in = knock(stage, &files)?;
            let line = (!let_in).then(|| refusal_line(stage, before)).flatten();
            let seen = match (got_in == let_in, let_in, line) {
                (false, ..) => Err(anyhow::anyhow!("let in: {got_in}")),
                (true, false, None) => Err(anyhow::anyhow!("the refusal is not in the log")),
                (true, _, line) => {
                    Ok(line.map(|line| format!("host-b says:\n     {line}")).unwrap_or_default())
                }
            };
            self.claim(claim, seen);
        }
        Ok(())
    }

    fn show(&self, edges: &Edges) {
        print!("\n{}", edges.render());
        println!();
    }
}

fn reactors(stage: &Stage) -> String {
    let lines = HOSTS.map(|host| stage.log_of(host)).concat();
    let ring = lines.contains("io_uring");
    format!("{} applications captured, {}", 6, if ring { "on io_uring" } else { "on epoll" })
}

fn edges(stage: &Stage) -> Result<Edges> {
    let mut edges = Edges::default();
    for host in HOSTS {
        edges.add(&stage.metrics(host)?);
    }
    Ok(edges)
}

fn access_line(stage: &Stage, fits: impl Fn(&str) -> bool) -> Option<String> {
    let log = stage.log_of("host-b");
    let line = log.lines().rev().find(|line| line.contains("\taccess\t") && fits(line))?;
    Some(line.replace('\t', " "))
}

fn refusal_line(stage: &Stage, after: usize) -> Option<String> {
    let mut found = None;
    let _ = wait_until("the refusal is logged", Duration::from_secs(5), || {
        let log = stage.log_of("host-b");
        found = log
            .lines()
            .skip(after)
            .find(|line| line.contains("connection failed") && line.contains("error="))
            .map(|line| line.replace('\t', " "));
        found.is_some()
    });
    found
}

/// Whether details-v1's proxy lets the owner of these files in.
fn knock(stage: &Stage, files: &Files) -> Result<bool> {
    let door: SocketAddr = "10.2.0.10:15008".parse().expect("an address");
    let stream = stage.lab.namespace("outside").connect(door)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let Ok(mut probe) = probe::connect(stream, files) else { return Ok(false) };
    // A server that refuses says so only now (TLS 1.3); one that does not speaks HTTP/2 first.
    let _ =
        probe.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00");
    Ok(matches!(probe.read(&mut [0; 9]), Ok(1..)))
}

fn start_capture(stage: &Stage, name: &str) -> Result<Process> {
    let mut arguments = vec!["capture"];
    for secret in SECRETS {
        arguments.extend(["--secret", secret]);
    }
    let mut capture = stage.start_bench("wire", &format!("capture-{name}"), &arguments)?;
    capture.wait_for_log("capturing", PATIENCE)?;
    Ok(capture)
}

fn end_capture(mut capture: Process) -> Result<Value> {
    // The last packets may still be on their way.
    std::thread::sleep(Duration::from_millis(200));
    capture.terminate(PATIENCE)?;
    let log = capture.log();
    let line = log.lines().rev().find(|line| line.starts_with('{')).context("no report")?;
    Ok(serde_json::from_str(line)?)
}

/// What a map of "source -> destination" sums up to for the two hosts of the mesh.
fn between_hosts(map: &Value) -> u64 {
    let pairs = map.as_object().into_iter().flatten();
    pairs
        .filter(|(pair, _)| {
            let ends: Vec<_> = pair.split(" -> ").collect();
            let host = |end: &&str| end.starts_with("10.1.") || end.starts_with("10.2.");
            ends.len() == 2 && ends.iter().all(host)
        })
        .filter_map(|(_, count)| count.as_u64())
        .sum()
}

fn silent_between_hosts(report: &Value) -> Result<String> {
    let (secrets, other) =
        (between_hosts(&report["secrets_seen"]), between_hosts(&report["other_bytes"]));
    ensure!(secrets == 0, "{secrets} texts read: {}", report["secrets_seen"]);
    ensure!(other == 0, "{other} bytes beside the tunnels: {}", report["other_bytes"]);
    Ok(String::new())
}

fn judge(report: &Value) -> Result<String> {
    silent_between_hosts(report)?;
    let count = |name: &str| report[name].as_u64().unwrap_or(0);
    ensure!(count("not_tls_bytes") == 0, "{} bytes on 15008 are no TLS", count("not_tls_bytes"));
    ensure!(
        count("missed_bytes") + count("unread_bytes") == 0,
        "the capture missed something: {report}"
    );
    ensure!(count("tls_records") > 0 && count("client_hellos") > 0, "no TLS was seen: {report}");
    Ok(format!(
        "{} bytes on port 15008, all of them in {} TLS records; {} handshakes",
        count("tls_bytes"),
        count("tls_records"),
        count("client_hellos")
    ))
}
