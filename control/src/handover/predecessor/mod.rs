//! The side of the running node: starts the successor, gives it what it needs, and takes everything back when
//! anything goes wrong before the successor serves. Blocks; runs on threads that may.

mod connections;
mod launch;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_engine::ListeningWorkload;
use ringway_engine::limits::{
    HANDOVER_ANSWER_TIMEOUT, HANDOVER_DESCRIPTORS_MAX, HANDOVER_HELLO_TIMEOUT,
    HANDOVER_READY_TIMEOUT,
};
use rustix::process::{Pid, Signal, kill_process};

pub(crate) use self::connections::NotTaken;
pub(crate) use self::launch::Launch;
use super::PROTOCOL;
use super::channel::Channel;
use super::message::Message;

/// A successor that closed the channel is about to end: how long its exit status is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// It has the standard output and standard error of this process.
const LAST_WORDS_ARE: &str =
    "what it said is in the node's log: `journalctl -u ringway`, or where its output goes";

/// What is handed over before the successor serves.
#[derive(Debug)]
pub(crate) struct Estate {
    /// The configuration that came by standard input.
    pub(crate) standard_input: Option<String>,
    /// The listening servers, by name.
    pub(crate) servers: Vec<(&'static str, OwnedFd)>,
    /// The workloads, each with the tool that installed its rules.
    pub(crate) workloads: Vec<(ListeningWorkload, Option<String>)>,
    /// What is redirected and how.
    pub(crate) redirect: String,
    /// The filter of system calls in force, which the successor is born with.
    pub(crate) call_filter: Option<u64>,
}

/// A successor that is ready and does not serve yet. Dropped, it is ended.
#[derive(Debug)]
pub(crate) struct Heir {
    child: Child,
    channel: Channel,
    workloads: Arc<BTreeSet<Arc<str>>>,
    serves: bool,
}

/// Starts a successor and gives it everything but the word to serve. The two descriptors are both ends of a channel.
///
/// # Errors
/// Why there is none. It has been ended, and nothing has changed.
pub(crate) fn prepare(
    launch: &Launch,
    estate: Estate,
    (channel, far): (Channel, OwnedFd),
) -> Result<Heir, String> {
    let child = launch
        .spawn(far)
        .map_err(|error| format!("{} cannot be started: {error}", launch.program().display()))?;
    let mut heir = Heir { child, channel, workloads: Arc::default(), serves: false };
    match heir.bring_up(estate) {
        Ok(workloads) => heir.workloads = Arc::new(workloads),
        Err(error) => return Err(heir.explain(&error)),
    }
    Ok(heir)
}

impl Heir {
    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The workloads it has taken over.
    pub(crate) fn workloads(&self) -> &Arc<BTreeSet<Arc<str>>> {
        &self.workloads
    }

