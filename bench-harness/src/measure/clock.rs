//! The processor clocks of everything that takes part in a measurement, read together.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{busy_time, processor_time};

/// All clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    at: Instant,
    near: Duration,
    far: Duration,
    beside: Duration,
    machine: Duration,
}

/// What passed between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Time on the wall.
    pub elapsed: Duration,
    /// Processor time of the proxy on the client's side.
    pub near: Duration,
    /// Processor time of the proxy on the server's side.
    pub far: Duration,
    /// Processor time of the whole machine, less the generator's, the servers' and our own: what the
    /// proxies cost together with what the kernel does for them outside of their threads.
    pub machine: Duration,
}

impl Clock {
    /// Reads the clocks of both sides, of what runs beside them (generator, servers), and of the
    /// machine.
    pub fn read(near: &[u32], far: &[u32], beside: &[u32]) -> Result<Clock> {
        let sum = |ids: &[u32]| ids.iter().map(|id| processor_time(*id)).sum::<Result<Duration>>();
        Ok(Clock {
            at: Instant::now(),
            near: sum(near)?,
            far: sum(far)?,
            beside: sum(beside)? + processor_time(std::process::id())?,
            machine: busy_time()?,
        })
    }

    /// What passed since `earlier`.
    pub fn since(&self, earlier: &Clock) -> Cost {
        let machine = self.machine.saturating_sub(earlier.machine);
        Cost {
            elapsed: self.at - earlier.at,
            near: self.near.saturating_sub(earlier.near),
            far: self.far.saturating_sub(earlier.far),
            machine: machine.saturating_sub(self.beside.saturating_sub(earlier.beside)),
        }
    }
}

impl Cost {
    /// Both proxies together.
    pub fn pair(&self) -> Duration {
        self.near + self.far
    }
}
