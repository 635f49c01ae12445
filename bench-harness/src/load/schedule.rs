//! When requests are due: fixed before the run, whatever the target does.
//!
//! Every thread has a schedule of its own. Constant arrivals of all threads interleave to one even
//! rhythm, and since a thread hands its requests to its connections in turn, each connection has the
//! same rhythm at its own phase. Poisson arrivals of all threads add up to one Poisson process.

use std::time::Duration;

use clap::ValueEnum;

/// The law that arrivals follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arrivals {
    /// Evenly spaced.
    Constant,
    /// Independent of each other, so that they come in bunches, as they do from many users.
    Poisson,
}

/// The arrivals of one thread, counted from the origin of the run.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    law: Arrivals,
    /// Seconds between two arrivals of this thread.
    interval: f64,
    /// When the next request is due.
    next: f64,
    /// Constant arrivals are products, not sums, so that no error adds up.
    count: u64,
    phase: f64,
    random: u64,
}

impl Schedule {
    /// The schedule of thread `index` of `threads`, which make `rate` requests a second together.
    pub(super) fn new(
        law: Arrivals,
        rate: f64,
        index: usize,
        threads: usize,
        seed: u64,
    ) -> Schedule {
        let mut schedule = Schedule {
            law,
            interval: threads as f64 / rate,
            next: 0.0,
            count: 0,
            phase: index as f64 / rate,
            random: seed.wrapping_add((index as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95)),
        };
        schedule.next = match law {
            Arrivals::Constant => schedule.phase,
            Arrivals::Poisson => schedule.gap(),
        };
        schedule
    }

    /// When the next request is due.
    pub(super) fn next(&self) -> Duration {
        Duration::from_secs_f64(self.next)
    }

    /// The next request was taken.
    pub(super) fn advance(&mut self) {
        self.count += 1;
        self.next = match self.law {
            Arrivals::Constant => self.phase + self.count as f64 * self.interval,
            Arrivals::Poisson => self.next + self.gap(),
        };
    }

    /// An exponentially distributed gap.
    fn gap(&mut self) -> f64 {
        -self.uniform().ln() * self.interval
    }

    /// A number in (0, 1], by SplitMix64.
    fn uniform(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        ((word >> 11) + 1) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(mut schedule: Schedule, until: f64) -> Vec<f64> {
        let mut all = Vec::new();
        while schedule.next < until {
            all.push(schedule.next);
            schedule.advance();
        }
        all
    }

    #[test]
    fn constant_arrivals_of_all_threads_are_one_even_rhythm() {
        for threads in [1, 2, 3, 7] {
            let mut all: Vec<f64> = (0..threads)
                .flat_map(|i| {
                    arrivals(Schedule::new(Arrivals::Constant, 1000.0, i, threads, 0), 10.0)
                })
                .collect();
            all.sort_by(f64::total_cmp);
            assert!((9_999..=10_001).contains(&all.len()), "{threads} threads: {}", all.len());
            for (count, due) in all.iter().enumerate() {
                assert!((due - count as f64 / 1000.0).abs() < 1e-9, "{threads} threads: {due}");
            }
        }
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_the_law() {
        let all = arrivals(Schedule::new(Arrivals::Poisson, 1000.0, 0, 1, 42), 100.0);
        // 100 000 arrivals, give or take 316 (one standard deviation); four of them are allowed.
        assert!((98_700..101_300).contains(&all.len()), "{}", all.len());
        let gaps: Vec<f64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Of exponential gaps, 1/e are longer than the mean.
        let long = gaps.iter().filter(|gap| **gap > 0.001).count() as f64 / gaps.len() as f64;
        assert!((long - (-1f64).exp()).abs() < 0.01, "{long}");
    }

    #[test]
    fn the_seed_and_the_thread_decide_poisson_arrivals() {
        let of =
            |seed, index| arrivals(Schedule::new(Arrivals::Poisson, 100.0, index, 2, seed), 5.0);
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(2, 0));
        assert_ne!(of(1, 0), of(1, 1));
    }
}
