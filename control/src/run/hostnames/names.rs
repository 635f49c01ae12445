//! What is known of hostnames, and which are being asked for. Who calls asks as it is told, and tells what is heard.
//!
//! ```text
//!   want ─▶ asked ─▶ known ─▶ old: asked for again, as long as connections go by it
//!             │        └────▶ forgotten: nobody has gone by it for long, or others need the room
//!             └─ without an address: forgotten
//! ```
//!
//! **Invariant:** what connections find is what is known here, and nothing else: what is forgotten is not found any more, and is
//! asked for by whoever needs it next.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ringway_engine::limits::{
    HOSTNAME_AGE_MAX, HOSTNAME_UNUSED_MAX, HOSTNAMES_ASKED_AGAIN_MAX, HOSTNAMES_ASKED_MAX,
    HOSTNAMES_MAX,
};
use ringway_engine::snapshot::Resolutions;
use tokio::time::Instant;

use super::asked::{Answer, Asked};
use crate::dns::Family;

/// How many are forgotten when there is no room: who has been unused for longest is found by a look at all of them.
const FORGOTTEN: usize = HOSTNAMES_MAX / 16;

/// All hostnames of a process.
pub(super) struct Names {
    ipv6: bool,
    resolutions: Resolutions,
    known: BTreeMap<Box<str>, Known>,
    asked: BTreeMap<Box<str>, Asked>,
}

struct Known {
    addresses: Vec<IpAddr>,
    /// When it was answered last.
    answered: Instant,
    /// When a connection was last seen to go by it.
    used: Instant,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follows {
    /// Nothing.
    Nothing,
    /// The other family is given a moment.
    Wait,
    /// Connections must be told what is known.
    Tell,
}

impl Names {
    /// None is known yet. Without `ipv6` addresses of that family are not asked for.
    pub(super) fn new(ipv6: bool) -> Self {
        Self {
            ipv6,
            resolutions: Resolutions::default(),
            known: BTreeMap::new(),
            asked: BTreeMap::new(),
        }
    }

    /// What connections are to find.
    pub(super) fn resolutions(&self) -> &Resolutions {
        &self.resolutions
    }

    /// Whether any more may be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.asked.len() < HOSTNAMES_ASKED_MAX
    }

    /// A connection needs `hostname`. `true`: it is to be asked for now.
    pub(super) fn want(&mut self, hostname: &str) -> bool {
        if !self.has_room() || self.asked.contains_key(hostname) {
            return false;
        }
        self.asked.insert(hostname.into(), Asked::new(self.ipv6));
        true
    }

    /// The hostnames that are to be asked for again now, and whether connections must be told what is known.
    pub(super) fn again(&mut self, now: Instant) -> (Vec<Box<str>>, bool) {
        let is_old = |known: &Known| now - known.answered > HOSTNAME_AGE_MAX;
        let mut old: Vec<_> = self.known.iter().filter(|(_, known)| is_old(known)).collect();
        old.sort_by_key(|(_, known)| known.answered);
        let old: Vec<_> = old.into_iter().map(|(hostname, _)| hostname.clone()).collect();
        let (mut due, mut tells) = (Vec::new(), false);
        for hostname in old {
            if self.asked.contains_key(&hostname) {
                continue;
            }
            if self.is_unused(&hostname, now) {
                self.forget(&hostname);
                tells = true;
            } else if self.asked.len() < HOSTNAMES_ASKED_AGAIN_MAX && self.want(&hostname) {
                due.push(hostname);
            }
        }
        (due, tells)
    }

    /// A family of `hostname` is answered.
    pub(super) fn hear(
        &mut self,
        hostname: &str,
        family: Family,
        answer: Answer,
        now: Instant,
    ) -> Follows {
        let Some(asked) = self.asked.get_mut(hostname) else { return Follows::Nothing };
        asked.hear(family, answer);
        if asked.is_answered() {
            return self.take(hostname, now);
        }
        if asked.has_addresses() { Follows::Wait } else { Follows::Nothing }
    }

