//! Endpoints nearby first, or by shares that were told for each place.

use std::sync::Arc;

use crate::model::traffic::{Distribution, LocalityPolicy};

/// Where something is; empty where it is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// Within it.
    pub zone: Arc<str>,
    /// Within that.
    pub subzone: Arc<str>,
}

impl Locality {
    /// How near another place is, from 0.
    fn distance(&self, other: &Locality, policy: &LocalityPolicy) -> u8 {
        if self.region != other.region {
            let takes_over = policy.failover.is_empty()
                || policy
                    .failover
                    .iter()
                    .any(|(from, to)| *from == self.region && *to == other.region);
            return if takes_over { 3 } else { 4 };
        }
        match (self.zone == other.zone, self.subzone == other.subzone) {
            (false, _) => 2,
            (true, false) => 1,
            (true, true) => 0,
        }
    }

    /// Whether `region/zone/subzone` means this place; parts that are left out or `*` are any.
    fn is_in(&self, pattern: &str) -> bool {
        let own = [&self.region, &self.zone, &self.subzone];
        let mut parts = pattern.split('/');
        own.into_iter().all(|own| parts.next().is_none_or(|part| part == "*" || *part == **own))
    }
}

/// The endpoints that are to be used of those that can be: the nearest ones. Who is further away takes over when nobody
/// nearer is left.
pub fn ranked(
    own: &Locality,
    endpoints: &[Locality],
    policy: &LocalityPolicy,
    is_used: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let distance = |place: &usize| own.distance(&endpoints[*place], policy);
    let used = (0..endpoints.len()).filter(|place| is_used(*place));
    let Some(nearest) = used.clone().map(|place| distance(&place)).min() else { return Vec::new() };
    used.filter(|place| distance(place) == nearest).collect()
}

/// The endpoints of one of the places that shares were told for, drawn by these shares among those with an endpoint that can
/// be used. None: no share was told for clients here.
pub fn distributed(
    own: &Locality,
    endpoints: &[Locality],
    policy: &LocalityPolicy,
    is_used: impl Fn(usize) -> bool,
    chance: u64,
) -> Option<Vec<usize>> {
    let Distribution { to, .. } = policy.distribute.iter().find(|one| own.is_in(&one.from))?;
    let of_place = |pattern: &str| -> Vec<usize> {
        let inside = |place: &usize| endpoints[*place].is_in(pattern) && is_used(*place);
        (0..endpoints.len()).filter(inside).collect()
    };
    let places: Vec<(Vec<usize>, u32)> = to
        .iter()
        .map(|(pattern, percent)| (of_place(pattern), *percent))
        .filter(|(inside, percent)| !inside.is_empty() && *percent > 0)
        .collect();
    let shares: Vec<_> = places
        .iter()
        .map(|(_, percent)| super::Candidate { weight: *percent, active: 0 })
        .collect();
    let drawn = super::random(&shares, chance);
    Some(drawn.map_or(Vec::new(), |drawn| places[drawn].0.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Locality {
        let mut parts = text.split('/').chain(std::iter::repeat("")).map(Arc::from);
        let mut next = || parts.next().unwrap();
        Locality { region: next(), zone: next(), subzone: next() }
    }

    const ENDPOINTS: [&str; 5] = ["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "asia/a/1"];

    fn endpoints() -> Vec<Locality> {
        ENDPOINTS.map(place).into()
    }

    #[test]
    fn the_nearest_that_can_be_used() {
        let any = LocalityPolicy::default();
        let to_us = LocalityPolicy {
            failover: vec![("eu".into(), "us".into())],
            ..LocalityPolicy::default()
        };
        #[rustfmt::skip]
        let rows: [(&str, &LocalityPolicy, &[usize], &[usize]); 7] = [
            ("eu/a/1",     &any,   &[],        &[0]),
            ("eu/a/1",     &any,   &[0],       &[1]),
            ("eu/a/1",     &any,   &[0, 1],    &[2]),
            ("eu/a/1",     &any,   &[0, 1, 2], &[3, 4]),
            ("eu/a/1",     &to_us, &[0, 1, 2], &[3]),
            ("eu/a/1",     &to_us, &[0, 1, 2, 3], &[4]),
            ("africa/a/1", &any,   &[],        &[0, 1, 2, 3, 4]),
        ];
        for (own, policy, gone, want) in rows {
            let got = ranked(&place(own), &endpoints(), policy, |one| !gone.contains(&one));
            assert_eq!(got, want, "{own} without {gone:?}");
        }
        assert!(ranked(&place("eu"), &endpoints(), &any, |_| false).is_empty());
    }

    #[test]
    fn shares_of_places() {
        let to = vec![("eu/a/*".into(), 80), ("eu/b".into(), 20), ("moon".into(), 0)];
        let policy = LocalityPolicy {
            distribute: vec![Distribution { from: "eu/*".into(), to }],
            ..LocalityPolicy::default()
        };
        let got = |own, gone: &[usize], chance| {
            distributed(&place(own), &endpoints(), &policy, |one| !gone.contains(&one), chance)
        };
        let part = |percent: u64| u64::MAX / 100 * percent;
        assert_eq!(got("eu/a/1", &[], part(79)), Some(vec![0, 1]));
        assert_eq!(got("eu/a/1", &[], part(81)), Some(vec![2]));
        assert_eq!(got("eu/a/1", &[0], part(10)), Some(vec![1]));
        assert_eq!(got("eu/a/1", &[0, 1], part(10)), Some(vec![2]));
        assert_eq!(got("eu/a/1", &[0, 1, 2], part(10)), Some(vec![]));
        assert_eq!(got("us/a/1", &[], part(10)), None);
    }
}
