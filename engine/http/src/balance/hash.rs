//! Requests that are alike go to the same endpoint.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use http::header;

use crate::head::RequestHead;
use crate::model::traffic::HashKey;
use crate::token::cookie;

/// Points of a ring at most, however heavy its endpoints.
const POINTS_MAX: usize = 1 << 17;

/// Endpoints on a ring: a request goes to the next point. When an endpoint goes, only its own requests move.
#[derive(Debug)]
pub struct Ring {
    /// Hash and place of the endpoint, in order of hashes.
    points: Box<[(u64, u32)]>,
}

/// Endpoints in a table that each fills alike (Maglev): a request goes to its place. One look-up, and few requests move
/// beside those of an endpoint that goes.
#[derive(Debug)]
pub struct Maglev {
    places: Box<[u32]>,
}

/// What a request has in common with those that go to the same endpoint. None: it has not.
pub fn hash_key<'h>(
    key: &HashKey,
    head: &'h RequestHead<'_>,
    source: IpAddr,
) -> Option<Cow<'h, str>> {
    match key {
        HashKey::Header(name) => {
            let value = head.header(name)?;
            Some(String::from_utf8_lossy(&value).into_owned().into())
        }
        HashKey::Cookie { name, .. } => {
            let value = head.header(&header::COOKIE)?;
            let value = String::from_utf8_lossy(&value);
            cookie(&value, name).map(|value| Cow::Owned(value.to_owned()))
        }
        HashKey::SourceIp => Some(source.to_canonical().to_string().into()),
        HashKey::Query(name) => head.parameter(name).map(Cow::Borrowed),
    }
}

/// The hash of a text; the same in every process, so that all waypoints send alike.
pub fn hash(text: &str) -> u64 {
    seeded(0, text)
}

fn seeded(seed: u64, text: &str) -> u64 {
    // SipHash with fixed keys.
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(text.as_bytes());
    hasher.finish()
}

impl Ring {
    /// A ring of endpoints, each by what names it for good and its weight.
    pub fn new<'n>(
        endpoints: impl Iterator<Item = (&'n str, u32)> + Clone,
        points_min: u32,
    ) -> Ring {
        let total: u64 = endpoints.clone().map(|(_, weight)| u64::from(weight)).sum();
        let lightest = endpoints.clone().map(|(_, weight)| weight).filter(|it| *it > 0).min();
        // The lightest gets its whole share of points.
        let points = (points_min as usize).clamp(1, POINTS_MAX) as u64;
        let per_weight = points.div_ceil(total.max(1)).max(u64::from(lightest.is_some()));
        let mut all = Vec::new();
        for (place, (name, weight)) in (0_u32..).zip(endpoints) {
            let share = (per_weight * u64::from(weight)) as usize;
            let share = share.min(POINTS_MAX * weight as usize / total.max(1) as usize);
            let own = share.max(usize::from(weight > 0)) as u64;
            all.extend((1..=own).map(|number| (seeded(number, name), place)));
        }
        all.sort_unstable();
        Ring { points: all.into() }
    }

    /// Whose a hash is; those that cannot be used are gone past. None: nobody can be used.
    pub fn pick(&self, hash: u64, is_used: impl Fn(usize) -> bool) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, behind) = self.points.split_at(start);
        let mut places = behind.iter().chain(before).map(|(_, place)| *place as usize);
        places.find(|place| is_used(*place))
    }
}

impl Maglev {
    /// A table of so many places, a prime; endpoints by what names them for good and by weight.
    pub fn new<'n>(endpoints: impl Iterator<Item = (&'n str, u32)>, places: u32) -> Maglev {
        const FREE: u32 = u32::MAX;
        let size = places.max(1) as usize;
        let mut table = vec![FREE; size];
        let mut fillers: Vec<Filler> = (0_u32..)
            .zip(endpoints)
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(place, (name, weight))| Filler::new(place, name, weight, size))
            .collect();
        let heaviest = fillers.iter().map(|one| one.weight).max().unwrap_or(0);
        let mut free = if fillers.is_empty() { 0 } else { size };
        let mut round = 0_u64;
        while free > 0 {
            round += 1;
            for filler in &mut fillers {
                // In every round the heaviest takes a place; the others when it is their turn.
                let due = round * u64::from(filler.weight) >= filler.taken * u64::from(heaviest);
                if free > 0 && due {
                    let at = filler.next_free(&table, FREE);
                    table[at] = filler.place;
                    filler.taken += 1;
                    free -= 1;
                }
            }
        }
        table.retain(|place| *place != FREE);
        Maglev { places: table.into() }
    }

    /// Whose a hash is; those that cannot be used are gone past. None: nobody can be used.
    pub fn pick(&self, hash: u64, is_used: impl Fn(usize) -> bool) -> Option<usize> {
        let start = (hash % self.places.len().max(1) as u64) as usize;
        let (before, behind) = self.places.split_at(start);
        let mut places = behind.iter().chain(before).map(|place| *place as usize);
        places.find(|place| is_used(*place))
    }
}

