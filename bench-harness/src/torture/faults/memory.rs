//! F17: a system that gives no more memory. A node says so and ends, or goes on; it is never killed by what it does
//! without, and what has arrived is what was sent.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::super::arena::{Arena, PATIENCE, Plan, SERVED};
use super::super::traffic::Load;
use super::super::trial::{Trial, need};

/// The limits with which starts are tried, as `prlimit` and the kernel call them.
const LIMITS: [(&str, &str); 2] = [("--as", "RLIMIT_AS"), ("--data", "RLIMIT_DATA")];
/// Data with less of which nothing of the program runs: the kernel and the loader of programs refuse it.
const LOADED_MIB: u64 = 12;
/// With so much any start succeeds.
const MOST_MIB: u64 = 1024;
/// Starts with more than the first that succeeded had, each a step more.
const SERVING: u32 = 4;
/// The exit code that says: no more memory.
const NO_MEMORY: i32 = 71;
/// Connections whose bytes are checked all the while, and the bytes of one exchange.
const CHECKED: usize = 4;
const EXCHANGE_BYTES: usize = 16 * 1024;

/// Runs the row.
pub(in super::super) fn memory(trial: &mut Trial<'_>) -> Result<()> {
    need("prlimit", "util-linux")?;
    let held = trial.amount(2_000, 12_000);
    let mut arena = Arena::usual(trial)?;
    let program = program_bytes(arena.b.process.id())?;
    arena.b.process.terminate(PATIENCE)?;
    for (option, name) in LIMITS {
        let beside = if name == "RLIMIT_AS" { program >> 20 } else { 0 };
        starts(trial, &mut arena, (option, name), LOADED_MIB + beside)?;
    }
    // The one that is squeezed has nothing that it does not use.
    let limit = format!("--as={}", MOST_MIB << 20);
    let plan = Plan::new(trial.settings).wrapped("host-b", &["prlimit", &limit]);
    ensure!(arena.try_start("host-b", &plan)?.is_none(), "it does not start with {limit}");

    let to = arena.address("server", SERVED);
    let streams = (0..CHECKED).map(|_| arena.connect("client", to)).collect::<Result<Vec<_>>>()?;
    let (right, wrong, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let ended = thread::scope(|scope| {
        for stream in streams {
            scope.spawn(|| exchange(stream, &right, &wrong, &stop));
        }
        let ended = squeeze(trial, &mut arena, held, to);
        stop.store(true, Relaxed);
        ended
    })?;
    trial.exactly("exchanges that were wrong", wrong.into_inner(), "exchanges", 0);
    trial.at_least("exchanges that were right", right.into_inner() as f64, "exchanges", 1.0);
    let (status, said) = &ended;
    let clean = status.code() == Some(NO_MEMORY) && said.matches("no more memory").count() == 1;
    if !clean {
        trial.remark(format!("{status}: {}", said.lines().last().unwrap_or_default()));
    }
    trial.exactly("ended in order for want of memory", u64::from(clean), "processes", 1);
    arena.restart("host-b").context("the next proxy")?;
    arena.must_work()
}

/// Starts the proxy with ever more of what is limited, until it has served several times in a row: each start serves, or
/// says what it lacks.
fn starts(
    trial: &mut Trial<'_>,
    arena: &mut Arena,
    (option, name): (&str, &str),
    from_mib: u64,
) -> Result<()> {
    let step = trial.amount(8, 1);
    let (mut mib, mut refused, mut unclean, mut served, mut enough) = (from_mib, 0, 0, 0, 0);
    while served < SERVING {
        let limit = format!("{option}={}", mib << 20);
        let plan = Plan::new(trial.settings).wrapped("host-b", &["prlimit", &limit]);
        match arena.try_start("host-b", &plan)? {
            None => {
                arena.must_work().with_context(|| format!("{limit} is enough to start"))?;
                arena.b.process.terminate(PATIENCE)?;
                enough = if served == 0 { mib } else { enough };
                served += 1;
            }
            Some((status, said)) => {
                refused += 1;
                if served > 0 || !is_clean(status, &said, name) {
                    unclean += 1;
                    trial.remark(format!("{limit}: {status}, {:?}", said.trim()));
                }
            }
        }
        mib += step;
        ensure!(mib <= MOST_MIB, "it does not start with {mib} MiB of {name}");
    }
    trial.exactly(&format!("{name}: starts that ended otherwise"), unclean, "starts", 0);
    trial.at_least(&format!("{name}: starts with too little"), f64::from(refused), "starts", 1.0);
    trial.tell(&format!("{name}: enough to serve"), enough as f64, "MiB");
    Ok(())
}

/// By its own will, with the exit code for it, and one line that says what there is too little of.
fn is_clean(status: ExitStatus, said: &str, limit: &str) -> bool {
    let told = said.lines().filter(|line| line.contains(limit) || line.contains("no more memory"));
    status.code() == Some(NO_MEMORY) && told.count() == 1
}

/// Gives the proxy not a page more than it has, and wants connections until it ends.
fn squeeze(
    trial: &Trial<'_>,
    arena: &mut Arena,
    held: usize,
    to: SocketAddr,
) -> Result<(ExitStatus, String)> {
    trial.sleep(Duration::from_millis(500))?;
    let id = arena.b.process.id();
    let limit = format!("--as={}", mapped_bytes(id, "VmSize")?);
    let limited = Command::new("prlimit").args(["--pid", &id.to_string(), &limit]).status()?;
    ensure!(limited.success(), "the limit of a running process cannot be set");
    let (target, count) = (to.to_string(), held.to_string());
    let hold = ["hold", &target, "--connections", &count];
    let mut loads = vec![Load::start(arena, trial, "client", "hold", &hold)?];
    let bulk = ["bulk", &target, "--connections", "16", "--gigabytes", "500"];
    loads.push(Load::start(arena, trial, "neighbour", "bulk", &bulk)?);
    let began = Instant::now();
    while arena.b.process.is_running() {
        trial.sleep(Duration::from_millis(20))?;
        ensure!(began.elapsed() < PATIENCE, "{held} connections and bulk needed no memory");
    }
    drop(loads);
    Ok((arena.b.process.wait(PATIENCE)?, arena.b.process.log()))
}

/// Sends and gets back what nobody could guess, until the connection ends.
fn exchange(mut stream: TcpStream, right: &AtomicU64, wrong: &AtomicU64, stop: &AtomicBool) {
    let mut back = vec![0; EXCHANGE_BYTES];
    for round in 0_u64.. {
        let sent: Vec<u8> =
            (0..EXCHANGE_BYTES as u64).map(|at| (at * 31 + round * 7 + at / 256) as u8).collect();
        if stop.load(Relaxed) || stream.write_all(&sent).is_err() {
            return;
        }
        // An abort is no wrong answer; an end in the middle of one is.
        match stream.read_exact(&mut back) {
            Ok(()) if back == sent => right.fetch_add(1, Relaxed),
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return,
            _ => {
                wrong.fetch_add(1, Relaxed);
                return;
            }
        };
    }
}

/// Addresses that are taken by what was loaded from files.
fn program_bytes(id: u32) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps"))?;
    let of_file = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = words.first().filter(|_| words.get(4) != Some(&"0"))?.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    };
    Ok(maps.lines().filter_map(of_file).sum())
}

/// What a process has of what `field` of its status counts.
fn mapped_bytes(id: u32, field: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no such field")?;
    Ok(kib.trim().parse::<u64>()? << 10)
}
