//! The hostnames of workloads that have no address: connections wait for what they resolve to.
//!
//! Addresses of both families are asked for at once, and there are name servers that never answer for one of them. So what
//! the first family has is known [`RESOLUTION_DELAY`] later at the latest; what the other has is added when it comes.

mod asked;
mod names;

use std::sync::Arc;
use std::time::Duration;

use ringway_engine::Engine;
use ringway_engine::limits::HOSTNAMES_WANTED_INTERVAL;
use ringway_engine::snapshot::Snapshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::asked::Answer;
use self::names::{Follows, Names};
use crate::dns::{Dns, DnsConfig, Family, ResolveError, Resolver};

/// How long the addresses of one family wait for those of the other: the Resolution Delay of RFC 8305 §8.
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Asks for the hostnames that connections need, and goes on doing so as long as they do.
pub(super) struct Hostnames {
    engine: Arc<Engine>,
    servers: NameServers,
    ipv6: bool,
    /// Clients may name any host, not only those of workloads.
    any: bool,
    names: Names,
    asking: JoinSet<(Box<str>, Heard)>,
}

enum Heard {
    Family(Family, Answer),
    /// The time is over that one family waits for the other.
    Waited,
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

impl Hostnames {
    /// None is known yet. With `any`, others than those of workloads are asked for, too.
    pub(super) fn new(engine: Arc<Engine>, servers: NameServers, ipv6: bool, any: bool) -> Self {
        let (names, asking) = (Names::new(ipv6), JoinSet::new());
        Self { engine, servers, ipv6, any, names, asking }
    }

    /// Waits until what connections are to find has changed. Dropping the future loses nothing; do so when there is another
    /// world, for a mesh without such names is not watched for any.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.ask() {
                return;
            }
            let looks = self.any || self.engine.snapshot().has_hostnames();
            tokio::select! {
                Some(Ok(heard)) = self.asking.join_next(), if !self.asking.is_empty() => {
                    if self.hear(heard) {
                        return;
                    }
                }
                () = sleep(HOSTNAMES_WANTED_INTERVAL), if looks => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Tells `world` what is known, and nothing that was known before.
    pub(super) fn tell(&self, world: &mut Snapshot) {
        world.set_resolutions(self.names.resolutions().clone());
    }

    /// Asks for what is needed. Whether something is different now.
    fn ask(&mut self) -> bool {
        // What finds no room stays in the engine's queue, which has a bound of its own.
        while self.names.has_room()
            && let Some(wanted) = self.engine.next_wanted_hostname()
        {
            if self.names.want(&wanted) {
                self.ask_for(&wanted);
            }
        }
        let (due, tells) = self.names.again(Instant::now());
        due.iter().for_each(|hostname| self.ask_for(hostname));
        tells
    }

    fn ask_for(&mut self, hostname: &str) {
        let resolver = self.servers.resolver();
        let resolver = resolver
            .inspect_err(|error| tracing::error!(%hostname, %error, "nobody resolves names"));
        let resolver = resolver.ok();
        for family in [Family::Ipv4, Family::Ipv6] {
            if family == Family::Ipv4 || self.ipv6 {
                self.asking.spawn(answer(hostname.into(), family, resolver.clone()));
            }
        }
    }

    /// Takes what has come until now. Whether something is different now.
    fn hear(&mut self, first: (Box<str>, Heard)) -> bool {
        let (mut next, mut differs) = (Some(first), false);
        while let Some((hostname, heard)) = next {
            let now = Instant::now();
            let follows = match heard {
                Heard::Family(family, answer) => self.names.hear(&hostname, family, answer, now),
                Heard::Waited => self.names.take(&hostname, now),
            };
            match follows {
                Follows::Nothing => {}
                Follows::Tell => differs = true,
                Follows::Wait => {
                    self.asking.spawn(async move {
                        sleep(RESOLUTION_DELAY).await;
                        (hostname, Heard::Waited)
                    });
                }
            }
            next = self.asking.try_join_next().and_then(Result::ok);
        }
        differs
    }
}

async fn answer(
    hostname: Box<str>,
    family: Family,
    resolver: Option<Resolver>,
) -> (Box<str>, Heard) {
    let Some(resolver) = resolver else {
        return (hostname, Heard::Family(family, Answer::Silence));
    };
    let answer = match resolver.resolve(&hostname, family).await {
        Ok(found) => Answer::Addresses(found.to_vec()),
        Err(error) => {
            tracing::debug!(%hostname, ?family, %error, "no addresses");
            let is_word = matches!(error, ResolveError::NoAddress | ResolveError::NoName);
            if is_word { Answer::Addresses(Vec::new()) } else { Answer::Silence }
        }
    };
    (hostname, Heard::Family(family, answer))
}
