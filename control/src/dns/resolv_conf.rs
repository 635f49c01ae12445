//! `/etc/resolv.conf`: whom the host asks, and how. Read again when it has changed, as the C library does.

use std::fs::Metadata;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::bounds::{SERVER_TIMEOUT, SERVER_TIMEOUT_MAX, SERVERS_MAX};

/// How often the file is looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The port of DNS; the file has no other.
const PORT: u16 = 53;

/// Rounds over all servers when nothing is said, and the most there are (resolv.conf(5)).
const ATTEMPTS: u32 = 2;
const ATTEMPTS_MAX: u32 = 5;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ResolvConf {
    /// Who is asked, in this order.
    pub(super) servers: Vec<SocketAddr>,
    /// What a client's resolver appends.
    pub(super) search: Vec<String>,
    /// How long one server may take.
    pub(super) timeout: Duration,
    /// How often each is asked.
    pub(super) attempts: u32,
    /// Whether the servers share the work.
    pub(super) rotate: bool,
    /// Whether they are asked over TCP.
    pub(super) over_tcp: bool,
}

impl ResolvConf {
    /// What `text` says; what is not understood is left out, as everywhere. Without a server it is the host's own.
    pub(super) fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            timeout: SERVER_TIMEOUT,
            attempts: ATTEMPTS,
            rotate: false,
            over_tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => conf.servers.extend(words.next().and_then(server)),
                // The last of these lines holds.
                Some("search" | "domain") => conf.search = words.map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        conf.servers.truncate(SERVERS_MAX);
        if conf.servers.is_empty() {
            conf.servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        conf
    }

    fn option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = value.parse::<u32>().ok().filter(|number| *number > 0);
        match (name, number) {
            ("timeout", Some(seconds)) => {
                self.timeout = Duration::from_secs(seconds.into()).min(SERVER_TIMEOUT_MAX);
            }
            ("attempts", Some(attempts)) => self.attempts = attempts.min(ATTEMPTS_MAX),
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.over_tcp = true,
            _ => {}
        }
    }
}

/// An address, perhaps with a zone: `fe80::1%eth0` is left out, for which link it means depends on the namespace.
fn server(text: &str) -> Option<SocketAddr> {
    text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip.to_canonical(), PORT))
}

/// The file, and what it said last.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    seen: Option<Mark>,
    looked: Instant,
    conf: ResolvConf,
}

/// What tells one content of a file from another.
type Mark = (u64, u64, i64, i64, u64);

impl Watched {
    pub(super) fn new(path: &Path, now: Instant) -> Watched {
        let mut watched =
            Watched { path: path.to_owned(), seen: None, looked: now, conf: ResolvConf::parse("") };
        watched.read();
        watched
    }

    /// What the file says. A file that is gone for a moment has not changed.
    pub(super) fn conf(&mut self, now: Instant) -> &ResolvConf {
        if now.duration_since(self.looked) >= LOOK_INTERVAL {
            self.looked = now;
            self.read();
        }
        &self.conf
    }

    fn read(&mut self) {
        let Ok(found) = std::fs::metadata(&self.path).map(|found| mark(&found)) else { return };
        if self.seen == Some(found) {
            return;
        }
        match std::fs::read_to_string(&self.path) {
            Ok(text) => {
                self.seen = Some(found);
                self.conf = ResolvConf::parse(&text);
                let servers = &self.conf.servers;
                tracing::info!(target: "dns", file = %self.path.display(), ?servers, "name servers of this host");
            }
            Err(error) => {
                tracing::warn!(target: "dns", file = %self.path.display(), %error, "name servers are not known");
            }
        }
    }
}

fn mark(file: &Metadata) -> Mark {
    (file.dev(), file.ino(), file.mtime(), file.mtime_nsec(), file.size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_the_c_library_reads_in_it() {
        let conf = ResolvConf::parse(
            "# a comment\n; another\ndomain first.example\nsearch a.example b.example\nnameserver 10.0.0.1\n\
             nameserver\t::ffff:10.0.0.2 trailing\nnameserver fe80::1%eth0\nnameserver nonsense\n\
             options timeout:3 attempts:9 rotate unknown ndots:5\noptions use-vc timeout:x\nnameserver fd00::1\n\
             nameserver 10.0.0.4\n",
        );
        let want: Vec<SocketAddr> =
            ["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"].map(|one| one.parse().unwrap()).into();
        assert_eq!(conf.servers, want);
        assert_eq!(conf.search, ["a.example", "b.example"]);
        assert_eq!((conf.timeout, conf.attempts), (Duration::from_secs(3), ATTEMPTS_MAX));
        assert!(conf.rotate && conf.over_tcp);
    }

    #[test]
    fn an_empty_file_means_the_host_itself() {
        let conf = ResolvConf::parse("options timeout:0 attempts:0\n");
        assert_eq!(conf.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!((conf.timeout, conf.attempts), (SERVER_TIMEOUT, ATTEMPTS));
        assert_eq!(ResolvConf::parse("options timeout:900").timeout, SERVER_TIMEOUT_MAX);
    }

    #[test]
    fn a_change_is_noticed_and_a_gap_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        let now = Instant::now();
        let mut watched = Watched::new(&path, now);
        let first = |conf: &ResolvConf| conf.servers[0].ip().to_string();
        assert_eq!(first(watched.conf(now)), "10.0.0.1");
        let next = path.with_extension("next");
        std::fs::write(&next, "nameserver 10.0.0.22\n").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_eq!(first(watched.conf(now)), "10.0.0.1", "not yet looked at");
        assert_eq!(first(watched.conf(now + LOOK_INTERVAL)), "10.0.0.22");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(first(watched.conf(now + 2 * LOOK_INTERVAL)), "10.0.0.22");
        std::fs::write(&path, "nameserver 10.0.0.3\n").unwrap();
        assert_eq!(first(watched.conf(now + 3 * LOOK_INTERVAL)), "10.0.0.3");
    }
}
