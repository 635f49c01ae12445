//! L6 and L9: a neighbour that is loud, and a machine that has no time.

use anyhow::Result;

use super::super::arena::{Arena, HOSTS, Plan, SERVED};
use super::super::traffic::{Load, MEASURED, Turns, program, requests};
use super::super::trial::Trial;
use crate::lab::Program;

/// New connections a second in the neighbour's storm: 72,000 a minute.
const STORM: &str = "1200";
/// Whom the neighbour makes noise at.
const NOISY_SERVER: &str = "server-2";

/// The priority of what makes noise, below that of what is [measured](MEASURED). It runs before the proxies, too: what others
/// feel of it then is what those let through, and not that it has to be given its share of a full machine.
const LOUD: u8 = 1;
/// Who is not to feel it.
const VICTIM: (&str, &str) = ("client", "server");
/// The same without a proxy between them: what the machine itself makes of the noise.
const DIRECT: (&str, &str) = ("stranger", "legacy");
/// All servers, before whoever else wants the processors: they stand for machines of their own.
const SERVERS: &[(&str, u8)] = &[("server", MEASURED), ("legacy", MEASURED), (NOISY_SERVER, LOUD)];
/// Requests a second.
const RATE: u32 = 200;

/// Runs L6.
pub(in super::super) fn noisy(trial: &mut Trial<'_>) -> Result<()> {
    let mut arena = Arena::start(Plan::new(trial.settings).apart().preferred_servers(SERVERS))?;
    let target = arena.address(NOISY_SERVER, SERVED).to_string();
    let storm = ["connect", &target, "--rate", STORM, "--connections", "1000", "--duration", "600"];
    let bulk = ["bulk", &target, "--connections", "4", "--gigabytes", "500"];
    for (name, arguments, fills) in [("storm", &storm[..], false), ("elephants", &bulk[..], true)] {
        let felt = felt_beside(trial, &arena, fills, |trial, _| {
            Load::launch(&arena, "neighbour", name, program(trial, arguments).preferred(LOUD))
        })?;
        felt.judge(trial, &format!("{name}: "), 2.0)?;
    }
    trial.remark(
        "each host has half of the processors; on those the proxy leaves who sends or serves there before, as if they \
         were elsewhere",
    );
    arena.must_work()
}

/// Runs L9: a busy program for each processor, and proxies that stand before them as `deploy/systemd` has it.
pub(in super::super) fn starved(trial: &mut Trial<'_>) -> Result<()> {
    let plan = Plan::new(trial.settings).apart().preferred_servers(SERVERS).standing();
    let mut arena = Arena::start(plan)?;
    let busy = Program::new("sh").arguments(["-c", "while :; do :; done"]);
    let felt = felt_beside(trial, &arena, true, |_, round| {
        let mut processes = Vec::new();
        for host in HOSTS {
            for id in arena.lab.processors(host)? {
                let name = format!("busy-{round}-{host}-{id}");
                processes.push(arena.lab.start(host, &name, &busy)?);
            }
        }
        Ok(processes)
    })?;
    felt.judge(trial, "", 5.0)?;
    trial.remark(
        "the proxies have the nice value -10, as deploy/systemd/ringway.service gives it to them",
    );
    arena.must_work()
}

/// What is felt of something, through the proxies and without them.
struct Felt {
    victim: Turns,
    direct: Turns,
}

/// Measures quiet times and times beside what `begin` starts, which ends when it is dropped; where it fills the processors,
/// nothing else is to keep them awake.
fn felt_beside<Noise>(
    trial: &mut Trial<'_>,
    arena: &Arena,
    fills: bool,
    begin: impl Fn(&Trial<'_>, usize) -> Result<Noise>,
) -> Result<Felt> {
    let (rounds, seconds) = trial.amount((1, 3.0), (5, 6.0));
    let told = |trial: &Trial<'_>, (from, to)| {
        let load = requests(trial, arena.address(to, SERVED), RATE, seconds).preferred(MEASURED);
        Load::launch(arena, from, &format!("load-{from}-{to}"), load)?.finish(trial)
    };
    let mut felt = Felt { victim: Turns::begin()?, direct: Turns::begin()? };
    for round in 0..rounds {
        let (quiet, quiet_direct) = (told(trial, VICTIM)?, told(trial, DIRECT)?);
        let beside = |trial: &Trial<'_>| {
            let _noise = begin(trial, round)?;
            Ok((told(trial, VICTIM)?, told(trial, DIRECT)?))
        };
        let (beside, beside_direct) =
            if fills { trial.while_busy(beside)? } else { beside(trial)? };
        felt.victim.add(&quiet, &beside);
        felt.direct.add(&quiet_direct, &beside_direct);
    }
    Ok(felt)
}

impl Felt {
    fn judge(&self, trial: &mut Trial<'_>, what: &str, times_most: f64) -> Result<()> {
        trial.exactly(&format!("{what}requests lost"), self.victim.lost(), "requests", 0);
        self.victim.judge(trial, &format!("{what}p99"), times_most)?;
        self.direct.tell(trial, &format!("{what}p99 without proxies"));
        Ok(())
    }
}