/// An endpoint that fills a table: all places in an order of its own.
struct Filler {
    place: u32,
    weight: u32,
    next: usize,
    skip: usize,
    taken: u64,
}

impl Filler {
    fn new(place: u32, name: &str, weight: u32, size: usize) -> Filler {
        let next = (seeded(1, name) % size as u64) as usize;
        let skip = 1 + (seeded(2, name) % (size as u64 - 1).max(1)) as usize;
        Filler { place, weight, next, skip, taken: 0 }
    }

    fn next_free(&mut self, table: &[u32], free: u32) -> usize {
        while table[self.next] != free {
            self.next = (self.next + self.skip) % table.len();
        }
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("10.0.0.{number}:8080")).collect()
    }

    fn even(names: &[String]) -> impl Iterator<Item = (&str, u32)> + Clone {
        names.iter().map(|name| (name.as_str(), 1))
    }

    /// How many of ten thousand keys each endpoint gets.
    fn shares(count: usize, pick: impl Fn(u64) -> Option<usize>) -> Vec<usize> {
        let mut shares = vec![0; count];
        for key in 0..10_000 {
            shares[pick(hash(&format!("user-{key}"))).unwrap()] += 1;
        }
        shares
    }

    #[test]
    fn everybody_gets_a_share() {
        let names = names(10);
        let ring = Ring::new(even(&names), 1024);
        let maglev = Maglev::new(even(&names), 65537);
        for share in shares(10, |hash| ring.pick(hash, |_| true)) {
            assert!((500..1700).contains(&share), "{share} of a ring");
        }
        for share in shares(10, |hash| maglev.pick(hash, |_| true)) {
            assert!((900..1100).contains(&share), "{share} of a table");
        }
    }

    #[test]
    fn shares_go_by_weight() {
        let names = names(3);
        let weights = names.iter().map(String::as_str).zip([1, 0, 3]);
        let ring = Ring::new(weights.clone(), 1024);
        let maglev = Maglev::new(weights, 65537);
        for shares in [
            shares(3, |hash| ring.pick(hash, |_| true)),
            shares(3, |hash| maglev.pick(hash, |_| true)),
        ] {
            assert_eq!(shares[1], 0);
            assert!((1_900..3_100).contains(&shares[0]), "{shares:?}");
        }
    }

    /// What an endpoint had is spread over the others; what the others had stays.
    #[test]
    fn few_requests_move_when_an_endpoint_goes() {
        let names = names(10);
        let is_left = |place: usize| place != 3;
        let (ring, maglev) = (Ring::new(even(&names), 1024), Maglev::new(even(&names), 65537));
        let left: Vec<String> =
            (0..10).filter(|place| is_left(*place)).map(|place| names[place].clone()).collect();
        let (new_ring, new_maglev) =
            (Ring::new(even(&left), 1024), Maglev::new(even(&left), 65537));
        let mut moved = [0; 4];
        for key in 0..10_000 {
            let hash = hash(&format!("user-{key}"));
            let before = ring.pick(hash, |_| true).unwrap();
            let ejected = ring.pick(hash, is_left).unwrap();
            let gone = &left[new_ring.pick(hash, |_| true).unwrap()];
            moved[0] += usize::from(is_left(before) && before != ejected);
            moved[1] += usize::from(is_left(before) && names[before] != *gone);
            let before = maglev.pick(hash, |_| true).unwrap();
            let ejected = maglev.pick(hash, is_left).unwrap();
            let gone = &left[new_maglev.pick(hash, |_| true).unwrap()];
            moved[2] += usize::from(is_left(before) && before != ejected);
            moved[3] += usize::from(is_left(before) && names[before] != *gone);
        }
        assert_eq!([moved[0], moved[2]], [0, 0], "an ejected one moves nobody else");
        assert!(moved[1] < 1_500 && moved[3] < 1_500, "{moved:?} of ten thousand");
    }

    #[test]
    fn nobody_is_nobody() {
        let none = std::iter::empty();
        assert_eq!(Ring::new(none.clone(), 1024).pick(7, |_| true), None);
        assert_eq!(Maglev::new(none, 65537).pick(7, |_| true), None);
        let zero = [("a", 0)].into_iter();
        assert_eq!(Ring::new(zero.clone(), 1024).pick(7, |_| true), None);
        assert_eq!(Maglev::new(zero, 65537).pick(7, |_| true), None);
        let one = [("a", 1)].into_iter();
        assert_eq!(Ring::new(one.clone(), 1).pick(7, |_| false), None);
        assert_eq!(Maglev::new(one, 1).pick(7, |_| true), Some(0));
    }
}
