//! Which endpoint gets the next request.
//!
//! * [`least_request`], [`random`], [`RoundRobin`]: by weight, and by how much each has to do;
//! * [`Ring`], [`Maglev`]: requests that are alike go to the same endpoint, and most still do when endpoints come and go;
//! * [`ranked`], [`distributed`]: endpoints nearby first.
//!
//! All of it is of one shard: counts of requests under way may be those of all shards, told by the caller.

mod hash;
mod locality;

pub use self::hash::{Maglev, Ring, hash, hash_key};
pub use self::locality::{Locality, distributed, ranked};

/// What is known of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its share, against those of others; 0: none.
    pub weight: u32,
    /// Requests under way.
    pub active: u32,
}

/// Of two that chance picks, by weight, the one with less to do for its weight. None: nobody has a weight.
pub fn least_request(candidates: &[Candidate], chances: [u64; 2]) -> Option<usize> {
    let one = random(candidates, chances[0])?;
    let other = random(candidates, chances[1])?;
    let load = |place: usize| u64::from(candidates[place].active) + 1;
    let weight = |place: usize| u64::from(candidates[place].weight);
    // load / weight, without dividing.
    let is_less = load(other) * weight(one) < load(one) * weight(other);
    Some(if is_less { other } else { one })
}

/// Whoever chance picks, by weight. None: nobody has a weight.
pub fn random(candidates: &[Candidate], chance: u64) -> Option<usize> {
    let total: u64 = candidates.iter().map(|one| u64::from(one.weight)).sum();
    if total == 0 {
        return None;
    }
    let mut place = ((u128::from(chance) * u128::from(total)) >> 64) as u64;
    candidates.iter().position(|one| match place.checked_sub(u64::from(one.weight)) {
        Some(rest) => {
            place = rest;
            false
        }
        None => true,
    })
}

/// One after the other, those with more weight more often and evenly spread.
#[derive(Clone, Debug, Default)]
pub struct RoundRobin {
    /// What each is owed; as many as there were candidates the last time.
    owed: Vec<i64>,
}

impl RoundRobin {
    /// The next one. None: nobody has a weight.
    pub fn next(&mut self, candidates: &[Candidate]) -> Option<usize> {
        self.owed.resize(candidates.len(), 0);
        let total: i64 = candidates.iter().map(|one| i64::from(one.weight)).sum();
        if total == 0 {
            return None;
        }
        for (owed, one) in self.owed.iter_mut().zip(candidates) {
            // Weights may have changed; nobody is owed more than a few rounds.
            let more = (*owed + i64::from(one.weight)).clamp(-2 * total, 2 * total);
            *owed = if one.weight == 0 { 0 } else { more };
        }
        let with_weight = (0..candidates.len()).filter(|place| candidates[*place].weight > 0);
        // Of equals the first.
        let next =
            with_weight.max_by_key(|place| (self.owed[*place], std::cmp::Reverse(*place)))?;
        self.owed[next] -= total;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(all: &[(u32, u32)]) -> Vec<Candidate> {
        all.iter().map(|&(weight, active)| Candidate { weight, active }).collect()
    }

    /// Chances that are evenly spread.
    fn chances() -> impl Iterator<Item = u64> {
        let mut state = 0x5eed_u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
        })
    }

    #[test]
    fn who_has_less_to_do_of_two() {
        let (low, high) = (0, u64::MAX);
        #[rustfmt::skip]
        let rows = [
            ("the same one twice",          vec![(1, 9), (1, 0)], [low, low],  Some(0)),
            ("the second has less",         vec![(1, 9), (1, 0)], [low, high], Some(1)),
            ("the first has less",          vec![(1, 0), (1, 9)], [low, high], Some(0)),
            ("as much: the first picked",   vec![(1, 3), (1, 3)], [high, low], Some(1)),
            ("twice the weight, as much",   vec![(1, 3), (2, 3)], [low, high], Some(1)),
            ("twice the weight, and load",  vec![(1, 1), (2, 4)], [low, high], Some(0)),
            ("without weight",              vec![(0, 0), (1, 9)], [low, low],  Some(1)),
            ("nobody has weight",           vec![(0, 0), (0, 0)], [low, low],  None),
            ("nobody",                      vec![],               [low, low],  None),
        ];
        for (name, all, chances, want) in rows {
            assert_eq!(least_request(&candidates(&all), chances), want, "{name}");
        }
    }

    /// Served one at a time with random durations, the busiest of ten never has much more than the mean.
    #[test]
    fn least_request_keeps_endpoints_even() {
        let mut chances = chances();
        let mut all = candidates(&[(1, 0); 10]);
        let mut most = 0;
        for _ in 0..100_000 {
            let picked = least_request(&all, [chances.next().unwrap(), chances.next().unwrap()]);
            all[picked.unwrap()].active += 1;
            most = most.max(all.iter().map(|one| one.active).max().unwrap());
            // Of 100 under way on average one ends, whichever.
            if all.iter().map(|one| one.active).sum::<u32>() > 100 {
                let under_way: Vec<_> =
                    all.iter().map(|one| Candidate { weight: one.active, active: 0 }).collect();
                let ended = random(&under_way, chances.next().unwrap()).unwrap();
                all[ended].active -= 1;
            }
        }
        // By chance alone it would be more than 25.
        assert!(most <= 20, "{most} at one, with 10 on average");
    }

    #[test]
    fn chance_goes_by_weight() {
        let all = candidates(&[(1, 0), (0, 0), (3, 0), (6, 0)]);
        let mut counts = [0_u32; 4];
        for chance in chances().take(100_000) {
            counts[random(&all, chance).unwrap()] += 1;
        }
        for (count, want) in counts.into_iter().zip([10_000, 0, 30_000, 60_000]) {
            assert!(count.abs_diff(want) < 1_000, "{counts:?}");
        }
    }

    #[test]
    fn round_robin_is_evenly_spread() {
        let all = candidates(&[(5, 0), (1, 0), (1, 0), (0, 0)]);
        let mut order = RoundRobin::default();
        let picked: Vec<_> = (0..7).map(|_| order.next(&all).unwrap()).collect();
        assert_eq!(picked, [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order.next(&all[3..]), None);
    }

    proptest! {
        #[test]
        fn round_robin_keeps_the_weights(weights in prop::collection::vec(0u32..20, 1..8)) {
            let all: Vec<_> = weights.iter().map(|&weight| Candidate { weight, active: 0 }).collect();
            let total: u32 = weights.iter().sum();
            let mut order = RoundRobin::default();
            let mut counts = vec![0; weights.len()];
            for _ in 0..total * 3 {
                counts[order.next(&all).unwrap()] += 1;
            }
            let want: Vec<u32> = weights.iter().map(|weight| weight * 3).collect();
            prop_assert_eq!(counts, want);
        }
    }
}
