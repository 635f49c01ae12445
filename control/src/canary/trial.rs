//! Two backends that are watched for a while.

use super::report::{Report, Side, SlowTest, Terms, Verdict};
use super::scrape::Block;
use super::statistics::{Counted, Evidence};

/// See the module's text.
#[derive(Debug, Clone)]
pub struct Trial {
    terms: Terms,
    sums: [Block; 2],
    /// Against "the canary fails no oftener", "… is slow no oftener", and "… fails no less often".
    fails: Evidence,
    slow: Evidence,
    fails_less: Evidence,
    slow_milliseconds: Option<f64>,
}

/// Whichever of two tests is the first to say so makes a canary worse: each gets half of what may go wrong.
const TESTS: f64 = 2.0;

/// Of the baseline's requests, so many are not slow when nobody says what slow is.
const SHARE_NOT_SLOW: f64 = 0.9;

impl Trial {
    /// One in which nothing has been seen.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            sums: Default::default(),
            fails: Evidence::default(),
            slow: Evidence::default(),
            fails_less: Evidence::default(),
            slow_milliseconds: None,
        }
    }

    /// What was counted since the last time.
    pub fn add(&mut self, [baseline, canary]: [Block; 2]) {
        self.fails.add(baseline.failures, canary.failures);
        self.fails_less.add(canary.failures, baseline.failures);
        match self.slow_milliseconds {
            Some(slow) => self.slow.add(baseline.slower_than(slow), canary.slower_than(slow)),
            // What says what slow is says nothing about who is.
            None => self.slow_milliseconds = self.slow_from(&baseline),
        }
        for (sum, block) in self.sums.iter_mut().zip([baseline, canary]) {
            sum.add(&block);
        }
    }

    /// The end of a bucket: nothing is known between two.
    fn slow_from(&self, baseline: &Block) -> Option<f64> {
        let all = baseline.slower_than(0.0).all;
        let mut ends =
            baseline.buckets.iter().map(|(upper, _)| *upper).filter(|one| one.is_finite());
        if all == 0 {
            return None;
        }
        match self.terms.slow_milliseconds {
            Some(slow) => ends.find(|upper| *upper >= slow),
            None => ends.find(|upper| {
                let Counted { some, .. } = baseline.slower_than(*upper);
                some as f64 <= (1.0 - SHARE_NOT_SLOW) * all as f64
            }),
        }
    }

    /// Whether it is worse for certain: more would not change that.
    pub fn is_decided(&self) -> bool {
        self.p_failures() <= self.alpha() || self.p_slow() <= self.alpha()
    }

    /// How it stands.
    pub fn report(&self) -> Report {
        let [baseline, canary] = self.sums.each_ref().map(Side::of);
        let enough = |side: &Side| side.failures.all >= self.terms.requests_min;
        let verdict = if self.is_decided() {
            Verdict::Worse
        } else if !enough(&baseline) || !enough(&canary) {
            Verdict::Undecided
        } else if self.fails_less.p() <= self.alpha() {
            Verdict::Better
        } else {
            Verdict::NoDifference
        };
        let slow = self.slow_milliseconds.map(|milliseconds| SlowTest {
            milliseconds,
            shares: self.sums.each_ref().map(|sum| sum.slower_than(milliseconds)),
            p: self.p_slow(),
        });
        Report { verdict, terms: self.terms, baseline, canary, p_failures: self.p_failures(), slow }
    }

    fn alpha(&self) -> f64 {
        1.0 - self.terms.confidence
    }

    fn p_failures(&self) -> f64 {
        (TESTS * self.fails.p()).min(1.0)
    }

    fn p_slow(&self) -> f64 {
        (TESTS * self.slow.p()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms = Terms { confidence: 0.95, requests_min: 50, slow_milliseconds: None };

    fn block(failures: u64, all: u64, slow: u64) -> Block {
        let buckets = vec![(5.0, all - slow), (10.0, 0), (100.0, slow), (f64::INFINITY, 0)];
        Block { failures: Counted { some: failures, all }, buckets }
    }

    fn after(terms: Terms, times: usize, baseline: Block, canary: Block) -> Trial {
        let mut trial = Trial::new(terms);
        (0..times).for_each(|_| trial.add([baseline.clone(), canary.clone()]));
        trial
    }

    #[test]
    fn a_verdict_for_each_way_it_can_go() {
        #[rustfmt::skip]
        let rows = [
            ("nothing was seen",        0,  block(0, 0, 0),    block(0, 0, 0),   Verdict::Undecided),
            ("too little of one",       3,  block(1, 90, 0),   block(0, 10, 0),  Verdict::Undecided),
            ("the same",                20, block(1, 90, 5),   block(0, 10, 0),  Verdict::NoDifference),
            ("it fails",                20, block(1, 90, 5),   block(5, 10, 0),  Verdict::Worse),
            ("it is slow",              20, block(1, 90, 5),   block(0, 10, 8),  Verdict::Worse),
            ("it fails less",           20, block(40, 90, 5),  block(0, 90, 5),  Verdict::Better),
        ];
        for (name, times, baseline, canary, want) in rows {
            let trial = after(TERMS, times, baseline, canary);
            assert_eq!(trial.report().verdict, want, "{name}: {:?}", trial.report());
            assert_eq!(trial.is_decided(), want == Verdict::Worse, "{name}");
        }
    }

    #[test]
    fn what_is_slow_is_said_or_found_out() {
        let trial = after(TERMS, 2, block(0, 90, 5), block(0, 10, 0));
        assert_eq!(trial.slow_milliseconds, Some(5.0), "95 % are within 5 ms");
        let trial = after(TERMS, 2, block(0, 90, 20), block(0, 10, 0));
        assert_eq!(trial.slow_milliseconds, Some(100.0));
        let said = Terms { slow_milliseconds: Some(7.0), ..TERMS };
        let trial = after(said, 2, block(0, 90, 5), block(0, 10, 0));
        assert_eq!(trial.slow_milliseconds, Some(10.0), "the end of its bucket");
    }
}
