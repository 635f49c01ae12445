//! The processor clocks of everything that takes part in a measurement, read together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Energy, busy_time, thread_times};

/// All clocks at one moment.
#[derive(Clone, Debug)]
pub struct Clock {
    at: Instant,
    near: Threads,
    middle: Threads,
    far: Threads,
    beside: Threads,
    machine: Duration,
    energy: Option<Energy>,
}

/// What passed between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time on the wall.
    pub elapsed: Duration,
    /// Processor time of the proxy on the client's side.
    pub near: Duration,
    /// Processor time of what stands between the two sides: a waypoint, where there is one.
    pub middle: Duration,
    /// Processor time of the proxy on the server's side.
    pub far: Duration,
    /// Processor time of the whole machine, less the generator's, the servers' and our own: what the
    /// proxies cost together with what the kernel does for them outside of their threads.
    pub machine: Duration,
    /// Energy of all processors together, whoever used it, in joules; none where it cannot be read.
    pub joules: Option<f64>,
}

impl Clock {
    /// Reads the clocks of both sides and of what stands between them, of what runs beside them (generator, servers), and of the
    /// machine.
    pub fn read([near, middle, far]: [&[u32]; 3], beside: &[u32]) -> Result<Clock> {
        let own = [beside, &[std::process::id()]].concat();
        Ok(Clock {
            at: Instant::now(),
            near: Threads::read(near)?,
            middle: Threads::read(middle)?,
            far: Threads::read(far)?,
            beside: Threads::read(&own)?,
            machine: busy_time()?,
            energy: Energy::read(),
        })
    }

    /// What passed since `earlier`.
    pub fn since(&self, earlier: &Clock) -> Cost {
        let machine = self.machine.saturating_sub(earlier.machine);
        Cost {
            elapsed: self.at - earlier.at,
            near: self.near.since(&earlier.near),
            middle: self.middle.since(&earlier.middle),
            far: self.far.since(&earlier.far),
            machine: machine.saturating_sub(self.beside.since(&earlier.beside)),
            joules: self
                .energy
                .as_ref()
                .zip(earlier.energy.as_ref())
                .and_then(|(now, before)| now.since(before)),
        }
    }
}

/// The clocks of threads, by their ids. They are told apart because a thread that ends takes its time
/// with it: in a sum, what it did long before would be missing from what the others do now.
#[derive(Clone, Debug)]
struct Threads(BTreeMap<u32, Duration>);

impl Threads {
    fn read(processes: &[u32]) -> Result<Threads> {
        let mut all = BTreeMap::new();
        for id in processes {
            all.extend(thread_times(*id)?);
        }
        Ok(Threads(all))
    }

    /// What those that live now did since `earlier`.
    fn since(&self, earlier: &Threads) -> Duration {
        let before = |thread| earlier.0.get(thread).copied().unwrap_or_default();
        self.0.iter().map(|(thread, time)| time.saturating_sub(before(thread))).sum()
    }
}

impl Cost {
    /// All proxies together.
    pub fn pair(&self) -> Duration {
        self.near + self.middle + self.far
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_ended_takes_nothing_from_the_others() {
        let threads = |times: &[(u32, u64)]| {
            let of = |&(id, milliseconds)| (id, Duration::from_millis(milliseconds));
            Threads(times.iter().map(of).collect())
        };
        let before = threads(&[(1, 10), (2, 500)]);
        let now = threads(&[(1, 13), (3, 4)]);
        assert_eq!(now.since(&before), Duration::from_millis(7));
    }
}
