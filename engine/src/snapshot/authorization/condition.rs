//! One alternative of a clause: conditions that must all hold.

use super::facts::Facts;
use super::ranges::AddressSet;
use super::texts::TextSet;
use crate::snapshot::policy::{PolicyMatch, ServiceAccountMatch, TextMatch};

/// The lists of a [`PolicyMatch`] that have entries. A list without any asks for nothing; a match without any
/// list never matches.
#[derive(Debug)]
pub(super) struct CompiledMatch(Box<[Condition]>);

/// One list.
#[derive(Debug)]
struct Condition {
    /// None of the list may hold, instead of one.
    is_not: bool,
    list: List,
}

#[derive(Debug)]
enum List {
    Namespaces(TextSet),
    Principals(TextSet),
    ServiceAccounts(AccountSet),
    SourceIps(AddressSet),
    DestinationIps(AddressSet),
    /// Sorted.
    DestinationPorts(Box<[u16]>),
}

impl CompiledMatch {
    pub(super) fn of(said: &PolicyMatch) -> CompiledMatch {
        let lists = [false, true].into_iter().flat_map(|is_not| {
            let lists = Lists::of(said, is_not).compiled();
            lists.into_iter().flatten().map(move |list| Condition { is_not, list })
        });
        CompiledMatch(lists.collect())
    }

    pub(super) fn matches(&self, said: &PolicyMatch, facts: &Facts<'_>) -> bool {
        let holds = |condition: &Condition| {
            let lists = Lists::of(said, condition.is_not);
            lists.one_holds(&condition.list, facts) != condition.is_not
        };
        !self.0.is_empty() && self.0.iter().all(holds)
    }
}

/// The six lists of one sign.
struct Lists<'a> {
    namespaces: &'a [TextMatch],
    principals: &'a [TextMatch],
    service_accounts: &'a [ServiceAccountMatch],
    source_ips: &'a [crate::snapshot::Cidr],
    destination_ips: &'a [crate::snapshot::Cidr],
    destination_ports: &'a [u16],
}

impl<'a> Lists<'a> {
    fn of(said: &'a PolicyMatch, is_not: bool) -> Lists<'a> {
        if is_not {
            Lists {
                namespaces: &said.not_namespaces,
                principals: &said.not_principals,
                service_accounts: &said.not_service_accounts,
                source_ips: &said.not_source_ips,
                destination_ips: &said.not_destination_ips,
                destination_ports: &said.not_destination_ports,
            }
        } else {
            Lists {
                namespaces: &said.namespaces,
                principals: &said.principals,
                service_accounts: &said.service_accounts,
                source_ips: &said.source_ips,
                destination_ips: &said.destination_ips,
                destination_ports: &said.destination_ports,
            }
        }
    }

    /// Those with entries; the cheap ones first.
    fn compiled(&self) -> [Option<List>; 6] {
        [
            some(self.destination_ports, |list| List::DestinationPorts(sorted(list))),
            some(self.source_ips, |list| List::SourceIps(AddressSet::of(list))),
            some(self.destination_ips, |list| List::DestinationIps(AddressSet::of(list))),
            some(self.namespaces, |list| List::Namespaces(TextSet::of(list))),
            some(self.service_accounts, |list| List::ServiceAccounts(AccountSet::of(list))),
            some(self.principals, |list| List::Principals(TextSet::of(list))),
        ]
    }

    /// Whether an entry of the list holds.
    fn one_holds(&self, list: &List, facts: &Facts<'_>) -> bool {
        match list {
            List::Namespaces(texts) => texts.contains(self.namespaces, facts.namespace()),
            List::Principals(texts) => facts
                .principal()
                .is_some_and(|principal| texts.contains(self.principals, principal)),
            List::ServiceAccounts(accounts) => facts
                .service_account()
                .is_some_and(|account| accounts.contains(self.service_accounts, account)),
            List::SourceIps(addresses) => addresses.contains(facts.source_ip()),
            List::DestinationIps(addresses) => addresses.contains(facts.destination_ip()),
            List::DestinationPorts(ports) => ports.binary_search(&facts.destination_port()).is_ok(),
        }
    }
}

fn some<T>(list: &[T], compile: impl Fn(&[T]) -> List) -> Option<List> {
    (!list.is_empty()).then(|| compile(list))
}

fn sorted(ports: &[u16]) -> Box<[u16]> {
    let mut ports = ports.to_vec();
    ports.sort_unstable();
    ports.dedup();
    ports.into()
}

/// Places in a list of service accounts, in the order of their namespaces and names.
#[derive(Debug)]
struct AccountSet(Box<[u32]>);

impl AccountSet {
    fn of(list: &[ServiceAccountMatch]) -> AccountSet {
        let mut places: Box<[u32]> = (0..).zip(list).map(|(place, _)| place).collect();
        places.sort_unstable_by_key(|&place| account(list, place));
        AccountSet(places)
    }

    fn contains(&self, list: &[ServiceAccountMatch], wanted: (&str, &str)) -> bool {
        self.0.binary_search_by(|&place| account(list, place).cmp(&wanted)).is_ok()
    }
}

fn account(list: &[ServiceAccountMatch], place: u32) -> (&str, &str) {
    let account = &list[place as usize];
    (&account.namespace, &account.service_account)
}
