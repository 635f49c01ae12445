//! L2: ten thousand new connections a second through tunnels that are there already; and whose time that takes, because
//! the machine has to open them, to answer them and to carry them.

use std::time::Duration;

use anyhow::Result;

use super::super::arena::{Arena, SERVED};
use super::super::traffic::Load;
use super::super::trial::Trial;

/// New connections a second, and for how long.
const RATE: f64 = 10_000.0;
const SECONDS: &str = "10";
/// What cannot be opened in time is late, and opened all the same: for so long after the last one was due. Lost is what
/// fails, or is not answered by then.
const GRACE: &str = "30";
/// A rate that leaves the generator some room where it shares two processors with all others.
const CALM: &str = "5000";

/// Runs the row.
pub(in super::super) fn storm(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::usual(trial)?;
    let through = arena.address("server", SERVED).to_string();
    // Tunnels are there, and so is everything that is made once.
    connect(trial, &arena, "client", &["--rate", CALM, "--duration", "1"], &through)?;
    let before = Clocks::read(&arena)?;
    let rate = RATE.to_string();
    let storm = ["--rate", &rate, "--connections", "2000", "--duration", SECONDS, "--grace", GRACE];
    let told = connect(trial, &arena, "client", &storm, &through)?;
    let spent = Clocks::read(&arena)?.since(before);
    trial.exactly("connections lost", told.lost(), "connections", 0);
    trial.at_least("achieved", told.number("rate_achieved"), "connections/s", RATE * 0.995);
    trial.quickly("p99", told.number("p99_us") / 1e3, "ms", 25.0);
    trial.quickly("worst", told.number("max_us") / 1e3, "ms", 900.0);
    let each = |seconds: f64| seconds * 1e6 / told.number("requests").max(1.0);
    trial.tell("generator", each(told.number("cpu_seconds")), "CPU-us each");
    for (name, time) in spent.by_name() {
        trial.tell(name, each(time.as_secs_f64()), "CPU-us each");
    }
    let calm = ["--rate", CALM, "--connections", "2000", "--duration", "3"];
    let calm = connect(trial, &arena, "client", &calm, &through)?;
    trial.tell("p99 at half the rate", calm.number("p99_us") / 1e3, "ms");
    // The same programs on the same network, with nothing of ours between them.
    let direct = arena.address("legacy", SERVED).to_string();
    let direct =
        connect(trial, &arena, "stranger", &["--connections", "64", "--duration", "3"], &direct)?;
    trial.tell("without proxies", direct.number("rate"), "connections/s");
    trial.remark("generator, server and both proxies share the processors of one machine");
    arena.must_work()
}

/// Runs `ringway-bench load connect` in a pod.
fn connect(
    trial: &Trial<'_>,
    arena: &Arena,
    pod: &str,
    arguments: &[&str],
    target: &str,
) -> Result<super::super::traffic::Told> {
    let arguments = [&["connect", target, "--warm-up", "0"], arguments].concat();
    Load::start(arena, trial, pod, &format!("connect-{pod}"), &arguments)?.finish(trial)
}

/// Processor time of who takes part beside the generator, which tells its own.
#[derive(Clone, Copy)]
struct Clocks([Duration; 3]);

impl Clocks {
    const NAMES: [&str; 3] = ["client's proxy", "server's proxy", "server"];

    fn read(arena: &Arena) -> Result<Clocks> {
        let server = arena.server_processor_time("server")?;
        Ok(Clocks([arena.a.processor_time()?, arena.b.processor_time()?, server]))
    }

    fn since(self, earlier: Clocks) -> Clocks {
        let mut spent = self.0;
        spent.iter_mut().zip(earlier.0).for_each(|(spent, earlier)| *spent -= earlier);
        Clocks(spent)
    }

    fn by_name(self) -> impl Iterator<Item = (&'static str, Duration)> {
        Clocks::NAMES.into_iter().zip(self.0)
    }
}
