//! The side of the running node: starts the successor, gives it what it needs, and takes everything back when
//! anything goes wrong before the successor serves. Blocks; runs on threads that may.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_engine::limits::{
    HANDOVER_ANSWER_TIMEOUT, HANDOVER_DESCRIPTORS_MAX, HANDOVER_HELLO_TIMEOUT,
    HANDOVER_READY_TIMEOUT,
};
use ringway_engine::{ListeningWorkload, MovedConnection};
use rustix::process::{Pid, Signal, kill_process};

use super::channel::Channel;
use super::message::{Message, fitting, write_connection};
use super::{PROTOCOL, VARIABLE};

/// A successor that closed the channel is about to end: how long its exit status is waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a successor is started: as this process was.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

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

/// Connections the successor did not take.
#[derive(Debug)]
pub(crate) struct NotTaken {
    /// Still this process's: nobody else can have begun to relay them.
    pub(crate) back: Vec<MovedConnection>,
    /// Perhaps the successor's, which could not be told: not to be touched any more.
    pub(crate) unknown: usize,
    /// What went wrong.
    pub(crate) why: String,
}

/// Whether the successor has connections.
enum Theirs {
    /// It never will.
    Not,
    /// It has.
    Taken,
    /// It would relay them if this process died, and could not be told otherwise.
    Perhaps,
}

impl Launch {
    /// As this process was started. Called at its start, before the file can be replaced.
    ///
    /// # Errors
    /// Without `/proc`.
    pub(crate) fn of_this_process() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let called = arguments.next().map(PathBuf::from);
        let program = path_of_this_program(&std::env::current_exe()?, called.as_deref());
        Ok(Self { program, arguments: arguments.collect() })
    }

    /// With another program.
    pub(crate) fn with_program(mut self, program: Option<PathBuf>) -> Self {
        self.program = program.unwrap_or(self.program);
        self
    }

    /// The file that is started.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    fn spawn(&self, channel: OwnedFd) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .env(VARIABLE, PROTOCOL.to_string())
            // It names this process; the successor answers the watchdog from the moment it is the main one.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::from(channel))
            .spawn()
    }
}

