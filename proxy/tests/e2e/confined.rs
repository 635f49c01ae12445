//! What a running node has given up, what cannot be read out of its memory, and what it does without.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;

use crate::support::{Application, CONTROL_PLANE, Mesh, Proxy};
use crate::{on_both_reactors, under_a_control_plane};

on_both_reactors! {
    a_running_node_has_given_up_what_it_does_not_need,
    without_hardening_nothing_is_given_up,
    no_key_stands_in_memory_in_a_form_to_copy,
}

under_a_control_plane! {
    a_running_node_has_given_up_what_it_does_not_need,
    without_hardening_nothing_is_given_up,
    no_key_stands_in_memory_in_a_form_to_copy,
    a_node_that_is_refused_io_uring_serves_and_says_why,
    a_node_that_may_lock_no_memory_serves_and_says_on_what,
}

const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const SYS_ADMIN: u64 = 1 << 21;

/// One thread as `/proc` tells of it.
struct Thread {
    name: String,
    status: String,
}

impl Thread {
    fn all(proxy: &Proxy) -> Vec<Thread> {
        let tasks = fs::read_dir(format!("/proc/{}/task", proxy.process.id())).unwrap();
        let status =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        let thread = |status: String| {
            let name = field(&status, "Name").to_owned();
            Thread { name, status }
        };
        status.map(thread).collect()
    }

    fn number(&self, name: &str) -> u64 {
        field(&self.status, name).parse().unwrap()
    }

    fn capabilities(&self, set: &str) -> u64 {
        u64::from_str_radix(field(&self.status, set), 16).unwrap()
    }

    fn is_shard(&self) -> bool {
        self.name.starts_with("shard-")
    }
}

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
}

fn a_running_node_has_given_up_what_it_does_not_need(reactor: &str) {
    let mut mesh = Mesh::with(reactor).hardening("required").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    for proxy in [&mesh.a, &mesh.b] {
        let threads = Thread::all(proxy);
        assert!(threads.iter().any(Thread::is_shard), "no shard among the threads");
        for thread in &threads {
            let name = &thread.name;
            assert_eq!(thread.number("NoNewPrivs"), 1, "{name}");
            assert_eq!(thread.number("Seccomp"), 2, "{name}");
            // Locking memory is kept where this machine lets nobody raise the limit for it; the raw socket where
            // there is no nft.
            let most = match thread.is_shard() {
                true => NET_ADMIN | SYS_ADMIN,
                false => NET_ADMIN | SYS_ADMIN | IPC_LOCK | NET_RAW,
            };
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                let has = thread.capabilities(set);
                assert_eq!(has & !most, 0, "{name}: {set} is {has:x}");
            }
            let bounding = thread.capabilities("CapBnd");
            assert_eq!(
                bounding & !(most | IPC_LOCK | NET_RAW),
                0,
                "{name}: CapBnd is {bounding:x}"
            );
            if thread.is_shard() {
                assert_eq!(thread.capabilities("CapEff"), most, "{name}");
            }
        }
        let filters = |shard: bool| -> BTreeSet<u64> {
            let of = threads.iter().filter(|thread| thread.is_shard() == shard);
            of.map(|thread| thread.number("Seccomp_filters")).collect()
        };
        let (shards, others) = (filters(true), filters(false));
        assert!(shards.first() > others.last(), "{shards:?} and {others:?}");
        let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.process.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    mesh.a.wait_for_log("process hardened");
    // What comes later works all the same: a workload more, a reload, an end that removes its rules.
    mesh.rewrite(&mesh.settings.clone().hardening("required").late().configuration(&mesh.lab));
    match reactor {
        CONTROL_PLANE => {
            let added = |line: &serde_json::Value| {
                line["told"] == "add" && line["pod"] == "late" && line["error"] == ""
            };
            mesh.plane().wait_for("ack", added);
        }
        _ => mesh.b.wait_for_log("configuration reloaded"),
    }
    mesh.assert_works(8080);
    mesh.a.stop();
    mesh.b.stop();
}

fn without_hardening_nothing_is_given_up(reactor: &str) {
    let mut mesh = Mesh::with(reactor).hardening("off").start();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for thread in Thread::all(&mesh.a) {
        for same in ["NoNewPrivs", "Seccomp", "CapEff", "CapBnd"] {
            assert_eq!(field(&thread.status, same), field(&own, same), "{}", thread.name);
        }
    }
    mesh.a.wait_for_log("hardening is off");
}

/// Every byte the process has and may write.
fn memory(proxy: &Proxy) -> Vec<Vec<u8>> {
    let root = format!("/proc/{}", proxy.process.id());
    let memory = File::open(format!("{root}/mem")).unwrap();
    let maps = fs::read_to_string(format!("{root}/maps")).unwrap();
    let region = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (from, to) = (number(from)?, number(to)?);
        // Rings and what the kernel shares cannot be read this way.
        let readable = rest.starts_with("rw-p");
        let mut bytes = vec![0; usize::try_from(to - from).ok().filter(|_| readable)?];
        memory.read_exact_at(&mut bytes, from).ok().map(|()| bytes)
    };
    maps.lines().filter_map(region).collect()
}

fn count(memory: &[Vec<u8>], what: &[u8]) -> usize {
    let in_one = |region: &Vec<u8>| region.windows(what.len()).filter(|at| *at == what).count();
    memory.iter().map(in_one).sum()
}