    /// What was heard of `hostname` until now goes into what is known.
    pub(super) fn take(&mut self, hostname: &str, now: Instant) -> Follows {
        // Once both families are answered, nothing is left to wait for.
        let Some(asked) = self.asked.get(hostname).cloned() else { return Follows::Nothing };
        if asked.is_answered() {
            self.asked.remove(hostname);
        }
        if self.answered(hostname, &asked, now) { Follows::Tell } else { Follows::Nothing }
    }

    /// Whether something is different now. A name without an answer keeps the addresses it had.
    fn answered(&mut self, hostname: &str, asked: &Asked, now: Instant) -> bool {
        let before = self.known.get_mut(hostname);
        let had = before.as_ref().map_or(&[][..], |known| &known.addresses);
        let addresses = asked.addresses(had);
        let differs = !addresses.is_empty() && had != addresses;
        if let Some(known) = before {
            known.answered = now;
            if differs {
                known.addresses.clone_from(&addresses);
            }
        } else if differs {
            self.make_room(now);
            let known = Known { addresses: addresses.clone(), answered: now, used: now };
            self.known.insert(hostname.into(), known);
        }
        if differs {
            self.resolutions.set(hostname, &addresses);
        }
        differs
    }

    /// Whether no connection has gone by it for long.
    fn is_unused(&mut self, hostname: &str, now: Instant) -> bool {
        let Some(known) = self.known.get_mut(hostname) else { return true };
        if self.resolutions.take_use(hostname) {
            known.used = now;
        }
        now - known.used > HOSTNAME_UNUSED_MAX
    }

    fn make_room(&mut self, now: Instant) {
        if self.known.len() < HOSTNAMES_MAX {
            return;
        }
        for (hostname, known) in &mut self.known {
            if self.resolutions.take_use(hostname) {
                known.used = now;
            }
        }
        let mut all: Vec<_> = self.known.iter().map(|(name, known)| (known.used, name)).collect();
        all.sort();
        let unused: Vec<_> = all.into_iter().take(FORGOTTEN).map(|(_, it)| it.clone()).collect();
        unused.iter().for_each(|hostname| self.forget(hostname));
    }

