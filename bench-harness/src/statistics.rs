//! What repeated measurements allow to be said, and what they do not.
//!
//! A number stands for its repetitions as their median, with an interval that covers the true median
//! in 95 of 100 such experiments: percentile bootstrap, [`RESAMPLES`] resamples, always the same ones,
//! so that one folder of results gives one report. Two subjects are compared by pairs: repetition 7
//! of one with repetition 7 of the other, since they were taken close to each other, and what
//! disturbed the machine then disturbed both.
//!
//! **Promise:** no difference is called that the interval does not exclude, and none at all from
//! fewer than [`REPETITIONS_MIN`] repetitions.

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

use crate::histogram;

/// Resamples of one interval. At 10,000 its ends move by less than the third digit from seed to seed.
pub const RESAMPLES: usize = 10_000;

/// Below this, the interval from the smallest to the largest value covers the median in fewer than
/// 93 of 100 cases (2 · 0.5^n are missed), so nothing is concluded.
pub const REPETITIONS_MIN: usize = 5;

/// The share of intervals that miss, at both ends together.
const MISSED: f64 = 0.05;

/// A median with its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The median, or the ratio or difference of two.
    pub value: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval.
    pub high: f64,
    /// How many repetitions it stands for.
    pub repetitions: usize,
}

/// Where the draws begin.
const SEED: u64 = 0x2a;

/// What may be said of a number beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The whole interval lies below.
    Lower,
    /// The whole interval lies above.
    Higher,
    /// The interval includes it, or the repetitions are too few.
    NotShown,
}

impl Estimate {
    /// The median of repeated measurements; none of nothing.
    pub fn of(values: &[f64]) -> Option<Estimate> {
        bootstrap(values.len(), |indices, scratch| {
            median_of(indices.iter().map(|&index| values[index]), scratch)
        })
    }

    /// The ratio of medians, of pairs. None where a divisor is zero: then only a
    /// [difference](Estimate::difference) can be told.
    pub fn ratio(pairs: &[(f64, f64)]) -> Option<Estimate> {
        if pairs.iter().any(|&(_, divisor)| divisor <= 0.0) {
            return None;
        }
        Self::paired(pairs, |one, other| one / other)
    }

    /// The difference of medians, of pairs.
    pub fn difference(pairs: &[(f64, f64)]) -> Option<Estimate> {
        Self::paired(pairs, |one, other| one - other)
    }

    /// The ratio of medians of measurements that did not take turns, so that nothing pairs them.
    pub fn ratio_unpaired(one: &[f64], other: &[f64]) -> Option<Estimate> {
        if one.is_empty() || other.is_empty() || other.iter().any(|divisor| *divisor <= 0.0) {
            return None;
        }
        let (mut random, mut sorted) = (fastrand::Rng::with_seed(SEED), Vec::new());
        let mut resampled = |values: &[f64]| {
            let drawn = (0..values.len()).map(|_| values[random.usize(..values.len())]);
            median_of(drawn, &mut sorted)
        };
        let ratios = (0..RESAMPLES).map(|_| resampled(one) / resampled(other)).collect();
        let value = median(one) / median(other);
        Some(Estimate::between(value, ratios, one.len().min(other.len())))
    }

    /// The middle 95 % of what resamples gave.
    fn between(value: f64, mut resampled: Vec<f64>, repetitions: usize) -> Estimate {
        resampled.sort_unstable_by(f64::total_cmp);
        let cut = (RESAMPLES as f64 * MISSED / 2.0) as usize;
        let (low, high) = (resampled[cut], resampled[RESAMPLES - 1 - cut]);
        Estimate { value, low, high, repetitions }
    }

    fn paired(pairs: &[(f64, f64)], of: impl Fn(f64, f64) -> f64) -> Option<Estimate> {
        bootstrap(pairs.len(), |indices, scratch| {
            let one = median_of(indices.iter().map(|&index| pairs[index].0), scratch);
            let other = median_of(indices.iter().map(|&index| pairs[index].1), scratch);
            of(one, other)
        })
    }

