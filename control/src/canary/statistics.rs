//! Intervals, quantiles, and a test that may be looked at as often as one likes.
//!
//! The test is that of Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample tests that allow for
//! optional stopping" (Journal of Statistical Planning and Inference 230, 2024), one-sided. See [`Evidence`].

/// Of a normal distribution, 95 % lie within so many standard deviations of its middle.
const Z95: f64 = 1.959_963_984_540_054;

/// What is believed of a share before anything was seen of it, as so many of each; what the authors of the test advise.
const PRIOR: f64 = 0.18;

/// Some of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Those that are counted.
    pub some: u64,
    /// All.
    pub all: u64,
}

impl Counted {
    /// Both added up.
    pub fn and(self, other: Self) -> Self {
        Self { some: self.some + other.some, all: self.all + other.all }
    }

    /// The share; none of nothing.
    pub fn share(self) -> Option<f64> {
        (self.all > 0).then(|| self.some as f64 / self.all as f64)
    }

    /// Where the share lies with 95 % confidence (Wilson 1927): right also near 0 and 1, where few were seen.
    pub fn wilson(self) -> (f64, f64) {
        let Some(share) = self.share() else { return (0.0, 1.0) };
        let (n, z2) = (self.all as f64, Z95 * Z95);
        let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt() / (1.0 + z2 / n);
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }

    /// As it is guessed from what was seen.
    fn guess(self) -> f64 {
        (self.some as f64 + PRIOR) / (self.all as f64 + 2.0 * PRIOR)
    }
}

/// How strongly two streams of outcomes speak against "the second has no larger share than the first".
///
/// They come in blocks. Before a block of `m` and `n` outcomes is looked at, both shares are guessed from the blocks before:
/// `a` and `b`, and `c = (m·a + n·b) / (m + n)`. Where `b > a`, the evidence is multiplied by how much likelier the block
/// is with the shares `a` and `b` than with `c` for both. As long as the second share is truly no larger, this factor is 1 at
/// most on average, so that the evidence ever reaches `1/x` with a probability of `x` at most (Ville), however often and
/// whenever one looks, and with however few outcomes.
///
/// Why 1 at most: with true shares `p` and `q`, the average is `g(p)^m · h(q)^n`, where `g(p) = p·a/c + (1-p)·(1-a)/(1-c)`
/// and `h` the same with `b`. As `a ≤ c ≤ b`, `h` grows, so that `q ≤ p` has its maximum at `q = p`; and the logarithm of
/// `g(p)^m · h(p)^n` is concave and has its maximum, 0, at `p = c`.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The logarithm.
    now: f64,
    /// The highest that it ever was.
    highest: f64,
    first: Counted,
    second: Counted,
}

impl Evidence {
    /// Adds a block of both.
    pub fn add(&mut self, first: Counted, second: Counted) {
        if self.first.all > 0 && self.second.all > 0 {
            let (a, b) = (self.first.guess(), self.second.guess());
            let (m, n) = (first.all as f64, second.all as f64);
            if b > a && m > 0.0 && n > 0.0 {
                let c = (m * a + n * b) / (m + n);
                self.now += likelier(first, a, c) + likelier(second, b, c);
                self.highest = self.highest.max(self.now);
            }
        }
        self.first = self.first.and(first);
        self.second = self.second.and(second);
    }

    /// The always-valid p-value: as small as this with no such probability while there is nothing to be found.
    pub fn p(&self) -> f64 {
        (-self.highest).exp()
    }
}

/// The logarithm of how much likelier a block is with one share than with another.
fn likelier(block: Counted, share: f64, than: f64) -> f64 {
    let others = (block.all - block.some) as f64;
    block.some as f64 * (share / than).ln() + others * ((1.0 - share) / (1.0 - than)).ln()
}

