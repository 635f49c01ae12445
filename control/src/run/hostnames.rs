//! The hostnames of workloads that have no address: connections wait for what they resolve to.
//!
//! Addresses of both families are asked for at once, and there are name servers that never answer for one of them. So what
//! the first family has is known [`RESOLUTION_DELAY`] later at the latest; what the other has is added when it comes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::snapshot::Snapshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::dns::{Dns, DnsConfig, Family, ResolveError, Resolver};

/// How often the engine is asked which hostnames connections wait for.
const WANTED_INTERVAL: Duration = Duration::from_millis(100);

/// How long a hostname's addresses are used before it is asked for again.
const RESOLUTION_AGE_MAX: Duration = Duration::from_secs(30);

/// How long the addresses of one family wait for those of the other: the Resolution Delay of RFC 8305 §8.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Hostnames that are kept resolved. A mesh names a few dozen; the one that was asked for longest ago is forgotten, and
/// asked for anew by the next connection that needs it.
const HOSTNAMES_MAX: usize = 4096;

/// See the module's text.
pub(super) struct Hostnames {
    engine: Arc<Engine>,
    servers: NameServers,
    ipv6: bool,
    /// Clients may name any host, not only those of workloads.
    any: bool,
    known: BTreeMap<Box<str>, Known>,
    asked: BTreeMap<Box<str>, Asked>,
    asking: JoinSet<(Box<str>, Heard)>,
}

/// What was heard of a hostname that is being asked for, of each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Asked {
    ipv4: Answer,
    ipv6: Answer,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Answer {
    /// It has not come yet.
    #[default]
    Awaited,
    /// Nobody says anything: what was known stays.
    Silence,
    /// These, or that there are none.
    Addresses(Vec<IpAddr>),
}

enum Heard {
    Family(Family, Answer),
    /// The time is over that one family waits for the other.
    Waited,
}

impl Asked {
    fn hear(&mut self, family: Family, answer: Answer) {
        match family {
            Family::Ipv4 => self.ipv4 = answer,
            Family::Ipv6 => self.ipv6 = answer,
        }
    }

    fn is_answered(&self) -> bool {
        self.ipv4 != Answer::Awaited && self.ipv6 != Answer::Awaited
    }

    fn has_addresses(&self) -> bool {
        let has = |answer: &Answer| matches!(answer, Answer::Addresses(found) if !found.is_empty());
        has(&self.ipv4) || has(&self.ipv6)
    }

    /// What is known now: of a family without an answer, what was known before.
    fn addresses(&self, before: &[IpAddr]) -> Vec<IpAddr> {
        let of = |answer: &Answer, is_of: fn(&IpAddr) -> bool| match answer {
            Answer::Addresses(found) => found.clone(),
            Answer::Awaited | Answer::Silence => before.iter().copied().filter(is_of).collect(),
        };
        let mut addresses = of(&self.ipv4, IpAddr::is_ipv4);
        addresses.extend(of(&self.ipv6, IpAddr::is_ipv6));
        addresses
    }
}

/// Who resolves names: a thread, which a mesh without such names does not need.
pub(super) enum NameServers {
    Running(Resolver),
    NotYet(DnsConfig),
}

impl NameServers {
    fn resolver(&mut self) -> std::io::Result<Resolver> {
        if let NameServers::NotYet(config) = self {
            // No workload's queries come to it, so it needs to know of none.
            let dns = Dns::start(config.clone(), Snapshot::new(""))?;
            *self = NameServers::Running(dns.resolver());
        }
        match self {
            NameServers::Running(resolver) => Ok(resolver.clone()),
            NameServers::NotYet(_) => unreachable!("it was started"),
        }
    }
}

struct Known {
    addresses: Vec<IpAddr>,
    since: Instant,
}

impl Hostnames {
    /// None is known yet. With `any`, others than those of workloads are asked for, too.
    pub(super) fn new(engine: Arc<Engine>, servers: NameServers, ipv6: bool, any: bool) -> Self {
        Self {
            engine,
            servers,
            ipv6,
            any,
            known: BTreeMap::new(),
            asked: BTreeMap::new(),
            asking: JoinSet::new(),
        }
    }

