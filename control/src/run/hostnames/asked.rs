//! What was heard of a hostname that is being asked for.

use std::net::IpAddr;

use crate::dns::Family;

/// Of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    ipv4: Answer,
    ipv6: Answer,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    /// It has not come yet.
    #[default]
    Awaited,
    /// Nobody says anything: what was known stays.
    Silence,
    /// These, or that there are none.
    Addresses(Vec<IpAddr>),
}

impl Asked {
    /// Nothing was heard yet; without `ipv6` there is nothing to hear of that family.
    pub(super) fn new(ipv6: bool) -> Self {
        let ipv6 = if ipv6 { Answer::Awaited } else { Answer::Addresses(Vec::new()) };
        Self { ipv4: Answer::Awaited, ipv6 }
    }

    pub(super) fn hear(&mut self, family: Family, answer: Answer) {
        match family {
            Family::Ipv4 => self.ipv4 = answer,
            Family::Ipv6 => self.ipv6 = answer,
        }
    }

    pub(super) fn is_answered(&self) -> bool {
        self.ipv4 != Answer::Awaited && self.ipv6 != Answer::Awaited
    }

    pub(super) fn has_addresses(&self) -> bool {
        let has = |answer: &Answer| matches!(answer, Answer::Addresses(found) if !found.is_empty());
        has(&self.ipv4) || has(&self.ipv6)
    }

    /// What is known now: of a family without an answer, what was known before.
    pub(super) fn addresses(&self, before: &[IpAddr]) -> Vec<IpAddr> {
        let of = |answer: &Answer, is_of: fn(&IpAddr) -> bool| match answer {
            Answer::Addresses(found) => found.clone(),
            Answer::Awaited | Answer::Silence => before.iter().copied().filter(is_of).collect(),
        };
        let mut addresses = of(&self.ipv4, IpAddr::is_ipv4);
        addresses.extend(of(&self.ipv6, IpAddr::is_ipv6));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_what_either_family_has_said() {
        let [four, six, old] = ["10.0.0.1", "fd00::1", "fd00::2"].map(|ip| ip.parse().unwrap());
        let said = |addresses: &[IpAddr]| Answer::Addresses(addresses.to_vec());
        use Answer::{Awaited, Silence};
        let row = |name, ipv4, ipv6, before: &[IpAddr], known: &[IpAddr], all| {
            let asked = Asked { ipv4, ipv6 };
            let found = asked.addresses(before);
            assert_eq!((&*found, asked.is_answered()), (known, all), "{name}");
        };
        //   name                         IPv4            IPv6         before        known         all there
        row("both", said(&[four]), said(&[six]), &[], &[four, six], true);
        row("one is late", said(&[four]), Awaited, &[], &[four], false);
        row("one is late that was known", said(&[four]), Awaited, &[old], &[four, old], false);
        row("the other one", Awaited, said(&[six]), &[old], &[six], false);
        row("one is silent", said(&[four]), Silence, &[old], &[four, old], true);
        row("one has none", said(&[four]), said(&[]), &[old], &[four], true);
        row("nobody answers", Silence, Silence, &[four, old], &[four, old], true);
        assert!(
            !Asked { ipv4: said(&[]), ipv6: Awaited }.has_addresses(),
            "the other is waited for"
        );
    }
}