/// The value below which `share` of a histogram lies, between the bounds of its bucket in proportion, as Prometheus'
/// `histogram_quantile` has it. `buckets`: upper ends, growing, and how many were in each and in none before.
pub fn quantile(buckets: &[(f64, u64)], share: f64) -> Option<f64> {
    let all: u64 = buckets.iter().map(|(_, count)| count).sum();
    let (mut seen, mut lower) = (0_u64, 0.0);
    let rank = share * all as f64;
    for &(upper, count) in buckets {
        let within = seen + count;
        if count > 0 && within as f64 >= rank {
            // What is above all bounds is known to be that.
            if upper.is_infinite() {
                return Some(lower);
            }
            return Some(lower + (upper - lower) * ((rank - seen as f64) / count as f64).max(0.0));
        }
        seen = within;
        if upper.is_finite() {
            lower = upper;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(some: u64, all: u64) -> Counted {
        Counted { some, all }
    }

    #[test]
    fn wilson_is_as_tables_have_it() {
        #[rustfmt::skip]
        let rows = [
            (counted(0, 10),     (0.0,    0.2775)),
            (counted(8, 10),     (0.4902, 0.9433)),
            (counted(10, 10),    (0.7225, 1.0)),
            (counted(50, 100),   (0.4038, 0.5962)),
            (counted(1, 1000),   (0.0002, 0.0056)),
            (counted(0, 0),      (0.0,    1.0)),
        ];
        for (of, (low, high)) in rows {
            let got = of.wilson();
            let is_near = (got.0 - low).abs() < 5e-5 && (got.1 - high).abs() < 5e-5;
            assert!(is_near, "{of:?}: {got:?}");
        }
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let buckets = [(1.0, 0), (5.0, 50), (10.0, 50), (25.0, 0), (f64::INFINITY, 0)];
        assert_eq!(quantile(&buckets, 0.25), Some(3.0));
        assert_eq!(quantile(&buckets, 0.5), Some(5.0));
        assert_eq!(quantile(&buckets, 1.0), Some(10.0));
        assert_eq!(quantile(&[(1.0, 1), (f64::INFINITY, 9)], 0.9), Some(1.0));
        assert_eq!(quantile(&[(1.0, 0)], 0.5), None);
    }

    /// A small generator of our own: runs are the same everywhere.
    struct Chance(u64);

    impl Chance {
        fn is(&mut self, share: f64) -> bool {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            ((self.0 >> 11) as f64) < share * (1_u64 << 53) as f64
        }

        fn block(&mut self, share: f64, all: u64) -> Counted {
            Counted { some: (0..all).filter(|_| self.is(share)).count() as u64, all }
        }
    }

    /// Of so many runs that are looked at after each block, those in which the evidence ever sufficed at 5 %.
    fn alarms(runs: u64, shares: (f64, f64), sizes: (u64, u64)) -> u64 {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        let mut one = || {
            let mut evidence = Evidence::default();
            (0..60).any(|_| {
                let first = chance.block(shares.0, sizes.0);
                let second = chance.block(shares.1, sizes.1);
                evidence.add(first, second);
                evidence.p() <= 0.05
            })
        };
        (0..runs).filter(|_| one()).count() as u64
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised_however_often_one_looks() {
        const RUNS: u64 = 1000;
        // 5 % of the runs, and five standard deviations of such a count: sqrt(1000 · 0.05 · 0.95) < 7.
        const MOST: u64 = 50 + 5 * 7;
        #[rustfmt::skip]
        let rows = [
            ("one in ten goes to the second",   (0.02,  0.02),  (45, 5)),
            ("half and half",                   (0.10,  0.10),  (20, 20)),
            ("failures are rare",               (0.002, 0.002), (50, 50)),
            ("nearly everything fails",         (0.95,  0.95),  (10, 30)),
            ("the second is better",            (0.10,  0.05),  (25, 25)),
        ];
        for (name, shares, sizes) in rows {
            let alarms = alarms(RUNS, shares, sizes);
            assert!(alarms <= MOST, "{name}: {alarms} of {RUNS}");
        }
    }

    #[test]
    fn what_is_worse_is_found() {
        for (shares, sizes) in [((0.01, 0.10), (90, 10)), ((0.05, 0.15), (30, 30))] {
            let found = alarms(200, shares, sizes);
            assert!(found >= 190, "{shares:?}: {found} of 200");
        }
    }

    #[test]
    fn nothing_is_learnt_from_one_side() {
        let mut evidence = Evidence::default();
        for _ in 0..10 {
            evidence.add(counted(0, 100), counted(0, 0));
        }
        evidence.add(counted(0, 100), counted(5, 5));
        assert_eq!(evidence.p(), 1.0, "the first of the second's blocks is for guessing");
        evidence.add(counted(0, 100), counted(5, 5));
        assert!(evidence.p() < 1e-6);
    }
}