/// The path this program was called by, when that leads to its file: a link that is changed later then leads to the
/// new one. Otherwise the file itself.
fn path_of_this_program(file: &Path, called: Option<&Path>) -> PathBuf {
    let by_path = called.filter(|called| called.components().count() > 1);
    let absolute = by_path.and_then(|called| std::path::absolute(called).ok());
    absolute
        .filter(|path| fs::canonicalize(path).is_ok_and(|leads_to| leads_to == file))
        .unwrap_or_else(|| file.to_owned())
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
        .map_err(|error| format!("{} cannot be started: {error}", launch.program.display()))?;
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

    /// Gives it live connections.
    ///
    /// # Errors
    /// [`NotTaken`]: no further ones can be given.
    pub(crate) fn give(&self, connections: Vec<MovedConnection>) -> Result<(), NotTaken> {
        self.give_within(connections, HANDOVER_ANSWER_TIMEOUT)
    }

    fn give_within(
        &self,
        mut connections: Vec<MovedConnection>,
        patience: Duration,
    ) -> Result<(), NotTaken> {
        while !connections.is_empty() {
            let mut back = connections.split_off(fitting(&connections));
            let Err(error) = self.give_frame(&connections, patience) else {
                connections = back;
                continue;
            };
            let why = describe(&error);
            let count = connections.len();
            let unknown = match error.kind() {
                io::ErrorKind::WouldBlock => match self.take_back() {
                    Theirs::Not => 0,
                    // It was only late; but what is not heard any more cannot go on.
                    Theirs::Taken => return Err(NotTaken { back, unknown: 0, why }),
                    Theirs::Perhaps => count,
                },
                _ => 0,
            };
            if unknown == 0 {
                back.extend(connections);
            }
            return Err(NotTaken { back, unknown, why });
        }
        Ok(())
    }

    fn give_frame(&self, connections: &[MovedConnection], patience: Duration) -> io::Result<()> {
        let mut raw = Vec::new();
        let texts = connections.iter().map(|one| write_connection(one, &mut raw)).collect();
        let text = serde_json::to_vec(&Message::Connections { connections: texts })?;
        let mut sockets = Vec::with_capacity(2 * connections.len());
        for connection in connections {
            sockets.push(connection.client.descriptor()?);
            sockets.push(connection.server.descriptor()?);
        }
        self.channel.set_patience(Some(patience))?;
        self.channel.send(&text, &raw, &sockets)?;
        match Message::receive(&self.channel)?.0 {
            Message::Taken => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// After silence: whose are the connections that were given last? Nothing can be said after this, so the answer
    /// stays what it is.
    fn take_back(&self) -> Theirs {
        // It fails only when the other side is gone: then it has taken nothing that it relays.
        let _ = self.channel.hear_no_more();
        match Message::receive(&self.channel) {
            Ok((Message::Taken, _)) => Theirs::Taken,
            _ => match self.say(&Message::TakenBack) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Theirs::Perhaps,
                _ => Theirs::Not,
            },
        }
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

    /// What went wrong, as an operator wants to read it.
    fn explain(&mut self, error: &io::Error) -> String {
        if error.kind() != io::ErrorKind::UnexpectedEof && error.kind() != io::ErrorKind::BrokenPipe
        {
            return describe(error);
        }
        let until = Instant::now() + LAST_WORDS;
        while Instant::now() < until {
            if let Ok(Some(status)) = self.child.try_wait() {
                return format!(
                    "the new process ended ({status}); what it said is in the node's log"
                );
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
    use std::os::unix::fs::PermissionsExt;

    use super::super::message::tests::moved;
    use super::super::successor::Predecessor;
    use super::super::successor::tests::predecessor_at;
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
        (home, Launch { program, arguments: vec!["run".into()] })
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

    /// A successor that serves, and the channel's other end.
    fn heir() -> (Heir, Predecessor) {
        let (channel, far) = Channel::pair().unwrap();
        let child = Command::new("/bin/true").spawn().unwrap();
        let heir = Heir { child, channel, workloads: Arc::default(), serves: true };
        (heir, predecessor_at(far))
    }

    #[test]
    fn what_a_silent_successor_does_not_take_comes_back_and_it_knows() {
        let (heir, successor) = heir();
        let given = vec![moved(b"up", b"", false).0, moved(b"", b"down", true).0];
        let refused = heir.give_within(given, Duration::from_millis(20)).unwrap_err();
        assert_eq!((refused.back.len(), refused.unknown), (2, 0));
        // It wakes up, and must not relay what somebody else relays.
        let late = successor.next().unwrap_err();
        assert!(late.to_string().contains("taken its connections back"), "{late}");
    }

    #[test]
    fn what_a_successor_takes_when_its_predecessor_has_died_is_its_own() {
        let (heir, successor) = heir();
        let giving = std::thread::spawn(move || {
            let given = vec![moved(b"up", b"", false).0];
            // Dead before it hears anything.
            heir.give_frame(&given, Duration::ZERO + Duration::from_millis(1)).unwrap_err();
        });
        giving.join().unwrap();
        assert_eq!(successor.next().unwrap().unwrap().len(), 1);
        assert!(successor.next().unwrap().is_none());
    }

    #[test]
    fn what_was_taken_at_the_last_moment_is_not_taken_back() {
        let (heir, successor) = heir();
        Message::Taken.send(successor.channel(), &[]).unwrap();
        assert!(matches!(heir.take_back(), Theirs::Taken));
        let dying = self::heir();
        drop(dying.1);
        assert!(matches!(dying.0.take_back(), Theirs::Not));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_with_its_path() {
        let launch = Launch { program: "/nowhere/ringway".into(), arguments: Vec::new() };
        let refused =
            prepare(&launch, estate(), Channel::pair().unwrap()).expect_err("nothing is there");
        assert!(refused.contains("/nowhere/ringway"), "{refused}");
    }

    #[test]
    fn a_link_is_followed_anew_and_a_name_is_not_looked_up_again() {
        let home = tempfile::TempDir::new().unwrap();
        let (file, link, other) =
            (home.path().join("ringway-1"), home.path().join("ringway"), home.path().join("other"));
        fs::write(&file, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        //  called as                    started next time
        for (called, want) in [
            (Some(&*link), &link),
            (Some(&*file), &file),
            (Some(&*other), &file),
            (Some(Path::new("ringway")), &file),
            (None, &file),
        ] {
            assert_eq!(path_of_this_program(&file, called), *want, "{called:?}");
        }
    }
}