    fn forget(&mut self, hostname: &str) {
        self.known.remove(hostname);
        self.resolutions.set(hostname, &[]);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ringway_engine::snapshot::Snapshot;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(n: usize) -> IpAddr {
        IpAddr::from([10, 9, (n >> 8) as u8, n as u8])
    }

    fn name(n: usize) -> String {
        format!("host-{n}.example")
    }

    impl Names {
        fn learn(&mut self, hostname: &str, addresses: &[IpAddr], now: Instant) -> Follows {
            assert!(self.want(hostname), "{hostname}");
            self.hear(hostname, Family::Ipv4, Answer::Addresses(addresses.to_vec()), now)
        }

        /// What a connection finds.
        fn find(&self, hostname: &str) -> Vec<IpAddr> {
            let mut world = Snapshot::new("");
            world.set_resolutions(self.resolutions.clone());
            world.resolution(hostname).to_vec()
        }
    }

    #[test]
    fn only_so_many_are_asked_for_at_a_time() {
        let (mut names, now) = (Names::new(false), Instant::now());
        for n in 0..HOSTNAMES_ASKED_MAX {
            assert!(names.has_room() && names.want(&name(n)));
            assert!(!names.want(&name(n)), "it is being asked for");
        }
        assert!(!names.has_room() && !names.want("one.more"));
        names.hear(&name(0), Family::Ipv4, Answer::Silence, now);
        assert!(names.has_room() && names.want("one.more"));
    }

    #[test]
    fn those_that_are_asked_for_again_leave_room_for_those_that_connections_wait_for() {
        let (mut names, start) = (Names::new(false), Instant::now());
        for n in 0..HOSTNAMES_ASKED_AGAIN_MAX + 10 {
            names.learn(&name(n), &[address(n)], start + SECOND * (n == 7).into());
        }
        assert_eq!(names.again(start + SECOND * 30), (Vec::new(), false), "they are not old yet");
        let (due, tells) = names.again(start + SECOND * 40);
        assert_eq!((due.len(), tells), (HOSTNAMES_ASKED_AGAIN_MAX, false));
        assert!(!due.contains(&name(7).into()), "who was answered last is not among the first");
        assert!(names.want("new.example"));
        assert_eq!(names.again(start + SECOND * 41), (Vec::new(), false), "they wait");
        for hostname in &due {
            names.hear(hostname, Family::Ipv4, Answer::Silence, start + SECOND * 42);
        }
        let (due, _) = names.again(start + SECOND * 43);
        assert_eq!(due.len(), 10, "the others");
        assert_eq!(names.find(&name(0)), [address(0)], "without an answer it is as it was");
    }

    #[test]
    fn a_name_is_asked_for_again_as_long_as_connections_go_by_it() {
        let (mut names, start) = (Names::new(false), Instant::now());
        names.learn("busy.example", &[address(1)], start);
        names.learn("idle.example", &[address(2)], start);
        let mut now = start;
        while now <= start + HOSTNAME_UNUSED_MAX {
            now += HOSTNAME_AGE_MAX + SECOND;
            names.find("busy.example");
            for hostname in names.again(now).0 {
                names.hear(&hostname, Family::Ipv4, Answer::Silence, now);
            }
        }
        let known: Vec<_> = names.known.keys().map(|hostname| &**hostname).collect();
        assert_eq!(known, ["busy.example"]);
        assert!(names.find("idle.example").is_empty(), "its old addresses are not used");
        assert_eq!(names.learn("idle.example", &[address(3)], now), Follows::Tell);
        assert_eq!(names.find("idle.example"), [address(3)], "who needs it asks");
    }

    #[test]
    fn above_the_bound_those_are_forgotten_that_nobody_has_used_for_longest() {
        let (mut names, start) = (Names::new(false), Instant::now());
        for n in 0..HOSTNAMES_MAX {
            names.learn(&name(n), &[address(n)], start + SECOND * (n > FORGOTTEN).into());
        }
        // The first of all is the one that a connection goes by.
        names.find(&name(0));
        assert_eq!(names.learn("new.example", &[address(1)], start + SECOND * 2), Follows::Tell);
        let found = |n| !names.find(&name(n)).is_empty();
        assert!(found(0), "it is used");
        assert!((1..=FORGOTTEN).all(|n| !found(n)), "they are not");
        assert!((FORGOTTEN + 1..HOSTNAMES_MAX).all(found), "nor are these, but not for as long");
        assert_eq!(names.known.len(), HOSTNAMES_MAX - FORGOTTEN + 1);
    }

    #[test]
    fn the_first_family_waits_for_the_other_but_not_for_long() {
        let (mut names, now) = (Names::new(true), Instant::now());
        let six: IpAddr = "fd00::1".parse().unwrap();
        assert!(names.want("db.example"));
        let said = |addresses: &[IpAddr]| Answer::Addresses(addresses.to_vec());
        let first = names.hear("db.example", Family::Ipv4, said(&[address(1)]), now);
        assert_eq!((first, names.find("db.example")), (Follows::Wait, Vec::new()));
        assert_eq!(names.take("db.example", now), Follows::Tell);
        assert_eq!(names.find("db.example"), [address(1)]);
        assert_eq!(names.hear("db.example", Family::Ipv6, said(&[six]), now), Follows::Tell);
        assert_eq!(names.find("db.example"), [address(1), six]);
        assert_eq!(names.take("db.example", now), Follows::Nothing, "all is there");
    }
}