    /// Waits until the addresses of a hostname have changed. Dropping the future loses nothing; do so when there is another
    /// world, for a mesh without such names is not watched for any.
    pub(super) async fn changed(&mut self) {
        loop {
            while let Some(wanted) = self.engine.next_wanted_hostname() {
                self.ask(wanted);
            }
            self.ask_again();
            let looks = self.any || self.engine.snapshot().has_hostnames();
            tokio::select! {
                Some(Ok((hostname, heard))) = self.asking.join_next(), if !self.asking.is_empty() => {
                    if self.hear(hostname, heard) {
                        return;
                    }
                }
                () = sleep(WANTED_INTERVAL), if looks => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Tells `world` what is known.
    pub(super) fn tell(&self, world: &mut Snapshot) {
        for (hostname, known) in &self.known {
            world.set_resolution(hostname, &known.addresses);
        }
    }

    fn ask(&mut self, hostname: Box<str>) {
        if self.asked.contains_key(&hostname) {
            return;
        }
        let resolver = match self.servers.resolver() {
            Ok(resolver) => resolver,
            Err(error) => return tracing::error!(%hostname, %error, "nobody resolves names"),
        };
        let ipv6 = if self.ipv6 { Answer::Awaited } else { Answer::Addresses(Vec::new()) };
        self.asked.insert(hostname.clone(), Asked { ipv4: Answer::Awaited, ipv6 });
        self.ask_for(hostname.clone(), Family::Ipv4, resolver.clone());
        if self.ipv6 {
            self.ask_for(hostname, Family::Ipv6, resolver);
        }
    }

    fn ask_for(&mut self, hostname: Box<str>, family: Family, resolver: Resolver) {
        self.asking.spawn(async move {
            let answer = match resolver.resolve(&hostname, family).await {
                Ok(found) => Answer::Addresses(found.to_vec()),
                Err(error) => {
                    tracing::debug!(%hostname, ?family, %error, "no addresses");
                    let is_word = matches!(error, ResolveError::NoAddress | ResolveError::NoName);
                    if is_word { Answer::Addresses(Vec::new()) } else { Answer::Silence }
                }
            };
            (hostname, Heard::Family(family, answer))
        });
    }

    /// Whether something is different now.
    fn hear(&mut self, hostname: Box<str>, heard: Heard) -> bool {
        // Once both families have answered, nothing is left to wait for.
        let Some(asked) = self.asked.get_mut(&hostname) else { return false };
        if let Heard::Family(family, answer) = heard {
            asked.hear(family, answer);
            if !asked.is_answered() {
                if asked.has_addresses() {
                    self.asking.spawn(async move {
                        sleep(RESOLUTION_DELAY).await;
                        (hostname, Heard::Waited)
                    });
                }
                return false;
            }
        }
        let asked = asked.clone();
        if asked.is_answered() {
            self.asked.remove(&hostname);
        }
        self.answered(hostname, &asked)
    }

    fn ask_again(&mut self) {
        let old = |known: &Known| known.since.elapsed() > RESOLUTION_AGE_MAX;
        let due: Vec<_> = self.known.iter().filter(|(_, known)| old(known)).collect();
        let due: Vec<_> = due.into_iter().map(|(hostname, _)| hostname.clone()).collect();
        due.into_iter().for_each(|hostname| self.ask(hostname));
    }

    /// Whether something is different now. A name without an answer keeps the addresses it had.
    fn answered(&mut self, hostname: Box<str>, asked: &Asked) -> bool {
        let since = Instant::now();
        if let Some(known) = self.known.get_mut(&hostname) {
            known.since = since;
            let addresses = asked.addresses(&known.addresses);
            let differs = !addresses.is_empty() && known.addresses != addresses;
            if differs {
                known.addresses = addresses;
            }
            return differs;
        }
        let addresses = asked.addresses(&[]);
        if addresses.is_empty() {
            return false;
        }
        if self.known.len() >= HOSTNAMES_MAX {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.since);
            if let Some(oldest) = oldest.map(|(hostname, _)| hostname.clone()) {
                self.known.remove(&oldest);
            }
        }
        self.known.insert(hostname, Known { addresses, since });
        true
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
