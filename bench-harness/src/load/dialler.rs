//! Opens connections without waiting for them, from as many source addresses as the ports need.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::Timespec;
use socket2::{Domain, Socket, Type};

/// Connections one source address is given to one target. By default Linux has 28 232 ports for them.
const CONNECTIONS_PER_SOURCE: usize = 20_000;
/// Descriptors of the program besides its connections.
const DESCRIPTORS_BESIDES: u64 = 64;

/// Where connections go, and where from.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    pub(super) target: SocketAddr,
    sources: Vec<IpAddr>,
    next: usize,
}

impl Dialler {
    /// Without `sources`, the kernel chooses; on loopback, many connections are spread over 127.1/16.
    pub(super) fn new(
        target: SocketAddr,
        sources: &[IpAddr],
        connections: usize,
    ) -> Result<Dialler> {
        ensure!(target.port() != 0, "{target} has no port: give the target as ADDRESS:PORT");
        for source in sources {
            ensure!(
                source.is_ipv4() == target.is_ipv4(),
                "--source {source} and the target {target} are of different families"
            );
        }
        let mut sources = sources.to_vec();
        let is_loopback = target.is_ipv4() && target.ip().is_loopback();
        if sources.is_empty() && is_loopback && connections > CONNECTIONS_PER_SOURCE {
            let count = connections.div_ceil(CONNECTIONS_PER_SOURCE);
            sources = (0..count)
                .map(|i| Ipv4Addr::new(127, 1, (i / 250) as u8, (i % 250 + 1) as u8).into())
                .collect();
        }
        Ok(Dialler { target, sources, next: 0 })
    }

    /// One for thread `index`, which begins with another source than the others.
    pub(super) fn nth(&self, index: usize) -> Dialler {
        Dialler { next: index, ..self.clone() }
    }

    /// Begins to connect. The socket is writable when it is connected or has failed.
    pub(super) fn dial(&mut self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if !self.sources.is_empty() {
            let source = self.sources[self.next % self.sources.len()];
            self.next += 1;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(socket),
        }
    }

    /// Connects, and waits until it is.
    pub(super) fn connect(&mut self, patience: Duration) -> Result<TcpStream> {
        let socket = self.dial().map_err(|error| anyhow!(self.explain(&error)))?;
        let mut watched = [PollFd::new(&socket, PollFlags::OUT)];
        let patience = Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: 0 };
        let count = poll(&mut watched, Some(&patience)).context("cannot wait")?;
        ensure!(count > 0, "{} does not answer; is it reachable from here?", self.target);
        match socket.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => bail!(self.explain(&error)),
        }
        socket.set_nonblocking(false)?;
        Ok(socket.into())
    }

    /// What an operator reads when a connection could not be had.
    pub(super) fn explain(&self, error: &io::Error) -> String {
        let target = self.target;
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => {
                format!("{target} refuses connections: is the server started, and listening there?")
            }
            Some(libc::EADDRNOTAVAIL) => format!(
                "no free source port towards {target}: give more addresses with --source, or fewer \
                 connections"
            ),
            Some(libc::EMFILE) => "no more descriptors: raise `ulimit -n`".to_owned(),
            _ => format!("cannot connect to {target}: {error}"),
        }
    }
}

/// Makes room for so many connections.
///
/// # Errors
/// When the system does not allow them.
pub(super) fn allow_descriptors(connections: usize) -> Result<()> {
    let needed = connections as u64 + DESCRIPTORS_BESIDES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        ensure!(
            limit.maximum.is_none_or(|maximum| maximum >= needed),
            "{connections} connections need {needed} descriptors, and {} are allowed: raise \
             `ulimit -Hn`, or ask for fewer connections",
            limit.maximum.unwrap_or_default()
        );
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
            .context("cannot raise the limit of descriptors")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_on_loopback_have_several_sources() {
        //   name                       target             connections  sources
        for (name, target, connections, want) in [
            ("few use the kernel's choice", "127.0.0.1:80", 10_000, 0),
            ("many are spread", "127.0.0.1:80", 50_000, 3),
            ("elsewhere it is for the user to say", "10.0.0.1:80", 50_000, 0),
        ] {
            let dialler = Dialler::new(target.parse().unwrap(), &[], connections).unwrap();
            assert_eq!(dialler.sources.len(), want, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_dialled_is_said_before() {
        let target = "127.0.0.1:80".parse().unwrap();
        let error = Dialler::new(target, &["::1".parse().unwrap()], 1).unwrap_err().to_string();
        assert!(error.contains("families"), "{error}");
        let error = Dialler::new("127.0.0.1:0".parse().unwrap(), &[], 1).unwrap_err().to_string();
        assert!(error.contains("no port"), "{error}");
        let error = allow_descriptors(1 << 40).unwrap_err().to_string();
        assert!(error.contains("ulimit"), "{error}");
    }
}
