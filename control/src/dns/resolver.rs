//! Finds the addresses of a host name, for whoever has only a name: workloads without an address, and clients of SOCKS5.
//!
//! It asks the host's own name servers, from the host's namespace, and remembers what they say as long as they say. Names that
//! are asked for at the same time are asked for once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_protocols::dns::{Name, Query, record_type};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_local;

use super::Command;
use super::bounds::{RESOLUTION_TTL_MAX, RESOLUTION_TTL_MIN, RESOLUTIONS_MAX};
use super::forward::Forwarder;

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4's.
    Ipv4,
    /// IPv6's.
    Ipv6,
}

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveError {
    /// It is no host's name.
    NoName,
    /// There is no such name, or it has no such address.
    NoAddress,
    /// No name server answered.
    NoAnswer,
    /// The process is ending.
    Ending,
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResolveError::NoName => "this cannot be the name of a host",
            ResolveError::NoAddress => "the name has no address of this family",
            ResolveError::NoAnswer => "no name server of this host answers",
            ResolveError::Ending => "the process is ending",
        })
    }
}

impl std::error::Error for ResolveError {}

/// What a name resolved to.
pub type Resolved = Result<Arc<[IpAddr]>, ResolveError>;

/// Asks the DNS thread for addresses; any thread may, on any executor.
#[derive(Clone, Debug)]
pub struct Resolver {
    commands: mpsc::UnboundedSender<Command>,
}

impl Resolver {
    pub(super) fn new(commands: mpsc::UnboundedSender<Command>) -> Resolver {
        Resolver { commands }
    }

    /// The addresses of `name`, in the order in which they came. An address is its own name.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, name: &str, family: Family) -> Resolved {
        if let Ok(ip) = name.parse::<IpAddr>() {
            let fits = ip.is_ipv4() == (family == Family::Ipv4);
            return if fits { Ok(Arc::new([ip])) } else { Err(ResolveError::NoAddress) };
        }
        let name = Name::new(name).map_err(|_| ResolveError::NoName)?;
        let (answer, answered) = oneshot::channel();
        let resolve = Command::Resolve { name, family, answer };
        self.commands.send(resolve).map_err(|_| ResolveError::Ending)?;
        answered.await.unwrap_or(Err(ResolveError::Ending))
    }
}

/// What is known of names. Belongs to the DNS thread.
#[derive(Default)]
pub(super) struct Resolutions(RefCell<HashMap<(Name, Family), Entry>>);

enum Entry {
    /// It is being asked for; these wait.
    Asked(Vec<oneshot::Sender<Resolved>>),
    /// It was answered, and holds until then.
    Known(Resolved, Instant),
}

impl Resolutions {
    /// Answers from memory, or asks and remembers.
    pub(super) fn resolve(
        self: &Rc<Self>,
        forwarder: &Rc<impl AsRef<Forwarder> + 'static>,
        name: Name,
        family: Family,
        answer: oneshot::Sender<Resolved>,
    ) {
        let key = (name, family);
        let mut known = self.0.borrow_mut();
        match known.get_mut(&key) {
            Some(Entry::Asked(waiting)) if waiting.len() < RESOLUTIONS_MAX => {
                return waiting.push(answer);
            }
            Some(Entry::Known(resolved, until)) if *until > Instant::now() => {
                let _gone = answer.send(resolved.clone());
                return;
            }
            _ => {}
        }
        if !make_room(&mut known, &key) {
            let _gone = answer.send(Err(ResolveError::NoAnswer));
            return;
        }
        known.insert(key.clone(), Entry::Asked(vec![answer]));
        drop(known);
        let (this, forwarder) = (Rc::clone(self), Rc::clone(forwarder));
        spawn_local(async move {
            let (resolved, ttl) = ask((*forwarder).as_ref(), &key).await;
            this.answer(key, resolved, ttl);
        });
    }

    fn answer(&self, key: (Name, Family), resolved: Resolved, ttl: Duration) {
        let ttl = ttl.clamp(RESOLUTION_TTL_MIN, RESOLUTION_TTL_MAX);
        let entry = Entry::Known(resolved.clone(), Instant::now() + ttl);
        if let Some(Entry::Asked(waiting)) = self.0.borrow_mut().insert(key, entry) {
            for answer in waiting {
                let _gone = answer.send(resolved.clone());
            }
        }
    }
}

/// Forgets what has ended, or else what ends first. Names that are being asked for stay; when there are no others, there is
/// no room.
fn make_room(known: &mut HashMap<(Name, Family), Entry>, key: &(Name, Family)) -> bool {
    if known.len() < RESOLUTIONS_MAX || known.contains_key(key) {
        return true;
    }
    let now = Instant::now();
    known.retain(|_, entry| !matches!(entry, Entry::Known(_, until) if *until <= now));
    if known.len() < RESOLUTIONS_MAX {
        return true;
    }
    let ending = |entry: &Entry| match entry {
        Entry::Known(_, until) => Some(*until),
        Entry::Asked(_) => None,
    };
    let first = known
        .iter()
        .filter_map(|(key, entry)| Some((ending(entry)?, key)))
        .min_by_key(|(until, _)| *until);
    let first = first.map(|(_, key)| key.clone());
    first.is_some_and(|first| known.remove(&first).is_some())
}

async fn ask(forwarder: &Forwarder, (name, family): &(Name, Family)) -> (Resolved, Duration) {
    let kind = match family {
        Family::Ipv4 => record_type::A,
        Family::Ipv6 => record_type::AAAA,
    };
    let query = Query::new(name, kind);
    let found = match forwarder.ask_from_home(&query).await {
        Err(error) => {
            tracing::debug!(target: "dns", domain = name.as_str(), %error, "a name is not resolved");
            return (Err(ResolveError::NoAnswer), Duration::ZERO);
        }
        Ok(reply) if reply.is_refusal() => return (Err(ResolveError::NoAnswer), Duration::ZERO),
        Ok(reply) => reply.addresses(&query),
    };
    match found {
        Err(_) => (Err(ResolveError::NoAnswer), Duration::ZERO),
        Ok(found) if found.addresses.is_empty() => (Err(ResolveError::NoAddress), Duration::ZERO),
        Ok(found) => (Ok(found.addresses.into()), found.ttl),
    }
}
