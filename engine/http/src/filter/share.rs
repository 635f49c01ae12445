//! Who gets a request: one backend by weights, and mirrors by their shares.

use std::fmt;

use crate::model::{BackendTarget, Filter, Mirror, Rule, WeightedBackend};

/// Why nobody gets a request that has met a rule; the answer is 500.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dead {
    /// The rule has no backends.
    NoBackends,
    /// All its weights are 0.
    NoWeight,
    /// It was the share of a reference that leads nowhere. Says why.
    Invalid(std::sync::Arc<str>),
}

impl fmt::Display for Dead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dead::NoBackends => f.write_str("the rule has no backends"),
            Dead::NoWeight => f.write_str("all backends of the rule have weight 0"),
            Dead::Invalid(why) => write!(f, "the backend cannot be had: {why}"),
        }
    }
}

/// The backend for a request, by `draw`: any number, each as likely. Its place is within the rule's backends.
///
/// # Errors
/// There is none: 500.
pub fn choose(rule: &Rule, draw: u64) -> Result<(usize, &WeightedBackend), Dead> {
    if rule.backends.is_empty() {
        return Err(Dead::NoBackends);
    }
    let total: u64 = rule.backends.iter().map(|it| u64::from(it.weight)).sum();
    if total == 0 {
        return Err(Dead::NoWeight);
    }
    let mut point = below(total, draw);
    for (at, backend) in rule.backends.iter().enumerate() {
        match point.checked_sub(u64::from(backend.weight)) {
            Some(rest) => point = rest,
            None => return living(at, backend),
        }
    }
    unreachable!("the point is below the sum of the weights")
}

fn living(at: usize, backend: &WeightedBackend) -> Result<(usize, &WeightedBackend), Dead> {
    match &backend.backend.target {
        BackendTarget::Invalid(why) => Err(Dead::Invalid(why.clone())),
        BackendTarget::Service { .. } => Ok((at, backend)),
    }
}

/// Who gets a copy of this request. `draw` is asked once for each mirror.
pub fn mirrors(filters: &[Filter], mut draw: impl FnMut() -> u64) -> impl Iterator<Item = &Mirror> {
    filters.iter().filter_map(move |filter| {
        let Filter::Mirror(mirror) = filter else { return None };
        let drawn = below(u64::from(mirror.denominator), draw());
        (drawn < u64::from(mirror.numerator)).then_some(mirror)
    })
}

/// A number below `bound`, each as likely; 0 if there is none.
fn below(bound: u64, draw: u64) -> u64 {
    let scaled = (u128::from(draw) * u128::from(bound)) >> 64;
    u64::try_from(scaled).expect("it is below the bound")
}