    /// Whether it is shown to be below or above a number.
    pub fn verdict(&self, against: f64) -> Verdict {
        match self {
            _ if self.repetitions < REPETITIONS_MIN => Verdict::NotShown,
            _ if self.high < against => Verdict::Lower,
            _ if self.low > against => Verdict::Higher,
            _ => Verdict::NotShown,
        }
    }
}

impl Verdict {
    /// As it is printed.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Lower => "lower",
            Verdict::Higher => "higher",
            Verdict::NotShown => "no difference shown",
        }
    }
}

/// The median; of an even number of values the mean of the middle two. Not of nothing.
pub fn median(values: &[f64]) -> f64 {
    median_of(values.iter().copied(), &mut Vec::new())
}

fn median_of(values: impl Iterator<Item = f64>, sorted: &mut Vec<f64>) -> f64 {
    sorted.clear();
    sorted.extend(values);
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// Evaluates a statistic on all repetitions, and on resamples of them.
fn bootstrap(
    repetitions: usize,
    mut statistic: impl FnMut(&[usize], &mut Vec<f64>) -> f64,
) -> Option<Estimate> {
    if repetitions == 0 {
        return None;
    }
    let (mut random, mut scratch) = (fastrand::Rng::with_seed(SEED), Vec::new());
    let mut indices: Vec<usize> = (0..repetitions).collect();
    let value = statistic(&indices, &mut scratch);
    if repetitions == 1 {
        return Some(Estimate { value, low: value, high: value, repetitions });
    }
    let resampled = (0..RESAMPLES)
        .map(|_| {
            indices.fill_with(|| random.usize(..repetitions));
            statistic(&indices, &mut scratch)
        })
        .collect();
    Some(Estimate::between(value, resampled, repetitions))
}

/// Adds up the histograms of repetitions, as `latencies.csv` holds them.
///
/// # Errors
/// When one is no HdrHistogram.
pub fn merged<'a>(histograms: impl IntoIterator<Item = &'a str>) -> Result<Histogram<u64>> {
    let mut sum = Histogram::new(3).expect("3 digits are allowed");
    for text in histograms {
        sum.add(histogram::decode(text)?).context("histograms do not fit together")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEN: [f64; 10] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];

    fn paired(one: impl Fn(f64) -> f64, other: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        TEN.iter().map(|&value| (one(value), other(value))).collect()
    }

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 3.0, 4.0]), 3.5);
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn the_interval_of_ten_values_is_known() {
        // The share of resamples whose median is at most 3 is 2.4 %, at most 2.5 is below 1.4 %.
        let estimate = Estimate::of(&TEN).unwrap();
        assert_eq!((estimate.value, estimate.repetitions), (5.5, 10));
        assert!((2.5..=3.5).contains(&estimate.low), "{estimate:?}");
        assert!((7.5..=8.5).contains(&estimate.high), "{estimate:?}");
        assert_eq!(Estimate::of(&TEN), Some(estimate), "the same numbers, the same interval");
    }

    #[test]
    fn of_equal_values_nothing_is_uncertain() {
        let estimate = Estimate::of(&[7.0; 10]).unwrap();
        assert_eq!((estimate.low, estimate.value, estimate.high), (7.0, 7.0, 7.0));
    }

    #[test]
    fn pairs_cancel_what_disturbed_both() {
        // Half the cost in every repetition, though the repetitions differ tenfold.
        let ratio = Estimate::ratio(&paired(|v| v, |v| 2.0 * v)).unwrap();
        assert_eq!((ratio.low, ratio.value, ratio.high), (0.5, 0.5, 0.5));
        assert_eq!(ratio.verdict(1.0), Verdict::Lower);
        let difference = Estimate::difference(&paired(|v| v + 3.0, |v| v)).unwrap();
        assert_eq!((difference.low, difference.high), (3.0, 3.0));
        assert_eq!(difference.verdict(0.0), Verdict::Higher);
    }

    #[test]
    fn no_difference_is_called_inside_the_interval() {
        let ratio = Estimate::ratio(&paired(|v| v, |v| 11.0 - v)).unwrap();
        assert!(ratio.low < 1.0 && ratio.high > 1.0, "{ratio:?}");
        assert_eq!(ratio.verdict(1.0), Verdict::NotShown);
        assert_eq!(ratio.verdict(1.0).word(), "no difference shown");
    }

    #[test]
    fn nothing_is_called_from_few_repetitions() {
        let pairs = paired(|_| 1.0, |_| 100.0);
        assert_eq!(Estimate::ratio(&pairs[..4]).unwrap().verdict(1.0), Verdict::NotShown);
        assert_eq!(Estimate::ratio(&pairs[..5]).unwrap().verdict(1.0), Verdict::Lower);
    }

    #[test]
    fn what_did_not_take_turns_is_less_certain() {
        let double = TEN.map(|value| 2.0 * value);
        let ratio = Estimate::ratio_unpaired(&TEN, &double).unwrap();
        assert_eq!((ratio.value, ratio.repetitions), (0.5, 10));
        assert!(ratio.low < 0.45 && ratio.high > 0.55, "{ratio:?}");
        assert_eq!(Estimate::ratio_unpaired(&TEN, &[0.0]), None);
        let far = TEN.map(|value| 100.0 + value);
        assert_eq!(Estimate::ratio_unpaired(&far, &TEN).unwrap().verdict(1.0), Verdict::Higher);
    }

    #[test]
    fn no_ratio_to_zero() {
        assert_eq!(Estimate::ratio(&[(1.0, 0.0)]), None);
        assert_eq!(Estimate::difference(&[(1.0, 0.0)]).unwrap().value, 1.0);
    }

    /// Draws many experiments of ten repetitions whose true median is known.
    #[test]
    fn the_interval_covers_the_true_median_as_often_as_promised() {
        let mut random = fastrand::Rng::with_seed(1);
        let experiments = 400;
        let covered = (0..experiments).filter(|_| {
            // Skewed, as latencies are; the median of an exponential is ln 2.
            let values: Vec<f64> = (0..10).map(|_| -(1.0 - random.f64()).ln()).collect();
            let estimate = Estimate::of(&values).unwrap();
            (estimate.low..=estimate.high).contains(&std::f64::consts::LN_2)
        });
        let share = covered.count() as f64 / f64::from(experiments);
        assert!((0.92..=0.99).contains(&share), "{share}");
    }

    /// The same machine measured twice: a difference may be called in one of twenty cases.
    #[test]
    fn equals_are_rarely_told_apart() {
        let mut random = fastrand::Rng::with_seed(2);
        let called = (0..400).filter(|_| {
            let mut value = || 10.0 + random.f64() + random.f64();
            let pairs: Vec<_> = (0..10).map(|_| (value(), value())).collect();
            Estimate::ratio(&pairs).unwrap().verdict(1.0) != Verdict::NotShown
        });
        let share = called.count() as f64 / 400.0;
        assert!(share <= 0.07, "{share}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_interval_holds_the_median_and_lies_within_the_values(
            values in prop::collection::vec(0.001..1e9, 1..30),
            scale in 0.5..2.0,
        ) {
            let estimate = Estimate::of(&values).unwrap();
            prop_assert!(estimate.low <= estimate.value && estimate.value <= estimate.high);
            prop_assert!(values.iter().any(|value| *value <= estimate.low));
            prop_assert!(values.iter().any(|value| *value >= estimate.high));
            let pairs: Vec<(f64, f64)> = values.iter().map(|v| (v * scale, *v)).collect();
            let ratio: Estimate = Estimate::ratio(&pairs).unwrap();
            let scale: f64 = scale;
            prop_assert!((ratio.low - scale).abs() < 1e-9 && (ratio.high - scale).abs() < 1e-9);
        }
    }

    fn text(values: impl IntoIterator<Item = u64>) -> String {
        let mut latencies = histogram::empty();
        values.into_iter().for_each(|value| latencies.record(value).unwrap());
        histogram::encode(&latencies).unwrap()
    }

    #[test]
    fn histograms_add_up() {
        let (fast, slow) = (text(1..=900), text([5_000; 100]));
        let sum = merged([&*fast, &*slow]).unwrap();
        assert_eq!((sum.len(), sum.value_at_quantile(0.5)), (1000, 500));
        assert!(sum.equivalent(sum.value_at_quantile(0.99), 5_000));
        assert!(merged(["HIST!"]).is_err());
    }
}