    /// Lets it serve. When this returns, it accepts.
    ///
    /// # Errors
    /// Why it does not; drop it then.
    pub(crate) fn serve(&mut self) -> Result<(), String> {
        let served =
            self.say(&Message::Serve).and_then(|()| match self.hear(HANDOVER_ANSWER_TIMEOUT)? {
                Message::Serving => Ok(()),
                other => Err(unexpected(&other)),
            });
        match served {
            Ok(()) => {
                self.serves = true;
                Ok(())
            }
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// Tells it that it is the node now.
    pub(crate) fn succeed(&self) {
        // Should it be gone at this moment, nothing we could do would bring its listeners back.
        let _ = self.say(&Message::Succeeded);
    }

    /// Whether it has said that it serves.
    pub(crate) fn serves(&self) -> bool {
        self.serves
    }

    /// Tells it to end in order, as a service manager would.
    pub(crate) fn tell_to_end(&self) {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        // It may have ended already.
        let _told = id.map(|id| kill_process(id, Signal::TERM));
    }

    fn bring_up(&self, estate: Estate) -> io::Result<BTreeSet<Arc<str>>> {
        match self.hear(HANDOVER_HELLO_TIMEOUT)? {
            Message::Hello { protocol: PROTOCOL, version } => {
                tracing::info!(pid = self.id(), version, "the new process is there");
            }
            Message::Hello { protocol, version } => {
                let why = format!(
                    "version {version} speaks version {protocol} of the hand-over protocol, this process version \
                     {PROTOCOL}: restart instead"
                );
                let _ = self.say(&Message::Refused { why: why.clone() });
                return Err(io::Error::other(why));
            }
            other => return Err(unexpected(&other)),
        }
        self.say_everything(estate)?;
        match self.hear(HANDOVER_READY_TIMEOUT)? {
            Message::Ready { workloads } => Ok(workloads.into_iter().map(Arc::from).collect()),
            other => Err(unexpected(&other)),
        }
    }

    fn say_everything(&self, estate: Estate) -> io::Result<()> {
        let Estate { standard_input, servers, workloads, redirect, call_filter } = estate;
        let (names, sockets): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
        let servers = names.into_iter().map(str::to_owned).collect();
        Message::Inheritance { standard_input, servers, redirect, call_filter }
            .send(&self.channel, &sockets)?;
        for (workload, tool) in workloads {
            let ListeningWorkload { uid, namespace, mut sockets } = workload;
            while !sockets.is_empty() {
                let later = sockets.split_off(sockets.len().min(HANDOVER_DESCRIPTORS_MAX - 1));
                let (ways, of_ways): (Vec<_>, Vec<_>) = sockets.into_iter().unzip();
                let mut descriptors = vec![namespace.as_fd().try_clone_to_owned()?];
                descriptors.extend(of_ways);
                let ways = ways.into_iter().map(Into::into).collect();
                Message::Workload { uid: uid.to_string(), tool: tool.clone(), ways }
                    .send(&self.channel, &descriptors)?;
                sockets = later;
            }
        }
        self.say(&Message::Complete)
    }

    fn say(&self, message: &Message) -> io::Result<()> {
        message.send(&self.channel, &[])
    }

    fn hear(&self, patience: Duration) -> io::Result<Message> {
        self.channel.set_patience(Some(patience))?;
        Ok(Message::receive(&self.channel)?.0)
    }

    /// What went wrong, as an operator wants to read it, and where there is more.
    fn explain(&mut self, error: &io::Error) -> String {
        let why = self.what_happened(error);
        format!("{why}; {LAST_WORDS_ARE}")
    }

    fn what_happened(&mut self, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::UnexpectedEof && error.kind() != io::ErrorKind::BrokenPipe
        {
            return describe(error);
        }
        let until = Instant::now() + LAST_WORDS;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return format!("the new process ended ({status})");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        "the new process closed the channel".to_owned()
    }
}

impl Drop for Heir {
    fn drop(&mut self) {
        if !self.serves {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock => "the new process did not answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn unexpected(message: &Message) -> io::Error {
    let text = serde_json::to_string(message).unwrap_or_default();
    let text: String = text.chars().take(200).collect();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the new process said what makes no sense here: {text}"),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;

    fn estate() -> Estate {
        Estate {
            standard_input: None,
            servers: Vec::new(),
            workloads: Vec::new(),
            redirect: String::new(),
            call_filter: None,
        }
    }

    /// A program that does as `script` says; its standard input is the channel.
    fn program(script: &str) -> (tempfile::TempDir, Launch) {
        let home = tempfile::TempDir::new().unwrap();
        let program = home.path().join("ringway");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        (home, Launch::of(program, ["run"]))
    }

    #[test]
    fn a_program_that_is_no_successor_is_ended_and_named() {
        //  what it does                             what the operator reads
        for (script, complaint) in [
            ("exit 65", "exit status: 65"),
            ("kill -9 $$", "signal: 9"),
            ("exec sleep 60", "did not answer in time"),
            ("echo nonsense, nonsense >&0; sleep 60", "no hand-over frame"),
        ] {
            let (_home, launch) = program(script);
            let refused = prepare(&launch, estate(), Channel::pair().unwrap()).expect_err(script);
            assert!(refused.contains(complaint), "{script}: {refused}");
            assert_eq!(refused.matches("the node's log").count(), 1, "{script}: {refused}");
        }
    }

    #[test]
    fn one_that_is_given_up_is_ended_at_once() {
        let (home, launch) = program("echo $$ > \"$0.pid\"; exec sleep 60");
        let (channel, far) = Channel::pair().unwrap();
        let breaker = channel.breaker().unwrap();
        let pid = home.path().join("ringway.pid");
        let preparing = std::thread::spawn(move || prepare(&launch, estate(), (channel, far)));
        while fs::read_to_string(&pid).unwrap_or_default().trim().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        breaker.shut();
        preparing.join().unwrap().expect_err("it was given up");
        let pid = fs::read_to_string(&pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists());
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_its_path() {
        let launch = Launch::of("/nowhere/ringway".into(), []);
        let refused =
            prepare(&launch, estate(), Channel::pair().unwrap()).expect_err("nothing is there");
        assert!(refused.contains("/nowhere/ringway"), "{refused}");
        assert!(
            !refused.contains("log"),
            "nothing was started that could have said more: {refused}"
        );
    }
}