/// What an ECDSA P-256 key begins with in SEC 1, alone or inside PKCS #8; the scalar follows.
const KEY_IN_DER: [&[u8]; 2] = [&[0x30, 0x6b, 2, 1, 1, 4, 0x20], &[0x30, 0x77, 2, 1, 1, 4, 0x20]];

fn no_key_stands_in_memory_in_a_form_to_copy(reactor: &str) {
    let mesh = Mesh::with(reactor).leaf_lifetime("4s").start();
    let _echo = Application::echo(mesh.at("server"), 8080);
    mesh.assert_works(8080);
    // Leaves were renewed, revoked or not, and a key of an authority was read again.
    std::thread::sleep(std::time::Duration::from_secs(5));
    mesh.assert_works(8080);
    let file = fs::read_to_string(mesh.lab.directory().join("ca/root-key.pem")).unwrap();
    let root = PrivatePkcs8KeyDer::from_pem_slice(file.as_bytes()).unwrap();
    let der = root.secret_pkcs8_der();
    let at = der.windows(7).position(|window| KEY_IN_DER.contains(&window)).unwrap() + 7;
    let scalar = &der[at..at + 32];
    // Of a block that was given back the allocator overwrites the beginning: any of its lines would tell the key.
    // The last of them has only the public half, which stands in certificates, too.
    const BYTES_PER_LINE: usize = 48;
    let lines = file.lines().filter(|line| !line.starts_with("-----")).enumerate();
    let tells =
        |number: usize| number * BYTES_PER_LINE < at + 32 && at < (number + 1) * BYTES_PER_LINE;
    let lines: Vec<&str> =
        lines.filter(|(number, _)| tells(*number)).map(|(_, line)| line).collect();
    assert!(lines.len() > 1 && lines[0].len() == BYTES_PER_LINE * 4 / 3, "{lines:?}");
    for proxy in [&mesh.a, &mesh.b] {
        let memory = memory(proxy);
        let megabytes = memory.iter().map(Vec::len).sum::<usize>() >> 20;
        assert!(megabytes > 1, "{megabytes} MiB were read");
        // A text of the process that must be there: the scan reads what it should.
        assert!(count(&memory, b"spiffe://cluster.local/ns/default/sa/") > 0);
        for prefix in KEY_IN_DER {
            assert_eq!(count(&memory, prefix), 0, "a key in DER");
        }
        for line in &lines {
            assert_eq!(count(&memory, line.as_bytes()), 0, "the root's key in PEM");
        }
        assert_eq!(count(&memory, scalar), 0, "the root's key as a number, as files have it");
        let reversed: Vec<u8> = scalar.iter().rev().copied().collect();
        println!("the root's scalar as aws-lc has it: {}", count(&memory, &reversed));
    }
}

/// The laboratory's program, built beside ours.
fn confine() -> String {
    Path::new(env!("CARGO_BIN_EXE_ringway")).with_file_name("ringway-bench").display().to_string()
}

mod auto {
    #[test]
    fn a_node_that_is_refused_io_uring_serves_and_says_why() {
        super::a_node_that_is_refused_io_uring_serves_and_says_why("auto");
    }

    #[test]
    fn a_node_that_may_lock_no_memory_serves_and_says_on_what() {
        super::a_node_that_may_lock_no_memory_serves_and_says_on_what("auto");
    }
}

fn a_node_that_is_refused_io_uring_serves_and_says_why(way: &str) {
    for (error, said) in
        [("eperm", "not permitted"), ("enosys", "not implemented"), ("eacces", "denied")]
    {
        let wrapper = [&*confine(), "confine", "--forbid-io-uring", "--error", error, "--"];
        let mesh = Mesh::with(way).wrapper(&wrapper).start();
        let _echo = Application::echo(mesh.at("server"), 8080);
        mesh.assert_works(8080);
        assert_reactor(&mesh, "epoll", said);
    }
}

fn a_node_that_may_lock_no_memory_serves_and_says_on_what(way: &str) {
    for bytes in ["0", "65536", "1048576"] {
        let limit = format!("--memlock={bytes}:{bytes}");
        let without =
            ["--bounding-set=-ipc_lock,-sys_resource", "--inh-caps=-ipc_lock,-sys_resource"];
        let wrapper = ["prlimit", &limit, "setpriv", without[0], without[1]];
        let mesh = Mesh::with(way).wrapper(&wrapper).start();
        let _echo = Application::echo(mesh.at("server"), 8080);
        mesh.assert_works(8080);
        assert_reactor(&mesh, "", "");
    }
}

/// Fails unless one line of each log and one metric say on what the shards wait, and why.
fn assert_reactor(mesh: &Mesh, reactor: &str, why: &str) {
    for proxy in [&mesh.a, &mesh.b] {
        let log = proxy.process.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("\treactor ")).collect();
        // Shards that got different ones are told of apart: the first may have used up what may be locked.
        assert!(!lines.is_empty() && lines.len() <= 2, "{lines:?}");
        for line in &lines {
            assert!(line.contains(reactor) && line.contains(why), "{line}");
        }
        let metrics = proxy.metrics(&mesh.lab);
        let labels = metrics.labels("ringway_reactor", &[("shard", "0")]);
        assert!(labels["reactor"].contains(reactor), "{labels:?}");
        assert!(labels["reason"].contains(why) && !labels["reason"].is_empty(), "{labels:?}");
        println!("{lines:?}");
    }
}
