//! The service manager's side of a start and a stop: `sd_notify` datagrams and the watchdog.
//!
//! Without `NOTIFY_SOCKET` in the environment nothing is sent.

use std::ffi::{OsStr, OsString};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// A connection to the service manager, if there is one.
pub(super) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// As the environment of this process says.
    pub(super) fn from_environment() -> Self {
        let variable = |name: &str| std::env::var_os(name);
        Self::new(
            variable("NOTIFY_SOCKET"),
            variable("WATCHDOG_USEC"),
            variable("WATCHDOG_PID"),
            std::process::id(),
        )
    }

    fn new(
        path: Option<OsString>,
        watchdog_micros: Option<OsString>,
        watchdog_pid: Option<OsString>,
        pid: u32,
    ) -> Self {
        let socket = path.and_then(|path| {
            let socket = UnixDatagram::unbound().ok()?;
            // A service manager that is stuck must not stop us.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address(&path)?))
        });
        let ours = watchdog_pid.is_none_or(|value| value == OsStr::new(&pid.to_string()));
        let micros = watchdog_micros.and_then(|value| value.to_str()?.parse::<u64>().ok());
        let watchdog = micros.filter(|micros| ours && *micros > 0).map(Duration::from_micros);
        Self { socket, watchdog }
    }

    /// We serve.
    pub(super) fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// We are about to leave.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// Another process is the service's main one from now on. To be told before this one ends, or the manager takes
    /// its end for the service's.
    pub(super) fn main_process(&self, id: u32) {
        self.send(&format!("MAINPID={id}\nSTATUS=handed over to process {id}"));
    }

    /// We are alive.
    pub(super) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often [`ServiceManager::alive`] is to be called, if at all: twice in the time we are given.
    pub(super) fn watchdog_interval(&self) -> Option<Duration> {
        self.socket.as_ref()?;
        self.watchdog.map(|limit| limit / 2)
    }

    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

/// A path, or an abstract name after an `@`.
fn address(path: &OsStr) -> Option<SocketAddr> {
    match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None => SocketAddr::from_pathname(path).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_of_start_and_stop() {
        let home = tempfile::TempDir::new().unwrap();
        let path = home.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let service = ServiceManager::new(Some(path.into()), None, None, 7);
        service.ready();
        assert_eq!(received(&manager), "READY=1\nSTATUS=serving");
        service.stopping();
        assert_eq!(received(&manager), "STOPPING=1\nSTATUS=draining");
        service.alive();
        assert_eq!(received(&manager), "WATCHDOG=1");
        service.main_process(8);
        assert_eq!(received(&manager), "MAINPID=8\nSTATUS=handed over to process 8");
        assert_eq!(service.watchdog_interval(), None);
    }

    #[test]
    fn an_abstract_socket_works_too() {
        let name = format!("ringway-test-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let service = ServiceManager::new(Some(format!("@{name}").into()), None, None, 7);
        service.ready();
        assert!(received(&manager).starts_with("READY=1"));
    }

    #[test]
    fn the_watchdog_is_fed_twice_in_its_time_if_it_is_ours() {
        let interval = |micros: &str, pid: Option<&str>| {
            let service = ServiceManager::new(
                Some("/nowhere".into()),
                Some(micros.into()),
                pid.map(OsString::from),
                7,
            );
            service.watchdog_interval()
        };
        assert_eq!(interval("30000000", None), Some(Duration::from_secs(15)));
        assert_eq!(interval("30000000", Some("7")), Some(Duration::from_secs(15)));
        assert_eq!(interval("30000000", Some("8")), None);
        assert_eq!(interval("0", None), None);
        assert_eq!(interval("soon", None), None);
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        let service = ServiceManager::new(None, Some("1000".into()), None, 7);
        service.ready();
        assert_eq!(service.watchdog_interval(), None);
        ServiceManager::new(Some("/nowhere/at/all".into()), None, None, 7).ready();
    }
}
